/** States, sizes and times in words. */

import type { IError, IHost, IKernel, IStart } from './api.js';

/** What a translation bundle of JupyterLab can do, as far as it is used here. */
export interface ITranslate {
  __(text: string, ...values: any[]): string;
  _n(one: string, many: string, count: number, ...values: any[]): string;
}

/** Returns the text unchanged. */
export const plain: ITranslate = {
  __: (text, ...values) => text.replace(/%(\d)/g, (_, n) => String(values[Number(n) - 1] ?? '')),
  _n: (one, many, count, ...values) => plain.__(count === 1 ? one : many, count, ...values)
};

/** The colour of a dot: good, working, trouble, bad, none. */
export type Tone = 'good' | 'working' | 'trouble' | 'bad' | 'none';

/** A number with one decimal, or none if that is 0. */
function brief(value: number): string {
  return value.toFixed(1).replace(/\.0$/, '');
}

export function bytes(count: number): string {
  const gib = count / 1024 ** 3;
  if (gib >= 1) {
    return `${gib >= 10 ? gib.toFixed(0) : brief(gib)} GiB`;
  }
  return `${(count / 1024 ** 2).toFixed(0)} MiB`;
}

export function load(value: number): string {
  return value.toFixed(value >= 10 ? 0 : 1);
}

export function duration(seconds: number): string {
  if (seconds < 90) {
    return `${Math.max(0, Math.round(seconds))} s`;
  }
  if (seconds < 5400) {
    return `${Math.round(seconds / 60)} min`;
  }
  if (seconds < 36 * 3600) {
    return `${brief(seconds / 3600)} h`;
  }
  return `${brief(seconds / 86400)} d`;
}

export function hostTone(host: IHost): Tone {
  switch (host.state) {
    case 'connected':
      return 'good';
    case 'connecting':
      return 'working';
    case 'unreachable':
      return 'trouble';
    case 'unusable':
      return 'bad';
    default:
      return 'none';
  }
}

export function hostWords(host: IHost, trans: ITranslate): string {
  const seconds = host.since === null ? null : Date.now() / 1000 - host.since;
  switch (host.state) {
    case 'connected':
      return trans.__('connected');
    case 'connecting':
      return trans.__('connecting');
    case 'unreachable':
      return seconds === null
        ? trans.__('unreachable')
        : trans.__('unreachable for %1', duration(seconds));
    case 'unusable':
      return trans.__('cannot be used');
    default:
      return trans.__('not connected');
  }
}

export function kernelTone(kernel: IKernel): Tone {
  switch (kernel.state) {
    case 'running':
      return 'good';
    case 'unreachable':
      return 'trouble';
    case 'exited':
    case 'lost':
      return 'bad';
    default:
      return 'working';
  }
}

/** `age`: seconds since the model was heard. */
export function kernelWords(kernel: IKernel, age: number, trans: ITranslate): string {
  switch (kernel.state) {
    case 'running':
      if (kernel.owner === 'no server') {
        return trans.__('without a server');
      }
      if (kernel.owner === 'another server') {
        return trans.__('of another server');
      }
      return kernel.execution_state === 'busy' ? trans.__('busy') : trans.__('running');
    case 'unreachable':
      return trans.__('unreachable for %1', duration((kernel.unreachable_for ?? 0) + age));
    case 'exited':
      if (kernel.signal) {
        return trans.__('ended by %1', kernel.signal);
      }
      return trans.__('ended with exit code %1', kernel.exit_code ?? '?');
    case 'lost':
      return trans.__('lost: %1', kernel.reason);
    default:
      return trans.__('starting');
  }
}

export function startTone(start: IStart): Tone {
  return start.error ? 'bad' : 'working';
}

export function startWords(start: IStart, trans: ITranslate): string {
  switch (start.phase) {
    case 'placing':
      return start.text || trans.__('choosing a host');
    case 'connecting':
      return trans.__('connecting to %1', start.host);
    case 'queued':
      return start.ahead === null
        ? trans.__('queued on %1', start.host)
        : trans.__('queued on %1, %2 before it', start.host, start.ahead);
    case 'waiting':
      return start.text || trans.__('waiting for resources');
    case 'launching':
      return trans.__('starting on %1', start.host);
    case 'failed':
      return trans.__('did not start');
    default:
      return start.phase;
  }
}

/** An error in one line. */
export function errorWords(error: IError): string {
  return error.host ? `${error.host}: ${error.message}` : error.message;
}

/** A command for a terminal. Records say where a kernel on an engine's node is. */
export function attachLine(kernel: { id: string; host: string }, host?: IHost): string {
  const line = `jupyter remote attach ${kernel.id}`;
  return host?.way_in === 'engine' ? line : `${line} --host=${quoted(kernel.host)}`;
}

/** A word that no shell changes. */
function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : "'" + word.replace(/'/g, "'\\''") + "'";
}

/** The name that a person knows a kernel by. */
export function kernelTitle(kernel: IKernel): string {
  return kernel.notebook?.path || kernel.name || kernel.id.slice(0, 8);
}

/** The name of a start for users: its notebook's name, or the beginning of its kernel's id. */
export function startTitle(start: IStart): string {
  return start.notebook.split('/').pop() || start.kernel_id.slice(0, 8);
}
