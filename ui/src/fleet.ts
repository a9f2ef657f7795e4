/** What the page knows of hosts, kernels and starts: read once, then kept by the server's events. */

import type { Api, IHost, IKernel, IStart } from './api.js';

const SCHEMAS = 'https://schema.jupyter.org/remote_provisioners/';

/** How many starts that failed are remembered. */
const MOST_FAILED = 50;

/** What a host cannot tell of a kernel of another server. */
const NOTHING = {
  time_left: null,
  name: '',
  unreachable_for: null,
  grace_left: null,
  cwd: '',
  gpus: [],
  way: '',
  started: null,
  lease: null,
  execution_state: '',
  notebook: null
};

export type Change =
  | { kind: 'host'; change: string; host: IHost; before: IHost | undefined }
  | {
      kind: 'kernel';
      change: string;
      kernel: IKernel;
      before?: IKernel;
      former?: string;
      dropped?: number;
      limit?: string;
      seconds_left?: number;
    }
  | { kind: 'start'; start: IStart }
  | { kind: 'all' };

export type Listener = (change: Change) => void;

export class Fleet {
  readonly hosts = new Map<string, IHost>();
  readonly kernels = new Map<string, IKernel>();
  /** Under way, or failed a while ago, by the id of the kernel. */
  readonly starts = new Map<string, IStart>();
  /** When what is said of a kernel or host was heard, in milliseconds. */
  readonly heard = new WeakMap<object, number>();
  /** Kernels on hosts that are not this server's, where a page has asked for them. */
  others: IKernel[] = [];
  problems: Record<string, string> = {};
  /** Whether it was read at least once. */
  known = false;
  /** Why the last reading of the fleet failed; '' if it did not. */
  unread = '';

  private readonly listeners = new Set<Listener>();
  private reading: Promise<void> | null = null;

  constructor(readonly api: Api) {}

  /** Call `listener` with each change; returns what ends that. */
  listen(listener: Listener): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Read all anew; `ask`: after the server has asked every host. */
  async refresh(ask = false): Promise<void> {
    if (!ask && this.reading) {
      return this.reading;
    }
    const reading = this.read(ask);
    this.reading = reading;
    try {
      await reading;
      this.unread = '';
    } catch (reason) {
      this.unread = reason instanceof Error ? reason.message : String(reason);
      this.tell({ kind: 'all' });
      throw reason;
    } finally {
      if (this.reading === reading) {
        this.reading = null;
      }
    }
  }

  private async read(ask: boolean): Promise<void> {
    // Asking the hosts takes seconds. What is read of kernels must not be older than their events.
    const asked = ask ? await this.api.hosts(true) : null;
    const [hosts, kernels] = await Promise.all([
      asked ?? this.api.hosts(false),
      this.api.kernels()
    ]);
    this.problems = hosts.problems;
    replace(this.hosts, hosts.hosts, host => host.name);
    replace(this.kernels, kernels.kernels, kernel => kernel.id);
    for (const [id, start] of this.starts) {
      if (!start.error) {
        this.starts.delete(id);
      }
    }
    for (const start of kernels.starts) {
      this.starts.set(start.kernel_id, start);
    }
    const now = Date.now();
    for (const model of [...hosts.hosts, ...kernels.kernels, ...kernels.starts]) {
      this.heard.set(model, now);
    }
    this.known = true;
    this.tell({ kind: 'all' });
  }

  /** An event of the server, ours or not. */
  take(event: any): void {
    const schema = String(event.schema_id ?? '');
    if (!schema.startsWith(SCHEMAS)) {
      return;
    }
    switch (schema.slice(SCHEMAS.length)) {
      case 'host/v1':
        return this.takeHost(event.change, event.host);
      case 'kernel/v1':
        return this.takeKernel(event);
      case 'start/v1':
        return this.takeStart(event);
    }
  }

  private takeHost(change: string, host: IHost): void {
    const before = this.hosts.get(host.name);
    this.hosts.set(host.name, host);
    this.heard.set(host, Date.now());
    this.tell({ kind: 'host', change, host, before });
  }

  private takeKernel(event: any): void {
    const kernel: IKernel = event.kernel;
    const before = this.kernels.get(kernel.id);
    const left = event.change === 'gone' ? kernel.host : event.former;
    if (this.hosts.get(left)?.way_in === 'engine') {
      this.hosts.delete(left); // an engine's node is there for one kernel
    }
    if (event.change === 'gone') {
      this.kernels.delete(kernel.id);
    } else {
      // Until its session is made, or while it is being moved, less is known than before.
      kernel.notebook = kernel.notebook ?? before?.notebook ?? null;
      kernel.name = kernel.name || before?.name || '';
      this.kernels.set(kernel.id, kernel);
    }
    this.heard.set(kernel, Date.now());
    const { change, former, dropped, limit, seconds_left } = event;
    this.tell({ kind: 'kernel', change, kernel, before, former, dropped, limit, seconds_left });
  }

  private takeStart(event: any): void {
    const start: IStart = event;
    this.heard.set(start, Date.now());
    this.starts.delete(start.kernel_id);
    if (start.phase !== 'ready' && start.phase !== 'cancelled') {
      this.starts.set(start.kernel_id, start);
    }
    if (start.phase === 'ready' && start.notebook) {
      this.forgetFailed(start.notebook);
    }
    const failed = [...this.starts.values()].filter(known => known.error);
    for (const old of failed.slice(0, Math.max(0, failed.length - MOST_FAILED))) {
      this.starts.delete(old.kernel_id);
    }
    this.tell({ kind: 'start', start });
  }

  /** Remove a failed start from the panel. */
  forget(start: IStart): void {
    this.starts.delete(start.kernel_id);
    this.tell({ kind: 'all' });
  }

  private forgetFailed(notebook: string): void {
    for (const [id, known] of this.starts) {
      if (known.error && known.notebook === notebook) {
        this.starts.delete(id);
      }
    }
  }

  /** Ask every host for the kernels of other servers, and those that no server has. */
  async findOthers(): Promise<void> {
    const found = await this.api.found();
    this.others = found.kernels.map(kernel => ({ ...NOTHING, ...kernel }));
    this.tell({ kind: 'all' });
  }

  /** The kernels that are known on each host. */
  kernelsByHost(): Map<string, IKernel[]> {
    const found = new Map<string, IKernel[]>();
    const others = this.others.filter(kernel => !this.kernels.has(kernel.id));
    for (const kernel of [...this.kernels.values(), ...others]) {
      const there = found.get(kernel.host);
      if (there) {
        there.push(kernel);
      } else {
        found.set(kernel.host, [kernel]);
      }
    }
    return found;
  }

  /** The hosts that a kernelspec's kernels may be put on. */
  hostsOf(kernelspec: string): IHost[] {
    return [...this.hosts.values()].filter(host => host.kernelspecs.includes(kernelspec));
  }

  /** Seconds since a model was heard. */
  age(model: object): number {
    return (Date.now() - (this.heard.get(model) ?? Date.now())) / 1000;
  }

  private tell(change: Change): void {
    for (const listener of [...this.listeners]) {
      try {
        listener(change);
      } catch (reason) {
        console.error('A part of the extension for remote hosts has failed.', reason);
      }
    }
  }
}

function replace<T>(map: Map<string, T>, models: T[], key: (model: T) => string): void {
  map.clear();
  for (const model of models) {
    map.set(key(model), model);
  }
}
