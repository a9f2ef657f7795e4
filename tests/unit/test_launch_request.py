from typing import Any

import pytest

from remote_provisioners.agent.forking.forkable import shared_part
from remote_provisioners.errors import ConfigurationError, UnauthorizedError
from remote_provisioners.options.launch_request import (
    LaunchRequest,
    authorize,
    build_request,
    parse_port_range,
    request_environment,
)

ARGV = ["python", "-m", "ipykernel_launcher", "-f", "{connection_file}"]


def build(**changes: Any) -> LaunchRequest:
    fields: dict[str, Any] = {
        "kernel_id": "id",
        "argv": ARGV,
        "spec_env": {},
        "resource_dir": "/spec",
        "request_env": {},
        "cwd": None,
        "session": {"key": "secret-key"},
        "port_range": "0..0",
        "launch_timeout": 30.0,
    }
    return build_request(**{**fields, **changes})


def test_only_kernel_variables_leave_the_server() -> None:
    env = {"KERNEL_A": "1", "SECRET_TOKEN": "x", "PATH": "/bin", "KERNEL_ID": "forged"}
    assert request_environment(env, "real") == {"KERNEL_A": "1", "KERNEL_ID": "real"}


def test_the_query_of_a_page_that_voila_shows() -> None:
    page = {"VOILA_BASE_URL": "/", "QUERY_STRING": "a=5", "SERVER_PORT": "8866"}
    env = {**page, "PATH": "/bin", "HTTP_PROXY": "x"}
    assert request_environment(env, "real") == {**page, "KERNEL_ID": "real"}
    assert shared_part(env, frozenset()) == {"PATH": "/bin", "HTTP_PROXY": "x"}
    del env["VOILA_BASE_URL"]  # somebody else's
    assert request_environment(env, "real") == {"KERNEL_ID": "real"}


def test_who_gets_unix_sockets() -> None:
    r = ["R", "-e", "IRkernel::main()", "{connection_file}"]
    assert [(of.transport, of.trial) for of in (build(), build(argv=r))] == [("ipc", 0.0)] * 2
    unknown = build(argv=["deno", "jupyter", "--conn={connection_file}"])
    assert (unknown.transport, unknown.trial) == ("ipc", 15.0)
    assert (unknown.by("tcp").transport, unknown.by("tcp").trial) == ("tcp", 0.0)
    assert build(argv=["no-connection-file"]).transport == "tcp"
    launcher = ["run.sh", "--response-address", "{response_address}"]
    assert build(argv=launcher).transport == "ipc"
    assert build(argv=launcher).reports_endpoints
    assert build(argv=launcher, port_range="2000..3000").transport == "tcp"


def test_resource_directory_travels_only_if_it_is_used() -> None:
    assert build().resource_dir is None
    assert str(build(argv=["{resource_dir}/run.sh"]).resource_dir) == "/spec"
    assert str(build(spec_env={"X": "{resource_dir}/lib"}).resource_dir) == "/spec"
    assert str(build(argv=["/spec/bin/run.sh"]).resource_dir) == "/spec"
    assert build(argv=["/spec2/bin/run.sh"]).resource_dir is None


def test_working_directories_in_their_order() -> None:
    request = build(request_env={"KERNEL_WORKING_DIR": "/data"}, cwd="/notebooks")
    assert request.cwd == ("/data", "/notebooks")


def test_the_key_is_not_in_the_repr() -> None:
    assert "secret-key" not in repr(build())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"argv": []}, "argv is empty"),
        ({"argv": ["a\0b"]}, "argv contains a NUL"),
        ({"spec_env": {"A": "a\0b"}}, "variable A contains a NUL"),
        ({"request_env": {"KERNEL_A": "a\0b"}}, "variable KERNEL_A contains a NUL"),
        ({"request_env": {"KERNEL_A=": "x"}}, "an invalid name"),
        ({"spec_env": {"A": 1}}, "is not text"),
        ({"cwd": "a\0b"}, "working directory contains a NUL"),
        ({"request_env": {"KERNEL_LAUNCH_TIMEOUT": "soon"}}, "KERNEL_LAUNCH_TIMEOUT is 'soon'"),
        ({"request_env": {"KERNEL_LAUNCH_TIMEOUT": "-1"}}, "KERNEL_LAUNCH_TIMEOUT is '-1'"),
        ({"request_env": {"KERNEL_LAUNCH_TIMEOUT": "nan"}}, "KERNEL_LAUNCH_TIMEOUT is 'nan'"),
        ({"request_env": {"KERNEL_GPUS": "two"}}, "KERNEL_GPUS is 'two'"),
        ({"request_env": {"KERNEL_GPUS": "9" * 5000}}, "must be a number of GPUs"),
    ],
)
def test_refuses_what_no_process_can_be_given(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        build(**changes)


def test_the_requests_timeout_takes_precedence() -> None:
    assert build().timeout == 30.0
    assert build(request_env={"KERNEL_LAUNCH_TIMEOUT": "2.5"}).timeout == 2.5


@pytest.mark.parametrize(
    ("text", "ports"),
    [("0..0", (0, 0)), ("5000..5000", (0, 0)), ("33245..34245", (33245, 34245))],
)
def test_port_ranges(text: str, ports: tuple[int, int]) -> None:
    assert parse_port_range(text) == ports


@pytest.mark.parametrize(
    "text",
    ["", "1", "1-2", "a..b", "34245..33245", "80..2000", "2000..2998", "60000..70000", "1..2..3"],
)
def test_unusable_port_ranges(text: str) -> None:
    with pytest.raises(ConfigurationError, match="port_range"):
        parse_port_range(text)


@pytest.mark.parametrize(
    ("user", "authorized", "unauthorized", "allowed"),
    [
        ("alice", set(), {"root"}, True),
        ("root", set(), {"root"}, False),
        ("", set(), {"root"}, True),  # the server's own user, here root
        ("", {"alice"}, set(), False),
        ("alice", {"alice"}, set(), True),
        ("Alice", {"alice"}, set(), False),
        ("alice", {"alice"}, {"alice"}, False),
    ],
)
def test_authorization(user: str, authorized: set, unauthorized: set, allowed: bool) -> None:
    if allowed:
        authorize(user, "root", authorized, unauthorized)
        return
    with pytest.raises(UnauthorizedError) as refused:
        authorize(user, "root", authorized, unauthorized)
    assert refused.value.status_code == 403
    assert repr(user or "root") in str(refused.value)
