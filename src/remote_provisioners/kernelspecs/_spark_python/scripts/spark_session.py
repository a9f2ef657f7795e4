"""`spark` and `sc` of an IPython kernel: made when they are used, given up when it ends."""

import ast
import signal
import sys

import spark_driver

NAMES = ("spark", "sc")


_session = spark_driver.Session()
#: Of the shell.
_namespace = {}


def get():
    """The session; who waits for it is told how far it is. Raises what Spark raises."""
    for words in _session.notices():
        print(words, file=sys.stderr, flush=True)
    return _session.get()


def ready():
    """Have the real objects under their names, where they are ours to give. Called by cells."""
    session = get()
    for name, value in (("spark", session), ("sc", session.sparkContext)):
        if isinstance(_namespace.get(name), Placeholder):
            _namespace[name] = value


def stop():
    """Leave nothing in the engine. By the launcher, when the kernel ends."""
    _session.stop()


def install(kernel, mode):
    """Give the kernel `spark` and `sc`, and interrupts that reach Spark. By the launcher, once."""
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
    """Stands under a name until somebody uses it where no cell says so: in %run, in eval."""

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
        # What a class does not have is asked for by tools that look, not by a user.
        if not name.startswith("_j") and name not in dir(self):
            raise AttributeError(name)
        return getattr(self._real(), name)

    def __setattr__(self, name, value):
        setattr(self._real(), name, value)

    def __repr__(self):
        return "<{}: not started, will be when it is used>".format(self._placed)


class _Uses(ast.NodeTransformer):
    """Puts the wait for the session before a cell that reads one of the names."""

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
    # For each cell: ipykernel sets Python's own handler before it, and resets it after.
    signal.signal(signal.SIGINT, _interrupt)


def _interrupt(signum, frame):
    """Cancel what Spark is doing for us, and raise KeyboardInterrupt."""
    spark_driver.cancel_jobs()
    raise KeyboardInterrupt
