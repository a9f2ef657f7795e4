"""`spark` and `sc` of an IPython kernel: made when they are used, given up when it ends.

Runs in the driver that spark-submit has started: master, name and everything else of the session
come from its options.
"""

import ast
import os
import signal
import sys
import threading

import yarn_application

NAMES = ("spark", "sc")
#: A cancellation that comes later than this would be that of the next cell's job.
_CANCEL_SECONDS = 10.0
#: Of waiting for the session, before something is said, and how often then.
_NOTICE_SECONDS = 10.0
_ASK_SECONDS = 3.0
_YARN_SECONDS = 3.0


class Session:
    """The Spark session of this kernel, made in a thread of its own.

    Who waits for it can be interrupted; it goes on being made and is there for the next who asks.
    """

    def __init__(self, namespace):
        self._namespace = namespace
        #: Set when it is made or cannot be; None while nobody has asked for it. (A thread whose
        #: join was interrupted would count as ended, in Pythons before 3.13.)
        self._done = None
        self._made = None
        self._error = None

    def start(self):
        """Begin to make it, unless that was done before."""
        if self._done is None:
            self._done = threading.Event()
            threading.Thread(target=self._make, name="spark-session", daemon=True).start()

    def get(self):
        """The session, once it is there. Raises what Spark raises."""
        self.start()
        said, seconds = None, _NOTICE_SECONDS
        while not self._done.wait(seconds):
            state = _ask_yarn(yarn_application.state) or "no answer from " + _master()
            if state != said:
                print("waiting for the Spark session: " + state, file=sys.stderr, flush=True)
            said, seconds = state, _ASK_SECONDS
        if self._error is not None:
            error, self._error, self._done = self._error, None, None  # the next may try again
            raise error
        return self._made

    def ready(self):
        """Have the real objects under their names, where they are ours to give."""
        session = self.get()
        for name, value in (("spark", session), ("sc", session.sparkContext)):
            if isinstance(self._namespace.get(name), Placeholder):
                self._namespace[name] = value

    def stop(self):
        """Leave nothing in the engine."""
        context = _active_context()
        if self._done is not None and not self._done.is_set():
            _ask_yarn(yarn_application.kill)
            # It hangs in the JVM, which nothing but its end gets out of there.
            os.kill(os.getppid(), signal.SIGTERM)
        elif context is not None:
            context.stop()

    def _make(self):
        try:
            from pyspark.sql import SparkSession

            self._made = SparkSession.builder.getOrCreate()
        except BaseException as error:
            self._error = error
        self._done.set()


def _master():
    from pyspark import SparkContext

    jvm = SparkContext._jvm
    return (jvm and jvm.java.lang.System.getProperty("spark.master")) or "the JVM"


def _ask_yarn(function):
    """What a function of yarn_application says; None where that cannot be, or takes too long."""
    from pyspark import SparkContext

    if _master() != "yarn":
        return None
    kernel_id = os.environ.get("KERNEL_ID", "")
    return yarn_application.within(_YARN_SECONDS, function, SparkContext._jvm, kernel_id)


class Placeholder:
    """Stands under a name until somebody uses it where no cell says so: in %run, in eval."""

    def __init__(self, session, name):
        self.__dict__["_placed"] = (session, name)

    def _real(self):
        session, name = self._placed
        made = session.get()
        session.ready()
        return made if name == "spark" else made.sparkContext

    def __dir__(self):
        from pyspark import SparkContext
        from pyspark.sql import SparkSession

        return dir(SparkSession if self._placed[1] == "spark" else SparkContext)

    def __getattr__(self, name):
        # What a class does not have is asked for by tools that look, not by a user.
        if not name.startswith("_j") and name not in dir(self):
            raise AttributeError(name)
        return getattr(self._real(), name)

    def __setattr__(self, name, value):
        setattr(self._real(), name, value)

    def __repr__(self):
        return "<{}: not started, will be when it is used>".format(self._placed[1])


class _Uses(ast.NodeTransformer):
    """Puts the wait for the session before a cell that reads one of the names."""

    def __init__(self, namespace):
        self._namespace = namespace

    def visit_Module(self, tree):
        names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
        stored = {node.id for node in names if not isinstance(node.ctx, ast.Load)}
        used = {node.id for node in names} - stored
        waits = any(isinstance(self._namespace.get(name), Placeholder) for name in used)
        if waits and not _from_future(tree):
            ready = ast.parse("__import__('spark_session').ready()").body[0]
            tree.body.insert(0, ast.copy_location(ready, tree.body[0]))
            ast.fix_missing_locations(tree)
        return tree


def _from_future(tree):
    return any(
        isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body
    )


_session = None


def ready():
    """Called by cells."""
    _session.ready()


def stop():
    """Leave nothing in the engine. By the launcher, when the kernel ends."""
    _session.stop()


def install(shell, mode):
    """Give the shell `spark` and `sc`, and interrupts that reach Spark. By the launcher, once."""
    global _session
    shell.events.register("pre_execute", _take_interrupts)
    _session = Session(shell.user_ns)
    if mode == "none":
        return
    placed = {name: Placeholder(_session, name) for name in NAMES}
    shell.user_ns.update(placed)
    shell.user_ns_hidden.update(placed)
    shell.ast_transformers.append(_Uses(shell.user_ns))
    if mode == "eager":
        _session.start()


def _take_interrupts():
    # For each cell: ipykernel sets Python's own handler before it, and resets it after.
    signal.signal(signal.SIGINT, _interrupt)


def _interrupt(signum, frame):
    """Cancel what Spark is doing for us, and raise KeyboardInterrupt."""
    context = _active_context()
    if context is not None:
        _leave_connection(context)
        # In a thread, which has a connection to the JVM of its own.
        cancel = threading.Thread(target=_cancel, args=(context,), daemon=True)
        cancel.start()
        cancel.join(_CANCEL_SECONDS)
    raise KeyboardInterrupt


def _active_context():
    """The SparkContext of this process, whoever made it, once it is whole."""
    made_by = getattr(sys.modules.get("pyspark"), "SparkContext", None)
    context = getattr(made_by, "_active_spark_context", None)
    return context if getattr(context, "_jsc", None) is not None else None


def _cancel(context):
    try:
        context.cancelAllJobs()
    except Exception as error:
        print("cannot cancel Spark's jobs: {}".format(error), file=sys.stderr)


def _leave_connection(context):
    """Let the interrupted call's answer not be taken for the answer to the next call.

    Py4J keeps one connection a thread, found again as long as anybody holds it, such as the
    traceback of this interrupt. One that waits for an answer is not in its queue.
    """
    client = context._gateway._gateway_client
    get = getattr(client, "get_thread_connection", None)
    connection = get() if get is not None else None
    if connection is not None and connection not in client.deque:
        client.thread_connection.connection = None
