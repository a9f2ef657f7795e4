/** Errors, logs and questions as JupyterLab's dialogs. */

import { Dialog, showDialog } from '@jupyterlab/apputils';
import type { TranslationBundle } from '@jupyterlab/translation';
import { Widget } from '@lumino/widgets';

import { ApiError, type IError } from './api';
import { element } from './dom';
import { errorWords } from './words';

function widget(...children: (Node | '' | false)[]): Widget {
  const made = new Widget();
  for (const child of children) {
    if (child) {
      made.node.append(child);
    }
  }
  return made;
}

function printed(text: string, label: string): HTMLElement {
  return element(
    'pre',
    { class: 'rp-Printed', tabindex: 0, role: 'region', 'aria-label': label },
    text
  );
}

export function asError(reason: unknown): IError {
  if (reason instanceof ApiError && reason.error) {
    return reason.error;
  }
  const message = reason instanceof Error ? reason.message : String(reason);
  return { kind: '', host: '', message, advice: '', printed: '' };
}

/** The cause, the kernel's last lines of output, and advice. */
export async function showError(
  error: IError,
  trans: TranslationBundle,
  title = trans.__('What went wrong')
): Promise<void> {
  await showDialog({
    title,
    body: widget(
      element('p', { class: 'rp-Said' }, errorWords(error)),
      error.advice && element('p', { class: 'rp-Said' }, element('b', {}, error.advice)),
      error.printed && element('p', {}, trans.__('The kernel printed:')),
      error.printed && printed(error.printed, trans.__('What the kernel printed'))
    ),
    buttons: [Dialog.okButton({ label: trans.__('Close') })]
  });
}

export async function showLogs(
  text: string,
  title: string,
  trans: TranslationBundle
): Promise<void> {
  await showDialog({
    title: trans.__('Logs of %1', title),
    body: widget(
      printed(text || trans.__('Its process has not printed anything.'), trans.__('Logs')),
      element('p', {}, trans.__('What cells print goes to the notebook, not here.'))
    ),
    buttons: [Dialog.okButton({ label: trans.__('Close') })]
  });
}

export async function sure(title: string, text: string, action: string): Promise<boolean> {
  const result = await showDialog({
    title,
    body: text,
    buttons: [Dialog.cancelButton(), Dialog.warnButton({ label: action })]
  });
  return result.button.accept;
}
