/** Notifications about hosts and kernels, in words. */

import type { IError, IHost } from './api.js';
import type { Change } from './fleet.js';
import { duration, kernelTitle, type ITranslate } from './words.js';

export interface INews {
  /** Its subject. Later news with the same key replace these. */
  key: string;
  said: string;
  type: 'info' | 'success' | 'warning' | 'error';
  /** Whether it disappears soon. */
  brief: boolean;
  error: IError | null;
}

/** The news of a change; null if a person need not know it. */
export function news(change: Change, trans: ITranslate): INews | null {
  if (change.kind === 'host') {
    return ofHost(change.change, change.host, trans);
  }
  return change.kind === 'kernel' ? ofKernel(change, trans) : null;
}

function ofHost(change: string, host: IHost, trans: ITranslate): INews | null {
  const key = `host ${host.name}`;
  if (change === 'unreachable') {
    const said = trans._n(
      '%2 cannot be reached. Your kernel there keeps running.',
      '%2 cannot be reached. Your %1 kernels there keep running.',
      host.kernels.mine,
      host.name
    );
    return { key, said, type: 'warning', brief: false, error: host.error };
  }
  if (change === 'back') {
    return {
      key,
      said: trans.__('%1 is back.', host.name),
      type: 'success',
      brief: true,
      error: null
    };
  }
  return null;
}

function ofKernel(heard: Change & { kind: 'kernel' }, trans: ITranslate): INews | null {
  const { change, kernel, before, former, dropped } = heard;
  const title = kernelTitle(kernel);
  const key = `kernel ${kernel.id}`;
  // One that never ran has not started, which its start says.
  const ran = before?.state === 'running' || before?.state === 'unreachable';
  if (change === 'lost' && ran) {
    const said = trans.__('%1 on %2 is lost: %3', title, kernel.host, kernel.reason);
    return { key, said, type: 'error', brief: false, error: null };
  }
  if (change === 'exited' && ran && kernel.exit_code !== 0) {
    const said = kernel.signal
      ? trans.__('%1 on %2 was ended by %3', title, kernel.host, kernel.signal)
      : trans.__('%1 on %2 ended with exit code %3', title, kernel.host, kernel.exit_code);
    const printed = {
      kind: '',
      host: kernel.host,
      message: said,
      advice: '',
      printed: kernel.reason
    };
    return { key, said, type: 'error', brief: false, error: kernel.reason ? printed : null };
  }
  if (change === 'moved') {
    const said = trans.__('%1 moves from %2 to %3', title, former, kernel.host);
    return { key, said, type: 'info', brief: true, error: null };
  }
  if (change === 'output dropped') {
    const said = trans._n(
      '%2 printed more than its host keeps: 1 message of its output is lost',
      '%2 printed more than its host keeps: %1 messages of its output are lost',
      dropped ?? 1,
      title
    );
    return { key, said, type: 'warning', brief: true, error: null };
  }
  if (change === 'ends soon') {
    return { key, said: endsSoon(heard, title, trans), type: 'warning', brief: false, error: null };
  }
  return null;
}

function endsSoon(heard: Change & { kind: 'kernel' }, title: string, trans: ITranslate): string {
  const { limit, seconds_left, kernel } = heard;
  const left = duration(seconds_left ?? 0);
  if (limit === 'time limit') {
    return trans.__('%1 ends in %2: its job on %3 has a time limit', title, left, kernel.host);
  }
  if (limit === 'lease') {
    return trans.__('%1 ends in %2, unless %3 is back by then', title, left, kernel.host);
  }
  return trans.__('%1 counts as lost in %2, unless %3 is back by then', title, left, kernel.host);
}
