/** The ports on which the processes of kernels listen, and a link to each. */

import { Notification } from '@jupyterlab/apputils';
import type { TranslationBundle } from '@jupyterlab/translation';

import type { IPort } from './api';
import type { Fleet } from './fleet';
import { kernelTitle } from './words';

/** Between two looks, while somebody sees the page and kernels run. */
const LOOK_MILLISECONDS = 10000;
const SHOWN_MILLISECONDS = 15000;

export class Ports {
  /** Whether new ports are announced. */
  announces = true;
  private readonly known = new Map<string, IPort[]>();
  private looked = false;
  private looking: Promise<void> | null = null;

  constructor(
    private readonly fleet: Fleet,
    private readonly trans: TranslationBundle,
    /** The address of a path of the server. */
    private readonly address: (path: string) => string
  ) {
    window.setInterval(() => {
      const runs = [...fleet.kernels.values()].some(kernel => kernel.state === 'running');
      if (runs && !document.hidden) {
        void this.look();
      }
    }, LOOK_MILLISECONDS);
  }

  of(kernelId: string): IPort[] {
    return this.known.get(kernelId) ?? [];
  }

  link(port: IPort): string | null {
    return port.url && this.address(port.url);
  }

  /** Ask the hosts. */
  look(): Promise<void> {
    this.looking ??= this.ask().finally(() => {
      this.looking = null;
    });
    return this.looking;
  }

  private async ask(): Promise<void> {
    let found;
    try {
      found = await this.fleet.api.ports();
    } catch {
      return; // the server is away
    }
    for (const { id, ports } of found.kernels) {
      const before = new Set(this.of(id).map(port => port.number));
      this.known.set(id, ports);
      const fresh = ports.filter(port => port.chosen && port.url && !before.has(port.number));
      if (this.looked && this.announces && fresh.length) {
        this.announce(id, fresh);
      }
    }
    const ids = new Set(found.kernels.map(kernel => kernel.id));
    for (const id of [...this.known.keys()]) {
      if (!ids.has(id) && !this.fleet.kernels.has(id)) {
        this.known.delete(id);
      }
    }
    this.looked = true;
  }

  private announce(id: string, ports: IPort[]): void {
    const kernel = this.fleet.kernels.get(id);
    const title = kernel ? kernelTitle(kernel) : id.slice(0, 8);
    const numbers = ports.map(port => port.number).join(', ');
    const said = this.trans._n(
      '%2 listens on port %3 (%4)',
      '%2 listens on ports %3 (%4)',
      ports.length,
      title,
      numbers,
      ports[0].program
    );
    Notification.emit(said, 'info', {
      autoClose: SHOWN_MILLISECONDS,
      actions: ports.slice(0, 3).map(port => ({
        label: ports.length > 1 ? this.trans.__('Open %1', port.number) : this.trans.__('Open'),
        callback: () => {
          window.open(this.link(port)!, '_blank', 'noopener');
        },
        displayType: 'accent' as const
      }))
    });
  }
}
