"""Programs that start a kernel, use it and end: consoles, runners of notebooks, scripts."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook

from ..conftest import InstallSpec
from ..rig import Rig
from .applications import (
    WHERE,
    Applications,
    agents_on,
    eventually,
    kernels_on,
    listens_beyond_loopback,
    names_of,
)

HOSTNAME = "import socket; print(socket.gethostname())"


@pytest.fixture
def spec(rig: Rig, install_spec: InstallSpec) -> str:
    """The kernelspec of the first host."""
    return install_spec(rig.hosts[0].target)


def notebook(*cells: str) -> NotebookNode:
    """A notebook of code cells; the first one may take parameters."""
    made = new_notebook(cells=[new_code_cell(cell) for cell in cells])
    made.cells[0].metadata["tags"] = ["parameters"]
    made.metadata["kernelspec"] = {
        "name": "remote",
        "display_name": "remote",
        "language": "python",
    }
    return made


def printed(executed: NotebookNode) -> list[str]:
    """What each cell has printed."""
    return ["".join(out.get("text", "") for out in cell.outputs) for cell in executed.cells]


# -- programs that come with Jupyter -------------------------------------------------------


def test_console(rig: Rig, spec: str, applications: Applications) -> None:
    console = applications.jupyter("console", "--kernel", spec, "--simple-prompt")
    console.write(f"{HOSTNAME}\n")
    console.expect(names_of(rig)[0])
    console.write("'=' + str(6 * 7)\n")
    console.expect("=42")

    sleep = "[time.sleep(0.01) for _ in range(6000)]"
    console.write(f"import time; print('sleep' + 'ing', flush=True); {sleep}\n")
    console.expect("sleeping")
    console.process.send_signal(signal.SIGINT)
    console.expect("KeyboardInterrupt")

    console.write("exit\n")
    assert console.wait() == 0
    assert not kernels_on(rig.hosts[0])


def test_console_at_the_end_of_its_input(rig: Rig, spec: str, applications: Applications) -> None:
    console = applications.jupyter("console", "--kernel", spec, "--simple-prompt")
    console.write("'=' + str(6 * 7)\n")
    console.expect("=42")
    assert console.wait() == 0
    assert not kernels_on(rig.hosts[0])


def test_run(rig: Rig, spec: str, applications: Applications) -> None:
    script = applications.directory / "hello.py"
    script.write_text(HOSTNAME)
    run = applications.jupyter("run", "--kernel", spec, str(script))
    run.expect(names_of(rig)[0])
    assert run.wait() == 0
    assert not kernels_on(rig.hosts[0])


def test_run_of_a_script_that_fails(rig: Rig, spec: str, applications: Applications) -> None:
    script = applications.directory / "fails.py"
    script.write_text("1 / 0")
    run = applications.jupyter("run", "--kernel", spec, str(script))
    assert run.wait() == 1
    assert "ZeroDivisionError" in run.output
    assert not kernels_on(rig.hosts[0])


@pytest.mark.parametrize("program", ["execute", "nbconvert"])
def test_a_notebook_from_the_command_line(
    rig: Rig, spec: str, applications: Applications, program: str
) -> None:
    path = applications.directory / "n.ipynb"
    nbformat.write(notebook("x = 6", "y = 7", f"{HOSTNAME}; print(x * y)"), path)
    options = {
        "execute": ["--inplace"],
        "nbconvert": ["--execute", "--to=notebook", "--inplace"],
    }
    executing = applications.jupyter(program, *options[program], str(path))
    assert executing.wait(120) == 0
    executed = nbformat.read(path, as_version=4)
    assert printed(executed) == ["", "", f"{names_of(rig)[0]}\n42\n"]
    assert not kernels_on(rig.hosts[0])


def test_papermill(rig: Rig, spec: str, applications: Applications) -> None:
    given, result = applications.directory / "in.ipynb", applications.directory / "out.ipynb"
    nbformat.write(notebook("name = 'nobody'", f"{HOSTNAME}; print(name)"), given)
    milling = applications.python(
        "-m", "papermill", str(given), str(result), "-p", "name", "$(touch /tmp/pwned) é"
    )
    assert milling.wait(120) == 0
    executed = nbformat.read(result, as_version=4)
    assert printed(executed)[-1] == f"{names_of(rig)[0]}\n$(touch /tmp/pwned) é\n"
    assert executed.metadata["remote_provisioners"] == {"host": rig.hosts[0].target}
    # Each state of the progress bar is alone on its line; a message erases the bar first.
    assert "runs on" in milling.output
    for line in re.split(r"[\r\n]", milling.output):
        assert not line.startswith("Executing:") or line.endswith("cell/s]") or "s/cell]" in line
        assert not ("Executing:" in line and "kernel" in line)
    assert not kernels_on(rig.hosts[0])


# -- libraries -----------------------------------------------------------------------------


def test_nbclient(rig: Rig, home: Path, spec: str) -> None:
    executed = NotebookClient(
        notebook("x = 6", "y = 7", f"{HOSTNAME}; print(x * y)"), timeout=60, kernel_name=spec
    ).execute()
    assert printed(executed) == ["", "", f"{names_of(rig)[0]}\n42\n"]
    assert executed.metadata["remote_provisioners"] == {"host": rig.hosts[0].target}
    assert not kernels_on(rig.hosts[0])
    locally = NotebookClient(executed, timeout=60, kernel_name="python3").execute()
    assert "remote_provisioners" not in locally.metadata


def test_nbclient_with_a_cell_that_fails(rig: Rig, home: Path, spec: str) -> None:
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        NotebookClient(notebook("x = 1", "x / 0", "x"), timeout=60, kernel_name=spec).execute()
    assert not kernels_on(rig.hosts[0])


BEGIN = f"""
import signal, sys, time
from jupyter_client.manager import run_kernel, start_new_kernel

def run(client, code):
    # What it prints comes out here.
    return client.execute_interactive(code, timeout=60)["content"]["status"]

WHERE = {WHERE!r}
"""


def test_a_script_with_run_kernel(rig: Rig, spec: str, applications: Applications) -> None:
    script = applications.script(
        BEGIN
        + f"""
with run_kernel(kernel_name={spec!r}) as client:
    assert run(client, WHERE) == "ok"
    time.sleep(2)  # nobody calls into the client: what keeps the kernel has to do without
    assert run(client, "print('still', 6 * 7)") == "ok"
print("over")
"""
    )
    assert script.wait(60) == 0
    host, _pid, *rest = script.output.split()
    assert (host, rest) == (names_of(rig)[0], ["still", "42", "over"])
    assert not kernels_on(rig.hosts[0])


HELD = (
    BEGIN
    + """
held = [start_new_kernel(kernel_name=sys.argv[1]) for _ in range(int(sys.argv[2]))]
for manager, client in held:
    run(client, "print('ready', flush=True)")
    client.stop_channels()
print("all ready", flush=True)
"""
)


@pytest.mark.parametrize(
    ("end", "exit_code"),
    [("pass", 0), ("1 / 0", 1), ("sys.exit(4)", 4)],
    ids=["falls off", "raises", "exits"],
)
def test_a_script_that_ends_without_a_shutdown(
    rig: Rig, spec: str, applications: Applications, end: str, exit_code: int
) -> None:
    script = applications.script(f"{HELD}\n{end}\n", spec, "2")
    assert script.wait(60) == exit_code
    assert "all ready" in script.output
    eventually(lambda: not rig.hosts[0].processes(), 5)


def test_a_script_ended_by_ctrl_c(rig: Rig, spec: str, applications: Applications) -> None:
    script = applications.script(f"{HELD}\nsignal.pause()\n", spec, "1")
    script.expect("all ready")
    assert len(kernels_on(rig.hosts[0])) == 1
    assert script.end(signal.SIGINT) == -signal.SIGINT
    assert "KeyboardInterrupt" in script.output
    eventually(lambda: not rig.hosts[0].processes(), 5)


def test_a_script_ended_by_ctrl_c_while_a_kernel_starts(
    rig: Rig, install_spec: InstallSpec, applications: Applications
) -> None:
    argv = ["python", "-c", "import time; time.sleep(120)", "{connection_file}"]
    spec = install_spec(rig.hosts[0].target, argv=argv)
    script = applications.script(HELD, spec, "1")
    eventually(lambda: kernels_on(rig.hosts[0]), 60)
    assert script.end(signal.SIGINT) != 0
    assert "KeyboardInterrupt" in script.output
    eventually(lambda: not rig.hosts[0].processes(), 5)


def test_two_processes_share_an_agent(rig: Rig, spec: str, applications: Applications) -> None:
    if not rig.own_address:
        pytest.skip("hosts share the loopback interface here")
    host = rig.hosts[0]
    wait_for_a_line = f"{HELD}\nsys.stdin.readline()\n"
    first, second = (applications.script(wait_for_a_line, spec, "3") for _ in range(2))
    for script in (first, second):
        script.expect("all ready", 90)
    assert len(kernels_on(host)) == 6
    assert len(agents_on(host)) == 1
    assert host.tcp_connections() == 2
    assert listens_beyond_loopback(host) == {str(host.port)}

    first.write("\n")
    assert first.wait() == 0
    assert len(kernels_on(host)) == 3  # the other one's
    assert host.tcp_connections() == 1
    second.write("\n")
    assert second.wait() == 0
    eventually(lambda: not host.processes(), 5)


def test_a_failing_start_tells_a_script_why(
    rig: Rig, install_spec: InstallSpec, applications: Applications
) -> None:
    host = rig.hosts[0].target
    argv = ["python", "-c", "raise SystemExit('no licence')", "{connection_file}"]
    script = applications.script(HELD, install_spec(host, argv=argv), "1")
    assert script.wait(60) == 1
    assert script.output.rstrip().endswith(
        "remote_provisioners.errors.KernelStartError: "
        f"host {host}: the kernel ended at once with exit code 1; it printed:\nno licence"
    )
