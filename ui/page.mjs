// The page without JupyterLab is these files, as they are: a browser loads modules by itself.
import { copyFileSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const here = name => fileURLToPath(new URL(name, import.meta.url));
const target = here('../src/remote_provisioners/server/page/static/');
rmSync(target, { recursive: true, force: true });
mkdirSync(target, { recursive: true });

// page.js and what it imports.
const names = ['page'];
for (const name of names) {
  copyFileSync(here(`lib/${name}.js`), `${target}${name}.js`);
  for (const [, found] of readFileSync(here(`lib/${name}.js`), 'utf8').matchAll(
    /from '\.\/(\w+)\.js'/g
  )) {
    if (!names.includes(found)) {
      names.push(found);
    }
  }
}
for (const name of ['panel', 'page']) {
  copyFileSync(here(`style/${name}.css`), `${target}${name}.css`);
}
