/** A dialog that asks for a kernel's host, and shows each host's present load. */

import { Dialog, showDialog } from '@jupyterlab/apputils';
import type { TranslationBundle } from '@jupyterlab/translation';
import { Widget } from '@lumino/widgets';

import type { IHost } from './api';
import { dot, element } from './dom';
import type { Fleet } from './fleet';
import { bytes, hostTone, hostWords } from './words';

/** The host that was chosen, '' for any; null: cancelled. */
export type Choice = string | null;

class Hosts extends Widget implements Dialog.IBodyWidget<string> {
  private readonly stop: () => void;
  private chosen: string;

  constructor(
    private readonly fleet: Fleet,
    private readonly names: string[],
    private readonly anywhere: boolean,
    private readonly trans: TranslationBundle
  ) {
    super();
    this.chosen = anywhere ? '' : names[0];
    this.addClass('rp-Choice');
    this.node.setAttribute('role', 'radiogroup');
    this.node.setAttribute('aria-label', trans.__('The host for the kernel'));
    this.draw();
    this.stop = fleet.listen(change => {
      if (change.kind === 'all' || change.kind === 'host') {
        this.draw();
      }
    });
  }

  getValue(): string {
    return this.chosen;
  }

  dispose(): void {
    this.stop();
    super.dispose();
  }

  private draw(): void {
    const focused = this.node.contains(document.activeElement);
    const rows: HTMLElement[] = [];
    if (this.anywhere) {
      rows.push(this.row('', this.trans.__('Any host'), this.trans.__('load balancing chooses')));
    }
    for (const name of this.names) {
      const host = this.fleet.hosts.get(name);
      rows.push(this.row(name, name, host ? facts(host, this.trans) : '', host));
    }
    this.node.replaceChildren(...rows);
    if (focused) {
      this.node.querySelector<HTMLElement>('input:checked')?.focus();
    }
  }

  private row(value: string, name: string, said: string, host?: IHost): HTMLElement {
    const input = element('input', {
      type: 'radio',
      name: 'rp-where',
      value,
      checked: value === this.chosen
    });
    input.addEventListener('change', () => (this.chosen = value));
    const words = element('span', { class: 'rp-Choice-facts' }, said);
    const label = element('span', {}, dot(host ? hostTone(host) : 'none'), ` ${name}`);
    return element('label', {}, input, label, words);
  }
}

function facts(host: IHost, trans: TranslationBundle): string {
  const said: string[] = [];
  if (host.state !== 'connected') {
    said.push(hostWords(host, trans));
  }
  if (host.cores && host.load !== null) {
    said.push(trans.__('load %1 of %2', host.load.toFixed(1), host.cores));
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

/** Ask for a host. `anywhere`: whether that is a choice; `except`: no choice. */
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

