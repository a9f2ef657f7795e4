"""A sample kernelspec as a site would install it, small enough for a machine that tests."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from remote_provisioners.cli.spec.samples import SparkSite, provisioner_of, samples, write_sample

from ..rig import Host
from . import cluster

#: Enough for what tests do. A driver's and an executor's heap cannot be smaller.
SMALL = (
    "--driver-memory 512m --executor-memory 512m --total-executor-cores 1 "
    f"--conf spark.ui.enabled=false --conf 'spark.executor.extraJavaOptions={cluster.SHORT_LIVED}'"
)


def java() -> dict[str, str]:
    """What programs of Spark find Java by."""
    return {"JAVA_HOME": cluster.java_home(), "JAVA_TOOL_OPTIONS": cluster.SHORT_LIVED}


def write(
    data: Path,
    host: Host,
    sample: str,
    site: SparkSite,
    env: dict[str, str] | None = None,
    options: str = "",
    config: Mapping[str, Any] | None = None,
    **changes: Any,
) -> str:
    """Below `data`, a directory of JUPYTER_PATH, for kernels on `host`; returns its name.

    `options`: of spark-submit; `config`: of the provisioner.
    """
    directory = data / "kernels" / sample.lower()
    own: dict[str, Any] = {"launch_timeout": 90.0}
    if provisioner_of(samples()[sample]) == "distributed-provisioner":  # YARN chooses the node
        own |= {"remote_hosts": [host.target], "python": sys.executable}
    shutil.rmtree(directory, ignore_errors=True)  # of an earlier call
    write_sample(samples()[sample], directory, "", {**own, **(config or {})}, site)
    file = directory / "kernel.json"
    content = json.loads(file.read_text())
    content["env"]["SPARK_OPTS"] += f" {SMALL} {options}"
    content["env"] |= {**java(), **(env or {})}
    content |= changes
    file.write_text(json.dumps(content))
    return sample.lower()
