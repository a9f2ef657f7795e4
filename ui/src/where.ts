/** A dialog that asks for a kernel's host, and shows each host's present load. */

import { Dialog, showDialog } from '@jupyterlab/apputils';
import type { TranslationBundle } from '@jupyterlab/translation';
import { Widget } from '@lumino/widgets';

import type { IHost } from './api';
import { dot, element } from './dom';
import type { Fleet } from './fleet';
import { bytes, hostTone, hostWords, load } from './words';

/** The host that was chosen, '' for any; null: cancelled. */
export type Choice = string | null;

/** With more hosts than this, the dialog has a search field. */
const MANY = 8;

interface IRow {
  label: HTMLElement;
  input: HTMLInputElement;
  dot: HTMLElement;
  facts: HTMLElement;
}

class Hosts extends Widget implements Dialog.IBodyWidget<string> {
  private readonly stop: () => void;
  private readonly rows = new Map<string, IRow>();
  private pending = 0;

  constructor(
    private readonly fleet: Fleet,
    names: string[],
    anywhere: boolean,
    private readonly trans: TranslationBundle
  ) {
    super();
    this.addClass('rp-Choice');
    const list = element('div', {
      class: 'rp-Choice-list',
      role: 'radiogroup',
      'aria-label': trans.__('The host for the kernel')
    });
    if (names.length > MANY) {
      this.node.append(this.search());
    }
    this.node.append(list);
    for (const name of anywhere ? ['', ...names] : names) {
      const row = this.row(name, this.rows.size === 0);
      this.rows.set(name, row);
      list.append(row.label);
    }
    this.draw();
    this.stop = fleet.listen(change => {
      if ((change.kind === 'all' || change.kind === 'host') && !this.pending) {
        this.pending = requestAnimationFrame(() => {
          this.pending = 0;
          this.draw();
        });
      }
    });
  }

  getValue(): string {
    return [...this.rows].find(([, { input }]) => input.checked)?.[0] ?? '';
  }

  dispose(): void {
    this.stop();
    cancelAnimationFrame(this.pending);
    super.dispose();
  }

  private search(): HTMLElement {
    const words = this.trans.__('Search hosts and labels');
    const input = element('input', {
      type: 'search',
      class: 'rp-Search',
      placeholder: words,
      'aria-label': words
    });
    input.addEventListener('input', () => {
      const wanted = input.value.trim().toLowerCase();
      for (const [name, { label }] of this.rows) {
        const labels = this.fleet.hosts.get(name)?.labels ?? [];
        label.hidden = ![name, ...labels].join(' ').toLowerCase().includes(wanted);
      }
    });
    return input;
  }

  private row(name: string, checked: boolean): IRow {
    const input = element('input', { type: 'radio', name: 'rp-where', value: name, checked });
    const mark = dot('none');
    const text = name || this.trans.__('Any host');
    const facts = element('span', { class: 'rp-Choice-facts' });
    const label = element(
      'label',
      {},
      input,
      mark,
      element('span', { class: 'rp-Choice-name', title: text }, text),
      facts
    );
    return { label, input, dot: mark, facts };
  }

  private draw(): void {
    for (const [name, row] of this.rows) {
      const host = this.fleet.hosts.get(name);
      const said = host ? facts(host, this.trans) : '';
      row.dot.dataset.tone = host ? hostTone(host) : 'none';
      row.facts.textContent = name ? said : this.trans.__('load balancing chooses');
    }
  }
}

function facts(host: IHost, trans: TranslationBundle): string {
  const said: string[] = [];
  if (host.state !== 'connected') {
    said.push(hostWords(host, trans));
  }
  if (host.cores && host.load !== null) {
    said.push(trans.__('load %1 of %2', load(host.load), host.cores));
  }
  if (host.memory_available !== null) {
    said.push(trans.__('%1 free', bytes(host.memory_available)));
  }
  if (host.gpus.length) {
    const free = host.gpus.length - host.gpus_taken.length;
    said.push(trans.__('%1 of %2 GPUs free', free, host.gpus.length));
  }
  if (host.capacity !== null && host.kernels.all !== null && host.kernels.all >= host.capacity) {
    said.push(trans.__('full'));
  }
  return [...said, ...host.labels].join(' · ');
}

/** Ask for a host. `anywhere`: whether load balancing is a choice. */
export async function askWhere(
  fleet: Fleet,
  trans: TranslationBundle,
  options: { title: string; action: string; names: string[]; anywhere: boolean; warn?: boolean }
): Promise<Choice> {
  // Show what is known at first. The hosts' new answers replace it.
  void fleet.refresh(true).catch(() => undefined);
  const body = new Hosts(fleet, options.names, options.anywhere, trans);
  const result = await showDialog({
    title: options.title,
    body,
    buttons: [
      Dialog.cancelButton(),
      options.warn
        ? Dialog.warnButton({ label: options.action })
        : Dialog.okButton({ label: options.action })
    ],
    focusNodeSelector: 'input:checked'
  });
  return result.button.accept ? (result.value ?? '') : null;
}
