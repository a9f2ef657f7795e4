"""``jupyter remote scan``, ``add`` and ``refresh`` with the environments of real hosts."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from ..conftest import Start
from ..rig import Host, Rig
from .made_environments import (
    KERNEL,
    MINOR,
    PACKAGES,
    VERSION,
    link_packages,
    make_conda,
    make_kernelspec,
    make_venv,
)
from .real_conda import install_conda


class CommandLine:
    """``jupyter remote`` of a user with an empty Jupyter."""

    def __init__(self, directory: Path) -> None:
        self.kernels = directory / "data" / "kernels"
        self.environ = {
            **os.environ,
            "JUPYTER_CONFIG_DIR": str(directory / "config"),
            "JUPYTER_DATA_DIR": str(directory / "data"),
            "JUPYTER_RUNTIME_DIR": str(directory / "runtime"),
            "IPYTHONDIR": str(directory / "ipython"),
        }

    def run(self, *words: str, answer: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "remote_provisioners.cli.app", *words],
            env=self.environ,
            input=answer,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def done(self, *words: str, **kwargs: Any) -> str:
        """What it prints, once it has done all."""
        done = self.run(*words, **kwargs)
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout

    def changes(self, *words: str) -> dict[str, str]:
        """What was done with each kernelspec: new, changed, unchanged, edited or gone."""
        done = json.loads(self.done(*words, "--json"))["kernelspecs"]
        return {spec["name"]: spec["change"] for spec in done}

    def kernel_json(self, name: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.kernels / name / "kernel.json").read_text())
        return content

    def title(self, name: str) -> str:
        return str(self.kernel_json(name)["display_name"])

    def hosts(self, name: str) -> list[Any]:
        stanza = self.kernel_json(name)["metadata"]["kernel_provisioner"]
        return list(stanza["config"]["remote_hosts"])

    def files(self) -> dict[str, tuple[bytes, int]]:
        """Every file of every kernelspec: its content, and when it was written."""
        found = (path for path in self.kernels.rglob("*") if path.is_file())
        return {str(p): (p.read_bytes(), p.stat().st_mtime_ns) for p in found}

    def refused(self, *words: str, status: int = 1) -> str:
        done = self.run(*words)
        assert done.returncode == status, done
        return done.stderr

    def scanned(self, *words: str) -> dict[str, dict[str, Any]]:
        """The environments of one host that are below its home directory, by name."""
        (host,) = json.loads(self.done("scan", *words, "--json"))["hosts"]
        assert host["error"] == ""
        return {e["name"]: e for e in host["environments"]}


@pytest.fixture
def command(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))  # for `start`
    return CommandLine(tmp_path)


@pytest.fixture
def both(rig: Rig) -> Iterator[Sequence[Host]]:
    """Two hosts, which have nothing new in their home directories after the test."""
    before = [_below(host.home) for host in rig.hosts]
    yield rig.hosts
    for host, paths in zip(rig.hosts, before, strict=True):
        for path in sorted(_below(host.home) - paths):  # directories before what is in them
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def _below(home: Path) -> set[Path]:
    """Everything in a home directory: another test may have made a directory that we add to."""
    walk = os.walk(home)
    return {Path(directory, name) for directory, *names in walk for name in (*names[0], *names[1])}


@pytest.fixture
def host(both: Sequence[Host]) -> Host:
    return both[0]


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """A directory that all hosts see, as a shared file system."""
    directory = Path(sys.prefix) / "share" / "remote-provisioners-tests" / tmp_path.name
    directory.mkdir(parents=True)
    yield directory
    shutil.rmtree(directory)


def test_scan_lists_what_can_run_kernels(host: Host, command: CommandLine) -> None:
    make_conda(host.home / "miniforge3" / "envs" / "torch")
    make_venv(host.home / "work" / ".venv", kernel=False)
    data = host.home / ".local" / "share" / "jupyter"
    make_kernelspec(data, "shell", ["bash", "{connection_file}"], display_name="Bash")
    found = command.scanned(host.target)
    assert (found["torch"]["package_version"], found["torch"]["usable"]) == (KERNEL, True)
    python = host.home / "work" / ".venv" / "bin" / "python"
    assert found["work"]["install"].startswith(f"{python} -m ensurepip && {python} -m pip install")
    assert found["shell"]["title"] == "Bash"
    text = command.done("scan", host.target).splitlines()
    assert text[0].startswith(f"{host.target}: ")
    assert any(line.split()[:1] == ["torch"] and f"ipykernel {KERNEL}" in line for line in text)
    assert text[-1] == f"To use them here: jupyter remote add {host.target}"


@pytest.mark.long
def test_scan_finds_what_debian_has(host: Host, command: CommandLine) -> None:
    if not Path("/usr/lib/R/site-library/IRkernel").exists():
        pytest.skip("IRkernel is not installed (on Debian: r-cran-irkernel)")
    found = command.scanned(host.target)
    assert found["R"]["usable"]
    assert found["R"]["package"] == "IRkernel"


@pytest.mark.long
def test_scan_says_which_host_does_not_answer(rig: Rig, command: CommandLine) -> None:
    done = command.run("scan", rig.hosts[0].target, "nosuchhost.invalid", "--json")
    assert done.returncode == 1
    one, two = json.loads(done.stdout)["hosts"]
    assert one["error"] == ""
    assert two["error"]
    assert "unknown option --frobnicate" in command.refused("scan", "--frobnicate", status=2)


@pytest.mark.long
def test_scan_prints_each_host_as_it_answers(rig: Rig, command: CommandLine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        names = [f"127.0.0.1:{silent.getsockname()[1]}", rig.hosts[0].target]
        argv = [sys.executable, "-m", "remote_provisioners.cli.app", "scan", *names]
        with subprocess.Popen(
            argv, env=command.environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline().startswith(f"{names[1]}: ")
            assert process.poll() is None  # the first host says nothing
            process.send_signal(signal.SIGINT)  # it says goodbye to the host's agent


def test_add_makes_kernels_that_have_their_activation(
    host: Host, command: CommandLine, start: Start
) -> None:
    runs = host.home / "runs"
    script = f"""
        export LD_LIBRARY_PATH="$CONDA_PREFIX/lib${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}"
        export PATH="$CONDA_PREFIX/extra:$PATH" GREETING='a $b {{c}}'
        not_exported=1; echo run >> {runs}
    """
    torch = make_conda(
        host.home / "miniforge3" / "envs" / "torch", scripts={"libs.sh": script}, STORED="x y"
    )
    name = f"torch-{host.target}"
    said = command.done("add", host.target, "torch", "--user")
    assert f"new  {name}  Python {MINOR} (torch) · {host.target}" in said
    assert "libs.sh" in said
    assert {path.name for path in (command.kernels / name).iterdir()} == {
        "kernel.json",
        "logo-32x32.png",
        "logo-64x64.png",
        "logo-svg.svg",
    }
    expected = {
        "CONDA_PREFIX": str(torch),
        "CONDA_DEFAULT_ENV": "torch",
        "STORED": "x y",
        "LD_LIBRARY_PATH": f"{torch}/lib",
        "GREETING": "a $b {c}",
    }
    for way in ("spawned", "forked"):
        session = start(name)
        assert session.kernel.way == way
        assert session.value("__import__('sys').prefix") == str(torch)
        found = session.value("dict(__import__('os').environ)")
        assert {key: found.get(key) for key in expected} == expected
        assert found["PATH"].split(":")[:2] == [f"{torch}/extra", f"{torch}/bin"]
        assert "/usr/bin" in found["PATH"].split(":")
        assert "not_exported" not in found
    assert runs.read_text() == "run\n"  # once, by `add`: no start runs it
    assert command.changes("refresh") == {name: "unchanged"}
    shutil.rmtree(torch)
    assert command.changes("refresh") == {name: "gone"}


@pytest.mark.long
def test_add_asks_which(host: Host, command: CommandLine) -> None:
    for name in ("a", "b"):
        make_venv(host.home / ".venvs" / name)
    asked = command.run("add", host.target, "--user", answer="b\n")
    assert asked.returncode == 0, asked
    assert f"Python {MINOR} (a)" in asked.stderr
    assert os.listdir(command.kernels) == [f"b-{host.target}"]
    assert "nobody answers" in command.refused("add", host.target, "--user", status=2)
    assert "did you mean 'a'" in command.refused("add", host.target, "aa", "--user")
    make_venv(host.home / ".venvs" / "bare", kernel=False)
    refused = command.refused("add", host.target, "bare", "--user")
    assert "bare cannot run kernels: ipykernel is not installed" in refused
    assert f"{host.home}/.venvs/bare/bin/python -m pip install ipykernel" in refused
    for words in ((), (host.target, "a", "--all"), (host.target, "--frobnicate")):
        command.refused("add", *words, "--user", status=2)
    twice = command.refused("add", host.target, "--user", "--sys-prefix", status=2)
    assert "give only one of" in twice


@pytest.mark.long
def test_one_environment_on_several_hosts_is_one_kernelspec(
    both: Sequence[Host], shared: Path, command: CommandLine, start: Start
) -> None:
    one, two = (host.target for host in both)
    venv = make_venv(shared / "analysis")
    make_venv(both[1].home / ".venvs" / "own")
    where = f"--directory={shared}"
    assert command.changes("add", one, "analysis", "--user", where) == {f"analysis-{one}": "new"}
    assert command.changes("add", two, "analysis", "--user", where) == {
        f"analysis-{one}": "changed"
    }
    assert command.hosts(f"analysis-{one}") == [one, two]
    assert command.title(f"analysis-{one}") == f"Python {MINOR} (analysis) · {one}, {two}"
    shutil.rmtree(command.kernels)
    both_hosts = f"{one},{two}"
    changes = command.changes("add", both_hosts, "analysis", "own", "--user", where)
    assert changes == {"remote-analysis": "new", f"own-{two}": "new"}
    assert command.hosts("remote-analysis") == [one, two]
    session = start("remote-analysis", env={**os.environ, "KERNEL_REMOTE_HOST": two})
    assert session.host == two
    assert session.value("__import__('os').environ['VIRTUAL_ENV']") == str(venv)
    # Gone from one of them: by its absence from that host's places, not from the disk.
    shutil.rmtree(both[1].home / ".venvs")
    session.close()
    assert command.changes("refresh", two) == {
        "remote-analysis": "unchanged",
        f"own-{two}": "gone",
    }


@pytest.mark.long
def test_an_environment_that_is_gone_from_one_of_its_hosts(
    rig: Rig, command: CommandLine, start: Start
) -> None:
    if not rig.own_address:
        pytest.skip("needs hosts with directories of their own")
    one, two = (host.target for host in rig.hosts)
    prefix = "/tmp/envs/analysis"  # each host has its own /tmp
    program = f"{sys.executable} -m venv --without-pip {prefix}"
    program += f" && ln -s {PACKAGES}/* {prefix}/lib/python{MINOR}/site-packages"
    for host in rig.hosts:
        host.run(["sh", "-c", program], timeout=60)
    name, where = "remote-analysis", "--directory=/tmp/envs"
    assert command.changes("add", f"{one},{two}", "analysis", "--user", where) == {name: "new"}
    assert command.changes("refresh") == {name: "unchanged"}
    for host, left, change in ((rig.hosts[1], [one], "changed"), (rig.hosts[0], [one], "gone")):
        host.run(["rm", "-r", prefix])
        assert command.changes("refresh") == {name: change}
        assert command.hosts(name) == left
        assert command.title(name).endswith(" (gone)") == (change == "gone")
        if change == "changed":
            assert start(name).host == one
            before = command.files()
            assert command.changes("refresh") == {name: "unchanged"}
            assert command.files() == before
    rig.hosts[1].run(["sh", "-c", program], timeout=60)  # it is back on the other host
    assert command.changes("add", two, "analysis", "--user", where) == {name: "changed"}
    for host in rig.hosts:
        host.run(["rm", "-rf", "/tmp/envs"])


def test_kernelspecs_of_any_language_are_taken_over(
    host: Host, command: CommandLine, start: Start
) -> None:
    data = host.home / ".local" / "share" / "jupyter"
    argv = [sys.executable, "{resource_dir}/main.py", "-f", "{connection_file}"]
    files = {
        "logo-64x64.png": "a logo",
        "main.py": "from ipykernel.kernelapp import launch_new_instance as start; start()",
        "scripts/run.sh": "#!/bin/sh\n",
        "kernel.js": "no",
    }
    directory = make_kernelspec(
        data,
        "mine",
        argv,
        files,
        display_name="My own",
        env={"GREETING": "hello", "PATH": "/mine:${PATH}"},
        interrupt_mode="message",
        metadata={"debugger": False, "kept": [1]},
        kernel_protocol_version="5.5",
    )
    (directory / "scripts" / "run.sh").chmod(0o755)
    name = f"mine-{host.target}"
    assert command.changes("add", host.target, "mine", "--user") == {name: "new"}
    content = command.kernel_json(name)
    assert content["display_name"] == f"My own · {host.target}"
    assert (content["argv"], content["interrupt_mode"]) == (argv, "message")
    assert (content["metadata"]["kept"], content["kernel_protocol_version"]) == ([1], "5.5")
    assert content["metadata"]["debugger"] is False
    installed = command.kernels / name
    assert (installed / "logo-64x64.png").read_text() == "a logo"
    assert os.access(installed / "scripts" / "run.sh", os.X_OK)
    assert not (installed / "kernel.js").exists()
    session = start(name)
    found = session.value("dict(__import__('os').environ)")
    assert found["GREETING"] == "hello"
    assert found["PATH"].startswith("/mine:")


@pytest.mark.long
def test_a_kernel_of_bash(host: Host, command: CommandLine, start: Start) -> None:
    pytest.importorskip("bash_kernel")
    venv = make_venv(host.home / "work" / ".venv")
    program = str(venv / "bin" / "python")
    argv = [program, "-m", "bash_kernel.install", "--prefix", str(venv)]
    host.run(argv, timeout=60)
    name = f"bash-{host.target}"
    assert command.changes("add", host.target, "bash", "--user") == {name: "new"}
    assert command.kernel_json(name)["language"] == "bash"
    session = start(name)
    assert session.run("echo $VIRTUAL_ENV $(hostname)").split() == [
        str(venv),
        host.run(["hostname"]).strip(),
    ]


@pytest.mark.long
def test_a_kernel_of_r(host: Host, command: CommandLine, start: Start) -> None:
    if not Path("/usr/lib/R/site-library/IRkernel").exists():
        pytest.skip("IRkernel is not installed (on Debian: r-cran-irkernel)")
    name = f"r-{host.target}"
    assert command.changes("add", host.target, "R", "--user") == {name: "new"}
    assert command.title(name).startswith("R 4")
    assert (command.kernels / name / "logo-64x64.png").exists()
    assert start(name).run("cat(6 * 7)") == "42"


@pytest.mark.long
def test_refresh_adds_what_is_new_and_marks_what_is_gone(
    host: Host, command: CommandLine, start: Start
) -> None:
    kept, lost = (make_venv(host.home / ".venvs" / name) for name in ("kept", "lost"))
    make_venv(host.home / ".venvs" / "declined")
    command.done("add", host.target, "kept", "lost", "--user")
    kept_name, lost_name = f"kept-{host.target}", f"lost-{host.target}"
    before = command.files()
    unchanged = {kept_name: "unchanged", lost_name: "unchanged"}
    assert command.changes("refresh") == unchanged
    assert command.files() == before

    make_venv(host.home / ".venvs" / "late")
    shutil.rmtree(lost)
    late_name = f"late-{host.target}"
    assert command.changes("refresh", host.target) == {
        kept_name: "unchanged",
        late_name: "new",
        lost_name: "gone",
    }
    assert command.title(lost_name) == f"Python {MINOR} (lost) · {host.target} (gone)"
    with pytest.raises(Exception, match=r"does not exist\nIts environment .*/lost was gone"):
        start(lost_name)
    before = command.files()
    assert set(command.changes("refresh").values()) == {"unchanged"}
    assert command.files() == before

    make_venv(lost)
    assert command.changes("refresh")[lost_name] == "changed"
    assert command.title(lost_name) == f"Python {MINOR} (lost) · {host.target}"
    assert start(lost_name).value("__import__('sys').prefix") == str(lost)

    (kept / "pyvenv.cfg").write_text((kept / "pyvenv.cfg").read_text().replace(MINOR, "3.7"))
    assert command.changes("refresh")[kept_name] == "changed"
    assert command.title(kept_name) == f"Python 3.7 (kept) · {host.target}"


@pytest.mark.long
def test_refresh_leaves_what_a_person_has_edited(host: Host, command: CommandLine) -> None:
    venv = make_venv(host.home / ".venvs" / "mine")
    command.done("add", host.target, "mine", "--user")
    name = f"mine-{host.target}"
    path = command.kernels / name / "kernel.json"
    path.write_text(json.dumps({**command.kernel_json(name), "display_name": "Mine"}))
    before = command.files()
    assert command.changes("refresh") == {name: "edited"}
    assert command.changes("add", host.target, "mine", "--user") == {name: "edited"}
    shutil.rmtree(venv)
    assert command.changes("refresh") == {name: "edited"}
    assert command.files() == before
    assert "They stay as they are" in command.done("refresh")


@pytest.mark.long
def test_refresh_marks_nothing_of_a_host_that_does_not_answer(
    host: Host, command: CommandLine
) -> None:
    make_venv(host.home / ".venvs" / "mine")
    assert "To make some: jupyter remote add HOST" in command.refused("refresh")
    command.done("add", host.target, "mine", "--user")
    before = command.files()
    host.stop_sshd()
    try:
        assert host.target in command.refused("refresh")
    finally:
        host.start_sshd()
    assert command.files() == before
    assert "no kernelspec was made of an environment of 'x'" in command.refused("refresh", "x")


@pytest.mark.long
@pytest.mark.parametrize("installer", ["rattler", "conda"])
def test_an_environment_that_conda_has_installed(
    host: Host, command: CommandLine, start: Start, tmp_path: Path, installer: str
) -> None:
    program = shutil.which("conda") if installer == "conda" else ""
    if program is None:
        pytest.skip("conda is not installed")
    if not program and importlib.util.find_spec("rattler") is None:
        pytest.skip("rattler is not installed (by pip: py-rattler)")
    prefix = install_conda(host.home / "miniforge3/envs/real", tmp_path / "work", program)
    found = command.scanned(host.target)["real"]
    assert (found["kind"], found["version"]) == ("conda", VERSION)
    assert found["package_version"] == KERNEL
    name = f"real-{host.target}"
    assert "libs.sh" in command.done("add", host.target, "real", "--user")
    session = start(name)
    assert session.value("__import__('sys').prefix") == str(prefix)
    found = session.value("dict(__import__('os').environ)")
    assert found["LIBS_OF"] == f"{prefix}/lib"
    assert found["LIBS_VERSION"] == "1"
    assert found["CONDA_DEFAULT_ENV"] == "real"


@pytest.mark.long
def test_conda_accepts_the_environments_that_tests_make(tmp_path: Path) -> None:
    conda = shutil.which("conda")
    if conda is None:
        pytest.skip("conda is not installed")
    prefix = make_conda(
        tmp_path / "envs/made", scripts={"a.sh": "export OF_SCRIPT=1"}, STORED="x y"
    )

    def said(*words: str) -> str:
        done = subprocess.run([conda, *words], capture_output=True, text=True, check=True)
        return done.stdout

    listed = {each["name"]: each for each in json.loads(said("list", "-p", str(prefix), "--json"))}
    assert listed["python"]["version"] == VERSION
    found = dict(line.split("=", 1) for line in said("run", "-p", str(prefix), "env").splitlines())
    assert (found["STORED"], found["OF_SCRIPT"]) == ("x y", "1")
    assert (found["CONDA_PREFIX"], found["CONDA_DEFAULT_ENV"]) == (str(prefix), "made")
    assert found["PATH"].startswith(f"{prefix}/bin:")


@pytest.mark.long
def test_an_environment_that_uv_has_made(host: Host, command: CommandLine, start: Start) -> None:
    uv = Path(sys.executable).parent / "uv"
    if not uv.exists():
        pytest.skip("uv is not installed (by pip: uv)")
    prefix = host.home / "project" / ".venv"
    argv = [str(uv), "venv", "--offline", "--no-config", "--python", sys.executable, str(prefix)]
    subprocess.run(argv, check=True, capture_output=True)
    found = command.scanned(host.target)["project"]
    assert found["version"] == VERSION
    assert found["install"] == f"uv pip install --python {prefix}/bin/python ipykernel"
    link_packages(prefix)
    name = f"project-{host.target}"
    assert command.changes("add", host.target, "project", "--user") == {name: "new"}
    assert start(name).value("__import__('os').environ['VIRTUAL_ENV']") == str(prefix)


@pytest.mark.long
def test_a_user_without_rights(rig: Rig, command: CommandLine, start: Start) -> None:
    host = rig.hosts[0]
    if "alice" not in host.homes:
        pytest.skip("needs root and network namespaces: hosts here have no other user")
    home, name = host.homes["alice"], f"alice@{host.target}"
    make_venv(home / ".venvs" / "hers")
    secret = make_venv(home / ".venvs" / "secret")
    os.chmod(secret, 0o700)  # root's
    try:
        found = command.scanned(name)
        assert found["hers"]["usable"]
        assert "secret" not in found
        assert command.changes("add", name, "hers", "--user") == {f"hers-{host.target}": "new"}
        assert command.title(f"hers-{host.target}").endswith(f" · {host.target}")
        session = start(f"hers-{host.target}")
        assert session.value("__import__('os').environ['USER']") == "alice"
        assert session.value("__import__('sys').prefix") == str(home / ".venvs" / "hers")
    finally:
        shutil.rmtree(home / ".venvs")


@pytest.mark.long
def test_a_kernel_of_deno(host: Host, command: CommandLine, start: Start) -> None:
    program = Path(sys.executable).parent / "deno"
    if not program.exists():
        pytest.skip("Deno is not installed (by pip: deno)")
    data = host.home / ".local" / "share" / "jupyter"
    argv = [str(program), "jupyter", "--kernel", "--conn", "{connection_file}"]
    make_kernelspec(data, "deno", argv, display_name="Deno", language="typescript")
    name = f"deno-{host.target}"
    assert command.changes("add", host.target, "deno", "--user") == {name: "new"}
    assert command.kernel_json(name)["argv"] == argv
    assert start(name).run("console.log(6 * 7)") in ("42\n", "")  # it may come after "idle"


@pytest.mark.long
def test_a_module_of_the_host(
    host: Host, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, start: Start
) -> None:
    if not Path("/usr/share/modules/init/bash").exists():
        pytest.skip("modules are not installed (on Debian: environment-modules)")
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    files = host.home / "modulefiles"
    monkeypatch.setenv("RP_ENVIRONMENT_HOOK", f"export MODULEPATH={files}")
    command = CommandLine(tmp_path)
    app = make_venv(host.home / "apps" / "python")
    (files / "python").mkdir(parents=True)
    text = f"#%Module1.0\nset root {app}\nprepend-path PATH $root/bin\n"
    text += "setenv OF_MODULE {a $b}\nprepend-path LD_LIBRARY_PATH $root/lib\n"
    (files / "python" / "3.99").write_text(text)
    assert command.scanned(host.target)["python/3.99"]["kind"] == "module"
    name = f"python-3.99-{host.target}"
    said = command.done("add", host.target, "python/3.99", "--user")
    assert "module load python/3.99" in said
    assert command.title(name) == f"Python {MINOR} (python/3.99) · {host.target}"
    session = start(name)
    assert session.value("__import__('sys').prefix") == str(app)
    found = session.value("dict(__import__('os').environ)")
    assert (found["OF_MODULE"], found["LD_LIBRARY_PATH"]) == ("a $b", f"{app}/lib")
    assert found["LOADEDMODULES"] == "python/3.99"
    assert found["PATH"].startswith(f"{app}/bin:")
    assert command.changes("refresh") == {name: "unchanged"}
    (files / "python" / "3.99").unlink()
    assert command.changes("refresh") == {name: "gone"}
