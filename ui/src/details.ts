/** The details of a kernel and its host, beside the clicked button. */

import type { TranslationBundle } from '@jupyterlab/translation';

import type { IHost, IKernel, IStart } from './api';
import type { Deeds } from './deeds';
import { bar, button, dot, element } from './dom';
import type { Fleet } from './fleet';
import type { Ports } from './ports';
import {
  bytes,
  duration,
  errorWords,
  hostWords,
  kernelTitle,
  kernelTone,
  kernelWords,
  load,
  startTone,
  startWords
} from './words';

export class Details {
  private readonly node: HTMLElement;
  private kernel: IKernel | null = null;
  private start: IStart | null = null;
  /** The host's last answer about the kernel. */
  private asked: IKernel | null = null;

  constructor(
    private readonly anchor: HTMLElement,
    private readonly fleet: Fleet,
    private readonly deeds: Deeds,
    private readonly ports: Ports,
    private readonly trans: TranslationBundle,
    private readonly onClose: () => void
  ) {
    this.node = element('div', {
      class: 'rp-Details',
      role: 'dialog',
      tabindex: -1,
      'aria-label': trans.__('Remote kernel')
    });
    this.node.addEventListener('keydown', event => {
      if (event.key === 'Escape') {
        event.stopPropagation();
        this.close();
        this.anchor.focus();
      }
    });
    document.body.append(this.node);
    document.addEventListener('mousedown', this.elsewhere, true);
    this.anchor.setAttribute('aria-expanded', 'true');
  }

  close(): void {
    document.removeEventListener('mousedown', this.elsewhere, true);
    this.anchor.setAttribute('aria-expanded', 'false');
    this.node.remove();
    this.onClose();
  }

  refresh(kernel: IKernel | null, start: IStart | null): void {
    this.kernel = kernel;
    this.start = start;
    const focused = this.node.contains(document.activeElement);
    const label = (document.activeElement as HTMLElement | null)?.getAttribute('aria-label');
    this.node.replaceChildren(...this.content());
    const again = label
      ? this.node.querySelector<HTMLElement>(`[aria-label="${CSS.escape(label)}"]`)
      : null;
    if (focused) {
      (again ?? this.node).focus();
    }
    this.place();
  }

  /** Ask the kernel's host for the details that only it knows, and move the focus here. */
  ask(): void {
    this.node.focus();
    const kernel = this.kernel;
    if (kernel) {
      void this.ports.look().then(() => {
        if (this.node.isConnected) {
          this.refresh(this.kernel, this.start);
        }
      });
      void this.fleet.api.kernel(kernel.id).then(
        answer => {
          this.asked = answer;
          if (this.node.isConnected) {
            this.refresh(this.kernel, this.start);
          }
        },
        () => undefined
      );
    }
  }

  private readonly elsewhere = (event: Event): void => {
    const target = event.target as Node;
    if (!this.node.contains(target) && !this.anchor.contains(target)) {
      this.close();
    }
  };

  private place(): void {
    const at = this.anchor.getBoundingClientRect();
    const { offsetWidth: width, offsetHeight: height } = this.node;
    const left = Math.max(8, Math.min(at.right - width, window.innerWidth - width - 8));
    const below = at.bottom + 4;
    const top = below + height > window.innerHeight - 8 ? Math.max(8, at.top - height - 4) : below;
    this.node.style.left = `${left}px`;
    this.node.style.top = `${top}px`;
  }

  private content(): (HTMLElement | string)[] {
    if (this.start) {
      return this.aboutStart(this.start);
    }
    if (this.kernel) {
      return this.aboutKernel(this.kernel);
    }
    return [this.trans.__('This notebook has no kernel on a remote host.')];
  }

  private aboutStart(start: IStart): HTMLElement[] {
    const trans = this.trans;
    const head = element('h2', {}, dot(startTone(start)), startWords(start, trans));
    const error = start.error;
    if (!error) {
      const since = element(
        'p',
        {},
        trans.__('Requested %1 ago.', duration(start.seconds + this.fleet.age(start)))
      );
      const cancel = button(trans.__('Cancel'), trans.__('Cancel the start'), () =>
        this.deeds.cancel(start)
      );
      return [head, since, element('div', { class: 'rp-Actions' }, cancel)];
    }
    const parts: HTMLElement[] = [head, element('p', { class: 'rp-Said' }, errorWords(error))];
    if (error.advice) {
      parts.push(element('p', { class: 'rp-Said' }, element('b', {}, error.advice)));
    }
    if (error.printed) {
      parts.push(
        element('p', {}, trans.__('The kernel printed:')),
        element('pre', { class: 'rp-Printed', tabindex: 0 }, error.printed)
      );
    }
    return parts;
  }

  private aboutKernel(kernel: IKernel): HTMLElement[] {
    const trans = this.trans;
    const host = this.fleet.hosts.get(kernel.host);
    const title = kernelTitle(kernel);
    const over = isOver(kernel);
    const head = element(
      'h2',
      {},
      dot(kernelTone(kernel)),
      `${kernel.host} · ${kernelWords(kernel, this.fleet.age(kernel), trans)}`
    );
    const actions = element(
      'div',
      { class: 'rp-Actions' },
      button(trans.__('Logs'), trans.__('Logs of %1', title), () => {
        this.close();
        this.deeds.showLogs(kernel, title);
      }),
      button(trans.__('Restart elsewhere …'), trans.__('Restart %1 on another host', title), () => {
        this.close();
        this.deeds.move(kernel);
      }),
      !over &&
        button(
          trans.__('Copy attach command'),
          trans.__('Copy a command that attaches to the kernel from a terminal'),
          () => this.deeds.copyAttachLine(kernel)
        )
    );
    if (host && host.state !== 'connected') {
      actions.append(
        button(trans.__('Reconnect'), trans.__('Reconnect to %1 now', host.name), () =>
          this.deeds.reconnect(host)
        )
      );
    }
    const parts = [head, this.facts(kernel, host), actions];
    if (host) {
      parts.splice(1, 0, bars(host, trans));
    }
    return parts;
  }

  private facts(kernel: IKernel, host: IHost | undefined): HTMLElement {
    const trans = this.trans;
    const asked = this.asked?.id === kernel.id ? this.asked : kernel;
    const over = isOver(kernel);
    const facts: [string, string | number | null | undefined][] = [
      [trans.__('Host'), host && hostWords(host, trans)],
      [trans.__('Why'), host?.error && errorWords({ ...host.error, host: '' })],
      [trans.__('Kernel memory'), over || asked.memory === null ? null : bytes(asked.memory)],
      [trans.__('Idle'), over || asked.idle === null ? null : duration(asked.idle)],
      [trans.__('Process'), kernel.pid],
      [trans.__('Directory'), kernel.cwd],
      [
        trans.__('GPUs'),
        kernel.gpus.length &&
          trans._n('device %2', 'devices %2', kernel.gpus.length, kernel.gpus.join(', '))
      ],
      [
        trans.__('Without its server'),
        kernel.state === 'running' && kernel.lease
          ? trans.__('it lives for %1', duration(kernel.lease))
          : null
      ],
      [
        trans.__('Its host ends it in'),
        kernel.state !== 'unreachable' || kernel.lease_left === null
          ? null
          : duration(Math.max(0, kernel.lease_left - this.fleet.age(kernel)))
      ],
      [
        trans.__('Time left'),
        kernel.time_left === null || kernel.time_left === undefined
          ? null
          : duration(Math.max(0, kernel.time_left - this.fleet.age(kernel)))
      ],
      [
        trans.__('Counts as lost in'),
        kernel.grace_left === null
          ? null
          : duration(Math.max(0, kernel.grace_left - this.fleet.age(kernel)))
      ],
      [trans.__('Reason'), kernel.reason]
    ];
    const list = element('dl');
    for (const [name, value] of facts) {
      if (value !== null && value !== undefined && value !== '' && value !== 0) {
        list.append(element('dt', {}, name), element('dd', {}, String(value)));
      }
    }
    const ports = this.ports.of(kernel.id);
    if (ports.length) {
      const links = element('dd');
      for (const port of ports) {
        const href = this.ports.link(port);
        const text = [port.number, port.program].filter(Boolean).join(' ');
        const label = trans.__('Open port %1 of %2', port.number, kernel.host);
        links.append(
          element(
            'div',
            {},
            href
              ? element('a', { href, target: '_blank', rel: 'noopener', 'aria-label': label }, text)
              : text
          )
        );
      }
      list.append(element('dt', {}, trans.__('Ports')), links);
    }
    return list;
  }
}

function isOver(kernel: IKernel): boolean {
  return kernel.state === 'exited' || kernel.state === 'lost';
}

function bars(host: IHost, trans: TranslationBundle): HTMLElement {
  const made = element('div', { class: 'rp-Bars' });
  if (host.cores && host.load !== null) {
    const text = trans.__('%1 of %2 cores', load(host.load), host.cores);
    made.append(bar(trans.__('Load'), host.load / host.cores, text));
  }
  if (host.memory && host.memory_available !== null) {
    const text = trans.__('%1 free', bytes(host.memory_available));
    made.append(bar(trans.__('Memory'), 1 - host.memory_available / host.memory, text));
  }
  return made;
}
