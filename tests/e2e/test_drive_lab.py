"""The files of a host in JupyterLab, in a real browser, as a person uses them."""

from __future__ import annotations

import json
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
