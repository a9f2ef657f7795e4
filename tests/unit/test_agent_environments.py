"""What the agent's probe finds in a home directory, and that it takes little time."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from remote_provisioners.agent.environments import places
from remote_provisioners.agent.environments import probe as probe_module
from remote_provisioners.agent.environments.probe import Probe, find_environments
from remote_provisioners.environments.environment import Environment, environments_of
from remote_provisioners.protocol.answers import FoundEnvironments

from ..e2e.made_environments import KERNEL, MINOR, VERSION, make_conda, make_kernelspec, make_venv


def look(home: Path, *directories: Path, seconds: float = 60, **environ: str) -> FoundEnvironments:
    """With an empty PATH: only what is below `home` or named, or in a place of the system."""
    probe = Probe({"PATH": "", **environ}, str(home), list(map(str, directories)), seconds)
    probe.run()
    return probe.found()


def below(home: Path, found: FoundEnvironments) -> dict[str, Environment]:
    """The environments below `home`, by their names."""
    return {e.name: e for e in environments_of(found) if e.path.startswith(str(home))}


def fake_venv(prefix: Path, *settings: str) -> Path:
    """A venv without packages; its pyvenv.cfg is all that a tool says of itself."""
    (prefix / "bin").mkdir(parents=True)
    (prefix / "lib" / "python3.12" / "site-packages").mkdir(parents=True)
    (prefix / "bin" / "python").symlink_to("/bin/sh")
    (prefix / "pyvenv.cfg").write_text("\n".join(["home = /usr/bin", *settings]) + "\n")
    return prefix


def test_conda_environments_are_found_where_conda_has_them(tmp_path: Path) -> None:
    root = make_conda(tmp_path / "miniforge3", kernel=False)
    (root / "condabin").mkdir()
    conda = root / "bin" / "conda"
    conda.write_text("#!/bin/sh\n")
    conda.chmod(0o755)
    make_conda(root / "envs" / "torch")
    far = make_conda(tmp_path / "far" / "away")
    (tmp_path / ".conda").mkdir()
    (tmp_path / ".conda" / "environments.txt").write_text(f"{far}\n{tmp_path}/gone\n{root}\n")
    other = make_conda(tmp_path / "more" / "other")
    (tmp_path / ".condarc").write_text(
        f"channels:\n  - x\nenvs_dirs:\n  - {other.parent}  # here\n"
    )
    found = below(tmp_path, look(tmp_path))
    assert {(e.kind, e.name, e.version, e.usable) for e in found.values()} == {
        ("conda", "base", VERSION, False),
        ("conda", "torch", VERSION, True),
        ("conda", "away", VERSION, True),
        ("conda", "other", VERSION, True),
    }
    assert found["torch"].package_version == KERNEL
    assert found["torch"].argv[0] == f"{root}/envs/torch/bin/python"
    assert found["torch"].title.endswith(" (torch)")
    assert found["base"].install == f"{conda} install --prefix {root} ipykernel"


def test_venvs_of_every_tool_are_found(tmp_path: Path) -> None:
    make_venv(tmp_path / ".virtualenvs" / "mine")
    fake_venv(tmp_path / "work" / "deep" / ".venv", "uv = 0.9.5", "version_info = 3.12.4")
    fake_venv(tmp_path / ".cache/pypoetry/virtualenvs/shop-Ab3_-x9Q-py3.12", "version = 3.12.1")
    pipenv = fake_venv(tmp_path / ".local/share/virtualenvs/site-Ab3_-x9Q")
    (pipenv / ".project").write_text("/home/me/site")
    bare = fake_venv(tmp_path / "project" / "venv")
    broken = fake_venv(tmp_path / "broken" / ".venv")
    (broken / "bin" / "python").unlink()
    found = below(tmp_path, look(tmp_path))
    assert set(found) == {"mine", "deep", "shop", "site", "project"}
    assert (found["mine"].package_version, found["mine"].usable) == (KERNEL, True)
    assert found["deep"].version == "3.12.4"
    python = tmp_path / "work" / "deep" / ".venv" / "bin" / "python"
    assert found["deep"].install == f"uv pip install --python {python} ipykernel"
    assert found["shop"].install == "poetry add --group dev ipykernel"
    python = bare / "bin" / "python"
    pip = f"{python} -m pip install ipykernel"
    assert found["project"].install == f"{python} -m ensurepip && {pip}"
    (bare / "lib" / "python3.12" / "site-packages" / "pip").mkdir()
    assert below(tmp_path, look(tmp_path))["project"].install == pip


def test_directories_that_are_named_are_looked_into(tmp_path: Path) -> None:
    named = tmp_path / "srv" / "envs"
    fake_venv(named / "one")
    fake_venv(named / "project" / ".venv")
    make_conda(named / "pixi" / ".pixi" / "envs" / "default")
    make_kernelspec(named / "data", "mine", ["/bin/sh", "{connection_file}"], language="bash")
    home = tmp_path / "home"
    home.mkdir()
    assert below(tmp_path, look(home)) == {}
    assert set(below(tmp_path, look(home, named))) == {"one", "project", "pixi", "mine"}
    assert set(below(tmp_path, look(home, named / "one"))) == {"one"}


def test_kernelspecs_are_found_as_they_are(tmp_path: Path) -> None:
    torch = make_venv(tmp_path / ".venvs" / "torch")
    data = tmp_path / ".local" / "share" / "jupyter"
    argv = [f"{torch}/bin/python", "-Xfrozen_modules=off", "-m", "ipykernel_launcher"]
    argv += ["-f", "{connection_file}"]
    make_kernelspec(data, "mine", argv, display_name="Torch, mine", env={"A": "b"})
    make_kernelspec(data, "shell", ["/bin/sh", "{connection_file}"], language="bash")
    make_kernelspec(data, "lost", ["/no/such/program", "{connection_file}"])
    remote = {"kernel_provisioner": {"provisioner_name": "distributed-provisioner"}}
    make_kernelspec(data, "elsewhere", ["python"], metadata=remote)
    make_kernelspec(torch / "share" / "jupyter", "python3", ["python", *argv[2:]])
    (data / "kernels" / "broken").mkdir()
    (data / "kernels" / "broken" / "kernel.json").write_text("{")
    found = below(tmp_path, look(tmp_path))
    # The venv is the kernelspec that somebody has named; its own python3 says nothing more.
    assert set(found) == {"mine", "shell", "lost"}
    assert found["mine"].title == "Torch, mine"
    assert found["mine"].argv == tuple(argv)
    assert found["mine"].spec["env"] == {"A": "b"}
    assert found["mine"].package_version == KERNEL
    assert found["mine"].activated == ("venv", str(torch), f"{torch}/bin/python")
    assert found["shell"].usable
    assert found["lost"].missing == "its program /no/such/program does not exist"


def test_a_kernelspec_has_the_activation_of_what_its_program_is_in(tmp_path: Path) -> None:
    conda = make_conda(tmp_path / "miniforge3" / "envs" / "cpp", kernel=False)
    program = conda / "bin" / "xcpp"
    program.write_text("")
    program.chmod(0o755)
    make_kernelspec(conda / "share" / "jupyter", "xcpp17", ["xcpp", "-f", "{connection_file}"])
    data = tmp_path / ".local" / "share" / "jupyter"
    make_kernelspec(data, "mine", [str(program), "-f", "{connection_file}"])
    found = below(tmp_path, look(tmp_path))
    for name in ("xcpp17", "mine"):
        assert found[name].usable
        assert found[name].activated == ("conda", str(conda), str(program))


def test_the_users_kernelspec_hides_another_of_its_name(tmp_path: Path) -> None:
    for data in ("path", ".local/share/jupyter"):
        make_kernelspec(tmp_path / data, "one", ["/bin/sh", "{connection_file}"])
    found = [e.path for e in environments_of(look(tmp_path)) if e.name == "one"]
    assert found == [str(tmp_path / ".local/share/jupyter/kernels/one")]
    found = look(tmp_path, JUPYTER_PATH=str(tmp_path / "path"))
    assert [e.path for e in environments_of(found) if e.name == "one"] == [
        str(tmp_path / "path/kernels/one")
    ]


def test_modules_that_bring_a_python_are_found(tmp_path: Path) -> None:
    apps, files = tmp_path / "apps", tmp_path / "modules"
    for name in ("one", "two", "three"):
        make_venv(apps / name)
    texts = {
        "python/3.1": f"#%Module1.0\nset root {apps}/one\nprepend-path PATH $root/bin\n",
        "lang-python": f'prepend-path -d : PATH "{apps}/two/bin"\n',
        "Python/3.3.lua": f"""local base = pathJoin("{apps}", "three")
            prepend_path("PATH", pathJoin(base, "bin")) -- programs""",
        "python/computed": "prepend-path PATH [exec where]/bin\n",
        "gcc/12": f"prepend-path PATH {apps}/one/bin\n",
        "python/.version": "#%Module1.0\n",
    }
    for name, text in texts.items():
        (files / name).parent.mkdir(parents=True, exist_ok=True)
        (files / name).write_text(text)
    found = below(files, look(tmp_path / "home", MODULEPATH=str(files)))
    programs = {name: environment.argv[0] for name, environment in found.items()}
    assert programs == {
        "python/3.1": f"{apps}/one/bin/python",
        "lang-python": f"{apps}/two/bin/python",
        "Python/3.3": f"{apps}/three/bin/python",
    }
    assert found["python/3.1"].title == f"Python {MINOR} (python/3.1)"


def test_two_of_one_name_are_told_apart(tmp_path: Path) -> None:
    one, two = (fake_venv(tmp_path / place / "same" / ".venv") for place in ("a", "b"))
    titles = {e.title for e in environments_of(look(tmp_path)) if e.name == "same"}
    assert titles == {f"Python 3.12 ({one})", f"Python 3.12 ({two})"}


def test_the_pythons_of_pyenv_and_of_path(tmp_path: Path) -> None:
    prefix = tmp_path / ".pyenv" / "versions" / "3.12.4"
    (prefix / "bin").mkdir(parents=True)
    (prefix / "bin" / "python3.12").symlink_to("/bin/sh")
    (prefix / "bin" / "python").symlink_to("/bin/sh")
    (prefix / "lib" / "python3.12").mkdir(parents=True)
    (prefix / "include" / "python3.12").mkdir(parents=True)
    (prefix / "include" / "python3.12" / "patchlevel.h").write_text(
        '#define PY_VERSION              "3.12.4+"\n'
    )
    shims = tmp_path / ".pyenv" / "shims"
    shims.mkdir()
    (shims / "python3").write_text("#!/bin/sh\nexit 1\n")
    (shims / "python3").chmod(0o755)
    found = below(tmp_path, look(tmp_path, PATH=str(shims)))
    assert {(e.name, e.version) for e in found.values()} == {("python3.12", "3.12.4")}


def test_r_and_julia_are_found(tmp_path: Path) -> None:
    library = tmp_path / "opt" / "R" / "lib" / "R"
    for package, version in (("library/base", "4.4.1"), ("library/IRkernel", "1.3.2")):
        (library / package).mkdir(parents=True)
        (library / package / "DESCRIPTION").write_text(f"Package: x\nVersion: {version}\n")
    binaries = tmp_path / "bin"
    binaries.mkdir()
    (binaries / "R").write_text(f"#!/bin/sh\nR_HOME_DIR={library}\nexit 1\n")
    julia = tmp_path / ".julia" / "juliaup" / "julia-1.11.3+0.x64.linux.gnu" / "bin" / "julia"
    julia.parent.mkdir(parents=True)
    julia.write_text("")
    for program in (binaries / "R", julia):
        program.chmod(0o755)
    found = below(tmp_path, look(tmp_path, PATH=str(binaries)))
    assert (found["R"].title, found["R"].package_version) == ("R 4.4", "1.3.2")
    assert found["R"].argv[0] == str(binaries / "R")
    assert found["julia1.11"].version == "1.11.3"
    assert not found["julia1.11"].usable
    assert 'Pkg.add("IJulia")' in found["julia1.11"].install
    manifest = tmp_path / ".julia" / "environments" / "v1.11" / "Manifest.toml"
    manifest.parent.mkdir(parents=True)
    manifest.write_text('[[deps.IJulia]]\nuuid = "7073ff75"\nversion = "1.26.0"\n')
    data = tmp_path / ".local" / "share" / "jupyter"
    argv = [str(julia), "-i", "--color=yes", "kernel.jl", "{connection_file}"]
    make_kernelspec(data, "julia-1.11", argv, display_name="Julia 1.11.3", language="julia")
    found = below(tmp_path, look(tmp_path))
    assert {n: (e.kind, e.usable) for n, e in found.items()} == {"julia-1.11": ("kernelspec", True)}


def test_a_large_home_directory_takes_little_time(tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / f"project{number}" / "src" / "package").mkdir(parents=True)
        (tmp_path / f"project{number}" / "file").touch()
    fake_venv(tmp_path / "project7" / "src" / ".venv")
    began = time.thread_time()
    found = look(tmp_path)
    print(f"300 projects: {1000 * found.seconds:.0f} ms")
    assert time.thread_time() - began < 2
    assert "src" in below(tmp_path, found)
    assert found.unfinished == []


def test_what_there_is_no_time_for_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_conda(tmp_path / "miniconda3")
    pythons = places.pyenv_prefixes

    def slow(*arguments: object) -> object:
        time.sleep(0.5)  # as a file system that hardly answers
        return pythons(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(places, "venv_prefixes", slow)
    probe = Probe({"PATH": ""}, str(tmp_path), seconds=0.25)
    probe.run()
    assert probe.found().unfinished[-1] == "venvs"


def test_a_file_system_that_hangs_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()

    def hangs(*_: object) -> Iterator[str]:
        answered.wait()
        yield ""

    monkeypatch.setattr(places, "conda_prefixes", hangs)
    monkeypatch.setattr(probe_module, "_WAIT_SECONDS", 0.3)

    async def turns() -> int:
        """How often the loop has turned while the probe hangs."""
        count = 0
        asked = asyncio.ensure_future(find_environments({"PATH": "", "HOME": "/nonexistent"}, []))
        while not asked.done():
            await asyncio.sleep(0.01)
            count += 1
        assert (await asked).unfinished[0] == "conda environments"
        return count

    try:
        assert asyncio.run(turns()) > 5
    finally:
        answered.set()


def test_nothing_that_cannot_be_read_ends_the_probe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".condarc")
    (tmp_path / ".conda").mkdir()
    (tmp_path / ".conda" / "environments.txt").write_bytes(b"\xff\xfe\n/nonexistent\n\x00\n")
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / ".venv").symlink_to(loop)
    found = look(tmp_path, loop)
    assert found.unfinished == []
