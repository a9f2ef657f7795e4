/**
 * The fleet at a glance: hosts with their load and their kernels. As fast at 300 hosts as at 3:
 * only the rows that can be seen are in the document.
 */

import type { IHost, IKernel, IStart } from './api.js';
import { button, element } from './dom.js';
import type { Fleet } from './fleet.js';
import { height, NARROW, Rows, TALLEST, type IActions, type Row } from './rows.js';
import { errorWords, type ITranslate } from './words.js';

interface IDrawn {
  element: HTMLElement;
  stamp: unknown[];
}

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
  private readonly maker: Rows;
  private readonly drawn = new Map<string, IDrawn>();
  private readonly opened = new Set<string>();
  private readonly closed = new Set<string>();
  private pending = 0;
  private stale = true;
  private current = '';
  /** The height of the list when it was drawn. */
  private seen = 0;
  private narrow = false;
  private timer = 0;
  private readonly stopListening: () => void;
  private readonly sizes: ResizeObserver;

  constructor(
    private readonly fleet: Fleet,
    private readonly actions: IActions,
    private readonly trans: ITranslate
  ) {
    this.maker = new Rows(fleet, actions, trans, (host, open) => this.toggle(host, open));
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
    this.sizes = new ResizeObserver(() => {
      const narrow = this.list.clientWidth < NARROW;
      this.stale = this.stale || narrow !== this.narrow;
      this.narrow = narrow;
      this.schedule();
    });
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
      top += height(row, this.narrow);
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
    const { hosts, kernels, others, problems, known, unread } = this.fleet;
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
    const unknown = unread
      ? this.trans.__('The server cannot list its hosts: %1', unread)
      : this.trans.__('Looking …');
    const said = known ? parts.filter(Boolean).join(' · ') : unknown;
    if (this.summary.textContent !== said) {
      this.summary.textContent = said;
    }
    const notes = Object.entries(problems).map(([name, problem]) => `${name}: ${problem}`);
    if (known && !hosts.size && !notes.length) {
      notes.push(
        this.trans.__(
          'No kernelspec starts kernels on hosts yet. To make one: jupyter remote spec install --remote-hosts=…'
        )
      );
    }
    if (known && hosts.size && !this.rows.length) {
      notes.push(this.trans.__('Nothing matches the search.'));
    }
    if (this.notes.textContent !== notes.join('')) {
      this.notes.replaceChildren(...notes.map(note => element('p', {}, note)));
    }
  }

  // -- what is drawn -------------------------------------------------------------------------

  private draw(): void {
    this.seen = this.list.clientHeight;
    const from = this.list.scrollTop - SPARE_PIXELS;
    const to = this.list.scrollTop + this.list.clientHeight + SPARE_PIXELS;
    const start = first(this.tops, from - TALLEST);
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
        const made = this.maker.make(row, index, this.rows.length, this.narrow);
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
    const place = `${index} of ${this.rows.length}${this.narrow ? ', narrow' : ''}`;
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
    if (this.list.clientHeight !== this.seen) {
      this.schedule(); // a change of theme, of which nobody has told
    }
    for (const row of this.rows) {
      const drawn = this.drawn.get(row.key);
      const words = drawn?.element.querySelector('.rp-State');
      if (words) {
        const said = this.maker.words(row);
        if (words.textContent !== said) {
          words.textContent = said;
        }
      }
    }
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
    const bottom = top + height(this.rows[index], this.narrow);
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
  return [kernel.notebook?.path ?? '', kernel.name, kernel.id, kernel.state]
    .join(' ')
    .toLowerCase();
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
