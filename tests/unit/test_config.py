from typing import Any

import pytest
from jupyter_client.kernelspec import KernelSpec
from traitlets.config import Application, Config

from remote_provisioners.engines.yarn.provisioner import YarnProvisioner
from remote_provisioners.errors import ConfigurationError
from remote_provisioners.provisioner import DistributedProvisioner

from ..conftest import words


def provisioner(config: Config | None = None, **stanza: Any) -> DistributedProvisioner:
    return DistributedProvisioner(
        kernel_id="id", kernel_spec=KernelSpec(), config=config or Config(), **stanza
    )


def test_defaults() -> None:
    made = provisioner()
    assert made.remote_hosts == ["localhost"]
    assert made.load_balancing_algorithm == "round-robin"
    assert made.unauthorized_users == {"root"}
    assert (made.port_range, made.launch_timeout) == ("0..0", 30.0)


def test_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RP_REMOTE_HOSTS", "env1, env2")
    assert provisioner().remote_hosts == ["env1", "env2"]
    config = Config({"RemoteProvisionerConfigMixin": {"remote_hosts": ["file"]}})
    assert provisioner(config).remote_hosts == ["file"]
    assert provisioner(config, remote_hosts="spec1,spec2").remote_hosts == ["spec1", "spec2"]


def test_whose_hosts_are_shown_without_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers in containers all run as one user: the environment says whose server it is."""
    made = provisioner(remote_hosts=["{username}@gpu1"], run_as="{username}")

    def users() -> list[str]:
        (listed,) = made.inventory()
        return [
            listed.address.user,
            listed.address.way.run_as,
            made.host_spec("h").address.way.run_as,
        ]

    monkeypatch.setenv("LOGNAME", "jovyan")
    assert users() == ["jovyan"] * 3
    monkeypatch.setenv("KERNEL_USERNAME", "alice")
    assert users() == ["alice"] * 3
    made.username = "bob"  # a request's name
    assert users() == ["bob"] * 3


@pytest.mark.parametrize("name", ["numpy; import os", "a-b", "a..b", "os path", "1st", "-m"])
def test_what_is_no_module_is_not_preloaded(name: str) -> None:
    assert provisioner(preload=["numpy", "os.path"]).preload == ["numpy", "os.path"]
    with pytest.raises(ConfigurationError, match=f"^preload: {name!r} is not a module name$"):
        provisioner(preload=["numpy", name])
    hosts = [{"host": "gpu1", "preload": [name]}]
    with pytest.raises(ConfigurationError, match=f"^host gpu1: preload: {name!r} is not a module"):
        provisioner(remote_hosts=hosts)


@pytest.mark.parametrize("given", ["a,b", "a, b ,", ["a", "b"], "['a', 'b']"])
def test_lists_as_list_and_as_text(given: Any) -> None:
    config = Config({"RemoteProvisionerConfigMixin": {"remote_hosts": given}})
    if given == "['a', 'b']":
        with pytest.raises(ConfigurationError, match="cannot read the host"):
            provisioner(config)
        return
    assert provisioner(config).remote_hosts == ["a", "b"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--RemoteProvisionerConfigMixin.remote_hosts=a,b"],
        [
            "--RemoteProvisionerConfigMixin.remote_hosts=a",
            "--RemoteProvisionerConfigMixin.remote_hosts=b",
        ],
        ["--DistributedProvisioner.remote_hosts=a,b"],
    ],
)
def test_command_line(arguments: list[str]) -> None:
    app = Application()  # like every hosting application, it does not know our classes
    app.parse_command_line(arguments)
    assert provisioner(app.config).remote_hosts == ["a", "b"]


@pytest.mark.parametrize(
    ("variable", "text", "option", "value"),
    [
        (
            "RP_LOAD_BALANCING_ALGORITHM",
            "least-connection",
            "load_balancing_algorithm",
            "least-connection",
        ),
        ("RP_AUTHORIZED_USERS", "alice,bob", "authorized_users", {"alice", "bob"}),
        ("RP_UNAUTHORIZED_USERS", ",", "unauthorized_users", set()),
        ("RP_UNAUTHORIZED_USERS", "", "unauthorized_users", {"root"}),  # empty is unset
        ("RP_LEAVE_KERNELS_RUNNING", "", "leave_kernels_running", False),
        ("RP_LAUNCH_TIMEOUT", "", "launch_timeout", 30.0),
        ("RP_REMOTE_HOSTS", "", "remote_hosts", ["localhost"]),
        ("RP_LAUNCH_TIMEOUT", "2.5", "launch_timeout", 2.5),
        ("RP_PORT_RANGE", "2000..4000", "port_range", "2000..4000"),
        ("RP_NETWORK_GRACE", "7", "network_grace", 7.0),
        ("RP_PYTHON", "/opt/python", "python", "/opt/python"),
        ("RP_ENVIRONMENT_HOOK", "module load x", "environment_hook", "module load x"),
    ],
)
def test_every_option_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, option: str, value: Any
) -> None:
    monkeypatch.setenv(variable, text)
    assert getattr(provisioner(), option) == value


@pytest.mark.parametrize(
    ("stanza", "says"),
    [
        ({"remote_hosts": []}, "remote_hosts is empty"),
        ({"remote_hosts": ""}, "remote_hosts is empty"),
        ({"remote_hosts": "a b"}, "cannot read the host 'a b'"),
        ({"remote_hosts": 5}, "remote_hosts"),
        ({"load_balancing_algorithm": "fastest"}, r"known: fill, least-connection, least-load"),
        ({"port_range": "1-2"}, "port_range '1-2'"),
        ({"launch_timeout": 0}, "launch_timeout"),
        ({"launch_timeout": "soon"}, "^launch_timeout is 'soon', must be a number$"),
        ({"warm": "two"}, "^warm is 'two', must be a whole number$"),
        ({"network_grace": -1}, "network_grace"),
        ({"remote_host": "a"}, "(?s)unknown option remote_host .*known: .*remote_hosts"),
    ],
)
def test_bad_values_are_one_error(stanza: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        provisioner(**stanza)


@pytest.mark.parametrize(
    ("variable", "text", "said"),
    [
        ("RP_LAUNCH_TIMEOUT", "soon", "^RP_LAUNCH_TIMEOUT='soon': must be a number$"),
        ("RP_PORT_RANGE", "x", "port_range"),
        ("RP_REMOTE_HOSTS", " , ", "remote_hosts"),
        (
            "RP_RUN_AS_COMMAND",
            "sudo",
            "^RP_RUN_AS_COMMAND='sudo': must be a list of words in JSON$",
        ),
        ("RP_RUN_AS_COMMAND", "[]", r"^run_as_command is \[\], must be a list of words$"),
    ],
)
def test_bad_environment_is_an_error(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, said: str
) -> None:
    monkeypatch.setenv(variable, text)
    with pytest.raises(ConfigurationError, match=said):
        provisioner()


def test_per_host_options() -> None:
    made = provisioner(python={"a": "/a/python"}, environment_hook="for all")
    assert made.host_spec("a").python == "/a/python"
    assert made.host_spec("b").python == ""
    assert made.host_spec("b").hook == "for all"


def test_one_section_configures_every_provisioner(caplog: pytest.LogCaptureFixture) -> None:
    """A provisioner without a list of hosts takes what it has from the section of all."""
    section = {"remote_hosts": ["a"], "lease": 60.0, "launch_timeout": 7.0}
    config = Config(
        {"RemoteProvisionerConfigMixin": section, "YarnProvisioner": {"launch_timeout": 8.0}}
    )
    yarn = YarnProvisioner(kernel_id="k", kernel_spec=KernelSpec(argv=["x"]), config=config)
    assert (yarn.lease, yarn.launch_timeout) == (60.0, 8.0)
    assert not hasattr(yarn, "remote_hosts")
    assert "not recognized" not in caplog.text


def test_an_engine_has_no_list_of_hosts() -> None:
    with pytest.raises(ConfigurationError, match=words("unknown option.*yarn_endpoint")):
        YarnProvisioner(kernel_id="k", kernel_spec=KernelSpec(argv=["x"]), remote_hosts=["a"])
