/**
 * The fleet at a glance: hosts with their load and their kernels. As fast at 300 hosts as at 3:
 * only the rows that can be seen are in the document.
 */

import type { IError, IHost, IKernel, IStart } from './api.js';
import { bar, button, dot, element } from './dom.js';
import type { Fleet } from './fleet.js';
import {
  bytes,
  errorWords,
  hostTone,
  hostWords,
  kernelTitle,
  kernelTone,
  kernelWords,
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
  /** Ask which environments of the host are to be kernels. */
  addEnvironments(host: IHost): void;
  /** Ask every host how it is. */
  ask(): Promise<void>;
}

type Row =
  | { kind: 'host'; key: string; model: IHost; here: IKernel[]; open: boolean }
  | { kind: 'kernel'; key: string; model: IKernel }
  | { kind: 'start'; key: string; model: IStart };

interface IDrawn {
  element: HTMLElement;
  stamp: unknown[];
}

const HEIGHTS = { host: 98, kernel: 32, start: 32 };
/** Rows that are drawn above and below those that can be seen. */
const SPARE_PIXELS = 200;
const TICK_MILLISECONDS = 1000;

type Order = 'configured' | 'load' | 'memory' | 'kernels' | 'name' | 'trouble';

export class Panel {
  readonly node: HTMLElement;
  private readonly list: HTMLElement;
  private readonly canvas: HTMLElement;
  private readonly summary: HTMLElement;
  private readonly notes: HTMLElement;
  private readonly search: HTMLInputElement;
  private readonly order: HTMLSelectElement;
  private rows: Row[] = [];
  private tops: number[] = [];
  private readonly drawn = new Map<string, IDrawn>();
  private readonly opened = new Set<string>();
  private readonly closed = new Set<string>();
  private pending = 0;
  private stale = true;
  private current = '';
  /** Of the list, when it was drawn. */
  private height = 0;
  private timer = 0;
  private readonly stopListening: () => void;
  private readonly sizes: ResizeObserver;

  constructor(
    private readonly fleet: Fleet,
    private readonly actions: IActions,
    private readonly trans: ITranslate
  ) {
    this.search = element('input', {
      type: 'search',
      class: 'rp-Search',
      placeholder: trans.__('Search hosts, labels, notebooks'),
      'aria-label': trans.__('Search hosts, labels, notebooks')
    });
    this.order = element('select', { class: 'rp-Order', 'aria-label': trans.__('Sort hosts') });
    const orders: [Order, string][] = [
      ['configured', trans.__('as configured')],
      ['load', trans.__('by load')],
      ['memory', trans.__('by free memory')],
      ['kernels', trans.__('by kernels')],
      ['trouble', trans.__('trouble first')],
      ['name', trans.__('by name')]
    ];
    for (const [value, text] of orders) {
      this.order.append(element('option', { value }, text));
    }
    this.summary = element('div', { class: 'rp-Summary', role: 'status', 'aria-live': 'polite' });
    this.notes = element('div', { class: 'rp-Notes' });
    this.canvas = element('div', {
      class: 'rp-Canvas',
      role: 'list',
      'aria-label': trans.__('Remote hosts and their kernels')
    });
    this.list = element('div', { class: 'rp-List' }, this.canvas);
    const refresh = button('⟳', trans.__('Ask all hosts how they are'), () => {
      refresh.disabled = true;
      void this.actions.ask().finally(() => (refresh.disabled = false));
    });
    this.node = element(
      'div',
      { class: 'rp-Panel' },
      element('div', { class: 'rp-Controls' }, this.search, this.order, refresh),
      this.summary,
      this.notes,
      this.list
    );
    this.search.addEventListener('input', () => this.changed());
    this.order.addEventListener('change', () => this.changed());
    this.list.addEventListener('scroll', () => this.schedule(), { passive: true });
    this.canvas.addEventListener('keydown', event => this.key(event));
    this.canvas.addEventListener('focusin', event => {
      const row = (event.target as HTMLElement).closest<HTMLElement>('.rp-Row');
      this.current = row?.dataset.key ?? this.current;
    });
    this.sizes = new ResizeObserver(() => this.schedule());
    this.sizes.observe(this.list);
    this.stopListening = fleet.listen(() => this.changed());
    // "unreachable for 12 s" gets on by itself, as long as anybody looks.
    this.timer = window.setInterval(() => {
      if (this.list.offsetParent !== null && !document.hidden) {
        this.tick();
      }
    }, TICK_MILLISECONDS);
    this.changed();
  }

  dispose(): void {
    this.stopListening();
    this.sizes.disconnect();
    window.clearInterval(this.timer);
    cancelAnimationFrame(this.pending);
  }

  /** Show the host, its kernels open. */
  reveal(host: string): void {
    this.search.value = '';
    this.opened.add(host);
    this.closed.delete(host);
    this.current = `host ${host}`;
    this.arrange();
    const index = this.rows.findIndex(row => row.key === this.current);
    if (index >= 0) {
      this.list.scrollTop = this.tops[index];
    }
    this.draw();
  }

  private changed(): void {
    this.stale = true;
    this.schedule();
  }

  private schedule(): void {
    if (!this.pending) {
      this.pending = requestAnimationFrame(() => {
        this.pending = 0;
        if (this.stale) {
          this.arrange();
        }
        this.draw();
      });
    }
  }

  // -- which rows there are ------------------------------------------------------------------

  private arrange(): void {
    this.stale = false;
    const words = this.search.value.trim().toLowerCase();
    const kernels = this.fleet.kernelsByHost();
    const starts = new Map<string, IStart[]>();
    for (const start of this.fleet.starts.values()) {
      starts.set(start.host, [...(starts.get(start.host) ?? []), start]);
    }
    this.rows = [];
    for (const start of starts.get('') ?? []) {
      this.rows.push({ kind: 'start', key: `start ${start.kernel_id}`, model: start });
    }
    for (const host of this.sorted()) {
      const here = kernels.get(host.name) ?? [];
      const matches = !words || text(host).includes(words);
      const shown = matches ? here : here.filter(kernel => kernelText(kernel).includes(words));
      if (!matches && !shown.length) {
        continue;
      }
      const open = this.isOpen(host.name, shown.length, words);
      this.rows.push({ kind: 'host', key: `host ${host.name}`, model: host, here, open });
      for (const start of starts.get(host.name) ?? []) {
        this.rows.push({ kind: 'start', key: `start ${start.kernel_id}`, model: start });
      }
      if (open) {
        for (const kernel of shown) {
          this.rows.push({ kind: 'kernel', key: `kernel ${kernel.id}`, model: kernel });
        }
      }
    }
    let top = 0;
    this.tops = this.rows.map(row => {
      const here = top;
      top += HEIGHTS[row.kind];
      return here;
    });
    this.canvas.style.height = `${top}px`;
    this.say();
  }

  private isOpen(name: string, kernels: number, words: string): boolean {
    if (this.closed.has(name)) {
      return false;
    }
    return this.opened.has(name) || (kernels > 0 && (kernels <= 5 || Boolean(words)));
  }

  private sorted(): IHost[] {
    const hosts = [...this.fleet.hosts.values()];
    const order = this.order.value as Order;
    const rank: Record<string, (host: IHost) => number> = {
      load: host => (host.cores ? (host.load ?? 0) / host.cores : Infinity),
      memory: host => -(host.memory_available ?? -Infinity),
      kernels: host => -(host.kernels.all ?? host.kernels.mine),
      trouble: host =>
        ['unusable', 'unreachable', 'connecting', 'connected', 'disconnected'].indexOf(host.state)
    };
    if (order === 'name') {
      return hosts.sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }));
    }
    const of = rank[order];
    return of ? hosts.sort((a, b) => compare(of(a), of(b))) : hosts;
  }

  private say(): void {
    const { hosts, kernels, others, problems, known } = this.fleet;
    let up = 0;
    let trouble = 0;
    for (const host of hosts.values()) {
      up += host.state === 'connected' ? 1 : 0;
      trouble += host.state === 'unusable' || host.state === 'unreachable' ? 1 : 0;
    }
    const parts = [
      this.trans._n('%1 host', '%1 hosts', hosts.size),
      this.trans.__('%1 connected', up),
      trouble ? this.trans.__('%1 in trouble', trouble) : '',
      this.trans._n('%1 kernel of yours', '%1 kernels of yours', kernels.size + others.length)
    ];
    const said = known ? parts.filter(Boolean).join(' · ') : this.trans.__('Looking …');
    if (this.summary.textContent !== said) {
      this.summary.textContent = said;
    }
    const notes = Object.entries(problems).map(([name, problem]) => `${name}: ${problem}`);
    if (known && !hosts.size && !notes.length) {
      notes.push(
        this.trans.__(
          'No kernelspec runs on hosts yet. `jupyter remote spec install --remote-hosts=…` makes one.'
        )
      );
    }
    if (this.notes.textContent !== notes.join('')) {
      this.notes.replaceChildren(...notes.map(note => element('p', {}, note)));
    }
  }

  // -- what is drawn -------------------------------------------------------------------------

  private draw(): void {
    this.height = this.list.clientHeight;
    const from = this.list.scrollTop - SPARE_PIXELS;
    const to = this.list.scrollTop + this.list.clientHeight + SPARE_PIXELS;
    const start = first(this.tops, from - HEIGHTS.host);
    let index = start;
    const kept = new Set<string>();
    const focused = this.canvas.contains(document.activeElement);
    const action = (document.activeElement as HTMLElement | null)?.dataset?.action;
    for (; index < this.rows.length && this.tops[index] < to; index++) {
      const row = this.rows[index];
      kept.add(row.key);
      const stamp = this.stamp(row, index);
      let drawn = this.drawn.get(row.key);
      if (!drawn || drawn.stamp.some((part, at) => part !== stamp[at])) {
        const made = this.make(row, index);
        drawn?.element.replaceWith(made);
        if (!drawn) {
          this.canvas.append(made);
        }
        drawn = { element: made, stamp };
        this.drawn.set(row.key, drawn);
      }
      drawn.element.style.transform = `translateY(${this.tops[index]}px)`;
    }
    for (const [key, drawn] of this.drawn) {
      if (!kept.has(key)) {
        drawn.element.remove();
        this.drawn.delete(key);
      }
    }
    // In the document in their order: it is that in which they are read and walked.
    let place = 0;
    for (const row of this.rows.slice(start, index)) {
      const drawn = this.drawn.get(row.key)!.element;
      if (this.canvas.children[place] !== drawn) {
        this.canvas.insertBefore(drawn, this.canvas.children[place] ?? null);
      }
      place++;
    }
    this.focusable();
    if (focused && !this.canvas.contains(document.activeElement)) {
      const row = this.drawn.get(this.current)?.element;
      const again = action ? row?.querySelector<HTMLElement>(`[data-action="${action}"]`) : null;
      (again ?? row)?.focus({ preventScroll: true });
    }
  }

  /** What a drawn row depends on. */
  private stamp(row: Row, index: number): unknown[] {
    const place = `${index} of ${this.rows.length}`;
    if (row.kind === 'host') {
      return [row.model, row.open, row.here.length, place];
    }
    return [row.model, row.kind === 'start' ? row.model.phase : null, place];
  }

  private focusable(): void {
    if (!this.drawn.has(this.current)) {
      const top = this.rows.find(row => this.drawn.has(row.key));
      if (!this.canvas.contains(document.activeElement)) {
        this.current = top?.key ?? '';
      }
    }
    for (const [key, { element: drawn }] of this.drawn) {
      drawn.tabIndex = key === this.current ? 0 : -1;
    }
  }

  private tick(): void {
    if (this.list.clientHeight !== this.height) {
      this.schedule(); // a change of theme, of which nobody has told
    }
    for (const row of this.rows) {
      const drawn = this.drawn.get(row.key);
      const words = drawn?.element.querySelector('.rp-State');
      if (words) {
        const said = this.words(row);
        if (words.textContent !== said) {
          words.textContent = said;
        }
      }
    }
  }

  private words(row: Row): string {
    switch (row.kind) {
      case 'host':
        return hostWords(row.model, this.trans);
      case 'kernel':
        return kernelWords(row.model, this.fleet.age(row.model), this.trans);
      case 'start':
        return startWords(row.model, this.trans);
    }
  }

  private make(row: Row, index: number): HTMLElement {
    const made = element('div', {
      class: `rp-Row rp-Row-${row.kind}`,
      role: 'listitem',
      'data-key': row.key,
      'aria-setsize': this.rows.length,
      'aria-posinset': index + 1
    });
    if (row.kind === 'host') {
      this.fillHost(made, row.model, row.here.length, row.open);
    } else if (row.kind === 'kernel') {
      this.fillKernel(made, row.model);
    } else {
      this.fillStart(made, row.model);
    }
    return made;
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
      element('span', { class: 'rp-Name', title: host.name }, host.name),
      element('span', { class: 'rp-State' }, hostWords(host, trans))
    );
    const facts = this.facts(host);
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
    made.append(head, this.bars(host), facts);
  }

  private hostAction(host: IHost): HTMLElement | null {
    if (host.state === 'connecting') {
      return null;
    }
    if (host.state === 'connected') {
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
      const text = this.trans.__('%1 of %2 cores', host.load.toFixed(1), host.cores);
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

  private facts(host: IHost): HTMLElement {
    if (host.error) {
      const error = host.error;
      const said = button(error.message, this.trans.__('Why %1 fails', host.name), () =>
        this.actions.showError({ ...error, host: host.name })
      );
      said.className = 'rp-Trouble';
      said.dataset.action = 'error';
      return element('div', { class: 'rp-Facts' }, said);
    }
    const { mine, all } = host.kernels;
    const kernels =
      all === null || all === mine
        ? this.trans._n('%1 kernel', '%1 kernels', mine)
        : this.trans.__('%1 of %2 kernels yours', mine, all);
    const room = host.capacity === null ? '' : this.trans.__('room for %1', host.capacity);
    const trip =
      host.round_trip === null ? '' : this.trans.__('%1 ms', Math.ceil(host.round_trip * 1000));
    const said = [kernels, room, trip].filter(Boolean).join(' · ');
    const words = element('span', { title: said }, said);
    const labels = host.labels.map(label =>
      element('span', { class: 'rp-Label', title: label }, label)
    );
    return element('div', { class: 'rp-Facts' }, words, ...labels);
  }

  private fillKernel(made: HTMLElement, kernel: IKernel): void {
    const trans = this.trans;
    const title = kernelTitle(kernel);
    const path = kernel.notebook?.path;
    const open = this.actions.openNotebook?.bind(this.actions);
    const name =
      path && open
        ? button(title, trans.__('Open %1', title), () => open(path), { 'data-action': 'open' })
        : element('span', { title }, title);
    name.classList.add('rp-KernelName');
    made.append(
      dot(kernelTone(kernel)),
      name,
      element('span', { class: 'rp-State' }, this.words({ kind: 'kernel', key: '', model: kernel })),
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
    const title = start.notebook.split('/').pop() || start.kernel_id.slice(0, 8);
    const error = start.error;
    made.append(
      dot(startTone(start)),
      element('span', { class: 'rp-KernelName', title: start.notebook }, title),
      element('span', { class: 'rp-State' }, startWords(start, this.trans)),
      element(
        'span',
        { class: 'rp-Actions' },
        error
          ? button(this.trans.__('Why?'), this.trans.__('Why %1 did not start', title), () =>
              this.actions.showError(error)
            )
          : button('✕', this.trans.__('Cancel the start of %1', title), () =>
              this.actions.cancel(start)
            )
      )
    );
  }

  // -- keyboard ------------------------------------------------------------------------------

  private toggle(name: string, open: boolean): void {
    (open ? this.opened : this.closed).delete(name);
    (open ? this.closed : this.opened).add(name);
    this.current = `host ${name}`;
    this.changed();
  }

  private key(event: KeyboardEvent): void {
    const row = (event.target as HTMLElement).closest<HTMLElement>('.rp-Row');
    const index = this.rows.findIndex(known => known.key === row?.dataset.key);
    if (!row || index < 0) {
      return;
    }
    const found = this.rows[index];
    const steps: Record<string, number> = {
      ArrowDown: index + 1,
      ArrowUp: index - 1,
      Home: 0,
      End: this.rows.length - 1
    };
    if (event.key in steps) {
      event.preventDefault();
      this.go(Math.max(0, Math.min(this.rows.length - 1, steps[event.key])));
    } else if (found.kind === 'host' && event.key === 'ArrowRight' && !found.open) {
      this.toggle(found.model.name, false);
    } else if (found.kind === 'host' && event.key === 'ArrowLeft' && found.open) {
      this.toggle(found.model.name, true);
    }
  }

  private go(index: number): void {
    const top = this.tops[index];
    const bottom = top + HEIGHTS[this.rows[index].kind];
    if (top < this.list.scrollTop) {
      this.list.scrollTop = top;
    } else if (bottom > this.list.scrollTop + this.list.clientHeight) {
      this.list.scrollTop = bottom - this.list.clientHeight;
    }
    this.current = this.rows[index].key;
    this.draw();
    this.drawn.get(this.current)?.element.focus({ preventScroll: true });
  }
}

function text(host: IHost): string {
  const error = host.error ? errorWords(host.error) : '';
  return [host.name, host.state, ...host.labels, ...host.kernelspecs, error]
    .join(' ')
    .toLowerCase();
}

function kernelText(kernel: IKernel): string {
  return [kernel.notebook?.path ?? '', kernel.name, kernel.id, kernel.state].join(' ').toLowerCase();
}

function compare(a: number, b: number): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** The index of the first value that is not less than `least`; `sorted` ascends. */
function first(sorted: number[], least: number): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < least) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}
