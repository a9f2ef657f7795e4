"""``jupyter remote forward`` on this machine. Ports of other hosts: `test_ports.py`."""

from __future__ import annotations

import socket

from ..conftest import InstallSpec, Start
from .test_ports import forwarded


def test_a_port_that_would_lead_to_itself(install_spec: InstallSpec, start: Start) -> None:
    kernel_id = start(install_spec("localhost")).manager.kernel_id
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with forwarded(kernel_id, str(port)) as (process, line):
        assert (process.wait(60), line) == (1, "")
        said = process.stderr.read()  # type: ignore[union-attr]
    assert f"its port {port} would lead to itself" in said
