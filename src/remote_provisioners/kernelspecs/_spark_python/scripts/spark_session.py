"""`spark` and `sc` of an IPython kernel: created at first use, stopped when the kernel ends."""

import ast
import signal
import sys

import spark_driver

NAMES = ("spark", "sc")


_session = spark_driver.Session()
#: The namespace of the user's code.
_namespace = {}


def get():
    """The session. Prints progress messages while it is created. Raises Spark's errors."""
    for words in _session.notices():
        print(words, file=sys.stderr, flush=True)
    return _session.get()


def ready():
    """Replace our placeholders by the real objects. Cells call this."""
    session = get()
    for name, value in (("spark", session), ("sc", session.sparkContext)):
        if isinstance(_namespace.get(name), Placeholder):
            _namespace[name] = value


def stop():
    """Remove everything from the engine. The launcher calls this when the kernel ends."""
    _session.stop()


def install(kernel, mode):
    """Give the kernel `spark` and `sc`, and let interrupts cancel Spark's jobs.

    The launcher calls this once.
    """
    global _namespace
    shell = kernel.shell
    shell.events.register("pre_execute", _take_interrupts)
    _namespace = shell.user_ns
    if mode == "none":
        return
    placed = {name: Placeholder(name) for name in NAMES}
    shell.user_ns.update(placed)
    shell.user_ns_hidden.update(placed)
    shell.ast_transformers.append(_Uses())
    if mode == "eager":
        _session.start()


class Placeholder:
    """Stands for `spark` or `sc` until code uses it that a cell does not show: %run, eval."""

    def __init__(self, name):
        self.__dict__["_placed"] = name

    def _real(self):
        made = get()
        ready()
        return made if self._placed == "spark" else made.sparkContext

    def __dir__(self):
        from pyspark import SparkContext
        from pyspark.sql import SparkSession

        return dir(SparkSession if self._placed == "spark" else SparkContext)

    def __getattr__(self, name):
        # Tools that inspect objects ask for attributes that the class does not have; users do not.
        if not name.startswith("_j") and name not in dir(self):
            raise AttributeError(name)
        return getattr(self._real(), name)

    def __setattr__(self, name, value):
        setattr(self._real(), name, value)

    def __repr__(self):
        return "<{}: not started, will be when it is used>".format(self._placed)


class _Uses(ast.NodeTransformer):
    """Adds a wait for the session to the beginning of a cell that reads one of the names."""

    def visit_Module(self, tree):
        names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
        stored = {node.id for node in names if not isinstance(node.ctx, ast.Load)}
        used = {node.id for node in names} - stored
        waits = any(isinstance(_namespace.get(name), Placeholder) for name in used)
        if waits and not _from_future(tree):
            ready = ast.parse("__import__('spark_session').ready()").body[0]
            tree.body.insert(0, ast.copy_location(ready, tree.body[0]))
            ast.fix_missing_locations(tree)
        return tree


def _from_future(tree):
    return any(
        isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body
    )


def _take_interrupts():
    # For each cell, because ipykernel sets Python's own handler before each and resets it after.
    signal.signal(signal.SIGINT, _interrupt)


def _interrupt(signum, frame):
    """Cancel what Spark is doing for us, and raise KeyboardInterrupt."""
    spark_driver.cancel_jobs()
    raise KeyboardInterrupt
