"""``jupyter remote spec install``."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Generator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from traitlets import Bool, TraitError, Unicode
from traitlets.config import Config

from ...engines.docker.provisioner import DockerProvisioner
from ...engines.kubernetes.provisioner import KubernetesProvisioner
from ...engines.slurm.provisioner import SlurmProvisioner
from ...engines.yarn.provisioner import YarnProvisioner
from ...errors import ConfigurationError
from ...options.config import CommonOptions, RemoteProvisionerConfigMixin, option_names
from ...options.installed_specs import read_spec
from ...options.kinds import readable
from ..command import MISUSED, Command, CommandError, Text, meant
from ..configured import general_options
from ..kernelspecs import destination, kernelspec_manager, place, place_flags
from .samples import (
    DEFAULT_SAMPLE,
    SparkSite,
    provisioner_of,
    samples,
    spark_language,
    write_sample,
)

#: The engines' provisioners by name, and the engines' names.
_ENGINES: dict[str, tuple[type[CommonOptions], str]] = {
    "docker-provisioner": (DockerProvisioner, "Docker"),
    "kubernetes-provisioner": (KubernetesProvisioner, "Kubernetes"),
    "slurm-provisioner": (SlurmProvisioner, "Slurm"),
    "yarn-provisioner": (YarnProvisioner, "YARN"),
}
#: The options of provisioners, by the class that declares them.
_OPTIONS: dict[type[CommonOptions], list[str]] = {
    RemoteProvisionerConfigMixin: option_names(),
    **{of: sorted(of.class_own_traits(config=True)) for of, _ in _ENGINES.values()},
}


class SpecInstallApp(Command):
    name = "jupyter-remote-spec-install"
    description = f"""Install a sample kernelspec for a set of hosts.

    Usage: jupyter remote spec install [SAMPLE] [options]

    SAMPLE is one of {", ".join(samples())}. The default is {DEFAULT_SAMPLE}.
    For the options of another one: jupyter remote spec install SAMPLE --help

    As with `jupyter kernelspec install`, the kernelspec is for all users of the machine unless you
    give --user, --sys-prefix or --prefix. Provisioner options on the command line are written into
    the kernelspec. They take precedence over the configuration file and RP_ variables, which still
    set all other options.
    """
    examples = """
    # for all users of the machine (needs permission to write to /usr/local)
    jupyter remote spec install --remote-hosts=host1,host2

    # only for me, with a conda environment on the hosts
    jupyter remote spec install --user --name=gpu --display-name="Python on a GPU host" \\
        --remote-hosts=gpu1,me@gpu2:2222 --load-balancing-algorithm=least-connection \\
        --environment-hook='source /opt/conda/bin/activate torch'

    # into this Python environment, with an interpreter that every host has at the same path
    jupyter remote spec install --sys-prefix --python=/opt/venv/bin/python

    # Spark drivers on the hosts, executors on YARN
    jupyter remote spec install spark_python_yarn_client --remote-hosts=edge1,edge2 \\
        --spark-home=/opt/spark --hadoop-conf-dir=/etc/hadoop/conf --python=/opt/conda/bin/python

    # Spark drivers on YARN nodes, as the users who request them
    jupyter remote spec install spark_python_yarn_cluster --spark-home=/opt/spark \\
        --yarn-endpoint=http://rm1:8088 --alt-yarn-endpoint=http://rm2:8088 \\
        --yarn-queue=notebooks --impersonation=true

    # a Slurm job for each kernel
    jupyter remote spec install python_slurm --slurm-login=me@login1 --slurm-partition=gpu \\
        --slurm-time=8:00:00 --slurm-memory=16G --slurm-gpus=1 --python=/opt/conda/bin/python

    # a container for each kernel
    jupyter remote spec install python_docker --image=quay.io/jupyter/scipy-notebook \\
        --memory=4g --volumes=/home/{username}:/home/jovyan/work

    # a pod for each kernel
    jupyter remote spec install python_kubernetes --image=quay.io/jupyter/scipy-notebook \\
        --namespace=lab --cpus=1 --memory=4Gi
    """
    reads_hosting_config = True
    classes = list(_OPTIONS)  # noqa: RUF012
    aliases = Command.aliases | {
        "name": "SpecInstallApp.kernel_name",
        "display-name": "SpecInstallApp.display_name",
        "prefix": "SpecInstallApp.prefix",
        "spark-home": "SpecInstallApp.spark_home",
        "spark-master": "SpecInstallApp.spark_master",
        "hadoop-conf-dir": "SpecInstallApp.hadoop_conf_dir",
        "yarn-queue": "SpecInstallApp.yarn_queue",
        **{
            name.replace("_", "-"): f"{declared.__name__}.{name}"
            for declared, names in reversed(_OPTIONS.items())
            for name in names
        },
    }
    flags = (
        Command.flags
        | place_flags("SpecInstallApp")
        | {
            "replace": (
                {"SpecInstallApp": {"replace": True}},
                "Replace a kernelspec of the same name.",
            ),
        }
    )

    kernel_name = Unicode(help="The kernelspec's name; default: the sample's.").tag(config=True)
    display_name = Text(help="The name shown to users; default: the sample's.").tag(config=True)
    prefix = Unicode(help="Install into PREFIX/share/jupyter/kernels.").tag(config=True)
    spark_home = Text(help="Samples for Spark: its directory on the hosts.").tag(config=True)
    spark_master = Text(
        help="Samples for Spark: the master, such as spark://host:7077; default: the sample's."
    ).tag(config=True)
    hadoop_conf_dir = Text(
        help="Samples for Spark on YARN: the directory of yarn-site.xml on the hosts."
    ).tag(config=True)
    yarn_queue = Text(
        help="Samples for Spark on YARN: the queue for start requests without KERNEL_QUEUE; "
        "default: YARN's."
    ).tag(config=True)
    user = Bool(False).tag(config=True)
    sys_prefix = Bool(False).tag(config=True)
    replace = Bool(False).tag(config=True)

    def parse_command_line(self, argv: Any = None) -> None:
        words = sys.argv[1:] if argv is None else argv
        named = next((word for word in words if word in samples()), DEFAULT_SAMPLE)
        self._helped = samples()[named]
        super().parse_command_line(argv)

    def emit_alias_help(self) -> Generator[str, None, None]:
        """Only the options of the sample that the command line names."""
        everything = self.aliases
        used, _ = _placed_by(self._helped)
        # Engines have options of the same name, each with a help of its own.
        self.aliases = {
            name: f"{used.__name__}.{trait}" if trait in used.class_trait_names(config=True) else to
            for name, to in everything.items()
            for trait in [str(name).replace("-", "_")]
            if self._applies(str(name))
        }
        try:
            yield from super().emit_alias_help()
        finally:
            self.aliases = everything

    def emit_examples(self) -> Generator[str, None, None]:
        """Only the examples of that sample."""
        everything, named = str(self.examples), self._helped.name
        words = {block: set(block.split()) for block in everything.split("\n\n")}
        of_sample = [
            block
            for block, said in words.items()
            if (said.intersection(samples()) or {DEFAULT_SAMPLE}) == {named}
        ]
        self.examples = "\n\n".join(of_sample)
        try:
            yield from super().emit_examples()
        finally:
            self.examples = everything

    def _applies(self, alias: str) -> bool:
        name, sample = alias.replace("-", "_"), self._helped
        if alias in ("hadoop-conf-dir", "yarn-queue"):
            return "yarn" in sample.name
        if alias in ("spark-home", "spark-master"):
            return bool(spark_language(sample))
        used, _ = _placed_by(sample)
        anybodys = any(name in names for names in _OPTIONS.values())
        return not anybodys or name in used.class_trait_names(config=True)

    def run(self) -> int:
        words = self.words(1, "one SAMPLE")
        sample, known = words[0] if words else DEFAULT_SAMPLE, samples()
        if sample not in known:
            raise CommandError(
                f"unknown sample {sample!r}{meant(sample, known)} (known: {', '.join(known)}); "
                "to name hosts: --remote-hosts=HOST,...",
                MISUSED,
            )
        where = place(self.user, self.sys_prefix, self.prefix)
        options = self._given_options(known[sample])
        site = self._spark_site(known[sample], str(options.get("python", "")))
        manager, name = kernelspec_manager(self), (self.kernel_name or sample).lower()
        directory = destination(manager, name, where)
        self._check_replaced(name, directory, options)
        self._install(known[sample], name, where, options, site)
        print(f"Installed {name} in {directory}")
        if "remote_hosts" in options:
            print(f"Its kernels run on: {_hosts(options)}")
        elif provisioner_of(known[sample]) not in _ENGINES:
            print(f"Its kernels run on the configured hosts, now: {self._configured_hosts()}")
            print("To name hosts: --remote-hosts=HOST,...")
        print(f"To see whether it works: jupyter remote doctor {name}")
        sys.stdout.flush()
        first = manager.find_kernel_specs().get(name, "")
        if first and Path(first).resolve() != directory.resolve():
            print(f"Another kernelspec of this name in {first} hides it", file=sys.stderr)
        elif not first:
            print(
                "Jupyter does not look there. To use the kernelspec, add "
                f"{directory.parent.parent} to JUPYTER_PATH",
                file=sys.stderr,
            )
        return 0

    def _configured_hosts(self) -> str:
        try:
            return _hosts({"remote_hosts": general_options(self).remote_hosts})
        except ConfigurationError as error:
            return f"none ({error.message})"

    def _check_replaced(self, name: str, directory: Path, options: Mapping[str, Any]) -> None:
        """Refuse to replace a kernelspec without --replace. Raises CommandError."""
        if not directory.is_dir():
            return
        before = read_spec(name, directory)
        if not self.replace:
            what = (
                "that does not use this package"
                if before is None
                else f"for {_hosts(before.options)}"
            )
            raise CommandError(
                f"{directory} already has a kernelspec {name!r} {what}: choose another --name, "
                "or use --replace"
            )
        if before is not None:
            print(f"Replaced: its kernels ran on {_hosts(before.options)}")

    def _given_options(self, sample: Path) -> dict[str, Any]:
        """The provisioner's options on this command line, checked. Raises ConfigurationError."""
        # Several classes have options of the same name, so traitlets may file them under any.
        given = {n: v for of in _OPTIONS for n, v in self.cli_config.get(of.__name__, {}).items()}
        of, engine = _placed_by(sample)
        options: dict[str, Any] = {}
        for name, text in given.items():
            flag = f"--{name.replace('_', '-')}"
            owners = [declared for declared, names in _OPTIONS.items() if name in names]
            if not owners:
                known = sorted({name for names in _OPTIONS.values() for name in names})
                raise CommandError(f"unknown option {name!r} (known: {', '.join(known)})")
            if not of.class_traits(config=True).get(name):
                others = " or ".join(e for kind, e in _ENGINES.values() if kind in owners)
                raise CommandError(
                    f"{flag}: {engine} chooses the nodes of {sample.name}"
                    if engine and RemoteProvisionerConfigMixin in owners
                    else f"{flag}: {others} does not place kernels of {sample.name}"
                )
            try:
                value = getattr(of(config=Config({of.__name__: {name: text}})), name)
            except (TraitError, ValueError, ConfigurationError) as error:
                raise ConfigurationError(f"{flag}: {readable(error)}") from None
            options[name] = sorted(value) if isinstance(value, set) else value
        of(**options).check_options()
        return options

    def _spark_site(self, sample: Path, python: str) -> SparkSite:
        """The Spark options of the command line. Raises CommandError."""
        given = SparkSite(
            self.spark_home, self.spark_master, self.hadoop_conf_dir, yarn_queue=self.yarn_queue
        )
        if not spark_language(sample) and given != SparkSite():
            raise CommandError(f"{sample.name} does not use Spark")
        of_yarn = (("--hadoop-conf-dir", self.hadoop_conf_dir), ("--yarn-queue", self.yarn_queue))
        for flag, value in of_yarn:
            if value and "yarn" not in sample.name:
                raise CommandError(f"{flag}: {sample.name} does not use YARN")
        return replace(given, python=python)

    def _install(
        self,
        sample: Path,
        name: str,
        where: dict[str, Any],
        options: dict[str, Any],
        site: SparkSite,
    ) -> None:
        directory = destination(kernelspec_manager(self), name, where)
        # This manager looks only here, so it prints no warnings; ours are clearer.
        manager = kernelspec_manager(self, kernel_dirs=[str(directory.parent)])
        with tempfile.TemporaryDirectory() as temporary:
            source = Path(temporary, "kernelspec")
            write_sample(sample, source, self.display_name, options, site)
            try:
                manager.install_kernel_spec(str(source), name, **where)
            except ValueError as error:
                raise CommandError(str(error)) from None
            except OSError as error:
                given = self.user or self.sys_prefix or self.prefix
                advice = "" if given else ": install with --user, --sys-prefix or --prefix=DIR"
                file = error.filename or directory
                raise CommandError(
                    f"cannot write {file} ({error.strerror or error}){advice}"
                ) from None


def _placed_by(sample: Path) -> tuple[type[CommonOptions], str]:
    """The class with the options of a sample's provisioner, and its engine ("" for hosts)."""
    return _ENGINES.get(provisioner_of(sample), (RemoteProvisionerConfigMixin, ""))


def _hosts(options: Mapping[str, Any]) -> str:
    """The hosts of a kernelspec's options, as one text."""
    listed = options.get("remote_hosts")
    if not listed:
        return "the configured hosts"
    entries = listed.split(",") if isinstance(listed, str) else listed
    names = [str(e.get("host")) if isinstance(e, dict) else str(e).strip() for e in entries]
    return ", ".join(names)
