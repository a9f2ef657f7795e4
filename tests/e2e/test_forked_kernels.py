"""What a forked kernel can see and do, against the same kernel spawned."""

from __future__ import annotations

import json
import re
import signal
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from ..conftest import InstallSpec, Session, Start, eventually
from ..rig import Host, Rig

KERNEL = ["-m", "ipykernel_launcher", "-f", "{connection_file}"]

#: Says all that a program can see of itself; `_look` is removed by the caller.
LOOK = """
def _look():
    import faulthandler, gc, json, locale, os, resource, signal, sys, threading, warnings
    def read(name):
        with open("/proc/self/" + name, errors="surrogateescape") as file:
            return file.read()
    status = dict(line.split(":", 1) for line in read("status").splitlines())
    kept = ("Umask", "SigQ", "SigBlk", "SigIgn", "SigCgt", "CapEff", "NoNewPrivs", "Seccomp")
    limits = [name for name in dir(resource) if name.startswith("RLIMIT_")]
    streams = (sys.__stdin__, sys.__stdout__, sys.__stderr__)
    descriptors = []
    for number in os.listdir("/proc/self/fd"):
        try:
            descriptors.append(os.readlink("/proc/self/fd/" + number))
        except OSError:
            pass
    main = threading.main_thread()
    seen = {
        "argv": sys.argv,
        "orig_argv": getattr(sys, "orig_argv", None),
        "flags": repr(sys.flags),
        "options": [sys._xoptions, sys.warnoptions, sys.dont_write_bytecode],
        "path": sys.path,
        "modules": sorted(sys.modules),
        "main": [repr(sys.modules["__main__"]), sorted(vars(sys.modules["__main__"]))],
        "program": [sys.executable, sys.prefix, os.readlink("/proc/self/exe")],
        "environ": dict(os.environ),
        "cmdline": read("cmdline").split("\\0"),
        "comm": read("comm"),
        "cwd": os.getcwd(),
        "status": {name: status.get(name) for name in kept if name != "SigQ"},
        "limits": {name: resource.getrlimit(getattr(resource, name)) for name in limits},
        "handlers": {each.name: repr(signal.getsignal(each)) for each in signal.Signals},
        "leads": [os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid()],
        "child of": open("/proc/%d/cmdline" % os.getppid()).read(),
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "tasks": len(os.listdir("/proc/self/task")),
        "main thread": [main.native_id == os.getpid(), main is threading.current_thread()],
        "descriptors": descriptors,
        "locale": [locale.setlocale(number) for number in range(6)],
        "streams": [[s.encoding, s.errors, s.write_through, s.line_buffering] for s in streams],
        "encoding": [sys.getfilesystemencoding(), sys.getdefaultencoding()],
        "faulthandler": faulthandler.is_enabled(),
        "gc": [gc.isenabled(), gc.get_threshold()],
        "warnings": [repr(entry) for entry in warnings.filters],
        "recursion": sys.getrecursionlimit(),
        "nice": os.nice(0),
        "hash": hash("a word") if os.environ.get("PYTHONHASHSEED") else None,
    }
    print(json.dumps(seen))
_look(); del _look
"""


@pytest.fixture
def host(rig: Rig, home: object) -> Host:
    return rig.hosts[0]


@pytest.fixture
def directory(host: Host) -> Iterator[str]:
    """A directory of the host, for modules."""
    path = f"/tmp/d-{uuid.uuid4().hex[:8]}"
    host.run(["mkdir", path])
    yield path
    host.run(["rm", "-r", path])


class Pair:
    """Start the same kernel forked and spawned."""

    def __init__(self, host: Host, install: InstallSpec, start: Start) -> None:
        self._host, self._install, self._start = host, install, start

    def spec(self, forked: bool, flags: list[str], **options: Any) -> str:
        # Whose first word is no Python is spawned.
        program = ["python"] if forked else ["env", sys.executable]
        name = "forked" if forked else "spawned"
        argv = [*program, *flags, *options.pop("kernel", KERNEL)]
        return self._install(self._host.target, name=name, argv=argv, **options)

    def start(self, forked: bool, flags: list[str] | None = None, **options: Any) -> Session:
        name = self.spec(forked, flags or [], **options)
        if forked:
            self._start(name).close()  # the first of an environment is spawned
        session = self._start(name)
        assert (session.value("__import__('gc').get_freeze_count()") > 9999) is forked
        return session


@pytest.fixture
def pair(host: Host, install_spec: InstallSpec, start: Start) -> Pair:
    return Pair(host, install_spec, start)


def seen_by(session: Session) -> dict[str, Any]:
    """What it sees of itself, without what is each kernel's own."""
    printed = session.run(LOOK)
    try:
        text = json.dumps(json.loads(printed))
    except ValueError:
        raise AssertionError(printed) from None
    text = re.sub(r"/k/[0-9a-f]{10}", "/k/OWN", text)
    text = re.sub(r"0x[0-9a-f]+", "ADDRESS", text)
    text = re.sub(r"Thread-\d+", "Thread", text)  # debugpy's import makes one: when, differs
    seen: dict[str, Any] = json.loads(text)
    del seen["environ"]["KERNEL_ID"]
    # History is opened by a thread, in its own time: its file and, for a moment, its directory.
    kinds = [re.sub(r":\[\d+\]", "", d) for d in seen["descriptors"] if "profile_" not in d]
    seen["descriptors"] = Counter(kinds)
    return seen


@pytest.mark.parametrize("hosts", [1, 2])
def test_the_first_kernel_of_a_host_is_forked(
    rig: Rig, home: object, install_spec: InstallSpec, start: Start, hosts: int
) -> None:
    install_spec([host.target for host in rig.hosts[:hosts]])
    session = start("remote")
    assert session.value("__import__('gc').get_freeze_count()") > 9999


@pytest.mark.parametrize(
    ("flags", "env"),
    [
        ([], {}),
        (
            ["-O", "-X", "dev", "-Werror::UserWarning"],
            {"PYTHONPATH": ":lib", "PYTHONHASHSEED": "7"},
        ),
        (["-I", "-u"], {"LC_ALL": "", "LANG": "C"}),
        (
            [],
            {
                "PYTHONWARNINGS": "ignore::UserWarning",
                "PYTHONFAULTHANDLER": "1",
                "PYTHONUNBUFFERED": "1",
                "PYTHONOPTIMIZE": "2",
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYTHONPATH": "/nowhere",
            },
        ),
    ],
    ids=["plain", "flags", "isolated", "variables"],
)
def test_it_sees_itself_as_if_spawned(pair: Pair, flags: list[str], env: dict[str, str]) -> None:
    forked = seen_by(pair.start(True, flags, env=env))
    spawned = seen_by(pair.start(False, flags, env=env))
    for name in spawned:
        assert forked[name] == spawned[name], name


def test_siblings_share_nothing_that_is_to_be_random(pair: Pair) -> None:
    code = (
        "[__import__('random').random(), __import__('uuid').uuid4().hex,"
        " __import__('uuid').uuid1().hex, __import__('secrets').token_hex(),"
        " __import__('tempfile').mktemp(),"
        " __import__('multiprocessing').current_process().authkey.hex(),"
        " float(__import__('numpy').random.random()),"
        " float(__import__('numpy').random.default_rng().random())]"
    )
    pytest.importorskip("numpy")
    options: dict[str, Any] = {"preload": ["numpy", "multiprocessing", "uuid", "tempfile"]}
    first, second = (pair.start(True, **options) for _ in range(2))
    for one, other in zip(first.value(code), second.value(code), strict=True):
        assert one != other
    first.run("import json, os; json.mark = 1; os.environ['MARK'] = '1'; os.chdir('/usr')")
    changed = second.run("import json, os; print(hasattr(json, 'mark'), os.environ.get('MARK'))")
    assert changed == "False None\n"


# -- how it ends ---------------------------------------------------------------------------


EXIT = "import os; os._exit(3)"
ABORT = "import os, resource as r; r.setrlimit(r.RLIMIT_CORE, (0, 0)); os.abort()"


@pytest.mark.parametrize("code", [EXIT, ABORT], ids=["exit", "abort"])
def test_it_dies_as_if_spawned(pair: Pair, code: str) -> None:
    ends = []
    for forked in (True, False):
        session = pair.start(forked)
        session.client.execute(code)
        eventually(lambda s=session: not s.manager.is_alive())
        ends.append(session.kernel.life.exit_code)
    assert ends[0] == ends[1]
    assert ends[0] in (3, -signal.SIGABRT)


@pytest.mark.parametrize(
    ("kernel", "said"),
    [
        ([*KERNEL, "--IPKernelApp.kernel_class=no.such.Kernel"], "no.such|'no'"),
        ([*KERNEL[:-1], "/proc/no/such"], "No such file"),
    ],
    ids=["class", "file"],
)
def test_it_fails_to_start_as_if_spawned(
    pair: Pair, host: Host, start: Start, kernel: list[str], said: str
) -> None:
    errors = []
    for forked in (True, False):
        name = pair.spec(forked, [], kernel=kernel)
        for _ in range(2):  # the first of an environment is spawned
            with pytest.raises(Exception, match=said) as caught:
                start(name)
        text = re.sub(r"/k/[0-9a-f]{10}", "/k/OWN", str(caught.value))
        errors.append(re.sub(r"0x[0-9a-f]+|\d\d:\d\d:\d\d|\d+\.\d+s|remote-\S+|pid \d+", "", text))
    assert errors[0] == errors[1]


def test_what_is_registered_for_its_end_is_run(pair: Pair, host: Host, directory: str) -> None:
    session = pair.start(True)
    session.run(f"import atexit; atexit.register(lambda: open('{directory}/ended', 'w').close())")
    session.manager.shutdown_kernel()
    assert host.files(directory) == ["ended"]


# -- what it does --------------------------------------------------------------------------

WORKER = "import os\ndef square(n):\n    return [n * n, os.environ['MARK']]\n"
POOLS = """
import multiprocessing, workers, json
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
found = []
for method in ("fork", "spawn", "forkserver"):
    context = multiprocessing.get_context(method)
    with context.Pool(2) as pool:
        found.append(pool.map(workers.square, [2, 3]))
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        found.append(list(executor.map(workers.square, [4])))
with ThreadPoolExecutor(2) as executor:
    found.append(list(executor.map(workers.square, [5])))
print(json.dumps(found))
"""


def test_processes_and_threads(pair: Pair, host: Host, directory: str) -> None:
    host.write(f"{directory}/workers.py", WORKER)
    session = pair.start(True, env={"PYTHONPATH": directory, "MARK": "m"})
    two, one = [[4, "m"], [9, "m"]], [[16, "m"]]
    assert json.loads(session.run(POOLS, timeout=60)) == [two, one] * 3 + [[[25, "m"]]]
    assert session.run("import subprocess; print(subprocess.call(['true']))") == "0\n"
    assert session.run("import asyncio; await asyncio.sleep(0); print('awaited')") == "awaited\n"
    assert (
        session.run("p = await asyncio.create_subprocess_exec('true'); print(await p.wait())")
        == "0\n"
    )


def test_profile_and_startup_files(pair: Pair, host: Host, directory: str) -> None:
    profile = f"{directory}/profile_default"
    host.write(f"{profile}/startup/a.py", "import os; began = os.environ['KERNEL_ID']")
    host.write(f"{profile}/ipython_kernel_config.py", "c.InteractiveShell.banner2 = 'mine'")
    host.write(f"{directory}/first.py", "first = 1")
    env = {"IPYTHONDIR": directory, "PYTHONSTARTUP": f"{directory}/first.py"}
    ids = set()
    for _ in range(2):
        session = pair.start(True, env=env)
        assert session.value("[first, get_ipython().banner2]") == [1, "mine"]
        assert session.value("began == os.environ['KERNEL_ID']")
        ids.add(session.value("began"))
    assert len(ids) == 2


def test_reload_of_an_edited_module(pair: Pair, host: Host, directory: str) -> None:
    host.write(f"{directory}/edited.py", "value = 1")
    session = pair.start(True, env={"PYTHONPATH": directory})
    session.run("%load_ext autoreload\n%autoreload 2\nimport edited")
    assert session.run("print(edited.value)") == "1\n"
    host.write(f"{directory}/edited.py", "value = 'changed'")
    assert session.run("print(edited.value)") == "changed\n"


def test_interrupt(pair: Pair, host: Host, directory: str) -> None:
    session = pair.start(True)
    code = f"import time\nopen('{directory}/busy', 'w').close()\nwhile True: time.sleep(0.01)"
    request = session.client.execute(code)
    eventually(lambda: host.files(directory) == ["busy"])
    session.manager.interrupt_kernel()
    reply = session.client.get_shell_msg(timeout=30)
    while reply["parent_header"]["msg_id"] != request:
        reply = session.client.get_shell_msg(timeout=30)
    assert reply["content"]["ename"] == "KeyboardInterrupt"
    assert session.run("print('goes on')") == "goes on\n"


def test_plots(pair: Pair, directory: str) -> None:
    pytest.importorskip("matplotlib")
    session = pair.start(True, env={"MPLCONFIGDIR": directory})
    shown: list[str] = []

    def hook(message: dict[str, Any]) -> None:
        shown.extend(message["content"].get("data", {}))

    session.client.execute_interactive(
        "import matplotlib.pyplot as plt; plt.plot([1, 2]); plt.show()",
        output_hook=hook,
        timeout=60,
    )
    assert "image/png" in shown


def test_comms(pair: Pair) -> None:
    session = pair.start(True)
    opened: list[str] = []

    def hook(message: dict[str, Any]) -> None:
        opened.append(message["msg_type"])

    session.client.execute_interactive(
        "from comm import create_comm; c = create_comm(target_name='t'); got = []\n"
        "c.on_msg(lambda m: got.append(m['content']['data']))",
        output_hook=hook,
        timeout=30,
    )
    assert "comm_open" in opened
    content = {"comm_id": session.value("c.comm_id"), "data": {"x": 1}}
    session.client.shell_channel.send(session.client.session.msg("comm_msg", content))
    assert session.value("got") == [{"x": 1}]


def test_debugger(pair: Pair) -> None:
    client = pair.start(True).client
    sequence = iter(range(1, 100))

    def ask(command: str, **arguments: Any) -> dict[str, Any]:
        content = {"type": "request", "seq": next(sequence), "command": command}
        message = client.session.msg("debug_request", {**content, "arguments": arguments})
        client.control_channel.send(message)
        while True:
            reply = client.get_control_msg(timeout=30)
            if reply["parent_header"].get("msg_id") == message["header"]["msg_id"]:
                assert reply["content"]["success"], reply["content"]
                return dict(reply["content"].get("body") or {})

    def event(name: str) -> dict[str, Any]:
        while True:
            message = client.get_iopub_msg(timeout=30)
            if message["msg_type"] == "debug_event" and message["content"]["event"] == name:
                return dict(message["content"]["body"])

    ask(
        "initialize",
        clientID="test",
        adapterID="python",
        pathFormat="path",
        linesStartAt1=True,
        columnsStartAt1=True,
    )
    ask("attach")
    code = "a = 1\nb = a + 1\nprint(b)"
    source = ask("dumpCell", code=code)["sourcePath"]
    found = ask("setBreakpoints", source={"path": source}, breakpoints=[{"line": 2}])
    assert found["breakpoints"][0]["verified"]
    ask("configurationDone")
    client.execute(code)
    thread = event("stopped")["threadId"]
    (frame, *_) = ask("stackTrace", threadId=thread)["stackFrames"]
    assert frame["line"] == 2
    assert ask("evaluate", expression="a + 40", frameId=frame["id"])["result"] == "41"
    ask("continue", threadId=thread)
    event("continued")
    ask("disconnect", restart=False, terminateDebuggee=False)
