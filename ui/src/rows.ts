/** A row of the panel: a host, a kernel, or a start that is under way or has failed. */

import type { IError, IHost, IKernel, IStart } from './api.js';
import { bar, button, dot, element } from './dom.js';
import type { Fleet } from './fleet.js';
import {
  bytes,
  load,
  hostTone,
  hostWords,
  kernelTitle,
  kernelTone,
  kernelWords,
  startTitle,
  startTone,
  startWords,
  type ITranslate
} from './words.js';

/** What a page does for the panel. */
export interface IActions {
  openNotebook?(path: string): void;
  /** Show the files of the host. */
  openFiles?(host: IHost): void;
  showLogs(kernel: { id: string; host: string }, title: string): void;
  stop(kernel: IKernel): void;
  move(kernel: IKernel): void;
  cancel(start: IStart): void;
  showError(error: IError): void;
  reconnect(host: IHost): void;
  /** Ask the user which environments of the host become kernels. */
  addEnvironments(host: IHost): void;
  /** Ask every host how it is. */
  ask(): Promise<void>;
}

export type Row =
  | { kind: 'host'; key: string; model: IHost; here: IKernel[]; open: boolean }
  | { kind: 'kernel'; key: string; model: IKernel }
  | { kind: 'start'; key: string; model: IStart };

const HEAD = 32;
const BARS = 35;
const FACTS = 28;
const LABELS = 20;
const SMALL = 30;

export const TALLEST = HEAD + BARS + FACTS + LABELS;

/** A narrower panel shows a host's labels below the other facts. */
export const NARROW = 340;

/** A row's height in pixels. A host without a known load has no bars. */
export function height(row: Row, narrow: boolean): number {
  if (row.kind !== 'host') {
    return SMALL;
  }
  const host = row.model;
  const labels = narrow && host.labels.length && !host.error ? LABELS : 0;
  return HEAD + (hasBars(host) ? BARS : 0) + FACTS + labels;
}

function hasBars(host: IHost): boolean {
  return host.load !== null || host.memory_available !== null || host.gpus.length > 0;
}

export class Rows {
  constructor(
    private readonly fleet: Fleet,
    private readonly actions: IActions,
    private readonly trans: ITranslate,
    /** Show the kernels of a host, or hide them. */
    private readonly toggle: (host: string, open: boolean) => void
  ) {}

  make(row: Row, index: number, count: number, narrow: boolean): HTMLElement {
    const made = element('div', {
      class: `rp-Row rp-Row-${row.kind}`,
      role: 'listitem',
      'data-key': row.key,
      'aria-setsize': count,
      'aria-posinset': index + 1
    });
    made.style.height = `${height(row, narrow)}px`;
    if (row.kind === 'host') {
      this.fillHost(made, row.model, row.here.length, row.open);
    } else if (row.kind === 'kernel') {
      this.fillKernel(made, row.model);
    } else {
      this.fillStart(made, row.model);
    }
    return made;
  }

  /** The state of a row, which may change with time. */
  words(row: Row): string {
    switch (row.kind) {
      case 'host':
        return hostWords(row.model, this.trans);
      case 'kernel':
        return kernelWords(row.model, this.fleet.age(row.model), this.trans);
      case 'start':
        return startWords(row.model, this.trans);
    }
  }

  private fillHost(made: HTMLElement, host: IHost, here: number, open: boolean): void {
    const trans = this.trans;
    const toggle = button(
      open ? '▾' : '▸',
      trans.__('Kernels on %1', host.name),
      () => this.toggle(host.name, open),
      { 'aria-expanded': open ? 'true' : 'false', class: 'rp-Toggle', 'data-action': 'toggle' }
    );
    toggle.disabled = !here;
    const head = element(
      'div',
      { class: 'rp-Head' },
      toggle,
      dot(hostTone(host)),
      hostName(host.name),
      element('span', { class: 'rp-State' }, hostWords(host, trans))
    );
    const facts = this.facts(host, here);
    if (this.actions.openFiles && (host.state === 'connected' || host.state === 'disconnected')) {
      facts.append(
        button(
          trans.__('Files'),
          trans.__('Files of %1', host.name),
          () => this.actions.openFiles?.(host),
          { 'data-action': 'files' }
        )
      );
    }
    const action = this.hostAction(host);
    if (action) {
      facts.append(action);
    }
    made.append(head, ...(hasBars(host) ? [this.bars(host)] : []), facts);
  }

  private hostAction(host: IHost): HTMLElement | null {
    if (host.state === 'connecting') {
      return null;
    }
    if (host.state === 'connected') {
      if (host.way_in === 'engine') {
        return null;
      }
      return button(
        this.trans.__('Add environments…'),
        this.trans.__('Add environments of %1…', host.name),
        () => this.actions.addEnvironments(host),
        { 'data-action': 'add' }
      );
    }
    const again = host.state !== 'disconnected';
    return button(
      again ? this.trans.__('Reconnect') : this.trans.__('Connect'),
      again
        ? this.trans.__('Reconnect to %1 now', host.name)
        : this.trans.__('Connect to %1 now', host.name),
      () => this.actions.reconnect(host),
      { 'data-action': 'connect' }
    );
  }

  private bars(host: IHost): HTMLElement {
    const bars = element('div', { class: 'rp-Bars' });
    if (host.cores && host.load !== null) {
      const text = this.trans.__('%1 of %2 cores', load(host.load), host.cores);
      bars.append(bar(this.trans.__('Load'), host.load / host.cores, text));
    }
    if (host.memory && host.memory_available !== null) {
      const text = this.trans.__('%1 free', bytes(host.memory_available));
      bars.append(bar(this.trans.__('Memory'), 1 - host.memory_available / host.memory, text));
    }
    if (host.gpus.length) {
      const free = host.gpus.length - host.gpus_taken.length;
      const text = this.trans.__('%1 of %2 free', free, host.gpus.length);
      bars.append(bar(this.trans.__('GPUs'), 1 - free / host.gpus.length, text));
    }
    return bars;
  }

  /** `here`: how many of the user's kernels are known to be there, also of other servers. */
  private facts(host: IHost, here: number): HTMLElement {
    if (host.error) {
      const error = host.error;
      const said = button(error.message, this.trans.__('Why %1 fails', host.name), () =>
        this.actions.showError({ ...error, host: host.name })
      );
      said.className = 'rp-Trouble';
      said.dataset.action = 'error';
      return element('div', { class: 'rp-Facts' }, said);
    }
    const all = host.kernels.all;
    const mine = Math.max(host.kernels.mine, here);
    const kernels =
      all === null || all <= mine
        ? this.trans._n('%1 kernel', '%1 kernels', mine)
        : this.trans.__('%1 of %2 kernels yours', mine, all);
    const room = host.capacity === null ? '' : this.trans.__('room for %1', host.capacity);
    const trip =
      host.round_trip === null
        ? ''
        : this.trans.__('answers in %1 ms', Math.ceil(host.round_trip * 1000));
    const title = [kernels, room, trip].filter(Boolean).join(' · ');
    const words = element(
      'span',
      { title },
      [kernels, room].filter(Boolean).join(' · '),
      trip && element('span', { class: 'rp-Trip' }, ` · ${trip}`)
    );
    const labels = element('span', { class: 'rp-Labels' });
    for (const label of host.labels) {
      labels.append(element('span', { class: 'rp-Label', title: label }, label));
    }
    return element('div', { class: 'rp-Facts' }, words, host.labels.length > 0 && labels);
  }

  private fillKernel(made: HTMLElement, kernel: IKernel): void {
    const trans = this.trans;
    const title = kernelTitle(kernel);
    const path = kernel.notebook?.path;
    const open = this.actions.openNotebook?.bind(this.actions);
    const name =
      path && open
        ? button('', trans.__('Open %1', title), () => open(path), { 'data-action': 'open' })
        : element('span', { title });
    name.classList.add('rp-KernelName');
    name.append(...pathParts(title));
    made.append(
      dot(kernelTone(kernel)),
      name,
      element(
        'span',
        { class: 'rp-State' },
        this.words({ kind: 'kernel', key: '', model: kernel })
      ),
      element(
        'span',
        { class: 'rp-Actions' },
        button('≡', trans.__('Logs of %1', title), () => this.actions.showLogs(kernel, title), {
          'data-action': 'logs'
        }),
        kernel.owner === 'this server' &&
          button('⇄', trans.__('Restart %1 elsewhere', title), () => this.actions.move(kernel), {
            'data-action': 'move'
          }),
        button('✕', trans.__('Shut down %1', title), () => this.actions.stop(kernel), {
          'data-action': 'stop'
        })
      )
    );
  }

  private fillStart(made: HTMLElement, start: IStart): void {
    const trans = this.trans;
    const title = startTitle(start);
    const error = start.error;
    const why =
      error &&
      button(trans.__('Why?'), trans.__('Why %1 did not start', title), () =>
        this.actions.showError(error)
      );
    const end = error
      ? button('✕', trans.__('Remove %1 from this list', title), () => this.fleet.forget(start))
      : button('✕', trans.__('Cancel the start of %1', title), () => this.actions.cancel(start));
    made.append(
      dot(startTone(start)),
      element(
        'span',
        { class: 'rp-KernelName', title: start.notebook },
        element('span', { class: 'rp-File' }, title)
      ),
      element('span', { class: 'rp-State' }, startWords(start, trans)),
      element('span', { class: 'rp-Actions' }, why, end)
    );
  }
}

/** A host's name. If it is too long, the domain is cut off first. */
function hostName(name: string): HTMLElement {
  const dotted = /^[^\d].*\./.test(name) ? name.indexOf('.') : -1; // no IP address
  const at = dotted < 0 ? name.length : dotted;
  return element(
    'span',
    { class: 'rp-Name', title: name },
    element('span', { class: 'rp-File' }, name.slice(0, at)),
    element('span', { class: 'rp-Directory' }, name.slice(at))
  );
}

/** A path's parts. If the path is too long, the directory is cut off first. */
function pathParts(path: string): HTMLElement[] {
  const at = path.lastIndexOf('/') + 1;
  return [
    element('span', { class: 'rp-Directory' }, path.slice(0, at)),
    element('span', { class: 'rp-File' }, path.slice(at))
  ];
}
