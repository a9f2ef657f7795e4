"""Output reaches the client that reads it, however much it is, and nobody silences a kernel."""

from __future__ import annotations

from typing import Any

import nbformat
import pytest
import zmq
from jupyter_client.blocking.client import BlockingKernelClient
from nbclient import NotebookClient

from remote_provisioners.io_thread import io_thread
from remote_provisioners.kernels.announcement import announce

from ..conftest import SLEEP, InstallSpec, Start, be_client
from ..rig import Host, Rig

MIB = 1024 * 1024
DISPLAY = "from IPython.display import display\n"
LARGE = "display({{'text/plain': 'x' * ({} << 20)}}, raw=True)"


@pytest.fixture
def host(own_rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Host:
    be_client(own_rig, monkeypatch)
    return own_rig.hosts[0]


def cell(kernel_name: str, code: str) -> list[Any]:
    """The outputs of a cell that nbclient runs."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    NotebookClient(notebook, kernel_name=kernel_name, timeout=120, iopub_timeout=60).execute()
    outputs: list[Any] = notebook.cells[0].outputs
    return outputs


@pytest.mark.parametrize(
    ("mebibytes", "count"), [pytest.param(330, 1, marks=pytest.mark.long), (40, 5)]
)
def test_more_than_is_kept_at_once(
    host: Host, install_spec: InstallSpec, mebibytes: int, count: int
) -> None:
    """One message is larger than both bounds together; several are, while the client reads."""
    options = {} if count == 1 else {"output_memory": 8.0, "output_disk": 16.0}
    code = f"{DISPLAY}for n in range({count}): {LARGE.format(mebibytes)}"
    outputs = cell(install_spec(host.target, **options), code)
    assert [len(output["data"]["text/plain"]) for output in outputs] == [mebibytes * MIB] * count


def test_the_hosts_tmp_is_small(host: Host, install_spec: InstallSpec, start: Start) -> None:
    session = start(install_spec(host.target))
    session.run("x = 1")
    host.small_tmp("50m")
    got: list[int] = []

    def hook(message: dict[str, Any]) -> None:
        if message["msg_type"] == "display_data":
            got.append(len(message["content"]["data"]["text/plain"]))

    code = f"{DISPLAY}for n in range(3): {LARGE.format(80)}"
    session.client.execute_interactive(code, timeout=120, output_hook=hook)
    assert got == [80 * MIB] * 3


def test_a_client_that_ends_its_subscription_silences_nobody(
    host: Host, install_spec: InstallSpec, start: Start
) -> None:
    session = start(install_spec(host.target))
    other = BlockingKernelClient()
    other.load_connection_info(session.manager.get_connection_info())
    other.start_channels()
    other.kernel_info(reply=True, timeout=30)
    other.iopub_channel.socket.setsockopt(zmq.UNSUBSCRIBE, b"")
    other.stop_channels()
    assert session.run("print(1)") == "1\n"


def test_an_announcement_for_the_cell_that_runs(install_spec: InstallSpec, start: Start) -> None:
    """A cell that computes for hours shows at once that its job ends; else the next cell does."""
    session = start(install_spec("localhost"))
    kernel = session.kernel

    def tell(text: str) -> None:
        io_thread().call_blocking(announce(kernel, text, now=True), 20)

    def shown(request: str) -> str:
        while True:
            message = session.client.get_iopub_msg(timeout=30)
            of_it = message["parent_header"].get("msg_id") == request
            if of_it and message["msg_type"] == "stream":
                return str(message["content"]["text"])

    request = session.client.execute(SLEEP)
    assert shown(request) == "on\n"
    tell("it ends soon")
    assert shown(request) == "[remote-provisioners: it ends soon]\n"
    session.manager.interrupt_kernel()
    while session.client.get_shell_msg(timeout=30)["parent_header"].get("msg_id") != request:
        pass
    session.run("1")  # the kernel is idle
    tell("it ends now")
    request = session.client.execute("1")
    assert shown(request) == "[remote-provisioners: it ends now]\n"
