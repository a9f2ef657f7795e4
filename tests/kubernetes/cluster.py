"""A real Kubernetes with one node, of this machine's own programs: tests/kubernetes/build.sh."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import secrets
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..free_port import free_port
from ..rig.containers import SHARED, add_directories, add_links, unmount_below

_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
#: build.sh says the same.
BUILT = _CACHE / "remote-provisioners-tests/kubernetes-1.30"
DOCS = Path(__file__).resolve().parents[2] / "docs/kubernetes.md"
BUILD = Path(__file__).with_name("build.sh")
IMAGE = "docker.io/library/box:1"
_SECONDS = 90.0


def unavailable() -> str:
    """Why this machine cannot have it; "" if it can."""
    if not (BUILT / "complete").exists():
        return f"{BUILD} has not built it (make test-all does, in 15 minutes)"
    programs = ("etcd", "containerd", "runc", "ctr")
    missing = [name for name in programs if not shutil.which(name, path=_PATH)]
    if os.geteuid() != 0 or missing:
        return f"needs root, and {', '.join(missing) or 'nothing else'}"
    for name in ("openssl", "ldd"):
        if not shutil.which(name):
            return f"needs {name}"
    return "" if Path("/usr/lib/cni/bridge").exists() else "needs containernetworking-plugins"


_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


class Cluster:
    """Its processes and files. `kube` is kubectl, as the administrator."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="kube-", dir="/var/tmp"))
        self.bin = BUILT / "bin"
        self.token = secrets.token_hex(16)
        self.user_token = secrets.token_hex(16)
        self.port, self._etcd_port = free_port(), free_port()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._commands: dict[str, list[str]] = {}
        name = secrets.token_hex(3)
        self._bridge = f"kb{name}"
        self._socket = self.directory / "containerd.sock"
        self.admin = self._kubeconfig("admin", self.token)
        self.kubeconfig = self._kubeconfig("user", self.user_token)

    def _kubeconfig(self, name: str, token: str) -> Path:
        cluster = {"server": f"https://127.0.0.1:{self.port}", "insecure-skip-tls-verify": True}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "box", "cluster": cluster}],
            "users": [{"name": name, "user": {"token": token}}],
            "contexts": [
                {"name": "box", "context": {"cluster": "box", "user": name, "namespace": "lab"}}
            ],
            "current-context": "box",
        }
        path = self.directory / f"{name}.kubeconfig"
        path.write_text(json.dumps(content))
        path.chmod(0o600)
        return path

    # -- processes --------------------------------------------------------------------------

    def start(self, name: str, *words: str) -> None:
        """Start a program of the cluster, or start it again."""
        if words:
            self._commands[name] = list(words)
        with open(self.directory / f"{name}.log", "ab") as log:
            self._processes[name] = subprocess.Popen(
                self._commands[name],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env={**os.environ, "PATH": _PATH, "TMPDIR": "/var/tmp"},
                cwd=self.directory,
            )

    def stop(self, name: str) -> None:
        """Kill a program of the cluster."""
        process = self._processes.pop(name, None)
        if process is not None:
            process.kill()
            process.wait()

    def kube(self, *words: str, stdin: str = "", check: bool = True) -> str:
        done = subprocess.run(
            [str(self.bin / "kubectl"), f"--kubeconfig={self.admin}", *words],
            input=stdin.encode(),
            capture_output=True,
            check=False,
            timeout=60,
            env={**os.environ, "HOME": str(self.directory)},
        )
        if check and done.returncode:
            raise RuntimeError(done.stderr.decode())
        return done.stdout.decode().strip()

    def apply(self, *objects: dict[str, Any]) -> None:
        self.kube(
            "apply",
            "-f",
            "-",
            stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}),
        )

    def pods(self) -> list[str]:
        """The names of the pods in the kernels' namespace."""
        return self.kube("-n", "lab", "get", "pods", "-o", "name").replace("pod/", "").split()

    @contextlib.contextmanager
    def lost(self) -> Iterator[None]:
        """The API server is killed, and is back after the block."""
        self.stop("apiserver")
        try:
            yield
        finally:
            self.start("apiserver")
            ready = ["get", "--raw", "/readyz"]
            self._until(lambda: self.kube(*ready, check=False) == "ok", "apiserver")

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        """No node takes a pod during the block."""
        self.kube("cordon", "box")
        try:
            yield
        finally:
            self.kube("uncordon", "box")

    # -- start and end ----------------------------------------------------------------------

    def open(self) -> None:
        """Start everything, and return when the node is ready. Raises RuntimeError."""
        here, bin_ = self.directory, self.bin
        peer = free_port()
        self.start(
            "etcd",
            "etcd",
            f"--data-dir={here}/etcd",
            f"--listen-client-urls=http://127.0.0.1:{self._etcd_port}",
            f"--advertise-client-urls=http://127.0.0.1:{self._etcd_port}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-cluster=default=http://127.0.0.1:{peer}",
            "--unsafe-no-fsync",
        )
        self._containerd()
        subprocess.run(
            ["openssl", "genrsa", "-out", str(here / "sa.key"), "2048"],
            check=True,
            capture_output=True,
        )
        tokens = f'{self.token},admin,1,"system:masters"\n{self.user_token},jupyter,2,"lab"\n'
        (here / "tokens").write_text(tokens)
        (here / "tokens").chmod(0o600)
        self.start(
            "apiserver",
            str(bin_ / "kube-apiserver"),
            "--bind-address=127.0.0.1",
            f"--secure-port={self.port}",
            f"--cert-dir={here}/certs",
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            f"--token-auth-file={here}/tokens",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.254.0.0/24",
            f"--service-account-key-file={here}/sa.key",
            f"--service-account-signing-key-file={here}/sa.key",
            "--service-account-issuer=https://box",
            "--endpoint-reconciler-type=none",
            "--disable-admission-plugins=ServiceAccount",
            "--kubelet-preferred-address-types=InternalIP",
            "--allow-privileged=true",
        )
        self._until(lambda: self.kube("get", "--raw", "/readyz", check=False) == "ok", "apiserver")
        common = [f"--kubeconfig={self.admin}", "--leader-elect=false"]
        self.start(
            "controller-manager",
            str(bin_ / "kube-controller-manager"),
            *common,
            f"--service-account-private-key-file={here}/sa.key",
            f"--secure-port={free_port()}",
            "--controllers=*,-serviceaccount-token",
            "--node-monitor-grace-period=8s",
            f"--cert-dir={here}/certs-cm",
        )
        self.start(
            "scheduler", str(bin_ / "kube-scheduler"), *common, f"--secure-port={free_port()}"
        )
        self._kubelet()
        self.kube("create", "namespace", "lab")
        # What the documentation gives the server's account.
        role = DOCS.read_text("utf-8").partition("```yaml\n# role.yaml")[2].partition("```")[0]
        self.kube("-n", "lab", "apply", "-f", "-", stdin="#" + role)
        self.node_ready()

    def node_ready(self) -> None:
        """Return when the node takes pods."""
        ready = '{.items[0].status.conditions[?(@.type=="Ready")].status}'
        self._until(
            lambda: self.kube("get", "nodes", "-o", f"jsonpath={ready}", check=False) == "True",
            "kubelet",
        )
        taints = "jsonpath={.items[0].spec.taints}"
        self._until(lambda: not self.kube("get", "nodes", "-o", taints, check=False), "kubelet")

    def _containerd(self) -> None:
        here = self.directory
        (here / "cni").mkdir()
        number = secrets.randbelow(200) + 20
        plugin = {
            "type": "bridge",
            "bridge": self._bridge,
            "isGateway": False,
            "ipMasq": False,
            "ipam": {
                "type": "host-local",
                "subnet": f"10.{number}.7.0/24",
                "dataDir": str(here / "ipam"),
            },
        }
        conflist = {"cniVersion": "0.4.0", "name": "box", "plugins": [plugin]}
        (here / "cni/10-box.conflist").write_text(json.dumps(conflist))
        (here / "containerd.toml").write_text(f"""\
version = 2
root = "{here}/containerd"
state = "{here}/containerd-state"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
address = "{self._socket}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{IMAGE}"
restrict_oom_score_adj = true
disable_apparmor = true
stream_server_address = "127.0.0.1"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{here}/cni"
""")
        self.start("containerd", "containerd", f"--config={here}/containerd.toml")
        self._until(self._socket.exists, "containerd")
        (here / "image.tar").write_bytes(image())
        self.ctr("images", "import", str(here / "image.tar"))

    def ctr(self, *words: str) -> str:
        done = subprocess.run(
            ["ctr", "-a", str(self._socket), "-n", "k8s.io", *words],
            capture_output=True,
            check=True,
            timeout=60,
        )
        return done.stdout.decode()

    def _kubelet(self) -> None:
        here = self.directory
        configuration = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{here.name}",
            "containerRuntimeEndpoint": f"unix://{self._socket}",
            "port": free_port(),
            "healthzPort": 0,
            "failSwapOn": False,
            "localStorageCapacityIsolation": False,
            "nodeStatusUpdateFrequency": "2s",
            "imageGCHighThresholdPercent": 100,
            "evictionHard": {"memory.available": "50Mi"},
            "cgroupsPerQOS": True,
            "enforceNodeAllocatable": [],
            "clusterDNS": ["10.254.0.10"],
            "syncFrequency": "5s",
        }
        (here / "kubelet.json").write_text(json.dumps(configuration))
        for controller in Path("/sys/fs/cgroup").glob("*/cgroup.procs"):
            (controller.parent / here.name).mkdir(exist_ok=True)
        self.start(
            "kubelet",
            str(self.bin / "kubelet"),
            f"--config={here}/kubelet.json",
            f"--kubeconfig={self.admin}",
            f"--root-dir={here}/kubelet",
            "--hostname-override=box",
            f"--cert-dir={here}/certs-kubelet",
        )

    def _until(self, condition: Callable[[], Any], name: str) -> None:
        deadline = time.monotonic() + _SECONDS
        while not condition():
            process = self._processes[name]
            if process.poll() is not None or time.monotonic() > deadline:
                said = (self.directory / f"{name}.log").read_text("utf-8", "replace")[-2000:]
                raise RuntimeError(f"{name} does not run here: {said}")
            time.sleep(0.2)

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self.kube(
                "-n", "lab", "delete", "pods", "--all", "--force", "--grace-period=0", check=False
            )
        self.stop("kubelet")
        with contextlib.suppress(Exception):
            for task in self.ctr("tasks", "ls", "-q").split():
                self.ctr("tasks", "kill", "-s", "KILL", task)
        for name in list(self._processes):
            self.stop(name)
        self._end_shims()
        subprocess.run(["ip", "link", "del", self._bridge], capture_output=True, check=False)
        unmount_below(self.directory)
        for controller in Path("/sys/fs/cgroup").glob(f"*/{self.directory.name}"):
            inner = sorted((p for p in controller.rglob("*") if p.is_dir()), reverse=True)
            for path in (*inner, controller):
                with contextlib.suppress(OSError):
                    path.rmdir()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _end_shims(self) -> None:
        """A container's shim outlives containerd."""
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                words = (entry / "cmdline").read_bytes()
                if str(self._socket).encode() in words and b"containerd-shim" in words:
                    os.kill(int(entry.name), signal.SIGKILL)


@contextlib.contextmanager
def open_cluster() -> Iterator[Cluster]:
    cluster = Cluster()
    try:
        cluster.open()
        yield cluster
    finally:
        cluster.close()


def image() -> bytes:
    """`docker save` of an image whose command sleeps: its program with its libraries."""
    program = shutil.which("sleep") or "/usr/bin/sleep"
    listed = subprocess.run(["ldd", program], capture_output=True, check=True).stdout.decode()
    files = [word for word in listed.split() if word.startswith("/")]
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        add_directories(tar, "tmp", "root", "etc")
        add_directories(tar, "usr", "usr/bin", "usr/sbin", "usr/lib", "usr/lib64")
        add_links(tar)
        for path in (program, *files):
            within = os.path.realpath(os.path.dirname(path)) + "/" + os.path.basename(path)
            data = Path(path).read_bytes()
            _add(tar, within.lstrip("/"), data, 0o755)
        _add(tar, "etc/passwd", b"root:x:0:0::/root:/bin/sh\n", 0o644)
    data = layer.getvalue()
    digest = hashlib.sha256(data).hexdigest()
    run = {"Cmd": ["/usr/bin/sleep", "infinity"], "Env": ["PATH=/usr/bin:/usr/sbin"]}
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": run,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    ).encode()
    manifest = [{"Config": "config.json", "RepoTags": ["box:1"], "Layers": ["layer.tar"]}]
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        _add(tar, "manifest.json", json.dumps(manifest).encode(), 0o644)
        _add(tar, "config.json", config, 0o644)
        _add(tar, "layer.tar", data, 0o644)
    return archive.getvalue()


def _add(tar: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    file = tarfile.TarInfo(name)
    file.size, file.mode = len(data), mode
    tar.addfile(file, io.BytesIO(data))


def template() -> dict[str, Any]:
    """A manifest whose container finds this machine's programs."""
    mounts = [{"name": f"m{n}", "mountPath": p, "readOnly": True} for n, p in enumerate(SHARED)]
    volumes = [{"name": f"m{n}", "hostPath": {"path": p}} for n, p in enumerate(SHARED)]
    container = {
        "name": "kernel",
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "volumeMounts": mounts,
        "env": [{"name": "FROM_TEMPLATE", "value": "yes"}],
    }
    return {"kind": "Pod", "spec": {"containers": [container], "volumes": volumes}}
