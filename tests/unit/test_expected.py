"""What an agent can prepare for a kernel before the server asks for the kernel."""

from __future__ import annotations

import json

import pytest

from remote_provisioners.options.expected import expected_kernel

ARGV = ["python", "-E", "-m", "ipykernel_launcher", "-f", "{connection_file}"]


def test_the_kernelspec_and_the_host_describe_the_kernel() -> None:
    expected = json.loads(expected_kernel(ARGV, {"A": "$HOME"}, "/opt/python", ["numpy"]))
    assert expected["argv"] == ARGV
    assert expected["env"] == {"A": "$HOME"}
    assert (expected["python"], expected["preload"]) == ("/opt/python", ["numpy"])


@pytest.mark.parametrize(
    ("argv", "env"),
    [
        (["python", "script.py", "{connection_file}"], {}),
        (["{resource_dir}/python", "-m", "ipykernel_launcher"], {}),
        (ARGV, {"PYTHONPATH": "{resource_dir}"}),
    ],
)
def test_what_depends_on_the_kernel_is_not_prepared(argv: list[str], env: dict[str, str]) -> None:
    assert expected_kernel(argv, env, "") == ""
