/** The plugin: remote hosts and kernels in JupyterLab 4 and Notebook 7. */

import {
  ILayoutRestorer,
  type JupyterFrontEnd,
  type JupyterFrontEndPlugin
} from '@jupyterlab/application';
import {
  ICommandPalette,
  ISessionContextDialogs,
  IToolbarWidgetRegistry,
  type ISessionContext
} from '@jupyterlab/apputils';
import { PageConfig } from '@jupyterlab/coreutils';
import { IFileBrowserFactory } from '@jupyterlab/filebrowser';
import { ILauncher } from '@jupyterlab/launcher';
import type { NotebookPanel } from '@jupyterlab/notebook';
import { IRunningSessionManagers } from '@jupyterlab/running';
import { ServerConnection } from '@jupyterlab/services';
import { ISettingRegistry } from '@jupyterlab/settingregistry';
import { ITranslator, nullTranslator, type TranslationBundle } from '@jupyterlab/translation';
import { LabIcon } from '@jupyterlab/ui-components';
import type { IDisposable } from '@lumino/disposable';
import { MessageLoop } from '@lumino/messaging';
import { Widget } from '@lumino/widgets';

import { Api } from './api';
import { Deeds } from './deeds';
import { Drives } from './drive';
import { Fleet } from './fleet';
import { Notices, type Level } from './notices';
import { Panel } from './panel';
import { Ports } from './ports';
import { FoundKernels } from './running';
import { HostItem } from './toolbar';
import { askWhere, type Choice } from './where';

const ID = '@remote-provisioners/lab:plugin';
const NEW_NOTEBOOK = 'remote-provisioners:new-notebook';
const OPEN_FILES = 'remote-provisioners:open-files';
const SHOW_PANEL = 'remote-provisioners:show-hosts';
/** The id that JupyterLab gives its own panel. */
const RUNNING_PANEL = 'jp-running-sessions';
const REFRESH_MILLISECONDS = 300;

const hostsIcon = new LabIcon({
  name: 'remote-provisioners:hosts',
  svgstr: `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24">
  <g class="jp-icon3" fill="#616161">
    <path d="M4 3h16a1 1 0 0 1 1 1v4a1 1 0 0 1-1 1H4a1 1 0 0 1-1-1V4a1 1 0 0 1 1-1zm1 2v2h2V5z"/>
    <path d="M4 10h16a1 1 0 0 1 1 1v4a1 1 0 0 1-1 1H4a1 1 0 0 1-1-1v-4a1 1 0 0 1 1-1zm1 2v2h2v-2z"/>
    <path d="M4 17h16a1 1 0 0 1 1 1v3a1 1 0 0 1-1 1H4a1 1 0 0 1-1-1v-3a1 1 0 0 1 1-1zm1 2v1h2v-1z"/>
  </g></svg>`
});

const filesIcon = new LabIcon({
  name: 'remote-provisioners:files',
  svgstr: `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24">
  <g class="jp-icon3" fill="#616161">
    <path d="M3 4h6l2 2h10v7H3z"/>
    <path d="M3 15h18a1 1 0 0 1 1 1v4a1 1 0 0 1-1 1H3a1 1 0 0 1-1-1v-4a1 1 0 0 1 1-1zm1 2v2h2v-2z"/>
  </g></svg>`
});

/** The sidebar. */
class HostsPanel extends Widget {
  private panel: Panel | null = null;

  constructor(private readonly make: () => Panel) {
    super();
    this.addClass('rp-Sidebar');
  }

  dispose(): void {
    this.panel?.dispose();
    super.dispose();
  }

  /** Its content is made when it is first shown. */
  protected onBeforeShow(): void {
    if (!this.panel) {
      this.panel = this.make();
      this.node.append(this.panel.node);
    }
  }

  protected onActivateRequest(): void {
    this.node.querySelector<HTMLElement>('.rp-Search')?.focus();
  }
}

const plugin: JupyterFrontEndPlugin<void> = {
  id: ID,
  description: 'Shows remote hosts and kernels, with their states and actions.',
  autoStart: true,
  optional: [
    ICommandPalette,
    IFileBrowserFactory,
    ILauncher,
    ILayoutRestorer,
    IRunningSessionManagers,
    ISessionContextDialogs,
    ISettingRegistry,
    IToolbarWidgetRegistry,
    ITranslator
  ],
  activate: (
    app: JupyterFrontEnd,
    palette: ICommandPalette | null,
    browsers: IFileBrowserFactory | null,
    launcher: ILauncher | null,
    restorer: ILayoutRestorer | null,
    running: IRunningSessionManagers | null,
    dialogs: ISessionContext.IDialogs | null,
    settings: ISettingRegistry | null,
    toolbars: IToolbarWidgetRegistry | null,
    translator: ITranslator | null
  ) => {
    const trans = (translator ?? nullTranslator).load('remote_provisioners');
    const server = app.serviceManager.serverSettings;
    const api = new Api((path, init) =>
      ServerConnection.makeRequest(server.baseUrl + path, init, server)
    );
    const fleet = new Fleet(api);
    const files = PageConfig.getOption('remoteFiles') === 'true';
    const drives = new Drives(app, files ? browsers : null, fleet, filesIcon, trans);
    const deeds = new Deeds(
      app,
      fleet,
      trans,
      files && browsers ? host => drives.open(host.name) : undefined
    );
    const ports = new Ports(fleet, trans, path => new URL(path, server.baseUrl).href);
    const notices = new Notices(fleet, trans, start => deeds.cancel(start));
    let asks = true;

    void settings?.load(ID).then(loaded => {
      const update = () => {
        notices.level = loaded.get('notifications').composite as Level;
        ports.announces = notices.level === 'all';
        asks = loaded.get('askWhere').composite as boolean;
      };
      loaded.changed.connect(update);
      update();
    });

    toolbars?.addFactory<NotebookPanel>(
      'Notebook',
      'remoteHost',
      panel => new HostItem(panel.sessionContext, fleet, deeds, ports, trans)
    );

    const sidebar = new HostsPanel(() => {
      void fleet.refresh(true).catch(() => undefined);
      return new Panel(fleet, deeds, trans);
    });
    sidebar.id = 'rp-remote-hosts';
    sidebar.title.icon = hostsIcon;
    sidebar.title.caption = trans.__('Remote hosts');
    sidebar.node.setAttribute('role', 'region');
    sidebar.node.setAttribute('aria-label', trans.__('Remote hosts'));
    app.shell.add(sidebar, 'left', { rank: 150, type: 'Remote Hosts' });
    restorer?.add(sidebar, sidebar.id);
    app.commands.addCommand(SHOW_PANEL, {
      label: trans.__('Remote Hosts'),
      icon: hostsIcon,
      execute: () => app.shell.activateById(sidebar.id),
      describedBy: { args: { type: 'object', properties: {} } }
    });
    if (new URLSearchParams(window.location.search).has('remote-hosts')) {
      void app.restored.then(() => app.commands.execute(SHOW_PANEL));
    }
    palette?.addItem({ command: SHOW_PANEL, category: trans.__('Kernel Operations') });

    const where = async (kernelspec: string): Promise<Choice> => {
      const names = fleet.hostsOf(kernelspec).map(host => host.name);
      if (names.length < 2) {
        return '';
      }
      const title = displayName(app, kernelspec);
      return askWhere(fleet, trans, {
        title: trans.__('On which host should %1 run?', title),
        action: trans.__('Run There'),
        names,
        anywhere: true
      });
    };

    if (dialogs) {
      // A notebook on a host has its kernel there: the server sees to that.
      askAfterPicker(dialogs, fleet, deeds, (kernelspec, path) =>
        asks && !drives.hostOf(path) ? where(kernelspec) : Promise.resolve('')
      );
    }
    app.commands.addCommand(OPEN_FILES, {
      label: args => trans.__('Files of %1', args.host),
      icon: filesIcon,
      execute: args => drives.open(String(args.host)),
      describedBy: {
        args: {
          type: 'object',
          properties: { host: { type: 'string', description: trans.__('The name of the host') } },
          required: ['host']
        }
      }
    });
    addNewNotebook(app, fleet, deeds, trans, where);
    if (launcher) {
      keepLauncher(app, launcher, fleet, trans);
    }
    if (running) {
      const found = new FoundKernels(api, deeds, trans);
      void app.serviceManager.ready.then(() => running.add(found));
      void app.restored.then(() => refreshWhenShown(app, found));
    }
    follow(app, fleet);
  }
};

/** The Running panel asks its parts for news only when somebody presses its button. */
function refreshWhenShown(app: JupyterFrontEnd, found: FoundKernels): void {
  for (const area of ['left', 'right']) {
    for (const widget of app.shell.widgets(area)) {
      if (widget.id === RUNNING_PANEL) {
        MessageLoop.installMessageHook(widget, (_, message) => {
          if (message.type === 'after-show') {
            found.refreshRunning();
          }
          return true;
        });
        if (widget.isVisible) {
          found.refreshRunning();
        }
      }
    }
  }
}

/** Read once, follow the server's events, read again when something was missed. */
function follow(app: JupyterFrontEnd, fleet: Fleet): void {
  const manager = app.serviceManager;
  let timer = 0;
  const refresh = () => {
    window.clearTimeout(timer);
    timer = window.setTimeout(() => {
      void fleet.refresh().catch(() => undefined);
    }, REFRESH_MILLISECONDS);
  };
  manager.events.stream.connect((_, event) => fleet.take(event));
  void manager.ready.then(refresh);
  // JupyterLab looks for kernels and sessions by itself: news of ours means a missed event, such
  // as after a restart of the server.
  manager.sessions.runningChanged.connect((_, sessions) => {
    for (const { path, kernel } of sessions) {
      const known = kernel && fleet.kernels.get(kernel.id);
      if (known && known.notebook?.path !== path) {
        return refresh();
      }
    }
    const ids = new Set(sessions.map(session => session.kernel?.id));
    for (const kernel of fleet.kernels.values()) {
      if (kernel.notebook && !ids.has(kernel.id)) {
        return refresh();
      }
    }
    for (const { kernel } of sessions) {
      const remote =
        kernel && [...fleet.hosts.values()].some(h => h.kernelspecs.includes(kernel.name));
      if (remote && !fleet.kernels.has(kernel.id)) {
        return refresh();
      }
    }
  });
  manager.connectionFailure.connect(() => refresh());
}

/** After a choice of kernel in JupyterLab's own dialog, ask for its host. */
function askAfterPicker(
  dialogs: ISessionContext.IDialogs,
  fleet: Fleet,
  deeds: Deeds,
  where: (kernelspec: string, path: string) => Promise<Choice>
): void {
  const select = dialogs.selectKernel.bind(dialogs);
  dialogs.selectKernel = context => {
    const changeKernel: ISessionContext['changeKernel'] = async model => {
      const name = model && !('id' in model && model.id) ? model.name : undefined;
      const host = name ? await where(name, context.path) : '';
      if (host === null) {
        return context.session?.kernel ?? null;
      }
      if (!name || !host) {
        return context.changeKernel(model);
      }
      let changed: any = null;
      await deeds.attempt(async () => {
        const kernel = await fleet.api.start({ name, host, path: context.path });
        changed = await context.changeKernel({ id: kernel.id, name });
      });
      return changed;
    };
    // The dialog's own view of the notebook: for all others, a change of kernel asks nothing.
    const get = (target: ISessionContext, name: string | symbol) => {
      const found = name === 'changeKernel' ? changeKernel : Reflect.get(target, name);
      return typeof found === 'function' ? found.bind(target) : found;
    };
    return select(new Proxy(context, { get }));
  };
}

function displayName(app: JupyterFrontEnd, kernelspec: string): string {
  const specs = app.serviceManager.kernelspecs.specs?.kernelspecs;
  return specs?.[kernelspec]?.display_name ?? kernelspec;
}

function addNewNotebook(
  app: JupyterFrontEnd,
  fleet: Fleet,
  deeds: Deeds,
  trans: TranslationBundle,
  where: (kernelspec: string) => Promise<Choice>
): void {
  app.commands.addCommand(NEW_NOTEBOOK, {
    label: args => trans.__('%1 on …', displayName(app, String(args.kernelspec ?? ''))),
    caption: args =>
      trans.__('A notebook with the kernel %1, on a host that you choose', args.kernelspec),
    icon: args => (args.isPalette ? undefined : hostsIcon),
    execute: async args => {
      const name = String(args.kernelspec);
      const host = await where(name);
      if (host === null) {
        return;
      }
      let opened: unknown;
      await deeds.attempt(async () => {
        const made = await app.commands.execute('docmanager:new-untitled', {
          path: String(args.cwd ?? ''),
          type: 'notebook'
        });
        const kernel = host
          ? { id: await startFor(app, fleet, name, host, made.path), name }
          : { name };
        opened = await app.commands.execute('docmanager:open', {
          path: made.path,
          factory: 'Notebook',
          kernel
        });
      });
      return opened; // for which the launcher gives up its place
    },
    describedBy: {
      args: {
        type: 'object',
        properties: {
          kernelspec: { type: 'string', description: trans.__('The kernelspec') },
          cwd: { type: 'string', description: trans.__('The directory of the notebook') }
        },
        required: ['kernelspec']
      }
    }
  });
}

/** Start the kernel of a new notebook; returns its id. If it fails, the notebook is removed. */
async function startFor(
  app: JupyterFrontEnd,
  fleet: Fleet,
  name: string,
  host: string,
  path: string
): Promise<string> {
  try {
    return (await fleet.api.start({ name, host, path })).id;
  } catch (reason) {
    await app.serviceManager.contents.delete(path).catch(() => undefined);
    throw reason;
  }
}

/** A card in the launcher for each kernelspec with several hosts. */
function keepLauncher(
  app: JupyterFrontEnd,
  launcher: ILauncher,
  fleet: Fleet,
  trans: TranslationBundle
): void {
  const cards = new Map<string, IDisposable>();
  fleet.listen(change => {
    if (change.kind !== 'all') {
      return;
    }
    const counts = new Map<string, number>();
    for (const host of fleet.hosts.values()) {
      for (const name of host.kernelspecs) {
        counts.set(name, (counts.get(name) ?? 0) + 1);
      }
    }
    for (const [name, card] of cards) {
      if ((counts.get(name) ?? 0) < 2) {
        card.dispose();
        cards.delete(name);
      }
    }
    for (const [name, count] of counts) {
      if (count > 1 && !cards.has(name)) {
        const args = { kernelspec: name };
        const category = trans.__('Notebook');
        const logos = app.serviceManager.kernelspecs.specs?.kernelspecs[name]?.resources ?? {};
        const kernelIconUrl = logos['logo-svg'] ?? logos['logo-64x64'];
        cards.set(
          name,
          launcher.add({ command: NEW_NOTEBOOK, category, args, rank: 100, kernelIconUrl })
        );
      }
    }
  });
}

export default plugin;
