"""What a command says while it waits for hosts."""

from __future__ import annotations

import pytest

from remote_provisioners.cli.waiting import waiting_text


@pytest.mark.parametrize(
    ("left", "total", "width", "text"),
    [
        (["gpu1"], 1, 80, "Waiting 12 s for gpu1"),
        (["gpu3", "gpu4"], 4, 80, "2 of 4 hosts have answered. Waiting 12 s for gpu3, gpu4"),
        (["a" * 90], 1, 80, "Waiting 12 s for " + "a" * 90),  # the terminal's line cuts it
        (
            [f"node{number}" for number in range(300)],
            1000,
            80,
            "700 of 1000 hosts have answered. Waiting 12 s for node0, node1 and 298 more",
        ),
    ],
)
def test_as_many_names_as_fit(left: list[str], total: int, width: int, text: str) -> None:
    assert waiting_text(left, total, 12.3, width) == text
