"""The documentation agrees with the code: options, links, names of variables."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

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
