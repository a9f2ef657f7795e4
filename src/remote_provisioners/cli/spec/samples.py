"""The sample kernelspecs of this package: each ``kernelspecs/*/kernel.json``."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEFAULT_SAMPLE = "python_distributed"

_DIRECTORY = Path(__file__).parents[2] / "kernelspecs"
_LAUNCHER = _DIRECTORY / "python_distributed_launcher" / "launch_ipykernel.py"


@dataclass(frozen=True)
class SparkSite:
    """The site's values in the samples for Spark; "" keeps the sample's own value."""

    spark_home: str = ""
    spark_master: str = ""
    hadoop_conf_dir: str = ""
    python: str = ""
    yarn_queue: str = ""

    def applied(self, env: Mapping[str, str]) -> dict[str, str]:
        """The env of a sample's kernel.json with these values."""
        given = {
            "SPARK_HOME": self.spark_home,
            "HADOOP_CONF_DIR": self.hadoop_conf_dir,
            "PYSPARK_PYTHON": self.python,
        }
        changed = {**env, **{name: value for name, value in given.items() if value}}
        if self.spark_master:
            _, _, rest = env["SPARK_OPTS"].removeprefix("--master ").partition(" ")
            changed["SPARK_OPTS"] = f"--master {shlex.quote(self.spark_master)} {rest}"
        if self.yarn_queue:
            changed["SPARK_OPTS"] += f" --queue {shlex.quote(self.yarn_queue)}"
        return changed


_NO_SITE = SparkSite()


def spark_language(sample: Path) -> str:
    """The language of a sample for Spark, "" for any other sample."""
    words = sample.name.split("_")
    return words[1] if words[0] == "spark" else ""


def samples() -> dict[str, Path]:
    """Every sample by its name."""
    return {file.parent.name: file.parent for file in sorted(_DIRECTORY.glob("*/kernel.json"))}


def provisioner_of(sample: Path) -> str:
    """The name of the provisioner that starts a sample's kernels."""
    content = json.loads((sample / "kernel.json").read_text("utf-8"))
    return str(content["metadata"]["kernel_provisioner"]["provisioner_name"])


def parts(sample: Path) -> list[Path]:
    """The directories that make up a sample's kernelspec. Spark samples share some."""
    language = spark_language(sample)
    if not language:
        return [sample, _DIRECTORY / "_logos" / "python"]
    logos = _DIRECTORY / "_logos" / f"spark_{language}"
    common = [sample, logos, _DIRECTORY / "_spark", _DIRECTORY / f"_spark_{language}"]
    return [*common, _DIRECTORY / "_spark_cluster"] if "cluster" in sample.name else common


def write_sample(
    sample: Path,
    target: Path,
    display_name: str,
    options: Mapping[str, Any],
    site: SparkSite = _NO_SITE,
) -> None:
    """Copy a sample to the new directory `target` and add the provisioner's `options`.

    All files get the permissions for everybody, because other users use kernelspecs too.
    """
    for part in parts(sample):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(part, target, ignore=ignored, dirs_exist_ok=True)
    file = target / "kernel.json"
    content = json.loads(file.read_text("utf-8"))
    if spark_language(sample):
        shutil.copy(_LAUNCHER, target / "scripts")
        content["env"] = site.applied(content["env"])
    content["metadata"]["kernel_provisioner"]["config"].update(options)
    content["display_name"] = display_name or content["display_name"]
    file.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    for path in (target, *target.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
