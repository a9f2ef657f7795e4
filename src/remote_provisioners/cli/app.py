"""``jupyter remote``."""

from __future__ import annotations

from .command import Command
from .demo.app import DemoApp
from .doctor.app import DoctorApp
from .hosts.app import HostsApp
from .kernels.app import KernelsApp
from .kernels.attach import AttachApp
from .kernels.logs import LogsApp
from .kernels.stop import StopApp
from .spec.app import SpecApp


class RemoteApp(Command):
    name = "jupyter-remote"
    description = """Jupyter kernels on other machines, by SSH.

    If `ssh HOST` works without a password, a kernel works there.
    """
    examples = """
    jupyter remote hosts --watch                         # how busy are they?
    jupyter remote demo                                  # see it work, without a host of yours
    jupyter remote spec install --user --remote-hosts=host1,host2
    jupyter remote doctor                                # does every host work? if not, why?
    """
    subcommands = {  # noqa: RUF012
        "spec": (SpecApp, "Install, list and remove kernelspecs whose kernels run on hosts."),
        "doctor": (DoctorApp, "Examine hosts step by step, up to a kernel that answers."),
        "hosts": (HostsApp, "List hosts: which are up, how busy they are."),
        "kernels": (KernelsApp, "List your kernels on hosts, also those without a server."),
        "attach": (AttachApp, "Make a kernel on a host reachable from this machine."),
        "stop": (StopApp, "End kernels on hosts."),
        "logs": (LogsApp, "Print what a kernel's process has written."),
        "demo": (DemoApp, "Start kernels on three throwaway SSH hosts on this machine."),
    }


def main() -> None:
    """The script ``jupyter-remote``."""
    RemoteApp.launch_instance()


if __name__ == "__main__":
    main()
