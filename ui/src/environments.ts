/** The environments of a host to choose from. Knows nothing of JupyterLab. */

import type { IAdded, IEnvironment, IEnvironments } from './api.js';
import { button, element } from './dom.js';
import { errorWords, type ITranslate } from './words.js';

export class EnvironmentList {
  readonly node: HTMLElement;
  /** Whether there is anything to choose. */
  readonly some: boolean;
  private readonly boxes = new Map<string, HTMLInputElement>();

  constructor(
    found: IEnvironments,
    private readonly trans: ITranslate,
    /** Updates the kernels of the host that users have added. */
    private readonly refresh: () => Promise<IAdded>
  ) {
    const usable = found.environments.filter(environment => environment.usable);
    const others = found.environments.filter(environment => !environment.usable);
    this.some = usable.some(environment => !environment.kernelspec);
    this.node = element(
      'div',
      {
        class: 'rp-Choice rp-Environments',
        role: 'group',
        tabindex: 0,
        'aria-label': trans.__('Environments of %1', found.host)
      },
      !usable.length && element('p', {}, trans.__('No environment there can run kernels yet.')),
      ...usable.map(environment => this.choice(environment)),
      others.length > 0 && this.rest(others),
      found.unfinished.length > 0 &&
        element('p', {}, trans.__('There was no time to look in: %1', found.unfinished.join(', '))),
      this.update()
    );
  }

  /** The keys of the chosen environments. */
  get chosen(): string[] {
    return [...this.boxes].filter(([, box]) => box.checked && !box.disabled).map(([key]) => key);
  }

  private choice(environment: IEnvironment): HTMLElement {
    const box = element('input', {
      type: 'checkbox',
      checked: Boolean(environment.kernelspec),
      disabled: Boolean(environment.kernelspec)
    });
    this.boxes.set(environment.key, box);
    const here = environment.kernelspec ? this.trans.__('added') : kernel(environment);
    return element(
      'label',
      { title: environment.path },
      box,
      element('span', {}, environment.title),
      element('span', { class: 'rp-Choice-facts' }, [here, environment.path].join(' · '))
    );
  }

  /** A button that updates the host's added kernels, and a text that says what has changed. */
  private update(): HTMLElement {
    const said = element('p', { role: 'status' });
    const label = this.trans.__('Update the kernels that you have added');
    const update = button(this.trans.__('Update'), label, async () => {
      update.disabled = true;
      said.textContent = this.trans.__('Asking the host…');
      try {
        said.textContent = this.changes(await this.refresh());
      } catch (reason) {
        said.textContent = reason instanceof Error ? reason.message : String(reason);
      }
      update.disabled = false;
    });
    return element('div', { class: 'rp-Update' }, element('span', {}, label), update, said);
  }

  private changes(done: IAdded): string {
    const trans = this.trans;
    const words: Record<string, string> = {
      new: trans.__('New'),
      changed: trans.__('Changed'),
      gone: trans.__('Gone'),
      edited: trans.__('Not changed, because somebody has edited it')
    };
    const lines = Object.entries(words).flatMap(([change, word]) => {
      const titles = done.kernelspecs.filter(spec => spec.change === change);
      return titles.length ? `${word}: ${titles.map(spec => spec.display_name).join(', ')}` : [];
    });
    lines.push(...done.errors.map(error => errorWords(error)));
    const none = done.kernelspecs.length
      ? trans.__('Nothing has changed.')
      : trans.__('You have not added a kernel of this host yet.');
    return lines.join('\n') || none;
  }

  /** The environments that need one more package, with the command that installs it. */
  private rest(others: IEnvironment[]): HTMLElement {
    const summary = this.trans._n(
      '%1 environment cannot run kernels yet',
      '%1 environments cannot run kernels yet',
      others.length
    );
    return element(
      'details',
      {},
      element('summary', {}, summary),
      ...others.map(environment =>
        element(
          'div',
          { class: 'rp-Environment' },
          element('p', {}, `${environment.title}: ${environment.missing}`),
          environment.install && element('code', {}, environment.install)
        )
      )
    );
  }
}

function kernel(environment: IEnvironment): string {
  return [environment.package, environment.package_version].filter(Boolean).join(' ');
}
