"""Write docs/options.md: every option, from its declaration.

    python docs/generate.py

The description of an option is its help text in ``remote_provisioners/options/config.py`` or in
``remote_provisioners/engines/*/provisioner.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from remote_provisioners.engines.docker.provisioner import DockerProvisioner
from remote_provisioners.engines.kubernetes.provisioner import KubernetesProvisioner
from remote_provisioners.engines.slurm.provisioner import SlurmProvisioner
from remote_provisioners.engines.yarn.provisioner import YarnProvisioner
from remote_provisioners.options.config import CommonOptions, RemoteProvisionerConfigMixin

PAGE = Path(__file__).with_name("options.md")

#: The variables of a start request that are read. Other KERNEL_ variables are only passed on.
REQUEST_VARIABLES = {
    "KERNEL_REMOTE_HOST": "The host to start the kernel on, written as in `remote_hosts`. In a "
    "request it must be one of them, unless `unlisted_pins` is set. The load balancing algorithm "
    "is skipped.",
    "KERNEL_USERNAME": "The user who asks, compared with `authorized_users` and "
    "`unauthorized_users`. `{username}` in `run_as`, `connect` and logins is replaced with it. "
    "Otherwise the kernel runs as the user that logs in, whatever this name is.",
    "KERNEL_WORKING_DIR": "The kernel's working directory on the host. If it does not exist: the "
    "directory that the application asks for (its notebook's), otherwise the home directory.",
    "KERNEL_LAUNCH_TIMEOUT": "Seconds, instead of `launch_timeout`.",
    "KERNEL_HOST_LABELS": "Labels, comma-separated. The host must have all of them.",
    "KERNEL_GPUS": "A number of GPUs. The kernel gets devices that no other kernel has, through "
    "CUDA_VISIBLE_DEVICES.",
    "KERNEL_EXTRA_SPARK_OPTS": "Options of spark-submit, for kernelspecs of [Spark](spark.md). "
    "They are split as a shell splits words, never evaluated, and follow the kernelspec's own.",
    "KERNEL_SLURM_PARTITION": "The partition of the job, for kernelspecs of [Slurm](slurm.md). In "
    "the same way `KERNEL_SLURM_` with `ACCOUNT`, `QOS`, `TIME`, `CPUS`, `MEMORY`, `GPUS`, "
    "`CONSTRAINT` or `RESERVATION`. A request to a server may choose what `slurm_limits` allows.",
    "KERNEL_QUEUE": "The YARN queue, for kernelspecs of Spark on YARN. It replaces the "
    "kernelspec's.",
    "KERNEL_ID": "The kernel's id. It is set for every kernel and replaces a value in the request.",
}

HEAD = """\
# Options

<!-- Written by docs/generate.py from the help texts in options/config.py and in
engines/*/provisioner.py. -->

An option can be set in four places. The first that sets it wins:

1. the `config` stanza of the kernelspec: `"metadata": {"kernel_provisioner": {"config": {...}}}`
2. the configuration file or the command line of the application:
   `c.RemoteProvisionerConfigMixin.OPTION = ...`, `--RemoteProvisionerConfigMixin.OPTION=...`
3. the environment of the application: `RP_OPTION`
4. the default

An invalid value is an error when a kernel is started. A table by host can be in a stanza or in a
configuration file. The [operator's guide](operators-guide.md) explains when to set which option.

- [Options of all provisioners](#options-of-all-provisioners)
- [Options of distributed-provisioner](#options-of-distributed-provisioner), for lists of hosts
- [Options of docker-provisioner](#options-of-docker-provisioner)
- [Options of kubernetes-provisioner](#options-of-kubernetes-provisioner)
- [Options of slurm-provisioner](#options-of-slurm-provisioner)
- [Options of yarn-provisioner](#options-of-yarn-provisioner)
- [Variables of a start request](#variables-of-a-start-request)
- Options of the server extension: [`file_roots`](files.md#for-operators),
  [`proxy_ports`](ports.md#for-operators)

# Options of all provisioners
"""

HOSTS = """\
# Options of distributed-provisioner
"""

YARN = """\
# Options of yarn-provisioner

For kernelspecs of [YARN's cluster mode](spark.md#yarn-cluster-mode). In a configuration file:
`c.YarnProvisioner.OPTION`.
"""

DOCKER = """\
# Options of docker-provisioner

For kernelspecs of [containers](docker.md). In a configuration file: `c.DockerProvisioner.OPTION`.
"""

KUBERNETES = """\
# Options of kubernetes-provisioner

For kernelspecs of [pods](kubernetes.md). In a configuration file: `c.KubernetesProvisioner.OPTION`.
"""

SLURM = """\
# Options of slurm-provisioner

For kernelspecs of [Slurm jobs](slurm.md). In a configuration file: `c.SlurmProvisioner.OPTION`.
"""

TAIL = """\
# Variables of a start request

An application may send environment variables with its request to start a kernel. Variables whose
name begins with `KERNEL_` reach the kernel unchanged; others are left out. A request without an
environment gets the application's. This package reads these variables:

| variable | meaning |
| --- | --- |
"""


def page() -> str:
    """The text of options.md."""
    sections = []
    for head, owner in (
        (HEAD, CommonOptions),
        (HOSTS, RemoteProvisionerConfigMixin),
        (DOCKER, DockerProvisioner),
        (KUBERNETES, KubernetesProvisioner),
        (SLURM, SlurmProvisioner),
        (YARN, YarnProvisioner),
    ):
        own = owner.class_own_traits(config=True)
        order = sorted(own, key=[*vars(owner)].index)  # of their declarations
        sections += [head, *(_section(name, own[name]) for name in order)]
    rows = "".join(f"| `{name}` | {text} |\n" for name, text in REQUEST_VARIABLES.items())
    return "\n".join([*sections, TAIL + rows])


def _section(name: str, trait: Any) -> str:
    default = trait.default()
    words = sorted(default) if isinstance(default, set) else default
    text = ", ".join(words) if isinstance(default, (list, set)) else str(default)
    kind = " ".join((type(trait).__doc__ or "").split()).rstrip(".")
    return (
        f"## {name}\n\n"
        f"{' '.join(trait.help.split())}\n\n"
        "| | |\n| --- | --- |\n"
        f"| type | {kind[:1].lower()}{kind[1:]} |\n"
        f"| default | {f'`{text}`' if text else 'empty'} |\n"
        f"| environment | `{trait.variable}` |\n"
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
