"""The files of a host in JupyterLab, in a real browser, as a person uses them."""

from __future__ import annotations

import hashlib
import json
import re
import time
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Browser, expect

from ..conftest import InstallSpec
from ..rig import Rig
from .applications import Applications, eventually
from .lab import OPTIONS, SECONDS, Lab, install_extension

pytestmark = [pytest.mark.browser, pytest.mark.long]

DIRECTORY = "drive-of-a-test"


def test_a_person_opens_edits_and_uploads(
    rig: Rig,
    home: Path,
    tmp_path: Path,
    install_spec: InstallSpec,
    browser: Browser,
    pictures: Path,
) -> None:
    one, two = rig.hosts
    install_spec([one.target, two.target])
    install_extension(tmp_path)
    kernelspec = {"name": "remote", "display_name": "remote", "language": "python"}
    cell = nbformat.v4.new_code_cell("import os, socket\nprint(socket.gethostname(), os.getcwd())")
    notebook = nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": kernelspec})
    two.write(f"{DIRECTORY}/work/there.ipynb", nbformat.writes(notebook))
    two.write(f"{DIRECTORY}/notes.txt", "first\n")
    with Applications(tmp_path) as applications:
        roots = f"--RemoteAccess.file_roots={DIRECTORY}"
        lab = Lab(browser, applications.server("lab", *OPTIONS, roots), pictures)
        page = lab.page
        lab.open()
        lab.show_hosts()
        lab.host_row(two.target).get_by_role("button", name=f"Files of {two.target}").click()
        files = page.get_by_role("region", name=f"Files of {two.target}")
        item = files.locator(".jp-DirListing-item")
        expect(item).to_have_count(2, timeout=30 * SECONDS)
        lab.picture("files")

        item.filter(has_text="notes.txt").dblclick()
        editor = page.locator(".jp-FileEditor .cm-content")
        expect(editor).to_contain_text("first")
        editor.click()
        page.keyboard.press("Control+End")
        page.keyboard.type("second")
        page.keyboard.press("Control+s")
        notes = f"{DIRECTORY}/notes.txt"
        eventually(lambda: two.run(["cat", notes]) == "first\nsecond")

        # Somebody else writes it: the person is asked.
        page.wait_for_timeout(SECONDS)
        two.write(notes, "theirs\n")
        page.keyboard.type(" third")
        page.keyboard.press("Control+s")
        dialog = page.locator(".jp-Dialog")
        expect(dialog).to_contain_text("File Changed")
        lab.picture("changed")
        dialog.locator("button", has_text="Overwrite").click()
        eventually(lambda: "third" in two.run(["cat", notes]))

        upload = tmp_path / "large"
        upload.write_bytes(bytes(range(256)) * 12_000)  # in pieces: more than a MiB
        with page.expect_file_chooser() as chooser:
            files.get_by_role("button", name="Upload Files").click()
        chooser.value.set_files(str(upload))
        expect(item.filter(has_text="large")).to_have_count(1, timeout=60 * SECONDS)
        assert int(two.run(["stat", "-c", "%s", f"{DIRECTORY}/large"])) == 256 * 12_000

        item.filter(has_text="work").dblclick()
        item.filter(has_text="there.ipynb").dblclick()
        expect(lab.toolbar).to_have_text(two.target, timeout=60 * SECONDS)
        page.locator(".jp-Notebook .jp-Cell").first.click()
        page.keyboard.press("Shift+Enter")
        name = two.run(["hostname"]).strip()
        output = page.locator(".jp-OutputArea-output").first
        expect(output).to_have_text(f"{name} {two.home}/{DIRECTORY}/work", timeout=60 * SECONDS)
        page.keyboard.press("Control+s")
        lab.picture("notebook")

        def saved() -> bool:
            text = two.run(["cat", f"{DIRECTORY}/work/there.ipynb"])
            return name in str(json.loads(text)["cells"][0]["outputs"])

        eventually(saved)
        assert lab.said == []
    two.run(["rm", "-rf", DIRECTORY])


def test_a_person_manages_files(
    rig: Rig,
    home: Path,
    tmp_path: Path,
    install_spec: InstallSpec,
    browser: Browser,
    pictures: Path,
) -> None:
    host = rig.hosts[0]
    install_spec([host.target])
    install_extension(tmp_path)
    binary = bytes(range(256)) * 300
    make = (
        f"import os; os.makedirs('{DIRECTORY}/many'); os.chdir('{DIRECTORY}')\n"
        "open(b'latin-\\xe4.txt', 'w').write('odd'); open('fixed.txt', 'w').write('fixed')\n"
        "os.chmod('fixed.txt', 0o444); open('b.bin', 'wb').write(bytes(range(256)) * 300)\n"
        "open('old.txt', 'w').write('old'); open('goes.txt', 'w'); os.mkdir('empty')\n"
        "[open(f'many/{n:06}', 'w').close() for n in range(100_000)]\n"
    )
    host.run(["python3", "-c", make], timeout=120)
    with Applications(tmp_path) as applications:
        roots = f"--RemoteAccess.file_roots={DIRECTORY}"
        lab = Lab(browser, applications.server("lab", *OPTIONS, roots), pictures)
        page = lab.page
        lab.open()
        lab.show_hosts()
        lab.host_row(host.target).get_by_role("button", name=f"Files of {host.target}").click()
        files = page.get_by_role("region", name=f"Files of {host.target}")
        item = files.locator(".jp-DirListing-item")
        expect(item).to_have_count(7, timeout=30 * SECONDS)

        def choose(name: str, action: str) -> None:
            item.filter(has_text=name).click(button="right")
            page.locator(".lm-Menu-item", has_text=action).first.click()

        def there() -> list[str]:
            return sorted(host.run(["ls", DIRECTORY]).split())

        choose("old.txt", "Rename")
        name_editor = files.locator("input.jp-DirListing-editor")
        name_editor.fill("new.txt")
        name_editor.press("Enter")
        eventually(lambda: "new.txt" in there() and "old.txt" not in there())
        for name in ("goes.txt", "empty"):
            choose(name, "Move to Trash")
            page.locator(".jp-Dialog button", has_text="Move to Trash").click()
            eventually(lambda gone=name: gone not in there())
            expect(item.filter(has_text=name)).to_have_count(0)
        with page.expect_download() as download:
            choose("b.bin", "Download")
        assert Path(download.value.path()).read_bytes() == binary
        upload = tmp_path / "up.bin"
        upload.write_bytes(binary)
        with page.expect_file_chooser() as chooser:
            files.get_by_role("button", name="Upload Files").click()
        chooser.value.set_files(str(upload))
        eventually(lambda: "up.bin" in there(), 30)
        assert host.run(["sha256sum", f"{DIRECTORY}/up.bin"]).split()[0] == digest(binary)

        # A name that is not UTF-8 is opened, saved and put back to its checkpoint.
        item.filter(has_text="latin-").dblclick()
        editor = page.locator(".jp-FileEditor .cm-content")
        expect(editor).to_contain_text("odd")
        odd = ["sh", "-c", f"cat {DIRECTORY}/latin-*"]
        for number in range(2):
            editor.click()
            page.keyboard.press("Control+End")
            page.keyboard.type(f" {number}")
            expect(page.locator(".lm-TabBar-tab.jp-mod-dirty")).to_have_count(1)
            page.keyboard.press("Control+s")
            # While JupyterLab still waits for the answer, it ignores the next one.
            expect(page.locator(".lm-TabBar-tab.jp-mod-dirty")).to_have_count(0)
            eventually(lambda n=number: host.run(odd) == "odd" + " 0 1"[: 2 * n + 2], 30)
        lab.picture("odd-name")
        kept = ["sh", "-c", f"cat {DIRECTORY}/.ipynb_checkpoints/latin-*"]
        eventually(lambda: host.run(kept) == "odd 0 1", 30)
        host.run(["sh", "-c", f'for f in {DIRECTORY}/latin-*; do printf theirs > "$f"; done'])
        page.locator("#jp-MainMenu .lm-MenuBar-item", has_text="File").click()
        page.locator(".lm-Menu-item", has_text="Revert").click()
        page.locator(".jp-Dialog button", has_text="Revert").click()
        eventually(lambda: host.run(odd) == "odd 0 1", 30)

        began = time.monotonic()
        item.filter(has_text="many").dblclick()
        expect(item.first).to_contain_text("000000", timeout=60 * SECONDS)
        print(f"a directory of 100,000 entries is shown after {time.monotonic() - began:.1f} s")
        expect(item).to_have_count(1000, timeout=60 * SECONDS)
        more = files.locator(".rp-FilesMore")
        expect(more).to_contain_text("The first 1,000 of 100,000 entries")
        lab.picture("many")
        part = files.get_by_label("Show entries whose names contain")
        part.fill("9999")
        expect(item).to_have_count(
            19, timeout=60 * SECONDS
        )  # 09999, 19999 and so on, and 99990 to 99999
        expect(item.last).to_contain_text("099999")
        lab.picture("many-filtered")
        part.fill("")
        expect(item).to_have_count(1000, timeout=60 * SECONDS)
        upload = upload.rename(tmp_path / "099999")
        for answer in ("Cancel", "Overwrite"):
            with page.expect_file_chooser() as chooser:
                files.get_by_role("button", name="Upload Files").click()
            chooser.value.set_files(str(upload))
            dialog = page.locator(".jp-Dialog", has_text='"099999" already exists')
            dialog.locator("button", has_text=answer).click()
            lab.dismiss_dialogs()
            size = "0" if answer == "Cancel" else str(len(binary))
            eventually(
                lambda size=size: (
                    host.run(["stat", "-c", "%s", f"{DIRECTORY}/many/099999"]).strip() == size
                )
            )
        files.locator(".jp-BreadCrumbs-home").click()
        expect(item.filter(has_text="many")).to_have_count(1)
        expect(more).to_be_hidden()
        assert lab.said == []
    host.run(["rm", "-rf", DIRECTORY])


def test_a_file_that_may_not_be_written(
    rig: Rig,
    home: Path,
    tmp_path: Path,
    install_spec: InstallSpec,
    browser: Browser,
    pictures: Path,
) -> None:
    host = rig.hosts[0]
    if "alice" not in host.homes:
        pytest.skip("needs root and network namespaces: hosts here have no other user")
    name = f"alice@{host.target}"
    install_spec([name])
    install_extension(tmp_path)
    host.write(f"{DIRECTORY}/fixed.txt", "fixed", user="alice")
    host.run(["chmod", "0444", f"{DIRECTORY}/fixed.txt"], user="alice")
    with Applications(tmp_path) as applications:
        roots = f"--RemoteAccess.file_roots={DIRECTORY}"
        lab = Lab(browser, applications.server("lab", *OPTIONS, roots), pictures)
        page = lab.page
        lab.open()
        lab.show_hosts()
        lab.host_row(name).get_by_role("button", name=f"Files of {name}").click()
        item = page.get_by_role("region", name=f"Files of {name}").locator(".jp-DirListing-item")
        expect(item).to_have_attribute("title", re.compile("Writable: false"))
        item.dblclick()
        page.locator(".jp-FileEditor .cm-content").click()
        expect(page.get_by_text("file is read-only", exact=True)).to_be_visible()
        page.keyboard.type("x")
        page.keyboard.press("Control+s")
        notice = page.locator(".Toastify__toast", has_text="fixed.txt is read-only")
        notice.wait_for()
        lab.picture("read-only")
        assert host.run(["cat", f"{DIRECTORY}/fixed.txt"], user="alice") == "fixed"
    host.run(["rm", "-rf", DIRECTORY], user="alice")


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
