/** Says that a directory of a host has more entries than are shown, and filters them. */

import type { FileBrowserModel } from '@jupyterlab/filebrowser';
import type { TranslationBundle } from '@jupyterlab/translation';
import { Widget } from '@lumino/widgets';

import type { HostDrive } from './drive';

/** We ask the server when the user has not typed for this long. */
const TYPING_MILLISECONDS = 300;

export class LargeDirectory extends Widget {
  private readonly text = document.createElement('span');
  private readonly field = document.createElement('input');
  private typing = 0;

  constructor(
    private readonly drive: HostDrive,
    private readonly model: FileBrowserModel,
    private readonly trans: TranslationBundle
  ) {
    super();
    this.addClass('rp-FilesMore');
    this.text.setAttribute('role', 'status');
    this.field.type = 'search';
    this.field.placeholder = trans.__('A part of the name');
    this.field.setAttribute('aria-label', trans.__('Show entries whose names contain'));
    this.field.addEventListener('input', () => {
      window.clearTimeout(this.typing);
      this.typing = window.setTimeout(() => this.filter(), TYPING_MILLISECONDS);
    });
    this.node.append(this.text, this.field);
    model.refreshed.connect(this.listed, this);
    model.pathChanged.connect(() => {
      this.field.value = '';
      drive.filter = { path: '', containing: '' };
    });
    this.hide();
  }

  dispose(): void {
    window.clearTimeout(this.typing);
    super.dispose();
  }

  private get path(): string {
    return this.model.manager.services.contents.localPath(this.model.path);
  }

  private filter(): void {
    this.drive.filter = { path: this.path, containing: this.field.value };
    void this.model.refresh();
  }

  /** The server has listed the directory. */
  private listed(): void {
    const listed = this.drive.of(this.path);
    if (!listed) {
      this.hide();
      return;
    }
    const { containing, count, leftOut } = listed;
    if (containing !== this.field.value && this.drive.filter.path === this.path) {
      this.filter(); // somebody typed while the server listed
    }
    const [shown, all] = [count.toLocaleString(), (count + leftOut).toLocaleString()];
    if (containing && leftOut) {
      this.text.textContent = this.trans.__(
        'The first %1 of the %2 entries whose names contain this:',
        shown,
        all
      );
    } else if (containing) {
      this.text.textContent = this.trans.__('%1 entries whose names contain this:', shown);
    } else {
      this.text.textContent = this.trans.__(
        'The first %1 of %2 entries, by name. Sorting orders only these. To find others:',
        shown,
        all
      );
    }
    this.setHidden(!containing && !leftOut);
  }
}
