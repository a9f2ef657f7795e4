from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from remote_provisioners.errors import ConfigurationError
from remote_provisioners.placement.host_address import HostAddress
from remote_provisioners.placement.inventory import HostSpec, for_user, read_inventory
from remote_provisioners.placement.way_in import WayOptions

TABLE = {
    "host": "me@gpu1:2222",
    "weight": 2,
    "capacity": 8,
    "labels": ["a100", "big"],
    "gpus": 2,
    "python": "/opt/python",
    "environment_hook": "module load cuda",
}
SPEC = HostSpec(
    "me@gpu1:2222",
    HostAddress("gpu1", "me", 2222),
    python="/opt/python",
    hook="module load cuda",
    weight=2.0,
    capacity=8,
    labels=frozenset({"a100", "big"}),
    gpus=("0", "1"),
)


def test_names_and_tables() -> None:
    assert read_inventory(["a", TABLE]) == (HostSpec("a", HostAddress("a")), SPEC)


def test_what_is_the_same_is_the_same_object() -> None:
    """Kernelspecs with the same hosts share turns by it."""
    assert read_inventory(["a", "b"]) is read_inventory(["a", "b"])
    assert read_inventory([dict(TABLE)]) is read_inventory([dict(TABLE)])


def test_a_host_listed_twice_is_one_host() -> None:
    assert [spec.name for spec in read_inventory(["a", "b", "a "])] == ["a", "b"]


@pytest.mark.parametrize("kind", ["toml", "json"])
def test_files(tmp_path: Path, kind: str) -> None:
    file = tmp_path / f"hosts.{kind}"
    if kind == "json":
        file.write_text(json.dumps({"hosts": ["a", TABLE]}))
    else:
        lines = [f"{key} = {json.dumps(value)}" for key, value in TABLE.items()]
        file.write_text('[[hosts]]\nhost = "a"\n[[hosts]]\n' + "\n".join(lines))
    assert read_inventory([str(file)]) == read_inventory(["a", TABLE])


def test_a_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "hosts.json"
    file.write_text('{"hosts": ["a"]}')
    before = read_inventory([str(file)])
    assert read_inventory([str(file)]) is before
    file.write_text('{"hosts": ["b"]}')
    os.utime(file, ns=(1, 1))
    assert [spec.name for spec in read_inventory([str(file)])] == ["b"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"weight": 0}, "weight is 0, must be a number from 0.1 to 10"),
        ({"weight": "2"}, "weight is '2'"),
        ({"weight": True}, "weight is True"),
        ({"capacity": -1}, "capacity is -1, must be a number of kernels"),
        ({"capacity": 1.5}, "capacity is 1.5"),
        ({"labels": [1]}, r"labels is \[1\], must be a list of words"),
        ({"gpus": -1}, "gpus is -1, must be a number of devices"),
        ({"gpus": "all"}, "gpus is 'all'"),
        ({"python": 3}, "python is 3, must be a text"),
        ({"hook": "x"}, "unknown property 'hook'\\n.known: capacity, connect, environment_hook"),
    ],
)
def test_bad_properties_name_the_host(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=f"host me@gpu1:2222: {says}"):
        read_inventory([{**TABLE, **changes}])


@pytest.mark.parametrize("item", [{}, {"host": 5}, {"weight": 2}, 7])
def test_what_is_no_host(item: Any) -> None:
    with pytest.raises(ConfigurationError, match="a host must be a name or a table"):
        read_inventory([item])


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("hosts.toml", "[[hosts", "hosts.toml: "),
        ("hosts.json", "{", "hosts.json: "),
        ("hosts.json", "[]", "needs one list, `hosts`"),
        ("hosts.toml", 'host = "a"', "needs one list, `hosts`"),
        ("hosts.json", '{"hosts": []}', "hosts.json: remote_hosts is empty"),
        ("hosts.json", '{"hosts": ["/etc/passwd"]}', "hosts.json: '/etc/passwd' is not a host"),
        ("hosts.json", '{"hosts": ["a b"]}', "hosts.json: cannot read the host 'a b'"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, name: str, text: str, says: str) -> None:
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(ConfigurationError) as raised:
        read_inventory([str(file)])
    assert says in raised.value.message


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("hosts.toml", '\ufeff[[hosts]]\r\nhost = "a"\t# c\r\n'),
        ("hosts.json", '\ufeff{"hosts":\r\n["a"]}'),
    ],
)
def test_files_of_editors_on_windows(tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / name
    file.write_bytes(text.encode())
    assert [spec.name for spec in read_inventory([str(file)])] == ["a"]


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(ConfigurationError, match=r"hosts in /no/such\.toml: No such file"):
        read_inventory(["/no/such.toml"])


def test_users_share_hosts_that_do_not_depend_on_them() -> None:
    """Turns belong to an inventory: a gateway's users take them together."""
    plain = read_inventory(["a", "b"])
    options = WayOptions()
    assert for_user(plain, options, "ann") is for_user(plain, options, "bob")
    for dependent, own in (
        (read_inventory(["{username}@a"]), options),
        (plain, WayOptions(run_as="{username}")),
        (plain, WayOptions(connect=("tool", "--as={username}"))),
        (read_inventory([{"host": "a", "connect": ["tool", "{username}"]}]), options),
    ):
        ann, bob = (for_user(dependent, own, name) for name in ("ann", "bob"))
        assert ann != bob
        assert for_user(dependent, own, "ann") is ann


def test_the_way_in_of_a_host() -> None:
    table = {"host": "me@box:22", "connect": ["exec", "{host}", "{user}", "{port}"]}
    (spec,) = for_user(read_inventory([table]), WayOptions(connect="openssh"), "ann")
    assert spec.address.way.command == ("exec", "box", "me", "22")
    (other,) = for_user(read_inventory(["box"]), WayOptions(connect="openssh"), "ann")
    assert (other.address.way.kind, other.address.way.command) == ("openssh", ())


@pytest.mark.parametrize(
    ("connect", "text"),
    [
        ("telnet", "must be asyncssh, openssh, or a command"),
        ([], "must be asyncssh, openssh, or a command"),
        (["-x", "{host}"], "'-x' is not a program"),
        (["{host}"], "'{host}' is not a program"),
        (["tool", "{name}"], "unknown {name} (known: {host}, {port}, {user}, {username})"),
        (["tool", ""], "is not a word of a command"),
        (["tool", "a\nb"], "is not a word of a command"),
        ("[1", "is not a list of words in JSON"),
        (["tool", "{port}"], "there is no value for {port}"),
    ],
)
def test_a_way_in_that_cannot_be_used(connect: Any, text: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(text)):
        for_user(read_inventory([{"host": "box", "connect": connect}]), WayOptions(), "ann")
