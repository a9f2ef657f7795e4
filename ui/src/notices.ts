/** Notifications of what happened while somebody looked elsewhere. */

import { Notification } from '@jupyterlab/apputils';
import type { TranslationBundle } from '@jupyterlab/translation';

import type { IError, IStart } from './api';
import type { Change, Fleet } from './fleet';
import { news, type INews } from './news';
import { showError } from './say';
import { errorWords, startTitle, startWords } from './words';

/** A start that takes longer gets a notification. */
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
    if (change.kind === 'start') {
      this.start(change.start);
      return;
    }
    const found = news(change, this.trans);
    if (found) {
      this.say(found);
    } else if (change.kind === 'kernel' && (change.change === 'back' || change.change === 'gone')) {
      this.dismiss(`kernel ${change.kernel.id}`); // of a limit that was near
    }
  }

  private say(found: INews): void {
    const back = found.key.startsWith('host ') && found.type === 'success';
    if (back && !this.shown.has(found.key)) {
      return; // nobody was told that it was away
    }
    const autoClose = found.brief && BRIEFLY_MILLISECONDS;
    this.show(found.key, found.said, found.type, autoClose, found.error);
    if (back) {
      this.shown.delete(found.key);
    }
  }

  private start(start: IStart): void {
    const key = `start ${start.kernel_id}`;
    const title = startTitle(start);
    if (start.error) {
      this.over(key);
      const said = this.trans.__('%1 did not start. %2', title, errorWords(start.error));
      this.show(key, said, 'error', false, start.error);
    } else if (start.phase === 'ready' || start.phase === 'cancelled') {
      this.over(key);
    } else if (this.shown.has(key)) {
      const message = this.starting(title, start);
      Notification.update({ id: this.shown.get(key)!, message });
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
      const id = Notification.emit(this.starting(title, start), 'in-progress', {
        autoClose: false,
        actions: [
          {
            label: this.trans.__('Cancel'),
            callback: () => this.cancel(start),
            displayType: 'warn'
          }
        ]
      });
      this.shown.set(key, id);
    }
  }

  private starting(title: string, start: IStart): string {
    return `${title}: ${startWords(start, this.trans)}`;
  }

  private over(key: string): void {
    window.clearTimeout(this.timers.get(key));
    this.timers.delete(key);
    this.dismiss(key);
  }

  private dismiss(key: string): void {
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
