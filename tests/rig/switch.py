"""The network of one rig: an Ethernet switch that hosts and this machine are plugged into."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from ipaddress import IPv4Network
from pathlib import Path

from .command import run

# Address resolution passes, so that loss is silence, as on a long way, and not "no route to host".
TABLE = """\
add table bridge rig
delete table bridge rig
table bridge rig {{
    chain forward {{
        type filter hook forward priority 0
        ether type arp accept
        icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
        {rules}
    }}
}}
"""


CHANCE = "numgen random mod 100 < {}"


class Addresses:
    """The subnets of the rig with that number, and what is where in them."""

    def __init__(self, number: int) -> None:
        self._v4 = f"10.{number >> 8}.{number & 255}"
        self._v6 = f"fd72:6967:{number:x}:"
        self.network = IPv4Network(f"{self._v4}.0/24")

    def host(self, index: int) -> tuple[str, str]:
        """Addresses of a host; the client is number 0."""
        return f"{self._v4}.{index + 1}", f"{self._v6}:{index + 1:x}"

    def collide(self) -> bool:
        """Whether this machine reaches something else there.

        Routes shorter than 16 bits, like a VPN's 10.0.0.0/8, would collide with all: ours wins.
        """
        for line in Path("/proc/net/route").read_text().splitlines()[1:]:
            _, destination, _, _, _, _, _, mask, *_ = line.split()
            prefix = int(mask, 16).bit_count()
            octets = bytes.fromhex(destination)[::-1]
            if prefix >= 16 and self.network.overlaps(
                IPv4Network(f"{'.'.join(map(str, octets))}/{prefix}")
            ):
                return True
        return False


def inside(pid: int) -> list[str]:
    """The start of a command line that runs in the network namespace of a process."""
    return ["nsenter", f"--net=/proc/{pid}/ns/net"]


def batch(lines: Sequence[str], prefix: Sequence[str] = ()) -> None:
    run([*prefix, "ip", "-batch", "-"], stdin="\n".join(lines) + "\n")


class Switch:
    """A bridge in the network namespace of the keeper, with a cable to this machine.

    This machine sees one end of a cable and no bridge and no packet filter of ours; and all of it
    is gone with the keeper.
    """

    def __init__(self, keeper: int, cable: str, addresses: Addresses) -> None:
        self._inside = inside(keeper)
        self._loss: dict[str, int] = {}
        v4, v6 = addresses.host(0)
        batch([f"link add name {cable} type veth peer name uplink netns {keeper}"])
        with suppress(FileNotFoundError):  # a machine without IPv6 says so when it gets an address
            Path(f"/proc/sys/net/ipv6/conf/{cable}/disable_ipv6").write_text("0")
        batch(
            [
                "link add name switch type bridge stp_state 0 forward_delay 0",
                "link set dev uplink master switch up",
                "link set dev switch up",
            ],
            self._inside,
        )
        batch(
            [
                f"addr add {v4}/24 dev {cable}",
                f"addr add {v6}/64 dev {cable} nodad",
                f"link set dev {cable} up",
            ]
        )

    def plug(self, port: str, pid: int, mac: str, addresses: tuple[str, str]) -> None:
        """Give a process' network namespace an eth0 with these addresses, plugged in here."""
        v4, v6 = addresses
        batch(
            [
                f"link add name {port} type veth peer name eth0 address {mac} netns {pid}",
                f"link set dev {port} master switch up",
            ],
            self._inside,
        )
        batch(
            [
                "link set dev lo up",
                f"addr add {v4}/24 dev eth0",
                f"addr add {v6}/64 dev eth0 nodad",
                "link set dev eth0 up",
            ],
            inside(pid),
        )
        self.set_loss(port, 0)

    def unplug(self, port: str) -> None:
        batch([f"link delete dev {port}"], self._inside)

    def set_link(self, port: str, state: str) -> None:
        batch([f"link set dev {port} {state}"], self._inside)

    def set_loss(self, port: str, percent: int) -> None:
        """Drop that share of the packets, each way."""
        if not 0 <= percent <= 100:
            raise ValueError(f"a share is 0 to 100 percent, not {percent}")
        if self._loss.get(port, 0) == percent:
            return
        self._loss[port] = percent
        # All rules anew, in one transaction: what was there before does not matter.
        rules = [
            f'{side} "{name}" {CHANCE.format(share) if share < 100 else ""} drop'
            for name, share in self._loss.items()
            if share
            for side in ("iifname", "oifname")
        ]
        run([*self._inside, "nft", "-f", "-"], stdin=TABLE.format(rules="\n        ".join(rules)))
