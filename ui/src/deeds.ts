/** The actions on kernels and hosts in JupyterLab, for the panel, the details and the toolbar. */

import type { JupyterFrontEnd } from '@jupyterlab/application';
import { Clipboard, Notification } from '@jupyterlab/apputils';
import type { TranslationBundle } from '@jupyterlab/translation';

import type { IError, IHost, IKernel, IStart } from './api';
import { askWhich } from './which';
import type { Fleet } from './fleet';
import type { IActions } from './rows';
import { asError, showError, showLogs, sure } from './say';
import { askWhere } from './where';
import { attachLine, kernelTitle } from './words';

export class Deeds implements IActions {
  constructor(
    private readonly app: JupyterFrontEnd,
    private readonly fleet: Fleet,
    private readonly trans: TranslationBundle,
    /** Missing where the operator allows no files. */
    readonly openFiles?: (host: IHost) => void
  ) {}

  openNotebook(path: string): void {
    void this.app.commands.execute('docmanager:open', { path });
  }

  showLogs(kernel: { id: string; host: string }, title: string): void {
    void this.attempt(async () => {
      const text = await this.fleet.api.logs(kernel.id, kernel.host);
      void showLogs(text, title, this.trans);
    });
  }

  stop(kernel: IKernel): void {
    void this.attempt(async () => {
      const title = kernelTitle(kernel);
      const text = this.trans.__('It runs on %1. Its variables are lost.', kernel.host);
      if (await sure(this.trans.__('Shut down %1?', title), text, this.trans.__('Shut Down'))) {
        await this.fleet.api.stop(kernel.id, kernel.host);
      }
    });
  }

  move(kernel: IKernel): void {
    void this.attempt(async () => {
      const names = this.fleet
        .hostsOf(kernel.name)
        .map(host => host.name)
        .filter(name => name !== kernel.host);
      const title = kernelTitle(kernel);
      if (!names.length) {
        const message = this.trans.__('Its kernelspec has no host except %1.', kernel.host);
        throw new Error(message);
      }
      const host = await askWhere(this.fleet, this.trans, {
        title: this.trans.__('Restart %1 on another host? Its variables are lost.', title),
        action: this.trans.__('Restart There'),
        names,
        anywhere: false,
        warn: true
      });
      if (host) {
        await this.waitFor(
          this.fleet.api.move(kernel.id, host),
          this.trans.__('%1 restarts on %2', title, host),
          this.trans.__('%1 runs on %2', title, host)
        );
      }
    });
  }

  cancel(start: IStart): void {
    void this.attempt(() => this.fleet.api.cancel(start.kernel_id));
  }

  showError(error: IError): void {
    void showError(error, this.trans);
  }

  reconnect(host: IHost): void {
    void this.attempt(() => this.fleet.api.reconnect(host.name));
  }

  addEnvironments(host: IHost): void {
    void this.attempt(async () => {
      const found = await this.fleet.api.environments(host.name);
      const chosen = await askWhich(found, this.trans, async () => {
        const done = await this.fleet.api.refreshEnvironments(host.name);
        await this.showKernelspecs();
        return done;
      });
      if (!chosen.length) {
        return;
      }
      const added = await this.fleet.api.addEnvironments(host.name, chosen);
      await this.showKernelspecs();
      const written = added.kernelspecs.filter(spec => ['new', 'changed'].includes(spec.change));
      if (written.length) {
        const names = written.map(spec => spec.display_name).join(', ');
        Notification.success(this.trans.__('The launcher now shows: %1', names), {
          autoClose: 8000
        });
      }
      for (const error of added.errors) {
        void showError(error, this.trans);
      }
    });
  }

  /** Show the present kernelspecs in the launcher and in the panel. */
  private async showKernelspecs(): Promise<void> {
    await this.app.serviceManager.kernelspecs.refreshSpecs();
    await this.fleet.refresh();
  }

  async ask(): Promise<void> {
    await this.attempt(() => this.fleet.refresh(true));
  }

  copyAttachLine(kernel: { id: string; host: string }): void {
    Clipboard.copyToSystem(attachLine(kernel, this.fleet.hosts.get(kernel.host)));
    Notification.success(
      this.trans.__('Copied. Run this command in a terminal to attach to the kernel.'),
      {
        autoClose: 4000
      }
    );
  }

  /** Do it; an error is shown. */
  async attempt(action: () => Promise<unknown>): Promise<boolean> {
    try {
      await action();
      return true;
    } catch (reason) {
      void showError(asError(reason), this.trans);
      return false;
    }
  }

  private async waitFor(what: Promise<unknown>, pending: string, done: string): Promise<void> {
    const id = Notification.emit(pending, 'in-progress', { autoClose: false });
    try {
      await what;
      Notification.update({ id, message: done, type: 'success', autoClose: 4000 });
    } catch (reason) {
      Notification.dismiss(id);
      throw reason;
    }
  }
}
