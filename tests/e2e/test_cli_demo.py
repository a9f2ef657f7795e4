"""``jupyter remote demo``: three hosts, a kernel on each, and then nothing of them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from remote_provisioners.cli.demo.site import DemoSite

from ..conftest import eventually

pytest.importorskip("nbclient")

SECONDS = 90


def command_lines() -> dict[int, str]:
    """Every process of this machine."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            found[int(path.name)] = (path / "cmdline").read_text("utf-8", "replace")
        except OSError:
            continue
    return found


class Demo:
    """A running demo: `directory` is what it has, `lines` what it has printed."""

    def __init__(self, home: Path, *words: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "remote_provisioners.cli.app", "demo", *words],
            env={**os.environ, "HOME": str(home), "RP_REMOTE_HOSTS": "nowhere.invalid"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self.directory = self._directory()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)

    def _directory(self) -> Path:
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            for pid, line in command_lines().items():
                words = line.split("\0")
                if words[1:3] == ["-m", "remote_provisioners.cli.demo.hosts"]:
                    with contextlib.suppress(OSError):  # one of another demo that ends
                        status = Path(f"/proc/{pid}/status").read_text()
                        if f"PPid:\t{self.process.pid}\n" in status:
                            return Path(words[3])
            time.sleep(0.01)
        raise AssertionError("no hosts were started")

    @property
    def text(self) -> str:
        return "".join(self.lines)

    def wait_for(self, pattern: str) -> re.Match[str]:
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            if match := re.search(pattern, self.text, re.MULTILINE):
                return match
            assert self.process.poll() is None, self.text
            time.sleep(0.02)
        raise AssertionError(f"{pattern!r} is not printed: {self.text}")

    def wait(self) -> int:
        code = self.process.wait(SECONDS)
        self._reader.join(SECONDS)
        assert not self._reader.is_alive(), f"something of it still prints: {self.text}"
        return code

    def left(self) -> list[str]:
        """What is there of it, after some time."""
        left: list[str] = []
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            left = [line for line in command_lines().values() if str(self.directory) in line]
            left += [str(self.directory)] if self.directory.exists() else []
            if not left:
                break
            time.sleep(0.1)
        return left


@contextmanager
def demo(home: Path, *words: str) -> Iterator[Demo]:
    running = Demo(home, *words)
    try:
        yield running
    finally:
        running.process.kill()
        running.wait()
        assert running.process.stdout is not None
        running.process.stdout.close()  # it would wait for a reader


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home whose ~/.ssh and kernelspecs break everything that reads them."""
    for path in (".ssh/config", ".ssh/known_hosts", ".ssh/id_ed25519"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text("not what it should be {\n")
    return tmp_path


def contents(directory: Path) -> dict[str, tuple[int, bytes]]:
    files = [path for path in directory.rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def test_a_kernel_on_each_of_three_hosts(home: Path) -> None:
    before = contents(home)
    with demo(home) as running:
        assert running.wait() == 0, running.text
        row = r"^([0-9a-f]{8}) +(demo-[abc]) +(\d+) +(\d+) ms +332833500$"
        rows = re.findall(row, running.text, re.MULTILINE)
        assert sorted(host for _, host, *_ in rows) == ["demo-a", "demo-b", "demo-c"]
        assert len({kernel for kernel, *_ in rows}) == 3
        assert not {int(pid) for _, _, pid, _ in rows} & set(command_lines())
        assert running.left() == []
    assert contents(home) == before


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_nothing_is_left_when_it_is_ended_early(home: Path, signum: int, code: int) -> None:
    with demo(home) as running:
        pid = int(running.wait_for(r"demo-a +(\d+) ")[1])
        running.process.send_signal(signum)
        assert running.wait() == code
        assert running.left() == []
        assert pid not in command_lines()
        assert "Traceback" not in running.text


def test_the_lab_has_the_hosts(home: Path) -> None:
    pytest.importorskip("jupyterlab")
    with demo(home, "--lab", "--no-browser", "--ServerApp.base_url=/of-lab/") as running:
        match = running.wait_for(r"JupyterLab, with .*: (http://\S+)lab/tree/demo.ipynb\?(\S+)$")
        base, token = match[1], match[2]
        assert base.endswith("/of-lab/")
        request = urllib.request.Request(
            f"{base}api/kernels?{token}", json.dumps({"name": "python_distributed"}).encode()
        )
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            assert answer.status == 201

        # On a busy machine it need not be the first host: a login that takes long is given up.
        # The kernel that was given up there is ended when that host answers.
        def kernels() -> list[str]:
            here = [line for line in command_lines().values() if str(running.directory) in line]
            return [line for line in here if "ipykernel_launcher" in line]

        eventually(lambda: len(kernels()) == 1)
        running.process.send_signal(signal.SIGTERM)
        assert running.wait() == 143
        assert running.left() == []


def test_an_option_of_the_lab_without_it() -> None:
    command = [sys.executable, "-m", "remote_provisioners.cli.app", "demo", "--ServerApp.port=1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
    assert done.returncode == 2
    assert done.stderr == "jupyter remote demo: --ServerApp.port=1 is for JupyterLab: add --lab\n"


@pytest.mark.long
def test_the_lab_ends_with_the_demo(home: Path) -> None:
    pytest.importorskip("jupyterlab")
    with demo(home, "--lab", "--no-browser") as running:
        running.wait_for("JupyterLab, with")
        running.process.kill()
        assert running.wait() == -signal.SIGKILL
        assert running.left() == []


def test_ends_with_the_lab(home: Path) -> None:
    pytest.importorskip("jupyterlab")
    with demo(home, "--lab", "--no-browser") as running:
        running.wait_for("JupyterLab, with")
        (lab,) = running.directory.glob("home/jupyter/runtime/jpserver-*.json")
        os.kill(json.loads(lab.read_text())["pid"], signal.SIGTERM)
        assert running.wait() == 0
        assert running.left() == []


@pytest.mark.parametrize(
    ("module", "word", "advice"),
    [
        ("nbclient", "demo", 'nbclient not installed: pip install "remote-prov'),
        ("ipykernel", "demo", 'ipykernel not installed: pip install "remote-prov'),
        ("jupyterlab", "--lab", 'jupyterlab not installed: pip install "jupyterlab"'),
    ],
)
def test_what_is_missing_is_one_line(module: str, word: str, advice: str) -> None:
    words = ["jupyter-remote", "demo", *([word] if word != "demo" else [])]
    code = (
        f"import sys; sys.modules[{module!r}] = None; sys.argv = {words!r};"
        "from remote_provisioners.cli.app import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert advice in line


def test_a_kernel_that_does_not_start_is_told(tmp_path: Path) -> None:
    python = tmp_path / "v/bin/python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "v"], check=True)
    with DemoSite() as site:
        site.install_kernelspec({"remote_hosts": ["demo-b"], "python": str(python)})
        done = subprocess.run(
            [sys.executable, "-m", "remote_provisioners.cli.demo.notebook", "1"],
            env=site.environ,
            stdin=(pipe := os.pipe())[0],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        for end in pipe:
            os.close(end)
    assert done.returncode == 1
    error = json.loads(done.stdout)["error"]
    assert "host demo-b: the kernel ended at once with exit code 1" in error
    assert "No module named ipykernel_launcher" in error
    assert not site.directory.exists()


def test_only_its_own_key_is_accepted(tmp_path: Path) -> None:
    if not Path("/usr/bin/ssh").exists():
        pytest.skip("needs the ssh command")
    with DemoSite(["only"]) as site:
        ssh = ["ssh", "-F", f"{site.home}/.ssh/config", "-o", "BatchMode=yes"]
        ours = subprocess.run(
            [*ssh, "only", "echo $HOSTNAME; exit 7"], capture_output=True, text=True, check=False
        )
        assert (ours.returncode, ours.stdout) == (7, "only\n")
        key = tmp_path / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        config = (site.home / ".ssh/config").read_text()
        other = tmp_path / "config"
        other.write_text(re.sub(r"IdentityFile .*", f"IdentityFile {key}", config))
        theirs = subprocess.run(
            ["ssh", "-F", other, "-o", "BatchMode=yes", "only", "echo in"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (theirs.returncode, theirs.stdout) == (255, "")
        assert "Permission denied" in theirs.stderr
