"""What the error of a start says of an environment that is gone."""

from __future__ import annotations

from typing import Any

import pytest

from remote_provisioners.errors import KernelStartError, ProgramNotFoundError, UnreachableError
from remote_provisioners.kernels.start.gone_environment import told_what_is_gone

MADE: dict[str, Any] = {"remote_provisioners": {"environment": {"path": "/x"}}}
GONE: dict[str, Any] = {"remote_provisioners": {**MADE["remote_provisioners"], "gone": True}}


@pytest.mark.parametrize(
    ("kind", "metadata", "said"),
    [
        (ProgramNotFoundError, MADE, "Its environment /x may be gone"),
        (ProgramNotFoundError, GONE, "Its environment /x was gone at the last"),
        (KernelStartError, GONE, "Its environment /x was gone at the last"),
        (KernelStartError, MADE, ""),
        (ProgramNotFoundError, {}, ""),
        (ProgramNotFoundError, {"remote_provisioners": 7}, ""),
        (UnreachableError, GONE, ""),
    ],
)
def test_what_is_said(kind: type[Any], metadata: dict[str, Any], said: str) -> None:
    told = told_what_is_gone(kind("why", host="h"), metadata)
    assert type(told) is kind
    assert str(told).startswith("host h: why\n" + said if said else "host h: why")
    assert ("environment" in str(told)) == bool(said)
