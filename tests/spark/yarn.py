"""A YARN cluster on hosts of a rig: a ResourceManager, and a NodeManager on each host.

From Hadoop's own jars, which Maven fetches once into the environment that runs the tests.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from ..conftest import eventually
from ..rig import Host
from .cluster import SHORT_LIVED, START_SECONDS, fetch, java_home, kill, spark_home, spawn

POM = Path(__file__).parent / "hadoop" / "pom.xml"
CONF = "/tmp/hadoop-conf"
UI_PORT = 8088
_SECURITY = "org.apache.hadoop.security"
_MANAGERS, _MANAGER = "org.apache.hadoop.yarn.server", "resourcemanager.ResourceManager"
#: Java 17 closes what Hadoop's web pages are made with.
_JAVA = ["-Xmx256m", *SHORT_LIVED.split(), "--add-opens=java.base/java.lang=ALL-UNNAMED"]
_LOG = """\
log4j.rootLogger=WARN,console
log4j.appender.console=org.apache.log4j.ConsoleAppender
log4j.appender.console.layout=org.apache.log4j.PatternLayout
log4j.appender.console.layout.ConversionPattern=%d %p %c: %m%n
"""


def unavailable() -> str:
    """Why this machine cannot have Hadoop's jars; empty if it can."""
    if not _directory().is_dir() and shutil.which("mvn") is None:
        return "no Maven to fetch Hadoop's jars (on Debian: maven)"
    return ""


def jars() -> Path:
    """The directory of Hadoop's jars, fetched if it is not there."""
    directory = _directory()
    with open(Path(sys.prefix) / "hadoop-jars.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # other test processes want them as well
        if not directory.is_dir():
            fetched = Path(tempfile.mkdtemp(dir=sys.prefix, prefix="hadoop-"))
            words = ["mvn", "-B", "-q", "-f", str(POM), "dependency:copy-dependencies"]
            subprocess.run([*words, f"-DoutputDirectory={fetched}"], check=True)
            fetched.chmod(0o755)
            fetched.rename(directory)
    return directory


def _directory() -> Path:
    digest = hashlib.sha256(POM.read_bytes()).hexdigest()[:8]
    return Path(sys.prefix) / f"hadoop-jars-{digest}"  # hosts see it, git does not


class Yarn:
    """The ResourceManager on the first host, a NodeManager on each."""

    def __init__(self, hosts: Sequence[Host], shared: Path, limits_memory: bool = False) -> None:
        """`shared` is a directory that all hosts see, in place of HDFS. `limits_memory`: whether
        NodeManagers end a container that uses more memory than it has.
        """
        self.hosts = hosts
        self.shared = shared
        self._limits_memory = limits_memory
        self.endpoint = f"http://{hosts[0].address}:{UI_PORT}/ws/v1/cluster"
        #: Of spark-submit, for a cluster without HDFS whose nodes have Spark's jars.
        self.options = (
            f"--conf spark.yarn.stagingDir=file://{shared} --conf spark.yarn.am.memory=512m "
            f"--conf 'spark.yarn.am.extraJavaOptions={SHORT_LIVED}' "
            f"--conf 'spark.driver.extraJavaOptions={SHORT_LIVED}' "  # cluster mode's own
            f"--conf spark.yarn.jars=local:{spark_home()}/jars/* --num-executors 1 "
            "--conf spark.yarn.report.interval=200ms "
            "--conf spark.yarn.scheduler.heartbeat.interval-ms=500"
        )
        self._classpath = f"{CONF}:{jars()}/*"

    @property
    def configuration(self) -> str:
        """The directory of the configuration for who submits from this machine."""
        return str(self.shared / "conf")

    def open(self) -> None:
        self._configure()
        self._start(self.hosts[0], _MANAGER)
        for host in self.hosts:
            self._start(host, "nodemanager.NodeManager")
        eventually(self._is_whole, START_SECONDS)

    def _configure(self) -> None:
        for name, values in self._configuration(self.hosts[0]).items():
            Path(self.configuration).mkdir(exist_ok=True)
            Path(self.configuration, f"{name}.xml").write_text(_xml(values))
        for host in self.hosts:
            for name, values in self._configuration(host).items():
                host.write(f"{CONF}/{name}.xml", _xml(values))
            host.write(f"{CONF}/log4j.properties", _LOG)
            host.write(f"{CONF}/signature", "of the tests")

    @contextmanager
    def lost(self) -> Iterator[None]:
        """Its ResourceManager is killed; the one that is back knows no application."""
        kill(self.hosts[0], f"{_MANAGERS}.{_MANAGER}")
        eventually(lambda: not self.metrics())
        yield
        self._start(self.hosts[0], _MANAGER)
        eventually(self._is_whole, START_SECONDS)

    def metrics(self) -> dict[str, Any]:
        """What the cluster has; empty while it does not answer."""
        return (self._fetch("metrics") or {}).get("clusterMetrics", {})

    def applications(self) -> dict[str, str]:
        """The state of each application that has not ended, by its name."""
        return {app["name"]: app["state"] for app in self._unfinished()}

    def tags(self) -> list[str]:
        """The tags of the applications that have not ended."""
        return [app["applicationTags"] for app in self._unfinished()]

    def users(self) -> list[str]:
        """Whose the applications are that have not ended."""
        return [app["user"] for app in self._unfinished()]

    def _unfinished(self) -> list[dict[str, Any]]:
        found = self._fetch("apps?states=NEW,NEW_SAVING,SUBMITTED,ACCEPTED,RUNNING")
        assert found is not None
        apps: list[dict[str, Any]] = (found["apps"] or {}).get("app", [])
        return apps

    def unfinished(self) -> int:
        """How many applications have not ended."""
        metrics = self.metrics()
        return int(metrics["appsPending"] + metrics["appsRunning"])

    def gone(self) -> None:
        """Wait until nothing of anybody is left."""
        eventually(lambda: not self.applications() and not self._containers(), 60)

    def _fetch(self, path: str) -> Any:
        return fetch(f"{self.endpoint}/{path}")

    def _containers(self) -> int:
        return int(self.metrics()["containersAllocated"])

    def _is_whole(self) -> bool:
        return bool(self.metrics().get("activeNodes") == len(self.hosts))

    def _start(self, host: Host, daemon: str) -> None:
        environ = {"JAVA_HOME": java_home(), "PATH": os.environ["PATH"], "HADOOP_CONF_DIR": CONF}
        words = [f"{java_home()}/bin/java", *_JAVA, "-cp", self._classpath]
        spawn(host, f"/tmp/{daemon}.log", [*words, f"{_MANAGERS}.{daemon}"], environ)

    def _configuration(self, host: Host) -> dict[str, Mapping[str, object]]:
        manager, queues = self.hosts[0].address, "yarn.scheduler.capacity"
        return {
            "core-site": {
                "fs.defaultFS": "file:///",
                # Who may kill by the web address: who says who he is.
                "hadoop.http.filter.initializers": f"{_SECURITY}.AuthenticationFilterInitializer",
                "hadoop.http.authentication.type": "simple",
                "hadoop.http.authentication.simple.anonymous.allowed": "true",
                "hadoop.http.authentication.signature.secret.file": f"{CONF}/signature",
            },
            "yarn-site": {
                "yarn.resourcemanager.hostname": manager,
                "yarn.resourcemanager.nodemanagers.heartbeat-interval-ms": 200,
                "yarn.resourcemanager.connect.retry-interval.ms": 1000,
                "yarn.nodemanager.hostname": host.address,
                "yarn.nodemanager.resource.memory-mb": 2048,
                "yarn.nodemanager.resource.cpu-vcores": 4,
                "yarn.nodemanager.vmem-check-enabled": "false",
                "yarn.nodemanager.pmem-check-enabled": str(self._limits_memory).lower(),
                "yarn.nodemanager.container-monitor.interval-ms": 1000,
                "yarn.nodemanager.resource.memory.enforced": "false",  # control groups would do it
                "yarn.nodemanager.local-dirs": "/tmp/yarn/local",
                "yarn.nodemanager.log-dirs": "/tmp/yarn/log",
                "yarn.nodemanager.disk-health-checker.enable": "false",
                "yarn.nodemanager.delete.debug-delay-sec": 0,
                "yarn.scheduler.minimum-allocation-mb": 128,
                "yarn.resourcemanager.am.max-attempts": 1,
            },
            "capacity-scheduler": {
                f"{queues}.root.queues": "default,small",
                f"{queues}.root.default.capacity": 90,
                f"{queues}.root.small.capacity": 10,
                f"{queues}.root.small.maximum-capacity": 10,
                f"{queues}.maximum-am-resource-percent": 1,
            },
        }


def _xml(values: Mapping[str, object]) -> str:
    rows = "".join(
        f"<property><name>{escape(name)}</name><value>{escape(str(value))}</value></property>\n"
        for name, value in values.items()
    )
    return f"<configuration>\n{rows}</configuration>\n"
