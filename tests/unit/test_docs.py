"""The documentation agrees with the code: options, links, names of variables."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest
from traitlets.utils.importstring import import_item

from remote_provisioners.cli.app import RemoteApp
from remote_provisioners.cli.command import dashed
from remote_provisioners.engines.docker.provisioner import DockerProvisioner
from remote_provisioners.engines.kubernetes.provisioner import KubernetesProvisioner
from remote_provisioners.engines.slurm.provisioner import SlurmProvisioner
from remote_provisioners.engines.yarn.provisioner import YarnProvisioner
from remote_provisioners.kernels.start.launcher_reports import SECRET_VARIABLE
from remote_provisioners.options.config import RemoteProvisionerConfigMixin, option_names

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [
    *sorted(DOCS.rglob("*.md")),
    *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CHANGELOG.md")),
]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
#: What an error contains besides its own words: values, and what the system says.
VALUES = re.compile(
    r"…|'[^']*'|\(.*\)|[/~]\S+|[A-Z_]{4,}|\w*\d\w*(?:\.\.\d+)?|within \d.*|labels \w+|GPU"
    r"|: exit code|No \w+ .*"
)


def anchors(page: Path) -> set[str]:
    """What may stand behind # in a link to `page`."""
    titles = HEADING.findall(FENCE.sub("", page.read_text("utf-8")))
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_options_are_those_of_the_code() -> None:
    generator = runpy.run_path(str(DOCS / "generate.py"))
    assert (DOCS / "options.md").read_text("utf-8") == generator["page"](), "run docs/generate.py"


@pytest.mark.parametrize("page", [page for page in PAGES if page.exists()], ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(FENCE.sub("", page.read_text("utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_tests_of_faults_exist() -> None:
    page = (DOCS / "faults.md").read_text("utf-8")
    named = re.findall(r"`(test_\w+\.py)(?:::(test_\w+))?`", page)
    assert len(named) > 10
    for file, name in named:
        (path,) = (ROOT / "tests").glob(f"*/{file}")
        assert not name or f"def {name}(" in path.read_text("utf-8"), name


@pytest.mark.parametrize("page", [page for page in PAGES if page.exists()], ids=lambda p: p.name)
def test_variables_exist(page: Path) -> None:
    options = [*option_names(), *YarnProvisioner.class_own_traits(config=True)]
    options += KubernetesProvisioner.class_own_traits(config=True)
    options += DockerProvisioner.class_own_traits(config=True)
    options += SlurmProvisioner.class_own_traits(config=True)
    known = {f"RP_{name.upper()}" for name in options} | {SECRET_VARIABLE, "RP_OPTION"}
    assert set(re.findall(r"\bRP_[A-Z]\w*", page.read_text("utf-8"))) <= known


@pytest.mark.parametrize("page", [page for page in PAGES if page.exists()], ids=lambda p: p.name)
def test_options_named_in_examples_exist(page: Path) -> None:
    owner = RemoteProvisionerConfigMixin.__name__
    named = re.findall(rf"\b{owner}\.(\w+)", page.read_text("utf-8"))
    assert set(named) <= {*option_names(), "OPTION"}


def test_every_page_is_two_clicks_from_the_readme() -> None:
    def linked(page: Path) -> set[Path]:
        links = LINK.findall(page.read_text("utf-8"))
        found = ((page.parent / link.partition("#")[0]).resolve() for link in links)
        return {path for path in found if path.suffix == ".md" and path.exists()}

    first = linked(ROOT / "README.md")
    second = {path for page in first for path in linked(page)}
    assert {page for page in PAGES if page.exists()} <= {ROOT / "README.md", *first, *second}


@pytest.mark.parametrize("page", [page for page in PAGES if page.exists()], ids=lambda p: p.name)
def test_commands_and_their_options_exist(page: Path) -> None:
    text = re.sub(r"\\\n\s*", "", page.read_text("utf-8"))
    for words in re.findall(r"jupyter remote ((?:[a-z]+ ?)+)(.*)", text):
        command: Any = RemoteApp
        for word in words[0].split():
            if not isinstance(command.subcommands, dict) or word not in command.subcommands:
                break
            command = import_item(command.subcommands[word][0])
        assert command is not RemoteApp, words
        known = {dashed(name) for name in (*command.aliases, *command.flags, "help")}
        assert set(re.findall(r"(?<= )--[a-z][a-z-]+", re.split("[`#]", words[1])[0])) <= known, (
            words
        )


def test_quoted_errors_are_those_of_the_code() -> None:
    """Of each in the tables of errors, the end of the longest piece without names and numbers."""
    sources = (path.read_text("utf-8") for path in (ROOT / "src").rglob("*.py"))
    code = re.sub(r'"\s*\n\s*f?"', "", "\n".join(sources)).replace("\\n", " ")
    code = re.sub(r"\{[^{}\n]*\}", "{}", code)
    guide = (DOCS / "operators-guide.md").read_text("utf-8")
    rows = guide.partition("| cause | status | text |")[2].partition("\n\n")[0].splitlines()
    rows += (
        (DOCS / "users-guide.md").read_text("utf-8").partition("# Common errors")[2].splitlines()
    )
    for row in rows:
        cell = row.split(" | ")[2 if re.search(r"\| \d{3} \|", row) else 0]
        for text in re.findall(r"`([^`]+)`", cell):
            pieces = VALUES.split(text)
            piece = max(pieces, key=len).strip(" .:,;()")
            assert " ".join(piece.split()[-3:]) in code, text
