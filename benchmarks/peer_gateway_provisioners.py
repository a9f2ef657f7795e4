"""gateway_provisioners: its DistributedProvisioner over SSH, with its own Python launcher.

Its tunnelled mode (GP_ENABLE_TUNNELING) does not start a kernel, so its default is measured: the
client connects to ports that the kernel opens on all of the host's addresses.

Workarounds, without which no kernel starts:

- paramiko reads no ssh configuration: the user and the one port of all hosts are environment
  variables, hosts are named by address, and key and known hosts must be where paramiko looks by
  itself, named as it looks for them, below HOME.
- The address that the kernel reports to is by default the first of the machine's own, which need
  not be one that the host reaches.
- Root may not start kernels unless configuration says otherwise; KERNEL_USERNAME is that user.
- The kernelspec's launcher must exist on the host, at the same path.
- The kernelspec says "python"; the host's PATH may have another one than the kernel's.
- The launcher imports pycryptodomex on the host, beside ipykernel.

Its shutdown takes the end of the launcher's listener for the end of the kernel, which it is not:
the table says beside the figure how long the kernel ran on (29 s, where that was waited for).
"""

from __future__ import annotations

import json
import shutil
import socket
import sys
from pathlib import Path

from .command import output
from .environments import as_installed, version_in, virtual_environment
from .hosts import Host
from .setting import MANY_NAME, OTHER_NAME, Setting, Subject, kernelspecs

NAME = "gateway_provisioners"
REQUIREMENT = "gateway_provisioners==0.5.0"


def gateway_provisioners(setting: Setting, hosts: tuple[Host, ...]) -> Subject:
    host = hosts[0]
    requirements = [REQUIREMENT, *as_installed("jupyter_client", "pyzmq")]
    python = virtual_environment(setting.cache / NAME, sys.executable, requirements)
    prefix = setting.shared / NAME
    for name, used in kernelspecs(hosts).items():
        _install_kernelspec(python, prefix, name, used, setting.kernel_python)
    jupyter_path = prefix / "share" / "jupyter"
    environ = {
        **setting.client_environ(NAME, jupyter_path),
        "HOME": str(_paramiko_home(setting.scratch / f"{NAME}-home", hosts)),
        "GP_REMOTE_USER": host.user,
        "GP_SSH_PORT": str(host.port),
        "GP_RESPONSE_IP": _address_towards(host),
        "KERNEL_USERNAME": host.user,
    }
    if host.user == "root":
        environ["GP_UNAUTHORIZED_USERS"] = "nobody"
    versions = {name: version_in(python, name) for name in (NAME, "paramiko")}
    return Subject(NAME, python, environ, hosts, versions, MANY_NAME, OTHER_NAME)


def _install_kernelspec(
    python: Path, prefix: Path, name: str, hosts: tuple[Host, ...], kernel_python: str
) -> None:
    command = python.with_name("jupyter-ssh-spec")
    options = [f"--prefix={prefix}", f"--kernel-name={name}"]
    output([str(command), "install", *options, f"--remote-hosts={hosts[0].address}"])
    directory = prefix / "share" / "jupyter" / "kernels" / name
    file = directory / "kernel.json"
    spec = json.loads(file.read_text())
    spec["argv"][0] = kernel_python
    config = spec["metadata"]["kernel_provisioner"]["config"]
    # The command leaves the hosts out if they equal the ones of its environment.
    config["remote_hosts"] = [host.address for host in hosts]
    file.write_text(json.dumps(spec, indent=2))
    # The user of a host may not write here: compiled now, not at every start.
    output([kernel_python, "-m", "compileall", "-q", str(directory)])


def _paramiko_home(home: Path, hosts: tuple[Host, ...]) -> Path:
    """A home in which paramiko finds the key and the hosts' keys by itself."""
    directory = home / ".ssh"
    directory.mkdir(parents=True, mode=0o700)
    key = Path(hosts[0].setting("identityfile")).expanduser()
    public = output(["ssh-keygen", "-y", "-P", "", "-f", str(key)])
    # "ssh-ed25519 AAAA…", "ecdsa-sha2-nistp256 AAAA…", "ssh-rsa AAAA…"
    kind = public.partition(" ")[0].removeprefix("ssh-").partition("-")[0]
    copy = directory / f"id_{kind or 'ed25519'}"
    shutil.copyfile(key, copy)
    copy.chmod(0o600)
    (directory / "known_hosts").write_text("".join(host.known_keys() for host in hosts))
    return home


def _address_towards(host: Host) -> str:
    """The address of this machine that the host answers to."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host.address, host.port))
        address: str = probe.getsockname()[0]
    return address
