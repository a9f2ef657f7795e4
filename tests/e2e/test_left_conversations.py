"""Cells that end while no server is there: a page that stayed open gets their replies."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from ..conftest import InstallSpec
from ..rig import Rig
from .applications import Applications, Channels, Server, eventually
from .lab import OPTIONS, SECONDS, Lab, install_extension, write_notebook

#: A cell that waits until the file of this name is there, and takes it away.
WAIT = """
import os, time
print('on', flush=True)
while not os.path.exists('/tmp/{0}'): time.sleep(0.02)
os.unlink('/tmp/{0}')
"""


def killed(server: Server) -> None:
    server.process.kill()
    server.process.wait()


def stopped(server: Server) -> None:
    assert server.end() == 0


def begin(server: Server, kernel: str, code: str, **options: Any) -> tuple[Channels, str]:
    """Run a cell; returns when it has printed "on"."""
    channels = server.connect(kernel)
    request = channels.execute(code, **options)
    while channels.receive()["content"].get("text") != "on\n":
        pass
    return channels, request


def next_of(channels: Channels, kind: str) -> dict[str, Any]:
    while (message := channels.receive())["msg_type"] != kind:
        pass
    return message


@pytest.mark.parametrize("end", [killed, pytest.param(stopped, marks=pytest.mark.long)])
def test_the_replies_come_with_the_next_server(
    rig: Rig, install_spec: InstallSpec, applications: Applications, end: Callable[[Server], None]
) -> None:
    host = rig.hosts[0]
    install_spec(host.target)
    applications.configure("jupyter_server", leave_kernels_running=True)
    server = applications.server("server")
    kernel, asking = server.start_kernel(), server.start_kernel()
    page, request = begin(server, kernel, WAIT.format("go") + "print('done'); 6 * 7")
    other = server.connect(kernel)
    others = other.execute("'queued'")
    code = WAIT.format("ask") + "print('said', input('name: '))"
    reader, question = begin(server, asking, code, allow_stdin=True)
    end(server)
    host.run(["touch", "/tmp/go", "/tmp/ask"])
    eventually(lambda: not {"go", "ask"} & set(host.run(["ls", "/tmp"]).split()))

    server = applications.server("server")
    again = server.connect(kernel, session=page.session)
    messages = list(again.replies(request))
    reply = next(m for m in messages if m["msg_type"] == "execute_reply")
    assert (reply["channel"], reply["content"]["status"]) == ("shell", "ok")
    assert [m["content"]["text"] for m in messages if m["msg_type"] == "stream"] == ["done\n"]
    assert again.run("print(6 * 7)") == "42\n"  # it goes on, in both directions
    # Another page's reply comes to that page.
    replies = server.connect(kernel, session=other.session)
    assert next_of(replies, "execute_reply")["parent_header"]["msg_id"] == others

    reader = server.connect(asking, session=reader.session)
    assert next_of(reader, "input_request")["content"]["prompt"] == "name: "
    reader.send("input_reply", {"value": "Ada", "status": "ok"}, "stdin")
    said = [m["content"].get("text") for m in reader.replies(question)]
    assert "said Ada\n" in said
    for each in (kernel, asking):
        assert server.ask("DELETE", f"/api/kernels/{each}") == (204, None)


@pytest.mark.long
def test_a_cell_that_ends_after_the_return(
    rig: Rig, install_spec: InstallSpec, applications: Applications
) -> None:
    host = rig.hosts[0]
    install_spec(host.target)
    server = applications.server("server")
    kernel = server.start_kernel()
    page, request = begin(server, kernel, WAIT.format("go"))
    for _ in range(2):
        killed(server)
        server = applications.server("server")
        page = server.connect(kernel, session=page.session)
    host.run(["touch", "/tmp/go"])
    assert {m["msg_type"] for m in page.replies(request)} >= {"execute_reply"}
    assert page.run("print(6 * 7)") == "42\n"


@pytest.mark.browser
@pytest.mark.long
def test_in_jupyterlab_the_cell_ends(
    rig: Rig,
    tmp_path: Path,
    install_spec: InstallSpec,
    applications: Applications,
    browser: Browser,
    pictures: Path,
) -> None:
    host = rig.hosts[0]
    install_spec(host.target)
    install_extension(tmp_path)
    write_notebook(applications.root / "one.ipynb", "remote", WAIT.format("go") + "6 * 7")
    server = applications.server("lab", *OPTIONS)
    lab = Lab(browser, server, pictures)
    lab.open("/tree/one.ipynb")
    cell, prompt = lab.page.locator(".jp-CodeCell"), lab.page.locator(".jp-InputPrompt")
    expect(cell.locator(".cm-content")).to_be_visible(timeout=60 * SECONDS)
    idle = lab.page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]')
    expect(idle).to_be_visible(timeout=60 * SECONDS)
    for _ in range(5):  # JupyterLab drops a cell that is run while its session changes
        cell.first.locator(".cm-content").press("Control+Enter")
        with contextlib.suppress(AssertionError):
            expect(prompt.first).to_have_text("[*]:", timeout=10 * SECONDS)
            break
    expect(cell.first.locator(".jp-OutputArea")).to_contain_text("on", timeout=60 * SECONDS)
    expect(prompt.first).to_have_text("[*]:")
    killed(server)
    host.run(["touch", "/tmp/go"])
    eventually(lambda: "go" not in host.run(["ls", "/tmp"]).split())
    applications.server("lab", *OPTIONS, port=server.port)
    # It connects again by itself: after some seconds, or at most two minutes.
    expect(prompt.first).to_have_text("[1]:", timeout=130 * SECONDS)
    expect(cell.first.locator(".jp-OutputArea")).to_contain_text("42")
