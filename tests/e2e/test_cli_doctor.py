"""``jupyter remote doctor``: each cause of failure is told apart, on real (embedded) SSH hosts."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from remote_provisioners.cli.demo.site import DemoSite

SECONDS = 120
ALL = ["address", "name", "port", "host key", "login", "agent", "hook", "interpreter", "kernel"]
LOCAL = ["address", "agent", "hook", "interpreter", "kernel"]


@pytest.fixture(scope="module")
def site() -> Iterator[DemoSite]:
    with DemoSite() as opened:
        yield opened


@pytest.fixture(autouse=True)
def nothing_left_on_hosts(site: DemoSite) -> Iterator[None]:
    """The agents and all of their files go when the doctor has gone."""
    yield
    deadline = time.monotonic() + 10
    left = ["?"]
    while left and time.monotonic() < deadline:
        time.sleep(0.05)
        left = [str(path) for path in site.directory.glob("?/remote-provisioners-*/*")]
    assert left == []


class Doctor:
    """The doctor, as a user whose home is a copy of the one that can log in."""

    def __init__(self, site: DemoSite, home: Path) -> None:
        self.ssh = home / ".ssh"
        shutil.copytree(site.home / ".ssh", self.ssh)
        config = self.ssh / "config"
        config.write_text(config.read_text().replace(f"{site.home}/.ssh", str(self.ssh)))
        self.environ = {
            **site.environ,
            "HOME": str(home),
            "IPYTHONDIR": str(home / "ipython"),
            "JUPYTER_CONFIG_DIR": str(home / "config"),
            "JUPYTER_DATA_DIR": str(home / "data"),
            "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        }
        self.data = home / "data"
        self.config = home / "config"

    def run(self, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "remote_provisioners.cli.app", "doctor", *words],
            env={**self.environ, **environ},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    def examine(self, *words: str, **environ: str) -> list[dict[str, Any]]:
        done = self.run("--json", *words, **environ)
        assert done.stderr == ""
        hosts: list[dict[str, Any]] = json.loads(done.stdout)["hosts"]
        assert done.returncode == (0 if all(host["ok"] for host in hosts) else 1)
        return hosts

    def failure(self, *words: str, after: list[str]) -> dict[str, Any]:
        """The check that fails, after these have not."""
        (host,) = self.examine(*words)
        assert [check["check"] for check in host["checks"] if check["ok"]] == after
        failed: dict[str, Any] = host["checks"][-1]
        assert not failed["ok"]
        return failed

    def install(self, name: str, **options: Any) -> None:
        directory = self.data / "kernels" / name
        directory.mkdir(parents=True)
        stanza = {"provisioner_name": "distributed-provisioner", "config": options}
        content = {
            "argv": ["python"],
            "display_name": name,
            "language": "python",
            "metadata": {"kernel_provisioner": stanza},
        }
        (directory / "kernel.json").write_text(json.dumps(content))


@pytest.fixture
def doctor(site: DemoSite, tmp_path: Path) -> Doctor:
    return Doctor(site, tmp_path)


def python() -> str:
    return f"--python={sys.executable}"


def bare_python(directory: Path) -> Path:
    """An interpreter without any package."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory], check=True)
    return directory / "bin/python"


# -- what is well ---------------------------------------------------------------------------


def test_a_host_that_works(doctor: Doctor) -> None:
    (host,) = doctor.examine("demo-a", python())
    assert [check["check"] for check in host["checks"]] == ALL
    seen = {check["check"]: check["seen"] for check in host["checks"]}
    version = ".".join(map(str, sys.version_info[:3]))
    assert seen["name"] == "127.0.0.1, from ~/.ssh/config"
    assert seen["port"].endswith(" answers")
    assert f"Python {version}" in seen["agent"]
    assert seen["agent"].endswith(", forwarding works")
    assert re.search(f"Python {version} with ipykernel [0-9.]+$", seen["interpreter"])
    match = re.fullmatch(r"first reply after (\d+) ms, round trip ([0-9.]+) ms", seen["kernel"])
    assert match is not None
    assert int(match[1]) > float(match[2]) > 0


def test_text_has_a_line_a_check(doctor: Doctor) -> None:
    done = doctor.run("demo-a", "nowhere.invalid", python())
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0] == "demo-a"
    assert [line.split()[0] for line in lines[1 : len(ALL) + 1]] == ["ok"] * len(ALL)
    assert lines[len(ALL) + 1] == "nowhere.invalid"
    assert lines[-2].startswith("  FAIL  name        'nowhere.invalid' does not resolve")
    assert lines[-1].strip().startswith("-> ")


def test_localhost_has_no_ssh(doctor: Doctor, site: DemoSite) -> None:
    (host,) = doctor.examine("localhost")
    assert [check["check"] for check in host["checks"]] == LOCAL
    assert host["ok"]
    assert list(site.directory.glob("t/remote-provisioners-*/*")) == []


def test_a_proxy_is_named_and_used(doctor: Doctor) -> None:
    config = doctor.ssh / "config"
    config.write_text("Host demo-b\n  ProxyJump demo-a\n" + config.read_text())
    (host,) = doctor.examine("demo-b", python())
    assert host["ok"]
    assert [check["check"] for check in host["checks"]] == [c for c in ALL if c != "port"]
    assert "reached through ProxyJump demo-a" in host["checks"][1]["seen"]


def test_a_hook_that_works(doctor: Doctor) -> None:
    hook = f"export PATH={Path(sys.executable).parent}:$PATH"
    (host,) = doctor.examine("demo-a", f"--environment-hook={hook}")
    assert host["ok"]
    assert host["checks"][6]["seen"] == "works"
    assert host["checks"][7]["seen"].startswith(str(Path(sys.executable).parent))


def test_a_home_directory_is_not_this_machines(doctor: Doctor) -> None:
    (host,) = doctor.examine("demo-a", "--python=~/no-such-python")
    assert "no-such-python" in host["checks"][-1]["seen"]
    assert str(doctor.ssh.parent) not in json.dumps(host)


# -- what is not ----------------------------------------------------------------------------


def test_an_address_that_cannot_be_read(doctor: Doctor) -> None:
    failed = doctor.failure("a b", after=[])
    assert failed["check"] == "address"
    assert "user@host:port" in failed["seen"]


def test_a_name_that_does_not_resolve(doctor: Doctor) -> None:
    failed = doctor.failure("nowhere.invalid", after=ALL[:1])
    assert failed["check"] == "name"
    assert "~/.ssh/config" in failed["advice"]


def test_a_port_that_refuses(doctor: Doctor) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        failed = doctor.failure(f"127.0.0.1:{port}", after=ALL[:2])
    assert failed["check"] == "port"
    assert f"port {port} refuses" in failed["seen"]
    assert "sshd" in failed["advice"]


def test_a_port_that_is_something_else(doctor: Doctor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            for _ in range(2):  # ours that would log in, and one that looks
                connection, _ = server.accept()
                with connection:
                    connection.sendall(b"220 mail.example.org\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        failed = doctor.failure(f"127.0.0.1:{server.getsockname()[1]}", after=ALL[:2])
        thread.join()
    assert failed["check"] == "port"
    assert "220 mail.example.org" in failed["seen"]


def test_hosts_that_say_nothing_are_awaited_at_once(doctor: Doctor) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
    ):
        together: list[bool] = []
        taken: list[socket.socket] = []

        def take() -> None:
            taken.extend((one.accept()[0], two.accept()[0]))
            together.append(taken[0].recv(1) != b"")  # it is not closed yet

        thread = threading.Thread(target=take)
        thread.start()
        names = [f"127.0.0.1:{server.getsockname()[1]}" for server in (one, two)]
        hosts = doctor.examine(*names, "--timeout=2")
        thread.join()
    for connection in taken:
        connection.close()
    assert [host["checks"][-1]["seen"] for host in hosts] == [
        "no answer within 2 s (--timeout)"
    ] * 2
    assert together == [True]


def test_a_host_key_that_is_not_known(doctor: Doctor) -> None:
    (doctor.ssh / "known_hosts").write_text("")
    failed = doctor.failure("demo-a", after=ALL[:3])
    assert failed["check"] == "host key"
    assert "unknown" in failed["seen"]


def test_a_host_key_that_has_changed(doctor: Doctor) -> None:
    known = doctor.ssh / "known_hosts"
    entries = [line.split() for line in known.read_text().splitlines()]
    (entries[0][2], entries[1][2]) = (entries[1][2], entries[0][2])
    known.write_text("".join(" ".join(entry) + "\n" for entry in entries))
    failed = doctor.failure("demo-a", after=ALL[:3])
    assert failed["check"] == "host key"
    assert "CHANGED" in failed["seen"]
    assert "ssh-keygen -R" in failed["seen"]


def test_a_key_that_is_not_accepted(doctor: Doctor) -> None:
    (doctor.ssh / "id_demo").unlink()
    key = str(doctor.ssh / "id_demo")
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True, input=b"y"
    )
    failed = doctor.failure("demo-a", after=ALL[:4])
    assert failed["check"] == "login"
    assert "make `ssh demo-a` work without a password" in failed["seen"]


def test_an_ssh_configuration_that_cannot_be_read(doctor: Doctor) -> None:
    (doctor.ssh / "config").write_text("Port what\n")
    failed = doctor.failure("demo-a", after=ALL[:1])
    assert failed["check"] == "ssh"
    assert "configuration cannot be read" in failed["seen"]


def test_a_python_that_is_not_there(doctor: Doctor) -> None:
    """The agent runs by another one: kernels would not."""
    failed = doctor.failure("demo-a", "--python=/no/such/python", after=ALL[:7])
    assert failed["check"] == "interpreter"
    assert "'/no/such/python' does not exist" in failed["seen"]


def test_a_hook_that_fails(doctor: Doctor) -> None:
    hook = "echo 'no module x' >&2; exit 3"
    failed = doctor.failure("demo-a", f"--environment-hook={hook}", after=ALL[:6])
    assert failed["check"] == "hook"
    assert "exit code 3: no module x" in failed["seen"]
    assert "no module x" in failed["advice"]


def test_an_interpreter_without_ipykernel(doctor: Doctor, tmp_path: Path) -> None:
    bare = bare_python(tmp_path / "v")
    failed = doctor.failure("demo-a", f"--python={bare}", after=ALL[:7])
    assert failed["check"] == "interpreter"
    assert "without ipykernel" in failed["seen"]
    assert f"{bare} -m pip install ipykernel" in failed["advice"]


def test_an_interpreter_that_cannot_be_run(doctor: Doctor, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python3").write_bytes(b"\x7fELF nonsense")
    (tmp_path / "bin/python3").chmod(0o755)
    hook = f"export PATH={tmp_path}/bin:$PATH"
    failed = doctor.failure("demo-a", f"--environment-hook={hook}", after=ALL[:7])
    assert failed["check"] == "interpreter"
    assert f"{tmp_path}/bin/python3 cannot be run" in failed["seen"]


def test_a_kernel_that_ends_at_once(doctor: Doctor, tmp_path: Path) -> None:
    bare = bare_python(tmp_path / "v")
    (packages,) = (tmp_path / "v").glob("lib/python*/site-packages")
    (packages / "ipykernel-1.2.3.dist-info").mkdir()
    (packages / "ipykernel-1.2.3.dist-info/METADATA").write_text(
        "Name: ipykernel\nVersion: 1.2.3\n"
    )
    (packages / "ipykernel_launcher.py").write_text("raise SystemExit('broken on purpose')\n")
    failed = doctor.failure("demo-a", f"--python={bare}", after=ALL[:8])
    assert failed["check"] == "kernel"
    assert "broken on purpose" in failed["seen"]
    assert f"{bare} -m ipykernel_launcher" in failed["advice"]


# -- who is examined ------------------------------------------------------------------------


def names(hosts: list[dict[str, Any]]) -> list[str]:
    return [host["host"] for host in hosts]


def test_the_hosts_of_the_environment(doctor: Doctor) -> None:
    assert names(doctor.examine(RP_REMOTE_HOSTS="a.invalid,b.invalid")) == [
        "a.invalid",
        "b.invalid",
    ]


def test_the_hosts_of_the_servers_configuration_file(doctor: Doctor) -> None:
    doctor.config.mkdir()
    (doctor.config / "jupyter_server_config.py").write_text(
        "c.RemoteProvisionerConfigMixin.remote_hosts = 'c.invalid'\n"
    )
    assert names(doctor.examine(RP_REMOTE_HOSTS="a.invalid")) == ["c.invalid"]


def test_the_hosts_of_the_kernelspecs(doctor: Doctor) -> None:
    doctor.install("one", remote_hosts=["a.invalid", "b.invalid"])
    doctor.install("two", remote_hosts=["a.invalid"])
    doctor.install("three", remote_hosts=["a.invalid"], python="/other")
    found = doctor.examine(RP_REMOTE_HOSTS="never.invalid")
    assert [(host["host"], host["kernelspecs"]) for host in found] == [
        ("a.invalid", ["one", "two"]),
        ("b.invalid", ["one"]),
        ("a.invalid", ["three"]),
    ]


def test_a_kernelspec_stands_for_its_hosts(doctor: Doctor) -> None:
    doctor.install("two", remote_hosts=["a.invalid", "b.invalid"])
    doctor.install("a.invalid", remote_hosts=["c.invalid"])
    assert names(doctor.examine("two")) == ["a.invalid", "b.invalid"]
    assert names(doctor.examine("a.invalid")) == ["a.invalid"]  # that is a host, too


def test_a_named_host_is_examined_as_its_kernelspec_says(doctor: Doctor, tmp_path: Path) -> None:
    bare = bare_python(tmp_path / "v")
    doctor.install("one", remote_hosts=["demo-a", "demo-b"], python=str(bare))
    (host,) = doctor.examine("demo-b")
    assert host["kernelspecs"] == ["one"]
    assert f"{bare} is Python" in host["checks"][-1]["seen"]


def test_a_stanza_that_cannot_be_used(doctor: Doctor) -> None:
    doctor.install("broken", remote_hosts=[])
    (host,) = doctor.examine()
    assert host["kernelspecs"] == ["broken"]
    assert "remote_hosts is empty" in host["checks"][0]["seen"]


def test_ctrl_c_leaves_nothing(doctor: Doctor) -> None:
    """The hosts' side is checked by the fixture."""
    words = ["doctor", "demo-a", "--environment-hook=sleep 30"]
    process = subprocess.Popen(
        [sys.executable, "-m", "remote_provisioners.cli.app", *words],
        env=doctor.environ,
        stderr=subprocess.PIPE,
        text=True,
    )
    temporary = Path(doctor.environ["TMPDIR"]).parent / "a"
    deadline = time.monotonic() + SECONDS
    while not list(temporary.glob("remote-provisioners-*/*/hook-*")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(2)
    _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert said.strip() == "jupyter remote doctor: interrupted"
