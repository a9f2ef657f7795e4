// The page without JupyterLab is these files, as they are: a browser loads modules by itself.
import { copyFileSync, mkdirSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const here = name => fileURLToPath(new URL(name, import.meta.url));
const target = here('../src/remote_provisioners/server/page/static/');
rmSync(target, { recursive: true, force: true });
mkdirSync(target, { recursive: true });
for (const name of ['api', 'dom', 'environments', 'fleet', 'page', 'panel', 'words']) {
  copyFileSync(here(`lib/${name}.js`), `${target}${name}.js`);
}
for (const name of ['panel', 'page']) {
  copyFileSync(here(`style/${name}.css`), `${target}${name}.css`);
}
