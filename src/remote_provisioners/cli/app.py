"""``jupyter remote``."""

from __future__ import annotations

import sys

from .command import Command
from .standard_streams import discard_output, open_standard_streams, why_failed

#: As a shell says of a program that SIGPIPE has ended.
_CLOSED_PIPE = 141

_CLI = __package__


class RemoteApp(Command):
    name = "jupyter-remote"
    description = """Jupyter kernels on other machines, over SSH.

    If `ssh HOST` works without a password, kernels work there.
    """
    examples = """
    jupyter remote hosts --watch                         # how busy are the hosts?
    jupyter remote demo                                  # try it without any host
    jupyter remote spec install --user --remote-hosts=host1,host2
    jupyter remote add host1 --user                      # its environments as kernels
    jupyter remote doctor                                # does every host work? If not, why?
    """
    # Class names, so that only the requested subcommand is imported.
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
            "Log in once to a host that asks for a second factor.",
        ),
        "hosts": (
            f"{_CLI}.hosts.app.HostsApp",
            "List the hosts, their state and their load.",
        ),
        "scan": (
            f"{_CLI}.environments.scan.ScanApp",
            "List the environments of hosts: conda environments, venvs, R, kernelspecs.",
        ),
        "add": (
            f"{_CLI}.environments.add.AddApp",
            "Make kernelspecs of the environments of hosts.",
        ),
        "refresh": (
            f"{_CLI}.environments.refresh.RefreshApp",
            "Update these kernelspecs: add new environments, mark missing ones.",
        ),
        "kernels": (
            f"{_CLI}.kernels.app.KernelsApp",
            "List your kernels on all hosts, with or without a server.",
        ),
        "attach": (
            f"{_CLI}.kernels.attach.AttachApp",
            "Connect this machine to a kernel on a host.",
        ),
        "stop": (f"{_CLI}.kernels.stop.StopApp", "End kernels on hosts."),
        "logs": (
            f"{_CLI}.kernels.logs.LogsApp",
            "Print the output of a kernel's process.",
        ),
        "cp": (
            f"{_CLI}.copy.app.CopyApp",
            "Copy files between this machine and hosts.",
        ),
        "forward": (
            f"{_CLI}.forward.app.ForwardApp",
            "Make a port of a kernel's host reachable on this machine.",
        ),
        "dashboard": (
            f"{_CLI}.dashboard.app.DashboardApp",
            "Show hosts and kernels in a browser.",
        ),
        "completion": (
            f"{_CLI}.completion.app.CompletionApp",
            "Print a script that lets your shell complete these commands.",
        ),
        "demo": (
            f"{_CLI}.demo.app.DemoApp",
            "Start kernels on three temporary SSH hosts on this machine.",
        ),
    }


def main() -> None:
    """The script ``jupyter-remote``."""
    try:
        open_standard_streams()
        try:
            RemoteApp.launch_instance()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader, such as `head`, has read enough.
        discard_output()
        sys.exit(_CLOSED_PIPE)
    except OSError as error:  # such as a disk that is too full for the help
        sys.exit(f"jupyter remote: {why_failed(error)}")


if __name__ == "__main__":
    main()
