"""The way from a Spark kernelspec to spark-submit, through the real run.sh, without Spark."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from remote_provisioners.cli.spec.samples import samples, write_sample

SHOW = """#!/usr/bin/env python3
import json, os, signal, sys
ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
print(json.dumps([sys.argv[1:], ignored, dict(os.environ)]))
"""


class Installed:
    """A sample as it is on a host, and a SPARK_HOME that shows what reaches it."""

    def __init__(self, directory: Path, sample: str = "spark_python_yarn_client") -> None:
        self.spec, self.spark = directory / "spec", directory / "spark"
        write_sample(samples()[sample], self.spec, "", {})
        program = self.spark / "bin" / "spark-submit"
        program.parent.mkdir(parents=True)
        program.write_text(SHOW)
        program.chmod(0o755)
        java = directory / "java" / "bin" / "java"
        java.parent.mkdir(parents=True)
        java.touch(0o755)
        conf = directory / "conf"
        conf.mkdir()
        (conf / "yarn-site.xml").touch()
        self.environ = {
            "PATH": os.environ["PATH"],
            "PYSPARK_PYTHON": sys.executable,
            "SPARK_HOME": str(self.spark),
            "JAVA_HOME": str(directory / "java"),
            "HADOOP_CONF_DIR": str(conf),
        }

    def run(self, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.spec / "bin/run.sh"), *words],
            env={k: v for k, v in {**self.environ, **environ}.items() if v},
            capture_output=True,
            text=True,
            check=False,
        )

    def submitted(self, *words: str, **environ: str) -> list[str]:
        """The words that spark-submit gets."""
        done = self.run(*words, **environ)
        assert done.returncode == 0, done.stderr
        argv, interrupts_ignored, _ = json.loads(done.stdout)
        assert interrupts_ignored
        return list(argv)

    def refused(self, **environ: str) -> str:
        done = self.run(**environ)
        assert done.returncode != 0
        assert done.stdout == ""
        (line,) = done.stderr.splitlines()
        return line

    @property
    def launcher(self) -> str:
        return str(self.spec / "scripts" / "launch_ipykernel.py")


class InstalledScala(Installed):
    """The sample for Scala, with a Spark of these jars."""

    def __init__(self, directory: Path, *jars: str) -> None:
        super().__init__(directory, "spark_scala_yarn_client")
        (self.spark / "jars").mkdir()
        for jar in jars:
            (self.spark / "jars" / jar).touch()

    @property
    def launcher(self) -> str:
        return str(self.spec / "scripts" / "launch_scala.py")


@pytest.fixture
def installed(tmp_path: Path) -> Installed:
    return Installed(tmp_path)


def test_the_order_of_words(installed: Installed) -> None:
    words = installed.submitted(
        "--kernel-id",
        "a b",
        SPARK_OPTS="--master local --conf x=1",
        KERNEL_EXTRA_SPARK_OPTS="--conf y=2",
        LAUNCH_OPTS="--mode z",
    )
    options = ["--master", "local", "--conf", "x=1", "--conf", "y=2"]
    assert words == [*options, installed.launcher, "--mode", "z", "--kernel-id", "a b"]


@pytest.mark.parametrize("name", ["SPARK_OPTS", "KERNEL_EXTRA_SPARK_OPTS", "LAUNCH_OPTS"])
def test_words_are_split_and_nothing_is_evaluated(
    installed: Installed, name: str, tmp_path: Path
) -> None:
    text = f"""--conf "a=b c" 'd"e' f\\ g $(touch {tmp_path}/x) `id` $HOME * ~ ;&|<> # h"""
    words = [w for w in installed.submitted(**{name: text}) if w != installed.launcher]
    expected = ["--conf", "a=b c", 'd"e', "f g", "$(touch", f"{tmp_path}/x)", "`id`", "$HOME"]
    assert words == [*expected, "*", "~", ";&|<>", "#", "h"]
    assert not (tmp_path / "x").exists()


def test_what_no_request_has_filled_in_is_no_word(installed: Installed) -> None:
    words = installed.submitted(SPARK_OPTS="--x ${KERNEL_EXTRA_SPARK_OPTS}")
    assert words == ["--x", installed.launcher]


def test_sparks_former_variable_for_yarn(installed: Installed) -> None:
    given = {"SPARK_YARN_USER_ENV": "A=1,B=x:y=z"}
    words = installed.submitted(SPARK_OPTS="--master yarn", **given)
    settings = [word for word in words if word.startswith("spark.")]
    assert settings == [
        "spark.yarn.appMasterEnv.A=1",
        "spark.executorEnv.A=1",
        "spark.yarn.appMasterEnv.B=x:y=z",
        "spark.executorEnv.B=x:y=z",
    ]
    assert installed.submitted(SPARK_OPTS="--master local", **given) == [
        "--master",
        "local",
        installed.launcher,
    ]


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"SPARK_HOME": ""}, "SPARK_HOME is not set"),
        ({"SPARK_HOME": "/no/spark"}, "SPARK_HOME is /no/spark: no such directory on this host"),
        (
            {"SPARK_HOME": "/usr"},
            "SPARK_HOME is /usr: there is no executable bin/spark-submit in it",
        ),
        ({"JAVA_HOME": "/no/java"}, "no Java: JAVA_HOME is /no/java, which has no bin/java"),
        ({"SPARK_OPTS": "--name 'a"}, "SPARK_OPTS cannot be split into words (No closing"),
        ({"KERNEL_EXTRA_SPARK_OPTS": "a\\"}, "KERNEL_EXTRA_SPARK_OPTS cannot be split into words"),
        ({"HADOOP_CONF_DIR": ""}, "neither HADOOP_CONF_DIR nor YARN_CONF_DIR is set"),
        ({"HADOOP_CONF_DIR": "/usr"}, "HADOOP_CONF_DIR is /usr: there is no yarn-site.xml"),
        ({"PYSPARK_PYTHON": "/no/python"}, "PYSPARK_PYTHON: there is no /no/python on this host"),
    ],
)
def test_what_is_missing_is_one_line(
    installed: Installed, environ: dict[str, str], said: str
) -> None:
    assert said in installed.refused(**{"SPARK_OPTS": "--master yarn", **environ})


def test_no_java_anywhere(installed: Installed, tmp_path: Path) -> None:
    path = tmp_path / "path"
    path.mkdir()
    for name in ("sh", "dirname"):
        (path / name).symlink_to(f"/bin/{name}")
    line = installed.refused(JAVA_HOME="", PATH=str(path))
    assert line == f"no Java: java is not on PATH ({path}) and JAVA_HOME is not set"


def test_what_spark_sets_itself_is_not_missed(installed: Installed) -> None:
    (installed.spark / "conf").mkdir()
    text = "export JAVA_HOME=/x\nexport HADOOP_CONF_DIR=/y\n"
    (installed.spark / "conf" / "spark-env.sh").write_text(text)
    given = {"SPARK_OPTS": "--master yarn", "JAVA_HOME": "/no/java", "HADOOP_CONF_DIR": ""}
    assert installed.submitted(**given)[-1] == installed.launcher


@pytest.mark.parametrize(
    "options", ["--master=yarn", "--conf spark.master=yarn", "--master local --master yarn"]
)
def test_yarn_by_whatever_option(installed: Installed, options: str) -> None:
    assert "HADOOP_CONF_DIR" in installed.refused(SPARK_OPTS=options, HADOOP_CONF_DIR="")


def test_scala_of_a_spark_that_toree_does_not_fit(tmp_path: Path) -> None:
    scala = InstalledScala(tmp_path, "scala-library-2.13.16.jar", "spark-repl_2.13-4.0.5.jar")
    assert scala.submitted("--kernel-id", "a") == [scala.launcher, "--kernel-id", "a"]


def test_a_spark_without_an_interpreter_of_scala(tmp_path: Path) -> None:
    scala = InstalledScala(tmp_path, "scala-library-2.13.16.jar")
    assert scala.refused() == (
        f"the Spark of SPARK_HOME, {scala.spark} (Scala 2.13.16), has no interpreter: there is no "
        "spark-repl in its jars"
    )


def test_scala_without_a_spark_says_so_as_python_does(tmp_path: Path) -> None:
    said = InstalledScala(tmp_path).refused(SPARK_HOME="/no/spark")
    assert said == "SPARK_HOME is /no/spark: no such directory on this host"
