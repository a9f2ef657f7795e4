"""Limits that will soon end a kernel."""

from __future__ import annotations

import pytest

from remote_provisioners.server.limits import GRACE, TIME_LIMIT, Limit


@pytest.mark.parametrize(
    ("limit", "near"),
    [
        (Limit(TIME_LIMIT, 901), False),
        (Limit(TIME_LIMIT, 899), True),
        (Limit(GRACE, 200, 600), False),
        (Limit(GRACE, 149, 600), True),
        (Limit(GRACE, 5000, 345600), False),
        (Limit(GRACE, 899, 345600), True),
    ],
)
def test_a_limit_is_near_in_its_last_quarter_and_quarter_of_an_hour(
    limit: Limit, near: bool
) -> None:
    assert limit.near is near
