"""``jupyter remote spec``: what it installs, lists, removes, and what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from remote_provisioners.cli.spec.samples import parts, samples


class CommandLine:
    """``jupyter remote spec`` as a user with an empty home."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.kernels = home / "data" / "kernels"
        self.environ = {k: v for k, v in os.environ.items() if not k.startswith(("RP_", "JUPYTER"))}
        self.environ |= {
            "HOME": str(home),
            "JUPYTER_DATA_DIR": str(home / "data"),
            "JUPYTER_CONFIG_DIR": str(home / "config"),
            "IPYTHONDIR": str(home / "ipython"),
        }

    def run(self, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "remote_provisioners.cli.app", "spec", *words],
            env={**self.environ, **environ},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def refused(self, *words: str, status: int = 1, **environ: str) -> str:
        """The one line that is said when it does not work."""
        done = self.run(*words, **environ)
        assert done.returncode == status, done
        assert done.stdout == ""
        (line,) = done.stderr.splitlines()
        return line

    def kernel_json(self, name: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.kernels / name / "kernel.json").read_text())
        return content

    def listed(self, **environ: str) -> dict[str, dict[str, Any]]:
        done = self.run("list", "--json", **environ)
        assert done.returncode == 0, done.stderr
        return {spec["name"]: spec for spec in json.loads(done.stdout)["kernelspecs"]}

    def foreign(self, name: str, **metadata: Any) -> Path:
        """A kernelspec of somebody else."""
        directory = self.kernels / name
        directory.mkdir(parents=True)
        content = {"argv": ["x"], "display_name": name, "language": "x", "metadata": metadata}
        (directory / "kernel.json").write_text(json.dumps(content))
        return directory


@pytest.fixture
def command(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


def test_installs_the_default_sample(command: CommandLine) -> None:
    done = command.run("install", "--user")
    assert (done.returncode, done.stderr) == (0, "")
    assert str(command.kernels / "python_distributed") in done.stdout
    assert "Its kernels run on the configured hosts, now: localhost\n" in done.stdout
    content = command.kernel_json("python_distributed")
    assert content["argv"] == ["python", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    assert content["metadata"] == {
        "debugger": True,
        "kernel_provisioner": {"provisioner_name": "distributed-provisioner", "config": {}},
    }


@pytest.mark.parametrize("name", sorted(samples()))
def test_installs_each_sample_whole(command: CommandLine, name: str) -> None:
    assert command.run("install", name, "--user").returncode == 0
    source = {p.name for part in parts(samples()[name]) for p in part.iterdir()} - {"__pycache__"}
    installed = command.kernels / name.lower()
    assert {path.name for path in installed.iterdir()} == source
    assert (installed / "logo-svg.svg").read_text().startswith("<svg")


def test_options_go_into_the_stanza(command: CommandLine) -> None:
    done = command.run(
        "install",
        "--user",
        "--name=gpu",
        "--display-name=On a GPU",
        "--remote-hosts=a,me@b:2222",
        "--load-balancing-algorithm=least-connection",
        "--python=/opt/x/bin/python",
        "--environment-hook=source /opt/x; y='$z'",
        "--launch-timeout=7",
        "--authorized-users=bob,alice",
    )
    assert done.returncode == 0, done.stderr
    content = command.kernel_json("gpu")
    assert content["display_name"] == "On a GPU"
    assert content["metadata"]["kernel_provisioner"]["config"] == {
        "remote_hosts": ["a", "me@b:2222"],
        "load_balancing_algorithm": "least-connection",
        "python": "/opt/x/bin/python",
        "environment_hook": "source /opt/x; y='$z'",
        "launch_timeout": 7.0,
        "authorized_users": ["alice", "bob"],
    }


def test_spark_is_where_it_is_said_to_be(command: CommandLine) -> None:
    done = command.run(
        "install",
        "spark_python_standalone",
        "--user",
        "--spark-home=/x y/spark",
        "--spark-master=spark://m:1,n:1; rm",
        "--python=/x/python",
    )
    assert done.returncode == 0, done.stderr
    content = command.kernel_json("spark_python_standalone")
    assert content["env"] == {
        "SPARK_HOME": "/x y/spark",
        "PYSPARK_PYTHON": "/x/python",
        "SPARK_OPTS": "--master 'spark://m:1,n:1; rm' --name ${KERNEL_ID:-ERROR__NO__KERNEL_ID}",
        "LAUNCH_OPTS": "",
    }
    scripts = command.kernels / "spark_python_standalone/scripts"
    assert {"launch_ipykernel.py", "main.py", "submit.py"} < {p.name for p in scripts.iterdir()}
    assert (scripts.parent / "bin/run.sh").stat().st_mode & 0o111 == 0o111


def test_yarn_is_where_it_is_said_to_be(command: CommandLine) -> None:
    done = command.run(
        "install",
        "spark_R_yarn_cluster",
        "--user",
        "--yarn-endpoint=http://a:1",
        "--alt-yarn-endpoint=http://b:1",
        "--response-address=10.0.0.1:7000",
        "--impersonation=true",
        "--yarn-queue=a b",
    )
    assert done.returncode == 0, done.stderr
    content = command.kernel_json("spark_r_yarn_cluster")
    assert content["metadata"]["kernel_provisioner"]["config"] == {
        "launch_timeout": 120,
        "yarn_endpoint": "http://a:1",
        "alt_yarn_endpoint": "http://b:1",
        "response_address": "10.0.0.1:7000",
        "impersonation": True,
    }
    assert content["env"]["SPARK_OPTS"].endswith(" --queue 'a b'")


def test_options_of_the_environment_stay_there(command: CommandLine) -> None:
    command.run("install", "--user", "--python=/x", RP_REMOTE_HOSTS="a,b")
    stanza = command.kernel_json("python_distributed")["metadata"]["kernel_provisioner"]
    assert stanza["config"] == {"python": "/x"}


def test_whoever_may_enter_the_directory_may_read_it(command: CommandLine, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        command.run("install", f"--prefix={tmp_path}/p")
    finally:
        os.umask(before)
    directory = tmp_path / "p/share/jupyter/kernels/python_distributed"
    assert directory.stat().st_mode & 0o777 == 0o755
    assert (directory / "kernel.json").stat().st_mode & 0o777 == 0o644


def test_a_prefix_where_jupyter_does_not_look_is_said(command: CommandLine, tmp_path: Path) -> None:
    done = command.run("install", f"--prefix={tmp_path}/p")
    assert done.returncode == 0
    assert f"add {tmp_path}/p/share/jupyter to JUPYTER_PATH" in done.stderr


def test_one_that_hides_it_is_said(command: CommandLine, tmp_path: Path) -> None:
    command.run("install", "--user")
    path = str(tmp_path / "p/share/jupyter")
    done = command.run("install", f"--prefix={tmp_path}/p", JUPYTER_PATH=path)
    assert done.returncode == 0
    assert done.stderr == ""  # JUPYTER_PATH comes first
    done = command.run("install", "--user", "--replace", JUPYTER_PATH=path)
    assert f"Another kernelspec of this name in {path}" in done.stderr


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--remote-hosts=a,b c", "cannot read the host 'b c'"),
        ("--remote-hosts=", "remote_hosts is empty"),
        ("--load-balancing-algorithm=fastest", "known: fill, least-connection, least-load"),
        ("--launch-timeout=soon", "--launch-timeout: "),
        ("--launch-timeout=-1", "must be a positive number"),
        ("--port-range=1..2", "ports are 1024 to 65535"),
        ("--name=a/b", "Invalid kernel name"),
        ("--spark-home=/x", "python_distributed does not use Spark"),
        ("--yarn-queue=x", "python_distributed does not use Spark"),
        ("--yarn-endpoint=http://a:1", "YARN does not place kernels of python_distributed"),
        ("--impersonation=maybe", "--impersonation: "),
        ("--warm=two", "--warm: warm is 'two', must be a whole number"),
    ],
)
def test_a_bad_value_is_one_line(command: CommandLine, option: str, said: str) -> None:
    line = command.refused("install", "--user", option)
    assert line.startswith("jupyter remote spec install: ")
    assert said in line
    assert not command.kernels.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--hosts=a",), "unknown option --hosts; did you mean '--remote-hosts'?"),
        (("--frobnicate",), "unknown option --frobnicate (see --help)"),
        (("-x",), "unknown option -x (see --help)"),
        (("a", "b"), "this command takes one SAMPLE, not 'a b'"),
        (("host1",), "unknown sample 'host1' (known: python_distributed"),
        (("--user", "--sys-prefix"), "give only one of --user, --sys-prefix and --prefix"),
        (("--user", "--prefix=x"), "give only one of --user, --sys-prefix and --prefix"),
    ],
)
def test_what_cannot_be_understood_is_status_2(
    command: CommandLine, words: tuple[str, ...], said: str
) -> None:
    assert said in command.refused("install", *words, status=2)


def test_the_help_of_a_sample_is_about_its_options(command: CommandLine) -> None:
    shown = command.run("install", "python_docker", "--help").stdout
    options = {line.partition("=")[0] for line in shown.splitlines() if line.startswith("--")}
    assert {"--image", "--memory", "--lease"} <= options
    assert not {"--remote-hosts", "--namespace"} & options
    assert "The limit of the container's memory" in shown  # Kubernetes has an option of this name


def test_what_an_engine_places_has_a_doctor(command: CommandLine) -> None:
    done = command.run("install", "python_docker", "--user", "--image=x")
    assert "jupyter remote doctor python_docker" in done.stdout


def test_no_permission_says_where_to_install(command: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    line = command.refused("install", f"--prefix={tmp_path}/file")
    assert f"cannot write {tmp_path}/file/share (Not a directory)" in line


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_no_permission_for_all_users(command: CommandLine) -> None:
    assert "install with --user" in command.refused("install")


def test_kernelspecs_are_replaced_only_on_demand(command: CommandLine) -> None:
    done = command.run("install", "--user", "--remote-hosts=a,b")
    assert "Its kernels run on: a, b\n" in done.stdout
    assert done.stdout.endswith("jupyter remote doctor python_distributed\n")
    assert "kernelspec 'python_distributed' for a, b" in command.refused("install", "--user")
    assert command.listed()["python_distributed"]["remote_hosts"] == ["a", "b"]
    done = command.run("install", "--user", "--remote-hosts=c", "--replace")
    assert done.returncode == 0
    assert "its kernels ran on a, b" in done.stdout
    assert "Its kernels run on: c" in done.stdout
    assert command.listed()["python_distributed"]["remote_hosts"] == ["c"]
    directory = command.foreign("theirs")
    before = (directory / "kernel.json").read_text()
    assert "does not use this package" in command.refused("install", "--user", "--name=theirs")
    assert (directory / "kernel.json").read_text() == before
    assert command.run("install", "--user", "--name=theirs", "--replace").returncode == 0
    assert "theirs" in command.listed()


def test_list_shows_what_a_kernel_would_get(command: CommandLine) -> None:
    command.run("install", "--user", "--name=own", "--remote-hosts=a,b")
    command.run("install", "--user", "--name=general")
    table = {"host": "gpu1", "python": "/opt/venv/bin/python"}  # as `jupyter remote add` writes it
    command.foreign(
        "added",
        kernel_provisioner={
            "provisioner_name": "distributed-provisioner",
            "config": {"remote_hosts": [table, "a"]},
        },
    )
    command.foreign("theirs")
    command.foreign("local", kernel_provisioner={"provisioner_name": "local-provisioner"})
    listed = command.listed(RP_REMOTE_HOSTS="c", RP_LOAD_BALANCING_ALGORITHM="least-connection")
    assert {name: spec["remote_hosts"] for name, spec in listed.items()} == {
        "added": [table, "a"],
        "own": ["a", "b"],
        "general": ["c"],
    }
    assert listed["own"]["load_balancing_algorithm"] == "least-connection"
    assert listed["own"]["directory"] == str(command.kernels / "own")
    text = command.run("list").stdout.splitlines()
    assert [line.split()[0] for line in text] == ["NAME", "added", "general", "own"]
    assert "gpu1,a" in text[1]
    assert "a,b" in text[3]


def test_list_reads_the_hosting_applications_configuration(command: CommandLine) -> None:
    command.run("install", "--user")
    config = command.home / "config"
    config.mkdir(exist_ok=True)
    (config / "jupyter_server_config.py").write_text(
        "c.RemoteProvisionerConfigMixin.remote_hosts = ['from-file']\n"
    )
    listed = command.listed(RP_REMOTE_HOSTS="from-environment")
    assert listed["python_distributed"]["remote_hosts"] == ["from-file"]


def test_list_shows_a_stanza_that_cannot_be_used(command: CommandLine) -> None:
    stanza = {"provisioner_name": "distributed-provisioner", "config": {"remote_host": "a"}}
    command.foreign("broken", kernel_provisioner=stanza)
    assert "unknown option remote_host" in command.listed()["broken"]["error"]
    assert "unknown option remote_host" in command.run("list").stdout


def test_list_of_nothing(command: CommandLine) -> None:
    done = command.run("list")
    assert (done.returncode, "jupyter remote spec install" in done.stdout) == (0, True)


def test_remove_takes_ours_only(command: CommandLine) -> None:
    command.run("install", "--user")
    theirs = command.foreign("theirs")
    assert command.run("remove", "python_distributed").returncode == 0
    assert not (command.kernels / "python_distributed").exists()
    assert "no kernelspec" in command.refused("remove", "python_distributed")
    assert "does not use a provisioner of this package" in command.refused("remove", "theirs")
    assert theirs.is_dir()
    assert "NAME is missing" in command.refused("remove", status=2)


def test_no_subcommand_lists_them(command: CommandLine) -> None:
    done = command.run()
    assert done.returncode == 2
    assert "install" in done.stdout
    assert "unknown subcommand 'bogus'" in command.refused("bogus", status=2)


@pytest.mark.parametrize(("sample", "engine"), [("", "--spark-home"), ("python_slurm", "--image")])
def test_help_is_about_one_sample(command: CommandLine, sample: str, engine: str) -> None:
    done = command.run("install", *filter(None, [sample]), "--help")
    assert done.returncode == 0
    assert engine not in done.stdout  # neither as an option nor in an example
    assert f"jupyter remote spec install {sample or '--user'}" in done.stdout
