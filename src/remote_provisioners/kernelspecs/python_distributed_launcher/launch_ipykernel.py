"""Start an IPython kernel and report to the response address where it listens.

It needs ipykernel, and pyzmq with CurveZMQ, which every IPython kernel has. docs/launchers.md of
remote-provisioners describes the protocol; this is the example for Python.
"""

import argparse
import json
import os
import signal
import sys
import tempfile

import zmq

SECRET_VARIABLE = "RP_LAUNCH_SECRET"
ANSWER_SECONDS = 30
#: spark-submit sets this variable to tell a Python driver where the JVM is.
DRIVER_VARIABLE = "PYSPARK_GATEWAY_PORT"


class Reporter:
    """The channel to the server: its public key encrypts it, the launch's secret identifies us."""

    def __init__(self, kernel_id, address, public_key):
        self._identity = {"kernel_id": kernel_id, "secret": os.environ.pop(SECRET_VARIABLE, "")}
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.REQ)
        self._socket.linger = 0
        self._socket.rcvtimeo = ANSWER_SECONDS * 1000
        self._socket.curve_serverkey = public_key.encode("ascii")
        self._socket.curve_publickey, self._socket.curve_secretkey = zmq.curve_keypair()
        self._socket.connect(address)

    def report(self, event, **fields):
        """Report an event and return the answer. Exits on a refusal, or without an answer."""
        self._socket.send_json(dict(self._identity, event=event, **fields))
        try:
            answer = self._socket.recv_json()
        except zmq.Again:
            sys.exit("the response address did not answer within %d s" % ANSWER_SECONDS)
        if "error" in answer:
            sys.exit("refused by the response address: " + answer["error"])
        return answer

    def close(self):
        self._socket.close()
        self._context.term()


def main(**traits):
    """Run the kernel. `traits` go to IPKernelApp, such as another kernel class than IPython's."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kernel-id", required=True)
    parser.add_argument("--response-address", required=True, help="a ZeroMQ endpoint")
    parser.add_argument("--public-key", required=True, help="CurveZMQ, Z85")
    parser.add_argument(
        "--spark-context-initialization-mode",
        dest="spark",
        choices=("lazy", "eager", "none"),
        default="lazy" if DRIVER_VARIABLE in os.environ else None,
        help="when to make `spark` and `sc`; default, inside spark-submit: lazy",
    )
    # `jupyter run` gives the names of its scripts to the kernel too, which has no use for them.
    parser.add_argument("scripts", nargs="*", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.spark and DRIVER_VARIABLE not in os.environ:
        parser.error("--spark-context-initialization-mode is for drivers of spark-submit")
    # spark-submit's processes ignore interrupts, and we inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    reporter = Reporter(arguments.kernel_id, arguments.response_address, arguments.public_key)
    connection = reporter.report("launched")["connection"]

    from ipykernel.kernelapp import IPKernelApp  # after the report: importing takes a while

    # A kernel gets its key in a file of mode 0600. It is next to the kernel's sockets: the agent
    # removes both, however we end.
    directory = os.path.dirname(connection["ip"]) if connection["transport"] == "ipc" else None
    descriptor, path = tempfile.mkstemp(prefix="kernel-", suffix=".json", dir=directory)
    with open(descriptor, "w") as file:
        json.dump(connection, file)
    app = IPKernelApp.instance(**traits)
    app.initialize(["-f", path])
    with open(path) as file:  # the kernel has filled in its ports
        listening = json.load(file)
    if arguments.spark:
        import spark_session

        spark_session.install(app.kernel, arguments.spark)
    reporter.report("listening", connection=listening, pid=os.getpid())
    reporter.close()
    os.unlink(path)
    app.start()
    if arguments.spark:
        spark_session.stop()


if __name__ == "__main__":
    main()
