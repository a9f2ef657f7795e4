"""Write docs/options.md: every option, from its declaration.

    python docs/generate.py

Whatever is said of an option is its help text in ``remote_provisioners/options/config.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from remote_provisioners.engines.yarn.provisioner import YarnProvisioner
from remote_provisioners.options.config import (
    CommonOptions,
    RemoteProvisionerConfigMixin,
    option_names,
)

PAGE = Path(__file__).with_name("options.md")

#: What is read of a start request. The rest of its KERNEL_ variables is only passed on.
REQUEST_VARIABLES = {
    "KERNEL_REMOTE_HOST": "The host to start the kernel on, written as in `remote_hosts`. It need "
    "not be one of them. No load balancing algorithm is asked.",
    "KERNEL_USERNAME": "The user who asks, compared with `authorized_users` and "
    "`unauthorized_users`. The kernel runs as the user that SSH logs in as, whoever is named.",
    "KERNEL_WORKING_DIR": "The kernel's working directory on the host. Where it is not there: the "
    "directory that the application asks for (its notebook's), else the home directory.",
    "KERNEL_LAUNCH_TIMEOUT": "Seconds, in place of `launch_timeout`.",
    "KERNEL_HOST_LABELS": "Labels, comma-separated: only hosts that carry all of them are taken.",
    "KERNEL_GPUS": "A number of GPUs. The kernel is given devices that nobody has, by "
    "CUDA_VISIBLE_DEVICES.",
    "KERNEL_EXTRA_SPARK_OPTS": "Options of spark-submit, for kernelspecs of [Spark](spark.md). "
    "They are split as a shell splits words, never evaluated, and come after the kernelspec's own.",
    "KERNEL_QUEUE": "The queue of YARN, for kernelspecs of Spark on YARN, in place of theirs.",
    "KERNEL_ID": "The kernel's id. It is set for every kernel; a value in the request is replaced.",
}

HEAD = """\
# Options

<!-- Written by docs/generate.py. Change the help texts in options/config.py. -->

An option can be given in four places. The first that has it counts:

1. the `config` stanza of the kernelspec: `"metadata": {"kernel_provisioner": {"config": {...}}}`
2. the configuration file or the command line of the application:
   `c.RemoteProvisionerConfigMixin.OPTION = ...`, `--RemoteProvisionerConfigMixin.OPTION=...`
3. the environment of the application: `RP_OPTION`
4. the default

A value that counts and cannot be used is an error when a kernel is started. A table by host can
stand in a stanza or in a configuration file. Where and why to set options:
[operator's guide](operators-guide.md).
"""

YARN = """\
# Options of yarn-provisioner

For kernelspecs of [YARN's cluster mode](spark.md#yarn-cluster-mode). In a configuration file:
`c.YarnProvisioner.OPTION`. Of the options above it has those that have nothing to do with a list of
hosts: {common}.
"""

TAIL = """\
## Variables of a start request

An application may send environment variables with its request to start a kernel. Those whose name
begins with `KERNEL_` reach the kernel as they are; others are left out. A request without an
environment of its own has the application's. These are read:

| variable | meaning |
| --- | --- |
"""


def page() -> str:
    """The text of options.md."""
    traits = RemoteProvisionerConfigMixin.class_traits()
    sections = [_section(name, traits[name]) for name in _all()]
    own = YarnProvisioner.class_own_traits(config=True)
    common = ", ".join(f"`{name}`" for name in _all() if name in vars(CommonOptions))
    sections += [
        YARN.format(common=common),
        *(_section(name, trait) for name, trait in own.items()),
    ]
    rows = "".join(f"| `{name}` | {text} |\n" for name, text in REQUEST_VARIABLES.items())
    return "\n".join([HEAD, *sections, TAIL + rows])


def _all() -> list[str]:
    """Every option in the order of its declaration."""
    order = [*vars(RemoteProvisionerConfigMixin), *vars(CommonOptions)]
    return sorted(option_names(), key=order.index)


def _section(name: str, trait: Any) -> str:
    default = trait.default()
    text = ", ".join(sorted(default)) if isinstance(default, (list, set)) else str(default)
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
