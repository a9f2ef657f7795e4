/** The server's API, as src/remote_provisioners/server/api/openapi.yaml documents it. */

export interface IError {
  kind: string;
  host: string;
  message: string;
  advice: string;
  printed: string;
}

export type HostState = 'connected' | 'connecting' | 'unreachable' | 'unusable' | 'disconnected';

export interface IHost {
  name: string;
  state: HostState;
  since: number | null;
  error: IError | null;
  cores: number | null;
  load: number | null;
  memory: number | null;
  memory_available: number | null;
  gpus: string[];
  gpus_taken: string[];
  kernels: { mine: number; all: number | null };
  capacity: number | null;
  weight: number;
  labels: string[];
  way_in: string;
  kernelspecs: string[];
  round_trip: number | null;
}

export interface IKernel {
  id: string;
  name: string;
  host: string;
  state: string;
  unreachable_for: number | null;
  grace_left: number | null;
  exit_code: number | null;
  signal: string | null;
  reason: string;
  pid: number | null;
  cwd: string;
  gpus: string[];
  way: string;
  started: number | null;
  lease: number | null;
  lease_left: number | null;
  time_left: number | null;
  memory: number | null;
  idle: number | null;
  execution_state: string;
  owner: string;
  notebook: { id: string; path: string; name: string; type: string } | null;
  not_asked?: IError;
}

/** A port of a kernel's host on which the kernel's processes listen. */
export interface IPort {
  number: number;
  program: string;
  pid: number;
  /** Whether somebody chose the number; the system hands out others by chance. */
  chosen: boolean;
  /** The path of its page; null if the server does not pass on pages. */
  url: string | null;
}

export interface IFoundKernel {
  id: string;
  host: string;
  state: string;
  owner: string;
  exit_code: number | null;
  signal: string | null;
  reason: string;
  pid: number | null;
  memory: number | null;
  idle: number | null;
  lease_left: number | null;
}

export interface IStart {
  kernel_id: string;
  phase: string;
  kind: string;
  host: string;
  notebook: string;
  text: string;
  ahead: number | null;
  way: string;
  seconds: number;
  error: IError | null;
}

export interface IStartRequest {
  name: string;
  id?: string;
  path?: string;
  host?: string;
  labels?: string[];
  gpus?: number;
}

/** What runs kernels on a host, or could. */
export interface IEnvironment {
  key: string;
  name: string;
  title: string;
  path: string;
  package: string;
  package_version: string | null;
  usable: boolean;
  missing: string;
  install: string;
  kernelspec: string | null;
}

export interface IEnvironments {
  host: string;
  unfinished: string[];
  environments: IEnvironment[];
}

export interface IAdded {
  kernelspecs: { change: string; name: string; display_name: string }[];
  errors: IError[];
}

/** What the server refused, or could not do, and why. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly error: IError | null
  ) {
    super(message);
  }
}

export type Fetch = (path: string, init: RequestInit) => Promise<Response>;

export const ROOT = 'remote-provisioners/api/v1/';

export class Api {
  /** `fetch_` is given paths below the server's base URL. */
  constructor(private readonly fetch_: Fetch) {}

  hosts(ask = false): Promise<{ hosts: IHost[]; problems: Record<string, string> }> {
    return this.ask('GET', `hosts${ask ? '?ask=true' : ''}`);
  }

  kernels(): Promise<{ kernels: IKernel[]; starts: IStart[] }> {
    return this.ask('GET', 'kernels');
  }

  /** With what only the kernel's host knows. */
  kernel(id: string): Promise<IKernel> {
    return this.ask('GET', `kernels/${encodeURIComponent(id)}?ask=true`);
  }

  ports(): Promise<{ kernels: { id: string; ports: IPort[] }[] }> {
    return this.ask('GET', 'ports');
  }

  found(): Promise<{ kernels: IFoundKernel[]; failures: IError[] }> {
    return this.ask('GET', 'found-kernels');
  }

  async logs(id: string, host = ''): Promise<string> {
    const answer = await this.ask<{ output: string }>(
      'GET',
      `kernels/${encodeURIComponent(id)}/logs${on(host)}`
    );
    return answer.output;
  }

  reconnect(host: string): Promise<IHost> {
    return this.ask('POST', `hosts/${encodeURIComponent(host)}/reconnect`, {});
  }

  environments(host: string): Promise<IEnvironments> {
    return this.ask('GET', `hosts/${encodeURIComponent(host)}/environments`);
  }

  /** Make kernelspecs of environments, which are named by their keys. */
  addEnvironments(host: string, environments: string[]): Promise<IAdded> {
    return this.ask('POST', `hosts/${encodeURIComponent(host)}/environments`, { environments });
  }

  /** Update the kernelspecs that somebody has made of the host's environments. */
  refreshEnvironments(host: string): Promise<IAdded> {
    return this.ask('POST', `hosts/${encodeURIComponent(host)}/environments/refresh`, {});
  }

  start(request: IStartRequest): Promise<IKernel> {
    return this.ask('POST', 'kernels', request);
  }

  cancel(kernelId: string): Promise<void> {
    return this.ask('DELETE', `starts/${encodeURIComponent(kernelId)}`);
  }

  move(id: string, host: string): Promise<IKernel> {
    return this.ask('POST', `kernels/${encodeURIComponent(id)}/move`, { host });
  }

  stop(id: string, host = ''): Promise<void> {
    return this.ask('DELETE', `kernels/${encodeURIComponent(id)}${on(host)}`);
  }

  private async ask<T>(method: string, path: string, body?: unknown): Promise<T> {
    const init: RequestInit = { method };
    if (body !== undefined) {
      init.body = JSON.stringify(body);
      init.headers = { 'Content-Type': 'application/json' };
    }
    const response = await this.fetch_(ROOT + path, init);
    const text = await response.text();
    let answer: any = null;
    try {
      answer = text ? JSON.parse(text) : null;
    } catch {
      answer = { message: text };
    }
    if (!response.ok) {
      throw new ApiError(
        response.status,
        answer?.message ?? response.statusText,
        answer?.error ?? null
      );
    }
    return answer as T;
  }
}

function on(host: string): string {
  return host ? `?host=${encodeURIComponent(host)}` : '';
}
