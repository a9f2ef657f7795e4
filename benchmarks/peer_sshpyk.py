"""sshpyk: kernels over OpenSSH with a control master.

Workarounds:

- It wants an alias of its own, with ControlMaster, ControlPath and ControlPersist, so it gets an
  ssh configuration of its own, named in the kernelspec: OpenSSH takes the home directory from the
  password database and would not see the one of HOME.
- The remote side starts a kernelspec of the host; ipykernel installs one into the environment
  that the kernels run in, which is also the interpreter for sshpyk's own remote process.
- The host needs pgrep, ps, cat and tr.
- Many kernels at once need more sessions of a connection, and more logins at a time, than a stock
  sshd allows (MaxSessions 10, MaxStartups 10:30:100): of thirty, ten started. Its host, and no
  other subject's, is configured to allow them. A kernelspec of it names one host.
"""

from __future__ import annotations

import sys
from pathlib import Path

from .command import output
from .environments import as_installed, version_in, virtual_environment
from .hosts import Host
from .setting import KERNEL_NAME, Setting, Subject

NAME = "sshpyk"
REQUIREMENT = "sshpyk==1.25"
ALIAS = "sshpyk-bench"


def sshpyk(setting: Setting, hosts: tuple[Host, ...]) -> Subject:
    host = hosts[0]
    requirements = [REQUIREMENT, *as_installed("jupyter_client", "pyzmq")]
    python = virtual_environment(setting.cache / NAME, sys.executable, requirements)
    host.sshd_option(MaxSessions="500", MaxStartups="500")
    jupyter_path = setting.scratch / f"{NAME}-specs"
    environ = setting.client_environ(NAME, jupyter_path)
    config = setting.scratch / f"{NAME}-ssh-config"
    config.write_text(_ssh_config(host, setting.scratch))
    output(
        [
            str(python.with_name("sshpyk")),
            "add",
            "--language=python",
            f"--kernel-name={KERNEL_NAME}",
            "--display-name=Benchmark",
            f"--ssh-host-alias={ALIAS}",
            f"--ssh-config={config}",
            f"--remote-python={setting.kernel_python}",
            "--remote-kernel-name=python3",
        ],
        # It adds kernels to the user's own data directory.
        environ={**environ, "JUPYTER_DATA_DIR": str(jupyter_path)},
    )
    return Subject(NAME, python, environ, hosts, {NAME: version_in(python, NAME)})


def _ssh_config(host: Host, scratch: Path) -> str:
    """What sshpyk's documentation recommends, except that the host's key is checked."""
    known_hosts = scratch / f"{NAME}-known-hosts"
    known_hosts.write_text(host.known_keys())
    return "\n  ".join(
        [
            f"Host {ALIAS}",
            f"HostName {host.address}",
            f"Port {host.port}",
            f"User {host.user}",
            f"IdentityFile {host.setting('identityfile')}",
            f"UserKnownHostsFile {known_hosts}",
            "BatchMode yes",
            "ControlMaster auto",
            f"ControlPath {scratch}/%C",
            "ControlPersist 10m",
            "ServerAliveInterval 5",
            "ServerAliveCountMax 120000",
            "TCPKeepAlive yes",
            "ConnectionAttempts 1",
            "ConnectTimeout 5\n",
        ]
    )
