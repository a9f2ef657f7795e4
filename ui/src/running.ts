/** The section of the Running panel with kernels of other servers and kernels without a server. */

import { Clipboard, Notification } from '@jupyterlab/apputils';
import type { IRunningSessions } from '@jupyterlab/running';
import type { TranslationBundle } from '@jupyterlab/translation';
import { consoleIcon } from '@jupyterlab/ui-components';
import { Signal } from '@lumino/signaling';

import type { Api, IFoundKernel } from './api';
import type { Deeds } from './deeds';
import { sure } from './say';
import { attachLine, bytes, duration } from './words';

export class FoundKernels implements IRunningSessions.IManager {
  readonly name: string;
  readonly shutdownLabel: string;
  readonly shutdownAllLabel: string;
  readonly shutdownAllConfirmationText: string;
  readonly runningChanged = new Signal<this, void>(this);
  private kernels: IFoundKernel[] = [];

  constructor(
    private readonly api: Api,
    private readonly deeds: Deeds,
    private readonly trans: TranslationBundle
  ) {
    this.name = trans.__('Other remote kernels');
    this.shutdownLabel = trans.__('End');
    this.shutdownAllLabel = trans.__('End All');
    this.shutdownAllConfirmationText = trans.__(
      'End all remote kernels without a server? Their variables are lost. Kernels of other servers keep running.'
    );
  }

  running(): IRunningSessions.IRunningItem[] {
    return this.kernels.map(kernel => ({
      icon: () => consoleIcon,
      label: () => `${kernel.id.slice(0, 8)} · ${kernel.host} · ${this.facts(kernel)}`,
      labelTitle: () => this.title(kernel),
      open: () => this.open(kernel),
      shutdown: () => void this.end([kernel], true)
    }));
  }

  refreshRunning(): void {
    void this.api.found().then(
      found => {
        this.kernels = found.kernels.filter(kernel => kernel.state === 'running');
        this.runningChanged.emit();
      },
      () => undefined
    );
  }

  shutdownAll(): void {
    void this.end(
      this.kernels.filter(kernel => kernel.owner === 'no server'),
      false
    );
  }

  private async end(kernels: IFoundKernel[], ask: boolean): Promise<void> {
    const [first] = kernels;
    if (ask && first) {
      const text =
        first.owner === 'no server'
          ? this.trans.__('It has no server. Its variables are lost.')
          : this.trans.__('Another server uses it, and may start it again.');
      const title = this.trans.__('End kernel %1 on %2?', first.id.slice(0, 8), first.host);
      if (!(await sure(title, text, this.trans.__('End')))) {
        return;
      }
    }
    await this.deeds.attempt(() =>
      Promise.all(kernels.map(kernel => this.api.stop(kernel.id, kernel.host)))
    );
    this.refreshRunning();
  }

  /** Show its logs and the command that attaches to it. */
  private open(kernel: IFoundKernel): void {
    const line = attachLine(kernel);
    const said = this.trans.__(
      'To attach to kernel %1 on %2, run in a terminal: %3',
      kernel.id.slice(0, 8),
      kernel.host,
      line
    );
    Notification.info(said, {
      autoClose: 20_000,
      actions: [
        { label: this.trans.__('Copy'), callback: () => Clipboard.copyToSystem(line) },
        {
          label: this.trans.__('Logs'),
          callback: () => this.deeds.showLogs(kernel, kernel.id.slice(0, 8))
        }
      ]
    });
  }

  private title(kernel: IFoundKernel): string {
    return `${kernel.id}\n${kernel.host}\n${this.facts(kernel)}`;
  }

  private facts(kernel: IFoundKernel): string {
    return [
      kernel.owner === 'no server'
        ? this.trans.__('without a server')
        : this.trans.__('of another server'),
      kernel.memory === null ? '' : bytes(kernel.memory),
      kernel.idle === null ? '' : this.trans.__('idle %1', duration(kernel.idle)),
      kernel.lease_left === null ? '' : this.trans.__('ends in %1', duration(kernel.lease_left))
    ]
      .filter(Boolean)
      .join(' · ');
  }
}
