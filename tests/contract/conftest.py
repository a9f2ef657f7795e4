"""The contract suites run over every transport: this machine itself, and a host by SSH."""

import pytest

from ..rig import Rig


@pytest.fixture(params=["localhost", "ssh"])
def host(request: pytest.FixtureRequest, rig: Rig, home: object) -> str:
    """A host as it is written in remote_hosts."""
    return "localhost" if request.param == "localhost" else rig.hosts[0].target
