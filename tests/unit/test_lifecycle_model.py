"""Random interleavings against the pure state machine: two servers, an agent, one kernel.

The world here does what network, agent and kernels do; servers see of it what their links let
through, and move their `Lifecycle` by the rules of `RemoteKernel`. No I/O, no clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from remote_provisioners.kernels.lifecycle import Lifecycle, State

from ..conftest import share

GRACE, LEASE = 10.0, 100.0
NAMES = st.sampled_from(["a", "b"])


@dataclass
class Process:
    """A kernel's process and its record, which outlives the agent."""

    owner: str
    number: int
    listening: bool = False
    exit_code: int | None = None

    @property
    def alive(self) -> bool:
        return self.exit_code is None


@dataclass
class Server:
    """`life` is None while it has no kernel."""

    name: str
    #: Whether it speaks with the agent; the agent's end is the end of all links.
    linked: bool = True
    life: Lifecycle | None = None
    #: To be ended when the host is back.
    unwanted: bool = False
    #: The process that `life` is about.
    number: int = 0


@dataclass
class World:
    servers: dict[str, Server] = field(default_factory=dict)
    agent: bool = True
    process: Process | None = None
    now: float = 0.0
    #: When the owner was last heard of.
    renewed: float = 0.0
    started: int = 0


class Interleavings(RuleBasedStateMachine):
    """Rules are events; what follows from one at once happens in it."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World({name: Server(name) for name in ("a", "b")})
        self.signalled: list[tuple[str, int]] = []
        self.ends: dict[int, tuple[Lifecycle, object]] = {}

    # -- what servers do when they see something ---------------------------------------------

    def back(self, server: Server) -> None:
        """Host._connected and RemoteKernel.on_reconnected."""
        process, life = self.world.process, server.life
        known = process is not None and process.owner == server.name
        if life is not None and not life.over and life.state is not State.STARTING:
            if life.state is State.UNADOPTED:
                pass  # it is asked for: `both_adopt`
            elif not known:
                life.lost("nothing is left of it")
            elif process.exit_code is not None:
                life.exited(process.exit_code)
            else:
                life.reconnected()
                if process.listening:
                    life.listening()
        held = life is not None and not life.over
        if known and (server.unwanted or not held):
            self.end(server)
        server.unwanted = False

    def end(self, server: Server) -> None:
        """The agent ends a kernel for its owner, and forgets it."""
        process = self.world.process
        assert process is not None
        assert process.owner == server.name, "a server ends what is another's"
        if process.alive:
            self.signalled.append((server.name, process.number))
        self.world.process = None

    def away(self, server: Server) -> None:
        if server.life is not None:
            if server.life.state is State.STARTING:
                server.life.lost("the connection was lost")
            server.life.disconnected(self.world.now)

    # -- events ------------------------------------------------------------------------------

    @rule(name=NAMES)
    def start_or_restart(self, name: str) -> None:
        """No start is lost: it runs, or its caller is told at once."""
        server, process = self.world.servers[name], self.world.process
        if process is not None and process.owner != name:
            return  # refused: another server's
        life = server.life = Lifecycle()
        if not server.linked:
            life.lost("did not start")
            server.unwanted = server.unwanted or process is not None
        else:
            if process is not None:
                self.end(server)
            self.world.started += 1
            self.world.process = Process(name, self.world.started)
            server.number = self.world.started
            life.launched()
        assert life.over or self.world.process is not None

    @precondition(lambda self: self.world.process is not None and self.world.process.alive)
    @rule()
    def kernel_listens(self) -> None:
        process = self.world.process
        process.listening = True
        server = self.world.servers[process.owner]
        if server.linked and server.life is not None:
            server.life.listening()

    @precondition(lambda self: self.world.process is not None and self.world.process.alive)
    @rule(code=st.sampled_from([0, 3, -9]))
    def kernel_exits(self, code: int) -> None:
        process = self.world.process
        process.exit_code = code
        server = self.world.servers[process.owner]
        if server.linked and server.life is not None:
            server.life.exited(code)

    @precondition(lambda self: any(s.life and s.life.over for s in self.world.servers.values()))
    @rule()
    def word_comes_late(self) -> None:
        """Events of a life that its server knows to be over."""
        for server in self.world.servers.values():
            if server.life is not None and server.life.over:
                server.life.exited(5, "late")
                server.life.listening()

    @rule(name=NAMES)
    def stop(self, name: str) -> None:
        server, process = self.world.servers[name], self.world.process
        if server.life is None:
            return
        if server.linked:
            if process is not None and process.owner == name:
                self.end(server)
        else:
            server.life.lost("given up while its host could not be reached")
            server.unwanted = True
        server.life = None

    @rule(name=NAMES)
    def link_fails(self, name: str) -> None:
        server = self.world.servers[name]
        if server.linked:
            server.linked = False
            self.away(server)

    @rule(name=NAMES)
    def link_returns(self, name: str) -> None:
        """An agent that was killed has a successor by then, with its records."""
        server = self.world.servers[name]
        server.linked = True
        self.world.agent = True
        self.back(server)

    @rule()
    def agent_dies(self) -> None:
        self.world.agent = False
        for server in self.world.servers.values():
            if server.linked:
                server.linked = False
                self.away(server)

    @rule(name=NAMES)
    def server_dies(self, name: str) -> None:
        """Its successor has a new name for the agent; the old name owns until the lease ends."""
        self.world.servers[name] = Server(name, linked=False)
        if self.world.process is not None and self.world.process.owner == name:
            self.world.process.owner = "gone"
            self.world.servers["gone"] = Server("gone", linked=False)

    @precondition(lambda self: self.world.process is not None)
    @rule(name=NAMES)
    def prepare_adoption(self, name: str) -> None:
        """A server reads the record of a kernel, whether or not its host can be reached."""
        server, process = self.world.servers[name], self.world.process
        if server.life is None and process.owner == "gone" and process.alive:
            server.life = Lifecycle.left(process.owner, self.world.now)
            server.number = process.number

    @rule(order=st.permutations(["a", "b"]))
    def both_adopt(self, order: list[str]) -> None:
        """The first becomes the owner; the second is refused."""
        for name in order:
            server, process = self.world.servers[name], self.world.process
            life = server.life
            if not server.linked or life is None or life.state is not State.UNADOPTED:
                continue
            if process is None or process.owner != "gone" or not process.listening:
                life.lost("another server has it, or nothing is left of it")
                continue
            process.owner = name
            life.adopted()
            if process.exit_code is not None:
                life.exited(process.exit_code)

    @rule(seconds=st.sampled_from([1.0, GRACE, LEASE]))
    def time_passes(self, seconds: float) -> None:
        self.world.now += seconds
        for server in self.world.servers.values():
            if server.life is None:
                continue
            if server.life.grace_left(self.world.now, GRACE) == 0:
                server.life.lost("the host was unreachable")
                server.unwanted = True
        process = self.world.process
        if process is None:
            return
        if self.world.servers[process.owner].linked:
            self.world.renewed = self.world.now
        elif self.world.agent and self.world.now - self.world.renewed > LEASE:
            self.world.process = None  # the agent ends it

    # -- what always holds -------------------------------------------------------------------

    @invariant()
    def one_owner(self) -> None:
        """Of those who believe that they have the process, at most one is right to."""
        process = self.world.process
        if process is None:
            return
        believers = [
            server.name
            for server in self.world.servers.values()
            if server.life is not None
            and not server.life.over
            and server.life.state is not State.UNADOPTED
            and server.number == process.number
        ]
        assert set(believers) <= {process.owner}

    @invariant()
    def an_owner_or_a_lease(self) -> None:
        process = self.world.process
        if process is not None and process.alive:
            server = self.world.servers[process.owner]
            if server.linked:  # or else the lease counts
                assert server.life is not None
                assert not server.life.over

    @invariant()
    def lives_say_what_is(self) -> None:
        for server in self.world.servers.values():
            life, process = server.life, self.world.process
            if life is None:
                continue
            assert (life.poll() is None) == (not life.over)
            if life.serving:
                assert server.linked
                assert process is not None
                assert process.alive
                assert process.listening
            if not life.over:  # a failure of the network is not a death, and never passed over
                unreachable = life.state is State.UNREACHABLE
                assert unreachable == (not server.linked) or life.state is State.UNADOPTED
            if life.unreachable:
                assert life.grace_left(self.world.now, GRACE) is not None

    @invariant()
    def who_owns_has_adopted(self) -> None:
        """A kernel is served by its owner only, and adoption is over with the first word of it."""
        for server in self.world.servers.values():
            life, process = server.life, self.world.process
            if life is not None and life.state is State.UNADOPTED:
                assert life.adoption_pending
                assert process is None or process.owner != server.name
            if life is not None and life.serving:
                assert not life.adoption_pending

    @invariant()
    def an_end_is_final(self) -> None:
        for server in self.world.servers.values():
            if server.life is not None and server.life.over:
                said = (server.life.state, server.life.exit_code, server.life.reason)
                _, first = self.ends.setdefault(id(server.life), (server.life, said))
                assert said == first

    @invariant()
    def nobody_else_is_signalled(self) -> None:
        numbers = [number for _, number in self.signalled]
        assert len(numbers) == len(set(numbers))


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(max_examples=share(2.5), stateful_step_count=30)
