"""``jupyter remote``."""

from __future__ import annotations

from .command import Command

_CLI = __package__


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
    # By name: only the one that is asked for is imported.
    subcommands = {  # noqa: RUF012
        "spec": (
            f"{_CLI}.spec.app.SpecApp",
            "Install, list and remove kernelspecs whose kernels run on hosts.",
        ),
        "doctor": (
            f"{_CLI}.doctor.app.DoctorApp",
            "Examine hosts step by step, up to a kernel that answers.",
        ),
        "login": (
            f"{_CLI}.login.app.LoginApp",
            "Log in to a host that asks for more than a key.",
        ),
        "hosts": (
            f"{_CLI}.hosts.app.HostsApp",
            "List hosts: which are up, how busy they are.",
        ),
        "kernels": (
            f"{_CLI}.kernels.app.KernelsApp",
            "List your kernels on hosts, also those without a server.",
        ),
        "attach": (
            f"{_CLI}.kernels.attach.AttachApp",
            "Make a kernel on a host reachable from this machine.",
        ),
        "stop": (f"{_CLI}.kernels.stop.StopApp", "End kernels on hosts."),
        "logs": (
            f"{_CLI}.kernels.logs.LogsApp",
            "Print what a kernel's process has written.",
        ),
        "dashboard": (
            f"{_CLI}.dashboard.app.DashboardApp",
            "Show hosts and kernels in a browser.",
        ),
        "demo": (
            f"{_CLI}.demo.app.DemoApp",
            "Start kernels on three throwaway SSH hosts on this machine.",
        ),
    }


def main() -> None:
    """The script ``jupyter-remote``."""
    RemoteApp.launch_instance()


if __name__ == "__main__":
    main()
