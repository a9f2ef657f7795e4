/** The panel as a page of its own, for where there is no JupyterLab. */

import { Api, ApiError, type IError, type IHost, type IKernel, type IStart } from './api.js';
import { button, element } from './dom.js';
import { EnvironmentList } from './environments.js';
import { Fleet } from './fleet.js';
import { news } from './news.js';
import { Panel } from './panel.js';
import type { IActions } from './rows.js';
import { errorWords, kernelTitle, plain } from './words.js';

const RETRY_MILLISECONDS = [500, 1000, 2000, 5000, 10000];

const MOST_NEWS = 5;

const base = document.body.dataset.baseUrl ?? '/';

function cookie(name: string): string {
  const found = document.cookie.match(new RegExp(`(?:^|; )${name}=([^;]*)`));
  return found ? decodeURIComponent(found[1]) : '';
}

const fleet = new Fleet(
  new Api((path, init) => {
    const headers = new Headers(init.headers);
    headers.set('X-XSRFToken', cookie('_xsrf'));
    return fetch(base + path, { ...init, headers, credentials: 'same-origin' });
  })
);

function asError(reason: unknown): IError {
  if (reason instanceof ApiError && reason.error) {
    return reason.error;
  }
  const message = reason instanceof Error ? reason.message : String(reason);
  return { kind: '', host: '', message, advice: '', printed: '' };
}

/** A dialog with a title; resolves with whether its action was chosen. */
function dialog(title: string, body: Node, action = ''): Promise<boolean> {
  return new Promise(resolve => {
    const made = element('dialog', { class: 'rp-Dialog', 'aria-label': title });
    const end = (chosen: boolean) => {
      made.close();
      made.remove();
      resolve(chosen);
    };
    const buttons = element('div', { class: 'rp-Dialog-buttons' });
    buttons.append(
      button(action ? 'Cancel' : 'Close', action ? 'Cancel' : 'Close', () => end(false))
    );
    if (action) {
      buttons.append(button(action, action, () => end(true)));
    }
    made.append(element('h2', {}, title), body, buttons);
    made.addEventListener('cancel', () => end(false));
    document.body.append(made);
    made.showModal();
  });
}

function showError(error: IError): void {
  const body = element(
    'div',
    {},
    element('p', {}, errorWords(error)),
    error.advice && element('p', { class: 'rp-Advice' }, error.advice),
    error.printed && element('pre', {}, error.printed)
  );
  void dialog('What went wrong', body);
}

async function attempt(action: () => Promise<unknown>): Promise<void> {
  try {
    await action();
  } catch (reason) {
    showError(asError(reason));
  }
}

const actions: IActions = {
  showLogs: (kernel, title) =>
    void attempt(async () => {
      const output = await fleet.api.logs(kernel.id, kernel.host);
      void dialog(`Logs of ${title}`, element('pre', { tabindex: 0 }, output || 'nothing'));
    }),
  stop: (kernel: IKernel) =>
    void attempt(async () => {
      const title = kernelTitle(kernel);
      const text = element('p', {}, 'Its variables are lost.');
      if (await dialog(`Shut down ${title}?`, text, 'Shut down')) {
        await fleet.api.stop(kernel.id, kernel.host);
        if (kernel.owner !== 'this server') {
          await fleet.findOthers();
        }
      }
    }),
  move: (kernel: IKernel) =>
    void attempt(async () => {
      const others = fleet.hostsOf(kernel.name).filter(host => host.name !== kernel.host);
      if (!others.length) {
        throw new Error(`Its kernelspec has no host except ${kernel.host}.`);
      }
      const choice = element('select', { 'aria-label': 'Host' });
      choice.append(...others.map(host => element('option', {}, host.name)));
      const body = element('p', {}, 'Its variables are lost. ', choice);
      if (await dialog(`Restart ${kernelTitle(kernel)} on`, body, 'Restart there')) {
        await fleet.api.move(kernel.id, choice.value);
      }
    }),
  cancel: (start: IStart) => void attempt(() => fleet.api.cancel(start.kernel_id)),
  showError,
  reconnect: (host: IHost) => void attempt(() => fleet.api.reconnect(host.name)),
  addEnvironments: (host: IHost) =>
    void attempt(async () => {
      const found = await fleet.api.environments(host.name);
      const list = new EnvironmentList(found, plain, () =>
        fleet.api.refreshEnvironments(host.name)
      );
      const action = list.some ? 'Add' : '';
      if ((await dialog(`Environments of ${host.name}`, list.node, action)) && list.chosen.length) {
        const added = await fleet.api.addEnvironments(host.name, list.chosen);
        await fleet.refresh();
        added.errors.forEach(showError);
      }
    }),
  ask: () => attempt(ask)
};

/** Have every host asked: how it is, and for the kernels of other servers. */
async function ask(): Promise<void> {
  await fleet.refresh(true);
  await fleet.findOthers();
}

const state = element('p', { class: 'rp-Stream', role: 'status' });

/** Follow the server's events; read all again whenever it has been away. */
function follow(failures = 0): void {
  const url = new URL(`${base}api/events/subscribe`, location.href);
  url.protocol = url.protocol.replace('http', 'ws');
  const socket = new WebSocket(url);
  socket.onopen = () => {
    failures = 0;
    state.textContent = '';
    void attempt(() => fleet.refresh());
  };
  socket.onmessage = message => fleet.take(JSON.parse(message.data));
  socket.onclose = () => {
    state.textContent = 'The server does not answer; trying again.';
    const pause = RETRY_MILLISECONDS[Math.min(failures, RETRY_MILLISECONDS.length - 1)];
    window.setTimeout(() => follow(failures + 1), pause);
  };
}

/** The last things that happened, newest first. */
const happened = element('ol');
// The role is not the list's: its items need a list around them.
const log = element(
  'div',
  { class: 'rp-News', role: 'log', 'aria-label': 'What happened' },
  happened
);

fleet.listen(change => {
  const found = news(change, plain);
  if (found) {
    const time = element('time', {}, new Date().toLocaleTimeString());
    happened.prepend(element('li', { 'data-type': found.type }, time, ` ${found.said}`));
    while (happened.childElementCount > MOST_NEWS) {
      happened.lastElementChild!.remove();
    }
  }
});

const panel = new Panel(fleet, actions, plain);
document.getElementById('fleet')!.append(state, log, panel.node);
void attempt(() => fleet.refresh());
follow();
if (document.body.dataset.ask) {
  void attempt(ask);
}
