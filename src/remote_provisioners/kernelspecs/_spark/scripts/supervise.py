"""Run a kernel that cannot report by itself, and report for it.

For kernels that read a connection file and listen on TCP, started by spark-submit. Needs pyzmq with
CurveZMQ, for the report.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time

import engine
import submit

CHANNELS = ("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port")
_LISTEN = "0A"
_POLL_SECONDS = 0.02


def run(application, environ, interrupt=None, says_when_it_waits=True):
    """Run spark-submit with `application`, a function from the connection file to argv.

    The process group gets SIGINT for an interrupt. Spark ignores it; `interrupt` is the signal
    that its JVM gets instead, if any. A kernel that would not say that nobody answers it is not
    started without its engine.
    """
    arguments, others = _arguments()
    # The whole group gets these. We end when the kernel does.
    submit.ignore_interrupts()
    signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        from launch_ipykernel import Reporter
    except ImportError as error:
        sys.exit("the Python of this launcher, {}, lacks pyzmq: {}".format(sys.executable, error))
    reporter = Reporter(arguments.kernel_id, arguments.response_address, arguments.public_key)
    connection = reporter.report("launched")["connection"]
    directory, reserved = None, []
    if connection["transport"] != "tcp":
        # Nobody else can read this directory. The agent removes it with the kernel, however we end.
        directory = os.path.dirname(connection["ip"])
        reserved = _reserve()
        connection.update(transport="tcp", ip="127.0.0.1")
        connection.update(zip(CHANNELS, (s.getsockname()[1] for s in reserved)))
    descriptor, path = tempfile.mkstemp(prefix="kernel-", suffix=".json", dir=directory)
    with open(descriptor, "w") as file:
        json.dump(connection, file)
    try:
        argv = submit.command(application(path), others, environ)
        if not says_when_it_waits:
            _check_engine(submit.master(argv), environ)
    except submit.SubmitError as error:
        sys.exit(str(error))
    kernel = subprocess.Popen(argv, env=submit.environment(environ))
    if interrupt:
        signal.signal(signal.SIGINT, lambda *_: kernel.send_signal(interrupt))
    while kernel.poll() is None:
        if _listening() >= {connection[channel] for channel in CHANNELS}:
            reporter.report("listening", connection=connection, pid=kernel.pid)
            break
        time.sleep(_POLL_SECONDS)
    reporter.close()
    code = kernel.wait()
    os.unlink(path)
    sys.exit(code if code >= 0 else 128 - code)


def _check_engine(master, environ):
    reason = engine.silent(master, environ)
    if reason:
        name = "YARN's ResourceManager" if master == "yarn" else "the Spark master"
        raise submit.SubmitError("{} does not answer: {}".format(name, reason))


def _arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kernel-id", required=True)
    parser.add_argument("--response-address", required=True, help="a ZeroMQ endpoint")
    parser.add_argument("--public-key", required=True, help="CurveZMQ, Z85")
    return parser.parse_known_args()


def _reserve():
    """Sockets that reserve ports until the kernel has bound them.

    The kernel's own bind passes next to one that does not listen, by SO_REUSEADDR; everybody
    else's search for a free port passes by.
    """
    reserved = []
    for _ in CHANNELS:
        port = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        port.bind(("127.0.0.1", 0))
        reserved.append(port)
    return reserved


def _listening():
    """The TCP ports of this host with a listener, found without connecting to them."""
    ports = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table) as file:
                rows = [line.split() for line in file.readlines()[1:]]
        except OSError:
            continue
        ports.update(int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == _LISTEN)
    return ports
