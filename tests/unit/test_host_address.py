import pytest

from remote_provisioners.errors import ConfigurationError
from remote_provisioners.placement.host_address import HostAddress, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("big", HostAddress("big")),
        (" big.acme.com ", HostAddress("big.acme.com")),
        ("alice@big", HostAddress("big", "alice")),
        ("alice@big:2222", HostAddress("big", "alice", 2222)),
        ("big:22", HostAddress("big", "", 22)),
        ("10.1.2.3", HostAddress("10.1.2.3")),
        ("::1", HostAddress("::1")),
        ("fe80::1%eth0", HostAddress("fe80::1%eth0")),
        ("[fd00::2]:2222", HostAddress("fd00::2", "", 2222)),
        ("alice@[fd00::2]", HostAddress("fd00::2", "alice")),
        ("alice@acme.com@big", HostAddress("big", "alice@acme.com")),
        ("under_score", HostAddress("under_score")),
    ],
)
def test_reads_every_form(text: str, address: HostAddress) -> None:
    assert parse_address(text) == address
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "@big",
        "big:",
        "big:0",
        "big:70000",
        "big:ssh",
        "a b",
        "-oProxyCommand=touch",
        "-l@big",
        "alice;id@big",
        "$(id)",
        "big\n",
        "b\0g",
        "`id`@big",
        "[::1",
        "[big]:22",
        "user@[::1]x",
        "big:\uff12\uff12",
        "host,other",
        pytest.param("big:" + "9" * 5000, id="a port of 5000 digits"),
    ],
)
def test_refuses_what_is_no_host(text: str) -> None:
    if text == "big\n":  # space around is a habit of configuration files
        assert parse_address(text).host == "big"
        return
    with pytest.raises(ConfigurationError, match="cannot read the host"):
        parse_address(text)


def test_only_plain_localhost_is_this_machine() -> None:
    assert parse_address("localhost").is_local
    assert not parse_address("localhost:22").is_local
    assert not parse_address("root@localhost").is_local
    assert not parse_address("127.0.0.1").is_local
