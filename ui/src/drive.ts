/** The files of a host: a drive for JupyterLab, and a file browser for it. */

import type { JupyterFrontEnd } from '@jupyterlab/application';
import { Dialog, showDialog, ToolbarButton } from '@jupyterlab/apputils';
import { PathExt } from '@jupyterlab/coreutils';
import { Uploader, type FileBrowser, type IFileBrowserFactory } from '@jupyterlab/filebrowser';
import { Drive, type Contents, type ServerConnection } from '@jupyterlab/services';
import type { TranslationBundle } from '@jupyterlab/translation';
import { newFolderIcon, refreshIcon, type LabIcon } from '@jupyterlab/ui-components';
import { Widget, type PanelLayout } from '@lumino/widgets';

import { ROOT } from './api';
import { LargeDirectory } from './directory';
import type { Fleet } from './fleet';

const KNOWN = 'remote-provisioners:drives';
/** JupyterLab makes elements for all entries of a directory at once. More entries take too long. */
const MOST_SHOWN = 1000;

/** What the server has listed of a directory: the entries whose names contain a text. */
export interface IListed {
  containing: string;
  count: number;
  leftOut: number;
}

/** What follows a colon is a path to JupyterLab. The server names drives in the same way. */
export function driveName(host: string): string {
  return host.replace(/[:/]/g, '-');
}

export class HostDrive extends Drive {
  /** Of the directory `path`, the user wants only entries whose names contain this text. */
  filter = { path: '', containing: '' };
  private readonly listed = new Map<string, IListed>();
  /** When each file was modified last, as we know it. */
  private readonly seen = new Map<string, string>();
  private readonly root: string;

  constructor(
    host: string,
    serverSettings: ServerConnection.ISettings,
    private readonly trans: TranslationBundle
  ) {
    const root = `${ROOT}hosts/${encodeURIComponent(host)}/`;
    super({ name: driveName(host), apiEndpoint: `${root}contents`, serverSettings });
    this.root = root;
  }

  /** What the server has listed last of this directory. */
  of(path: string): IListed | undefined {
    return this.listed.get(path);
  }

  async get(path: string, options?: Contents.IFetchOptions): Promise<Contents.IModel> {
    const ofFile =
      options?.format || options?.hash || (options?.type ?? 'directory') !== 'directory';
    if (ofFile || options?.content === false) {
      return this.noted(path, await super.get(path, options));
    }
    const containing = this.filter.path === path ? this.filter.containing : '';
    const asked = { content: true, ...options, most: MOST_SHOWN, containing };
    const model: Contents.IModel & { left_out?: number } = await super.get(path, asked);
    if (model.type === 'directory') {
      const [count, leftOut] = [model.content.length, model.left_out ?? 0];
      this.listed.set(path, { containing, count, leftOut });
    }
    return this.noted(path, model);
  }

  private noted(path: string, model: Contents.IModel): Contents.IModel {
    if (model.type !== 'directory') {
      this.seen.set(path, model.last_modified);
    }
    return model;
  }

  /** The server refuses to replace a file that is newer than the one we know. */
  async save(path: string, options: Partial<Contents.IModel> = {}): Promise<Contents.IModel> {
    if (options.name !== undefined && (options.chunk ?? 1) === 1) {
      await this.mayUpload(path);
    }
    const expected = options.chunk === undefined ? this.seen.get(path) : undefined;
    const asked = expected === undefined ? options : { ...options, expected };
    const model = await super.save(path, asked);
    this.seen.set(path, model.last_modified);
    return model;
  }

  /** JupyterLab asks before an upload replaces a file, but only if it has listed the file. */
  private async mayUpload(path: string): Promise<void> {
    const listed = this.listed.get(PathExt.dirname(path));
    if (!listed?.leftOut && !listed?.containing) {
      return;
    }
    try {
      await super.get(path, { content: false });
    } catch {
      return; // the file is new
    }
    const answer = await showDialog({
      title: this.trans.__('Overwrite file?'),
      body: this.trans.__('"%1" already exists, overwrite?', PathExt.basename(path)),
      buttons: [Dialog.cancelButton(), Dialog.warnButton({ label: this.trans.__('Overwrite') })]
    });
    if (!answer.button.accept) {
      throw new Error(this.trans.__('File not uploaded'));
    }
  }

  async delete(path: string): Promise<void> {
    await super.delete(path);
    this.seen.delete(path);
  }

  async rename(path: string, to: string): Promise<Contents.IModel> {
    const model = await super.rename(path, to);
    this.seen.delete(path);
    return model;
  }

  async restoreCheckpoint(path: string, id: string): Promise<void> {
    await super.restoreCheckpoint(path, id);
    this.seen.delete(path);
  }

  async getDownloadUrl(path: string): Promise<string> {
    const parts = path.split('/').map(encodeURIComponent).join('/');
    return `${this.serverSettings.baseUrl}${this.root}files/${parts}?download=1`;
  }
}

/** The drives of all hosts. */
export class Drives {
  private readonly known = new Map<string, HostDrive>();
  private readonly browsers = new Map<string, FileBrowser>();

  constructor(
    private readonly app: JupyterFrontEnd,
    private readonly factory: IFileBrowserFactory | null,
    fleet: Fleet,
    private readonly icon: LabIcon,
    private readonly trans: TranslationBundle
  ) {
    // Those of the last time at once: documents on them are opened again before the hosts are known.
    let last: unknown = [];
    try {
      last = JSON.parse(window.localStorage.getItem(KNOWN) ?? '[]');
    } catch {
      // somebody else's
    }
    if (Array.isArray(last)) {
      last.forEach(name => this.add(String(name)));
    }
    fleet.listen(change => {
      if (change.kind === 'all') {
        const names = [...fleet.hosts.keys()];
        names.forEach(name => this.add(name));
        try {
          window.localStorage.setItem(KNOWN, JSON.stringify(names));
        } catch {
          // the storage is full, or switched off
        }
      }
    });
  }

  /** The host whose drive a path is on; "" for none. */
  hostOf(path: string): string {
    const drive = this.app.serviceManager.contents.driveName(path);
    return [...this.known.keys()].find(host => driveName(host) === drive) ?? '';
  }

  /** Show the files of a host in the left sidebar. */
  open(host: string): void {
    if (!this.factory) {
      return;
    }
    this.add(host);
    let browser = this.browsers.get(host);
    if (!browser || browser.isDisposed) {
      browser = this.make(this.factory, host);
      this.browsers.set(host, browser);
      this.app.shell.add(browser, 'left', { rank: 151, type: 'File Browser' });
    }
    this.app.shell.activateById(browser.id);
  }

  private add(host: string): void {
    if (!this.known.has(host)) {
      const { contents, serverSettings } = this.app.serviceManager;
      const drive = new HostDrive(host, serverSettings, this.trans);
      this.known.set(host, drive);
      contents.addDrive(drive);
    }
  }

  private make(factory: IFileBrowserFactory, host: string): FileBrowser {
    const trans = this.trans;
    const name = driveName(host);
    const browser = factory.createFileBrowser(`rp-files-${name}`, {
      driveName: name,
      refreshInterval: 60000,
      state: null
    });
    browser.title.icon = this.icon;
    browser.title.caption = trans.__('Files of %1', host);
    browser.node.setAttribute('role', 'region');
    browser.node.setAttribute('aria-label', trans.__('Files of %1', host));
    const label = new Widget();
    label.addClass('rp-FilesHost');
    label.node.textContent = host;
    const layout = browser.layout as PanelLayout;
    layout.insertWidget(0, label);
    layout.insertWidget(1, new LargeDirectory(this.known.get(host)!, browser.model, trans));
    browser.toolbar.addItem(
      'new-folder',
      new ToolbarButton({
        icon: newFolderIcon,
        tooltip: trans.__('New Folder'),
        onClick: () => void browser.createNewDirectory()
      })
    );
    browser.toolbar.addItem('upload', new Uploader({ model: browser.model }));
    browser.toolbar.addItem(
      'refresh',
      new ToolbarButton({
        icon: refreshIcon,
        tooltip: trans.__('Refresh the file browser'),
        onClick: () => void browser.model.refresh()
      })
    );
    return browser;
  }
}
