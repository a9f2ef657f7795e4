/** A button in a notebook's toolbar: its kernel's host and state. A click opens the details. */

import type { ISessionContext } from '@jupyterlab/apputils';
import { PageConfig } from '@jupyterlab/coreutils';
import type { TranslationBundle } from '@jupyterlab/translation';
import { Widget } from '@lumino/widgets';

import type { IKernel, IStart } from './api';
import type { Deeds } from './deeds';
import { Details } from './details';
import { dot, element } from './dom';
import type { Change, Fleet } from './fleet';
import type { Ports } from './ports';
import { kernelTone, kernelWords, startTone, startWords, type Tone } from './words';

const TICK_MILLISECONDS = 1000;

export class HostItem extends Widget {
  private readonly button: HTMLButtonElement;
  private readonly stop: () => void;
  private readonly timer: number;
  private details: Details | null = null;

  constructor(
    private readonly context: ISessionContext,
    private readonly fleet: Fleet,
    private readonly deeds: Deeds,
    private readonly ports: Ports,
    private readonly trans: TranslationBundle
  ) {
    super();
    this.button = element('button', { type: 'button', class: 'rp-Toolbar' });
    this.button.setAttribute('aria-haspopup', 'dialog');
    this.button.addEventListener('click', () => this.open());
    this.node.append(this.button);
    this.addClass('rp-ToolbarItem');
    this.stop = fleet.listen(change => this.changed(change));
    context.kernelChanged.connect(this.draw, this);
    context.statusChanged.connect(this.draw, this);
    this.timer = window.setInterval(() => {
      if (this.isVisible && !document.hidden) {
        this.draw();
      }
    }, TICK_MILLISECONDS);
    this.draw();
  }

  dispose(): void {
    if (!this.isDisposed) {
      this.stop();
      window.clearInterval(this.timer);
      this.details?.close();
      this.context.kernelChanged.disconnect(this.draw, this);
      this.context.statusChanged.disconnect(this.draw, this);
      super.dispose();
    }
  }

  /** The kernel of the notebook, if it is on a host. */
  get kernel(): IKernel | null {
    const id = this.context.session?.kernel?.id;
    return (id && this.fleet.kernels.get(id)) || null;
  }

  /** A start for the notebook that is under way, or has failed and nothing came after it. */
  get start(): IStart | null {
    const id = this.context.session?.kernel?.id;
    const notebook = `/${inRoot(this.context.path)}`;
    for (const start of [...this.fleet.starts.values()].reverse()) {
      const ours = start.kernel_id === id || start.notebook.endsWith(notebook);
      if (ours && !(start.error && this.kernel?.state === 'running')) {
        return start;
      }
    }
    return null;
  }

  private changed(change: Change): void {
    const id = this.context.session?.kernel?.id;
    if (change.kind !== 'kernel' || change.kernel.id === id) {
      this.draw();
    }
    this.details?.refresh(this.kernel, this.start);
  }

  private draw(): void {
    const { kernel, start } = this;
    const said = this.said(kernel, start);
    this.setHidden(said === null);
    if (said === null) {
      return;
    }
    const [tone, host, words] = said;
    const text = [host, words].filter(Boolean).join(' · ');
    if (this.button.dataset.said === `${tone} ${text}`) {
      return;
    }
    this.button.dataset.said = `${tone} ${text}`;
    this.button.dataset.tone = tone;
    this.button.title = this.trans.__('%1: click for details', text);
    this.button.setAttribute('aria-label', this.trans.__('Remote kernel: %1', text));
    this.button.replaceChildren(
      dot(tone),
      host && element('span', { class: 'rp-Toolbar-host' }, host),
      host && words && element('span', { 'aria-hidden': 'true' }, '·'),
      words && element('span', { class: 'rp-Toolbar-words' }, words)
    );
  }

  private said(kernel: IKernel | null, start: IStart | null): [Tone, string, string] | null {
    if (start) {
      return [startTone(start), '', startWords(start, this.trans)];
    }
    if (!kernel) {
      return null;
    }
    // A kernel that runs says how it is in the circle beside this: its host is what is new.
    const words =
      kernel.state === 'running' ? '' : kernelWords(kernel, this.fleet.age(kernel), this.trans);
    return [kernelTone(kernel), kernel.host, words];
  }

  private open(): void {
    if (this.details) {
      this.details.close();
      return;
    }
    const over = () => {
      this.details = null;
    };
    this.details = new Details(this.button, this.fleet, this.deeds, this.ports, this.trans, over);
    this.details.refresh(this.kernel, this.start);
    this.details.ask();
  }
}

/** The end of a notebook's path on the server's machine. `path` is relative to the server's root. */
function inRoot(path: string): string {
  const root = PageConfig.getOption('serverRoot').replace(/^~/, '');
  return [...root.split('/'), ...path.split('/')].filter(Boolean).join('/');
}
