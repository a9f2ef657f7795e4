/** Notifications of what happened while somebody looked elsewhere. */

import { Notification } from '@jupyterlab/apputils';
import type { TranslationBundle } from '@jupyterlab/translation';

import type { IError, IHost, IStart } from './api';
import type { Change, Fleet } from './fleet';
import { showError } from './say';
import { errorWords, kernelTitle } from './words';

/** A start that takes longer is said to be under way. */
const SLOW_MILLISECONDS = 3000;
const BRIEFLY_MILLISECONDS = 6000;

export type Level = 'all' | 'trouble' | 'none';

export class Notices {
  level: Level = 'all';
  /** Notifications of hosts that are away, and of starts, by what they are about. */
  private readonly shown = new Map<string, string>();
  private readonly timers = new Map<string, number>();

  constructor(
    private readonly fleet: Fleet,
    private readonly trans: TranslationBundle,
    private readonly cancel: (start: IStart) => void
  ) {
    fleet.listen(change => this.heard(change));
  }

  private heard(change: Change): void {
    if (this.level === 'none') {
      return;
    }
    if (change.kind === 'host') {
      this.host(change.change, change.host);
    } else if (change.kind === 'kernel') {
      this.kernel(change);
    } else if (change.kind === 'start') {
      this.start(change.start);
    }
  }

  private host(change: string, host: IHost): void {
    const key = `host ${host.name}`;
    if (change === 'unreachable') {
      const count = host.kernels.mine;
      const said = this.trans._n(
        '%2 cannot be reached. Your kernel there goes on.',
        '%2 cannot be reached. Your %1 kernels there go on.',
        count,
        host.name
      );
      this.show(key, said, 'warning', false, host.error);
    } else if (change === 'back' && this.shown.has(key)) {
      this.show(key, this.trans.__('%1 is back.', host.name), 'success', BRIEFLY_MILLISECONDS);
      this.shown.delete(key);
    }
  }

  private kernel(heard: Change & { kind: 'kernel' }): void {
    const { change, kernel, before, former, dropped } = heard;
    const title = kernelTitle(kernel);
    const key = `kernel ${kernel.id}`;
    // One that never ran has not started, which its start says.
    const ran = before?.state === 'running' || before?.state === 'unreachable';
    if (change === 'lost' && ran) {
      const said = this.trans.__('%1 on %2 is lost: %3', title, kernel.host, kernel.reason);
      this.show(key, said, 'error', false);
    } else if (change === 'exited' && ran && kernel.exit_code !== 0) {
      const how = kernel.signal
        ? this.trans.__('by %1', kernel.signal)
        : this.trans.__('with exit code %1', kernel.exit_code);
      const said = this.trans.__('%1 on %2 ended %3', title, kernel.host, how);
      const printed = { kind: '', host: kernel.host, message: said, advice: '', printed: kernel.reason };
      this.show(key, said, 'error', false, kernel.reason ? printed : null);
    } else if (change === 'moved') {
      const said = this.trans.__('%1 moves from %2 to %3', title, former, kernel.host);
      this.show(key, said, 'info', BRIEFLY_MILLISECONDS);
    } else if (change === 'output dropped') {
      const said = this.trans._n(
        '%2: a message of its output is lost, it printed more than its host keeps',
        '%2: %1 messages of its output are lost, it printed more than its host keeps',
        dropped ?? 1,
        title
      );
      this.show(key, said, 'warning', BRIEFLY_MILLISECONDS);
    }
  }

  private start(start: IStart): void {
    const key = `start ${start.kernel_id}`;
    const title = start.notebook.split('/').pop() || start.kernel_id.slice(0, 8);
    if (start.error) {
      this.over(key);
      const said = this.trans.__('%1 did not start. %2', title, errorWords(start.error));
      this.show(key, said, 'error', false, start.error);
    } else if (start.phase === 'ready' || start.phase === 'cancelled') {
      this.over(key);
    } else if (!this.timers.has(key) && this.level === 'all') {
      this.timers.set(
        key,
        window.setTimeout(() => this.slow(key, title, start.kernel_id), SLOW_MILLISECONDS)
      );
    }
  }

  private slow(key: string, title: string, kernelId: string): void {
    const start = this.fleet.starts.get(kernelId);
    if (start && !start.error) {
      const id = Notification.emit(this.trans.__('%1 is starting', title), 'in-progress', {
        autoClose: false,
        actions: [
          { label: this.trans.__('Cancel'), callback: () => this.cancel(start), displayType: 'warn' }
        ]
      });
      this.shown.set(key, id);
    }
  }

  private over(key: string): void {
    window.clearTimeout(this.timers.get(key));
    this.timers.delete(key);
    const id = this.shown.get(key);
    if (id) {
      Notification.dismiss(id);
      this.shown.delete(key);
    }
  }

  private show(
    key: string,
    said: string,
    type: Notification.TypeOptions,
    autoClose: number | false,
    error: IError | null = null
  ): void {
    if (this.level === 'trouble' && (type === 'info' || type === 'success')) {
      return;
    }
    const before = this.shown.get(key);
    if (before) {
      Notification.dismiss(before);
    }
    const actions = error
      ? [{ label: this.trans.__('Details'), callback: () => void showError(error, this.trans) }]
      : [];
    this.shown.set(key, Notification.emit(said.slice(0, 300), type, { autoClose, actions }));
  }
}
