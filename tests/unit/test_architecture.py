"""The shape of the package: what may import what, and how large a module may be."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import remote_provisioners

PACKAGE = remote_provisioners.__name__
ROOT = Path(remote_provisioners.__file__).parent
MOST_LINES = 400
MOST_IN_ROOT = 12
#: Imports for type checking only, against the way of the others.
BACKWARD = {
    ("events", "hosts.host"),  # it names what it tells of
    ("events", "kernels.remote_kernel"),
}
#: Decide, and await nothing.
PURE = [
    "events",
    "errors",
    "environments.environment",
    "environments.host_entry",
    "environments.install_command",
    "environments.kernelspec",
    "environments.naming",
    "environments.plan",
    "hosts.machine",
    "kernels.lifecycle",
    "kernels.failure",
    "options.launch_request",
    "placement.host_address",
    "placement.host_table",
    "placement.inventory",
    "placement.policies",
    "placement.way_in",
]

#: Shipped with kernelspecs, and run by a host's Python: no modules of the package.
SOURCES = {
    path: ast.parse(path.read_text("utf-8"))
    for path in sorted(ROOT.rglob("*.py"))
    if "kernelspecs" not in path.relative_to(ROOT).parts
}


def name_of(path: Path) -> str:
    """`kernels.lifecycle`; "" for the package itself."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in SOURCES}


def at_module_level(tree: ast.AST) -> Iterator[ast.stmt]:
    """Every statement that is run by an import, those under `if TYPE_CHECKING` included."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.stmt):
            yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield from at_module_level(node)


def imported(path: Path) -> set[str]:
    """The modules of the package that this one imports at module level."""
    package = name_of(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    found = set()
    for node in at_module_level(SOURCES[path]):
        if isinstance(node, ast.Import):
            found |= {n.name.partition(".")[2] for n in node.names if n.name.startswith(PACKAGE)}
        elif isinstance(node, ast.ImportFrom):
            base = (node.module or "").split(".") if node.module else []
            if node.level:
                base = [*package[: len(package) - node.level + 1], *base]
            elif base[:1] == [PACKAGE]:
                base = base[1:]
            else:
                continue
            found.add(".".join(base))
            found |= {".".join([*base, alias.name]) for alias in node.names}
    return (found & MODULES.keys()) - {name_of(path)}


IMPORTS = {name: imported(path) for name, path in MODULES.items()}


def circles() -> list[list[str]]:
    """Each way from a module back to it, through modules that are not mere packages."""
    found, done = [], set()

    def walk(name: str, way: list[str]) -> None:
        if name in way:
            found.append([*way[way.index(name) :], name])
        elif name not in done:
            for other in sorted(IMPORTS[name]):
                if other and (name, other) not in BACKWARD:  # "": everybody imports the package
                    walk(other, [*way, name])
            done.add(name)

    for name in sorted(IMPORTS):
        walk(name, [])
    return found


def test_imports_are_seen() -> None:
    """The test itself reads imports as Python does."""
    assert "kernels.lifecycle" in IMPORTS["kernels.remote_kernel"]
    assert "hosts.host" in IMPORTS["events"]  # for type checking only
    in_a_function = "hosts.transport.by_asyncssh.transport"
    assert in_a_function not in IMPORTS["hosts.transport"]


def test_no_module_imports_itself_by_others() -> None:
    assert circles() == []


def test_hosts_know_no_engine() -> None:
    """An engine uses hosts. Its address names its way in (`HostAddress.connector`)."""
    below = ("protocol", "agent", "placement", "options", "hosts", "kernels", "files", "ports")
    for name, path in MODULES.items():
        if name.split(".")[0] in below:
            text = ast.unparse(SOURCES[path])  # imports in functions included
            assert "engines." not in "".join(
                line for line in text.splitlines() if line.lstrip().startswith(("from ", "import "))
            ), name


def test_modules_are_short() -> None:
    lines = {path: len(path.read_text("utf-8").splitlines()) for path in SOURCES}
    long = {str(path.relative_to(ROOT)): n for path, n in lines.items() if n > MOST_LINES}
    assert long == {}


def test_one_module_asks_who_runs_this_process() -> None:
    """It knows of users without an entry in the user database, as in a container."""
    asking = {name for name, path in MODULES.items() if "getpass" in path.read_text("utf-8")}
    assert asking == {"user"}


@pytest.mark.parametrize(
    "part", ["options", "placement", "hosts", "kernels", "files", "ports", "environments"]
)
def test_what_every_application_uses_knows_no_jupyter_server(part: str) -> None:
    knowing = {
        name: others
        for name, all_of_them in IMPORTS.items()
        if name.partition(".")[0] == part
        and (others := {o for o in all_of_them if o.partition(".")[0] in ("server", "cli")})
    }
    assert knowing == {}


def test_the_root_is_small() -> None:
    assert len(list(ROOT.glob("*.py"))) <= MOST_IN_ROOT


@pytest.mark.parametrize("part", ["agent", "protocol"])
def test_what_travels_to_hosts_imports_nothing_of_the_server(part: str) -> None:
    allowed = ("agent", "protocol")
    strangers = {
        name: others
        for name, all_of_them in IMPORTS.items()
        if name.partition(".")[0] == part
        and (others := {o for o in all_of_them if o and o.partition(".")[0] not in allowed})
    }
    assert strangers == {}


@pytest.mark.parametrize("name", PURE)
def test_decisions_are_apart_from_input_and_output(name: str) -> None:
    tree = SOURCES[MODULES[name]]
    waits = (ast.Await, ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith)
    assert [node.lineno for node in ast.walk(tree) if isinstance(node, waits)] == []
    if name != "events":  # it names what it tells of
        assert {o for o in IMPORTS[name] if o.startswith("hosts")} == set()
