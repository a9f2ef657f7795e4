"""The files of a host by the contents API, as JupyterLab's file browser uses it."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..conftest import InstallSpec
from ..rig import Host, Rig
from .applications import AUTHORIZATION, Applications, Server

DIRECTORY = "drive-of-a-test"


class HostDrive:
    """Speaks to the contents of one host."""

    def __init__(self, server: Server, host: Host) -> None:
        self.server, self.host = server, host
        self.root = f"/remote-provisioners/api/v1/hosts/{host.target}"

    def ask(self, method: str, path: str, body: Any = None, expect: int = 200) -> Any:
        """What is answered: an error need not be JSON."""
        connection = http.client.HTTPConnection(self.server.address, timeout=60)
        data = None if body is None else json.dumps(body)
        url = f"{self.root}/contents/{quote(path)}"
        connection.request(method, url, data, AUTHORIZATION)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        assert answer.status == expect, (answer.status, text)
        return json.loads(text or b"null") if expect < 400 else text.decode()

    def text(self, path: str) -> str:
        return str(self.ask("GET", path)["content"])

    def save(self, path: str, text: str, expect: int = 200, **fields: Any) -> Any:
        body = {"type": "file", "format": "text", "content": text, **fields}
        return self.ask("PUT", path, body, expect)

    def download(self, path: str, **headers: str) -> tuple[int, Any, bytes]:
        connection = http.client.HTTPConnection(self.server.address, timeout=60)
        connection.request("GET", f"{self.root}/files/{quote(path)}", None, AUTHORIZATION | headers)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        return answer.status, answer.headers, data


def quote(path: str) -> str:
    address, mark, query = path.partition("?")
    return urllib.parse.quote(address) + mark + query


@pytest.fixture
def drive(rig: Rig, home: Path, tmp_path: Path, install_spec: InstallSpec) -> Iterator[HostDrive]:
    install_spec([host.target for host in rig.hosts])
    host = rig.hosts[0]
    host.run(["mkdir", DIRECTORY])
    with Applications(tmp_path) as applications:
        root = f"--RemoteAccess.file_roots={DIRECTORY}"
        yield HostDrive(applications.server("server", root), host)
    host.run(["rm", "-rf", DIRECTORY])


def test_a_file_browser_and_an_editor(drive: HostDrive) -> None:
    assert drive.ask("GET", "")["content"] == []
    made = drive.ask("POST", "", {"type": "directory"}, 201)
    assert (made["path"], made["type"]) == ("Untitled Folder", "directory")
    drive.ask("PATCH", "Untitled Folder", {"path": "work"})
    made = drive.ask("POST", "work", {"type": "file", "ext": ".txt"}, 201)
    assert made["path"] == "work/untitled.txt"
    saved = drive.save("work/untitled.txt", "text ä\n")
    assert drive.host.run(["cat", f"{DIRECTORY}/work/untitled.txt"]) == "text ä\n"
    found = drive.ask("GET", "work/untitled.txt")
    assert (found["content"], found["format"], found["writable"]) == ("text ä\n", "text", True)
    assert found["last_modified"] == saved["last_modified"]
    assert drive.ask("GET", "work/untitled.txt?content=0")["content"] is None
    digest = hashlib.sha256("text ä\n".encode()).hexdigest()
    for content in (0, 1):
        found = drive.ask("GET", f"work/untitled.txt?content={content}&hash=1")
        assert (found["hash"], found["hash_algorithm"]) == (digest, "sha256")

    data = base64.b64encode(bytes(range(256))).decode()
    drive.ask("PUT", "work/b", {"type": "file", "format": "base64", "content": data}, 201)
    found = drive.ask("GET", "work/b")
    assert (base64.b64decode(found["content"]), found["format"]) == (bytes(range(256)), "base64")
    drive.ask("GET", "work/b?format=text", expect=400)

    copied = drive.ask("POST", "work", {"copy_from": "work/b"}, 201)
    assert copied["path"] == "work/b-Copy1"
    drive.ask("PATCH", "work/b", {"path": "work/untitled.txt"}, 409)
    drive.ask("DELETE", "work/b", expect=204)
    drive.ask("GET", "work/b", expect=404)

    notebook = drive.ask("POST", "work", {"type": "notebook"}, 201)
    assert notebook["path"] == "work/Untitled.ipynb"
    content = drive.ask("GET", notebook["path"])["content"]
    assert content["nbformat"] == 4
    content["metadata"]["x"] = 1
    body = {"type": "notebook", "format": "json", "content": content}
    drive.ask("PUT", notebook["path"], body)
    assert drive.ask("GET", notebook["path"])["content"]["metadata"]["x"] == 1
    listed = {m["name"]: m["type"] for m in drive.ask("GET", "work")["content"]}
    assert listed == {"untitled.txt": "file", "b-Copy1": "file", "Untitled.ipynb": "notebook"}

    path = "work/untitled.txt/checkpoints"
    assert drive.ask("GET", path) == []
    checkpoint = drive.ask("POST", path, expect=201)
    drive.save("work/untitled.txt", "worse")
    assert [c["id"] for c in drive.ask("GET", path)] == [checkpoint["id"]]
    drive.ask("POST", f"{path}/{checkpoint['id']}", expect=204)
    assert drive.text("work/untitled.txt") == "text ä\n"
    drive.ask("PATCH", "work/untitled.txt", {"path": "work/renamed.txt"})
    assert len(drive.ask("GET", "work/renamed.txt/checkpoints")) == 1
    drive.ask("DELETE", f"work/renamed.txt/checkpoints/{checkpoint['id']}", expect=204)
    for name in ("renamed.txt", "b-Copy1", "Untitled.ipynb"):
        drive.ask("DELETE", f"work/{name}", expect=204)
    drive.ask("DELETE", "work", expect=204)
    assert drive.host.files(DIRECTORY) == []

    drive.ask("POST", "", {"type": "directory"}, 201)
    drive.save("Untitled Folder/ä", "kept", 201)
    drive.ask("DELETE", "Untitled Folder", expect=204)
    assert drive.host.files(DIRECTORY) == []
    trash = ".local/share/Trash"
    assert drive.host.run(["cat", f"{trash}/files/Untitled Folder/ä"]) == "kept"
    note = drive.host.run(["cat", f"{trash}/info/Untitled Folder.trashinfo"])
    assert f"Path={drive.host.home}/{DIRECTORY}/Untitled%20Folder\n" in note
    drive.host.run(["rm", "-r", trash])


def test_nothing_that_somebody_else_wrote_is_lost(drive: HostDrive) -> None:
    first = drive.save("a", "first", 201)
    seen = first["last_modified"]
    drive.host.write(f"{DIRECTORY}/a", "theirs")
    drive.save("a", "ours", 409, expected=seen)
    assert drive.text("a") == "theirs"
    seen = drive.ask("GET", "a?content=0")["last_modified"]
    drive.save("a", "ours", expected=seen)
    drive.host.run(["rm", f"{DIRECTORY}/a"])
    drive.save("a", "ours", 409, expected=seen)
    drive.save("a", "new", 201)
    drive.host.run(["chmod", "0640", f"{DIRECTORY}/a"])
    drive.save("a", "newer")
    assert drive.host.run(["stat", "-c", "%a", f"{DIRECTORY}/a"]).strip() == "640"


def test_large_files_go_in_pieces(drive: HostDrive) -> None:
    data = os.urandom(3_000_000)
    pieces = [data[:1_000_000], data[1_000_000:2_000_000], data[2_000_000:]]
    for number, piece in zip((1, 2, -1), pieces, strict=True):
        content = base64.b64encode(piece).decode()
        body = {"type": "file", "format": "base64", "chunk": number, "content": content}
        drive.ask("PUT", "large", body, 201)
        if number > 0:
            assert [m["name"] for m in drive.ask("GET", "")["content"]] == []
    status, headers, found = drive.download("large")
    assert (status, found == data, headers["Content-Length"]) == (200, True, "3000000")
    assert "sandbox" in headers["Content-Security-Policy"]
    status, headers, found = drive.download("large?download=1", Range="bytes=2999990-")
    assert (status, found) == (206, data[-10:])
    assert headers["Content-Range"] == "bytes 2999990-2999999/3000000"
    assert headers["Content-Disposition"].startswith("attachment")
    assert drive.download("large", Range="bytes=3000000-")[0] == 416
    assert drive.download("nosuch")[0] == 404
    body = {"type": "file", "format": "base64", "chunk": 2, "content": ""}
    drive.ask("PUT", "other", body, 400)  # there was no first one
    before = drive.server.most_memory
    body["content"] = base64.b64encode(bytes(2**20)).decode()
    for number in (*range(1, 40), -1):
        drive.ask("PUT", "larger", {**body, "chunk": number}, 201)
    assert drive.ask("GET", "larger?content=0")["size"] == 40 * 2**20
    assert drive.server.most_memory < before + 25 * 2**20


def test_names_links_and_permissions(drive: HostDrive) -> None:
    host = drive.host
    make = (
        f"import os; os.chdir(os.path.expanduser('~/{DIRECTORY}'))\n"
        "open(b'latin-\\xe4', 'w').write('x'); open('.hidden', 'w')\n"
        "os.symlink('inside', 'link'); open('inside', 'w').write('in')\n"
        "os.symlink('/etc/passwd', 'out'); os.symlink('nosuch', 'dangling'); os.mkfifo('pipe')\n"
        "open('fixed', 'w').write('f'); os.chmod('fixed', 0o444)\n"
    )
    host.run(["python3", "-c", make])
    listed = {m["name"]: m for m in drive.ask("GET", "")["content"]}
    assert set(listed) == {"latin-\U0010fee4", "link", "inside", "fixed"}
    assert drive.text("latin-\U0010fee4") == "x"
    drive.ask("PATCH", "latin-\U0010fee4", {"path": "plain"})
    assert drive.text("link") == "in"
    drive.save("link", "through")
    assert drive.text("inside") == "through"
    if host.user != "root":
        assert not listed["fixed"]["writable"]
        drive.save("fixed", "x", 403)
    drive.ask("GET", "out", expect=403)
    drive.ask("GET", ".hidden", expect=404)
    drive.ask("DELETE", "link", expect=204)
    assert drive.text("inside") == "through"
    for path in ("../x", "a/../../x", "%2e%2e/x", "x/..", "nosuch/x", "x" * 4096, "a\0b"):
        assert drive.download(path)[0] in (400, 403, 404), path
    drive.root = "/remote-provisioners/api/v1/hosts/nosuch"
    drive.ask("GET", "", expect=404)


@pytest.mark.parametrize("count", [2_000, pytest.param(100_000, marks=pytest.mark.long)])
def test_a_directory_of_many_entries(drive: HostDrive, count: int) -> None:
    make = (
        f"import os; os.chdir('{DIRECTORY}'); [open(str(n), 'w').close() for n in range({count})]"
    )
    drive.host.run(["python3", "-c", make], timeout=120)
    began = time.monotonic()
    listed = drive.ask("GET", "")["content"]
    print(f"{count} entries in {time.monotonic() - began:.1f} s")
    assert len(listed) == count
    began = time.monotonic()
    found = drive.ask("GET", "?most=3&containing=1")
    print(f"the first 3 of them in {time.monotonic() - began:.1f} s")
    assert [model["name"] for model in found["content"]] == ["1", "10", "11"]
    assert found["left_out"] == sum("1" in str(number) for number in range(count)) - 3
    drive.save("a", "text", 201)
    assert drive.text("a?most=3") == "text"
    for most in ("x", "-1", "1000001"):
        drive.ask("GET", f"?most={most}", expect=400)


def test_who_is_not_logged_in_sees_no_file(drive: HostDrive) -> None:
    drive.save("a", "secret", 201)
    for path in ("contents/", "contents/a", "contents/a/checkpoints", "files/a"):
        connection = http.client.HTTPConnection(drive.server.address, timeout=30)
        connection.request("GET", f"{drive.root}/{path}")
        answer = connection.getresponse()
        assert answer.status in (302, 403), path
        assert b"secret" not in answer.read()
        connection.close()


@pytest.mark.long
def test_no_user_reaches_the_files_of_another(
    rig: Rig, home: Path, tmp_path: Path, install_spec: InstallSpec
) -> None:
    """Alice and root have drives of one host, both of a directory that both may enter."""
    host = rig.hosts[0]
    if "alice" not in host.homes or host.user != "root":
        pytest.skip("needs hosts with users of their own")
    names = [f"{user}@{host.target}" for user in ("root", "alice")]
    install_spec(names)
    make = (
        "import os; os.umask(0); os.mkdir('/tmp/both', 0o777); os.chdir('/tmp/both')\n"
        "os.mkdir('private', 0o700); open('private/a', 'w').write('secret')\n"
        "open('a', 'w').write('secret'); os.chmod('a', 0o600); os.symlink('private/a', 'link')\n"
    )
    host.run(["python3", "-c", make])
    with Applications(tmp_path) as applications:
        server = applications.server("server", "--RemoteAccess.file_roots=/tmp/both")
        of_root, of_alice = HostDrive(server, host), HostDrive(server, host)
        for drive, name in ((of_root, names[0]), (of_alice, names[1])):
            drive.root = f"/remote-provisioners/api/v1/hosts/{name}"
        for path in ("a", "private/a", "link"):
            assert of_root.text(path) == "secret"
            assert of_alice.download(path)[0] == 403
            of_alice.save(path, "x", 403)
        of_alice.ask("GET", "private", expect=403)
        listed = {m["name"]: m["writable"] for m in of_alice.ask("GET", "")["content"]}
        assert listed == {"a": False, "private": False}
        of_alice.ask("PUT", "hers", {"type": "file", "format": "text", "content": "hers"}, 201)
        assert host.run(["stat", "-c", "%U", "/tmp/both/hers"]).strip() == "alice"
        # The socket of root's agent gives no access either.
        reach = (
            "import glob, os, socket, sys\n"
            "try: socket.socket(socket.AF_UNIX).connect(sys.argv[1])\n"
            "except PermissionError: print('refused')\n"
        )
        (found,) = host.run(["sh", "-c", "ls /tmp/remote-provisioners-0/*/files.sock"]).split()
        assert host.run(["python3", "-c", reach, found], user="alice").strip() == "refused"
    host.run(["rm", "-r", "/tmp/both"])


def test_a_notebook_of_the_drive_has_its_kernel_there(drive: HostDrive, rig: Rig) -> None:
    for host in rig.hosts:
        host.run(["mkdir", "-p", f"{DIRECTORY}/deep"])
    server = drive.server
    for host in rig.hosts:
        path = f"{host.target}:deep/a.ipynb"
        body = {"path": path, "name": "a.ipynb", "type": "notebook", "kernel": {"name": "remote"}}
        status, session = server.ask("POST", "/api/sessions", body)
        assert status == 201, session
        where = "import os, socket; print(socket.gethostname(), os.getcwd())"
        said = server.run(session["kernel"]["id"], where).split()
        assert said == [host.run(["hostname"]).strip(), f"{host.home}/{DIRECTORY}/deep"]
    rig.hosts[1].run(["rm", "-r", DIRECTORY])


@pytest.mark.long
def test_several_directories_and_none(
    rig: Rig, home: Path, tmp_path: Path, install_spec: InstallSpec
) -> None:
    host = rig.hosts[0]
    install_spec([host.target])
    host.run(["mkdir", "-p", f"{DIRECTORY}/in"])
    host.write(f"{DIRECTORY}/in/a", "a")
    host.run(["ln", "-s", f"{host.home}/{DIRECTORY}/in", f"{DIRECTORY}/across"])
    with Applications(tmp_path) as applications:
        roots = [f"--RemoteAccess.file_roots={d}" for d in (DIRECTORY, "/tmp")]
        roots.append("--FileContentsManager.delete_to_trash=False")
        drive = HostDrive(applications.server("server", *roots), host)
        top = drive.ask("GET", "")["content"]
        assert [(m["name"], m["type"]) for m in top] == [
            (DIRECTORY, "directory"),
            ("tmp", "directory"),
        ]
        assert drive.text(f"{DIRECTORY}/across/a") == "a"
        drive.ask("POST", "", {"type": "file"}, 404)
        drive.ask("DELETE", "tmp", expect=403)
        drive.ask("DELETE", f"{DIRECTORY}/in", expect=409)  # it is not empty
        drive.save("tmp/rp-of-a-test", "x", 201)
        drive.ask("PATCH", "tmp/rp-of-a-test", {"path": f"{DIRECTORY}/moved"})
        assert drive.text(f"{DIRECTORY}/moved") == "x"
    host.run(["rm", "-r", DIRECTORY])
    (tmp_path / "other").mkdir()
    with Applications(tmp_path / "other") as applications:
        off = HostDrive(applications.server("server", "--RemoteAccess.file_roots="), host)
        off.ask("GET", "", expect=403)
