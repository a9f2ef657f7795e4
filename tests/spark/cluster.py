"""A Spark standalone cluster on hosts of a rig: a master and a worker, from pyspark's jars."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..conftest import eventually
from ..rig import Host

MASTER_PORT, UI_PORT = 7077, 8080
SPARK_4 = "4.3.0"
#: For any JVM, by JAVA_TOOL_OPTIONS: what lives for seconds is compiled once, and quickly.
SHORT_LIVED = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
START_SECONDS = 90
#: Else the next master knows no application, and Spark waits for the old one for ever.
_RECOVERY = ("recoveryMode=FILESYSTEM", "recoveryDirectory=/tmp/spark-recovery")
_STANDALONE, _YARN = "org.apache.spark.deploy", "org.apache.hadoop.yarn.server"
#: What runs on the hosts of a cluster all the time.
DAEMONS = {
    f"{_STANDALONE}.master.Master",
    f"{_STANDALONE}.worker.Worker",
    f"{_YARN}.resourcemanager.ResourceManager",
    f"{_YARN}.nodemanager.NodeManager",
}


def unavailable() -> str:
    """Why this machine cannot have engines of Spark; empty if it can."""
    if importlib.util.find_spec("pyspark") is None:
        return "pyspark is not installed (by pip: pyspark>=3.5,<4)"
    if shutil.which("java") is None:
        return "no Java (on Debian: openjdk-17-jre-headless)"
    return ""


def spark_home() -> str:
    """Spark as it comes with the PyPI package: its scripts, its jars."""
    found = importlib.util.find_spec("pyspark")
    assert found is not None
    assert found.origin is not None
    return str(Path(found.origin).parent)


def spark_4_home() -> str:
    """Spark 4, fetched if it is not there: beside the environment's own, which is Spark 3."""
    directory = Path(sys.prefix) / f"spark-{SPARK_4}"  # hosts see it, git does not
    if not directory.is_dir():
        fetched = Path(tempfile.mkdtemp(dir=sys.prefix, prefix="spark-"))
        words = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        package = ["--no-deps", f"--target={fetched}", f"pyspark=={SPARK_4}"]
        subprocess.run([*words, *package], check=True)
        fetched.chmod(0o755)
        fetched.rename(directory)
    return str(directory / "pyspark")


def java_home() -> str:
    java = shutil.which("java")
    assert java is not None
    return str(Path(java).resolve().parents[1])


def spawn(host: Host, log: str, argv: Sequence[str], environ: Mapping[str, str]) -> None:
    """Start a program on the host that runs until the host is closed, or killed by its argv."""
    variables = [f"{name}={value}" for name, value in environ.items()]
    script = 'log=$1; shift; setsid env "$@" >"$log" 2>&1 </dev/null &'
    host.run(["bash", "-c", script, "bash", log, *variables, *argv])


def kill(host: Host, daemon: str) -> None:
    """End one of DAEMONS, which nobody is told."""
    pids = [str(p.pid) for p in host.processes() if daemon in p.argv]
    host.run(["kill", "-KILL", *pids])


def fetch(url: str) -> Any:
    """JSON from an engine's own address; None where nobody answers."""
    request = urllib.request.Request(url, headers={"Accept": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return json.loads(answer.read())
    except (OSError, ValueError):
        return None


class Standalone:
    """A master on the first host, a worker on the second."""

    def __init__(self, hosts: Sequence[Host], home: str = "", shifted: int = 0) -> None:
        """`home`: another Spark than the environment's; `shifted`: its ports, so that both run."""
        self.hosts = hosts
        self.home = home or spark_home()
        self._port, self._ui_port = MASTER_PORT + shifted, UI_PORT + shifted
        self.master = f"spark://{hosts[0].address}:{self._port}"
        #: Of spark-submit, which the cluster wants.
        self.options = ""
        self._environ = {
            "SPARK_HOME": self.home,
            "JAVA_HOME": java_home(),
            "SPARK_DAEMON_MEMORY": "256m",
            "JAVA_TOOL_OPTIONS": SHORT_LIVED,
            "SPARK_WORKER_DIR": "/tmp/spark-work",
            "SPARK_DAEMON_JAVA_OPTS": " ".join(f"-Dspark.deploy.{o}" for o in _RECOVERY),
            "PATH": os.environ["PATH"],
        }

    def open(self) -> None:
        self._start_master()
        address = self.hosts[1].address
        options = [
            "--host",
            address,
            "--port",
            str(self._port + 1),
            "--cores",
            "2",
            "--memory",
            "2g",
        ]
        self._start(self.hosts[1], "worker.Worker", [*options, self.master])
        eventually(self.workers, START_SECONDS)

    def workers(self) -> int:
        """How many workers are at the master's disposal."""
        return int(self.state().get("aliveworkers", 0))

    @contextmanager
    def lost(self) -> Iterator[None]:
        """Its master is killed, and back afterwards."""
        self._stop(self.hosts[0], "master.Master")
        eventually(lambda: not self.state())
        yield
        self._start_master()
        eventually(self.workers, START_SECONDS)

    def close(self) -> None:
        self._stop(self.hosts[1], "worker.Worker")
        self._stop(self.hosts[0], "master.Master")
        eventually(lambda: not self.state())

    def state(self) -> dict[str, Any]:
        """What the master says of itself; empty while it does not run."""
        return fetch(f"http://{self.hosts[0].address}:{self._ui_port}/json/") or {}

    def applications(self) -> list[str]:
        """The names of the applications that run or wait."""
        return [application["name"] for application in self.state().get("activeapps", [])]

    def gone(self) -> None:
        """Wait until nothing of anybody is left."""
        eventually(lambda: not self.applications(), 30)

    def _start_master(self) -> None:
        address = self.hosts[0].address
        options = ["--host", address, "--port", str(self._port)]
        self._start(self.hosts[0], "master.Master", [*options, "--webui-port", str(self._ui_port)])
        eventually(self.state, START_SECONDS)

    def _start(self, host: Host, daemon: str, options: Sequence[str]) -> None:
        program = [f"{self.home}/bin/spark-class", f"{_STANDALONE}.{daemon}"]
        spawn(host, f"/tmp/{daemon}.log", [*program, *options], self._environ)

    def _stop(self, host: Host, daemon: str) -> None:
        name, jars = f"{_STANDALONE}.{daemon}", f"{self.home}/"
        ours = [p for p in host.processes() if name in p.argv and jars in " ".join(p.argv)]
        host.run(["kill", "-KILL", *(str(p.pid) for p in ours)])
