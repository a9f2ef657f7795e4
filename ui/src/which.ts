/** A dialog that asks which environments of a host become kernels here. */

import { Dialog, showDialog } from '@jupyterlab/apputils';
import type { TranslationBundle } from '@jupyterlab/translation';
import { Widget } from '@lumino/widgets';

import type { IAdded, IEnvironments } from './api';
import { EnvironmentList } from './environments';

class Body extends Widget implements Dialog.IBodyWidget<string[]> {
  constructor(private readonly list: EnvironmentList) {
    super();
    this.node.append(list.node);
  }

  getValue(): string[] {
    return this.list.chosen;
  }
}

/** The keys of the chosen environments; none if the dialog was cancelled. */
export async function askWhich(
  found: IEnvironments,
  trans: TranslationBundle,
  refresh: () => Promise<IAdded>
): Promise<string[]> {
  const list = new EnvironmentList(found, trans, refresh);
  const buttons = list.some
    ? [Dialog.cancelButton(), Dialog.okButton({ label: trans.__('Add') })]
    : [Dialog.cancelButton({ label: trans.__('Close') })];
  const result = await showDialog({
    title: trans.__('Add environments of %1', found.host),
    body: new Body(list),
    buttons,
    focusNodeSelector: 'input:not(:disabled)'
  });
  return result.button.accept ? (result.value ?? []) : [];
}
