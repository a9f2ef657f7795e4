"""The Spark session of a Python driver: creation in the background, interrupts, end.

Runs in the driver that spark-submit has started. Its options set the session's master, name and
everything else. Interrupts cancel the session's jobs, also if the user's code made the session.
"""

import os
import signal
import sys
import threading

import engine
import yarn_application

#: A cancellation that took longer than this could cancel the next cell's job.
_CANCEL_SECONDS = 10.0
#: How long a wait for the session lasts before the first message, and between later ones.
_NOTICE_SECONDS = 10.0
_ASK_SECONDS = 3.0
_YARN_SECONDS = 3.0


class Session:
    """The Spark session of this kernel, created in a separate thread.

    A wait for it can be interrupted. Its creation then goes on, and the next caller gets it.
    """

    def __init__(self):
        #: An event: creation is over. None until the session is needed. (We do not join the thread:
        #: before Python 3.13, one whose join was interrupted counts as ended.)
        self._done = None
        self._made = None
        self._error = None

    def start(self):
        """Start its creation, unless that has started already."""
        if self._done is None:
            self._done = threading.Event()
            threading.Thread(target=self._make, name="spark-session", daemon=True).start()

    def notices(self):
        """Start its creation, and yield messages for the user until it is over."""
        self.start()
        done, said, seconds = self._done, None, _NOTICE_SECONDS
        while not done.wait(seconds):
            state = _ask_yarn(yarn_application.state) or "no answer from " + _engine()
            if state != said:
                yield "waiting for the Spark session: " + state
            said, seconds = state, _ASK_SECONDS

    def get(self):
        """Wait for the session. Raises Spark's errors."""
        self.start()
        self._done.wait()
        if self._error is not None:
            error, self._error, self._done = self._error, None, None  # the next caller may retry
            raise error
        return self._made

    def stop(self):
        """Remove everything from the engine."""
        context = active_context()
        if self._done is not None and not self._done.is_set():
            _ask_yarn(yarn_application.kill)
            # The creation hangs in the JVM: only the end of the JVM stops it.
            os.kill(os.getppid(), signal.SIGTERM)
        elif context is not None:
            context.stop()

    def _make(self):
        try:
            from pyspark.sql import SparkSession

            made = SparkSession.builder.getOrCreate()
            # If no master answered, Spark only logs that, and makes up an id of this form.
            if made.sparkContext.applicationId.startswith("spark-application-"):
                made.stop()
                raise ConnectionError("Spark has given up: no answer from " + _engine())
            self._made = made
        except BaseException as error:
            self._error = error
        self._done.set()


def cancel_jobs():
    """Cancel our Spark jobs. A SIGINT handler calls this and then raises."""
    context = active_context()
    if context is not None:
        _leave_connection(context)
        # In a thread: each thread has its own connection to the JVM.
        cancel = threading.Thread(target=_cancel, args=(context,), daemon=True)
        cancel.start()
        cancel.join(_CANCEL_SECONDS)


def active_context():
    """This process's SparkContext, once it is complete."""
    made_by = getattr(sys.modules.get("pyspark"), "SparkContext", None)
    context = getattr(made_by, "_active_spark_context", None)
    return context if getattr(context, "_jsc", None) is not None else None


def _master():
    from pyspark import SparkContext

    jvm = SparkContext._jvm
    return (jvm and jvm.java.lang.System.getProperty("spark.master")) or "the JVM"


def _engine():
    master = _master()
    places = "" if master.startswith("spark:") else ",".join(engine.addresses(master, os.environ))
    return "{} ({})".format(master, places) if places else master


def _ask_yarn(function):
    """The result of a function of yarn_application; None if it fails or takes too long."""
    from pyspark import SparkContext

    if _master() != "yarn":
        return None
    kernel_id = os.environ.get("KERNEL_ID", "")
    return yarn_application.within(_YARN_SECONDS, function, SparkContext._jvm, kernel_id)


def _cancel(context):
    try:
        context.cancelAllJobs()
    except Exception as error:
        print("cannot cancel Spark's jobs: {}".format(error), file=sys.stderr)


def _leave_connection(context):
    """Keep the answer of an interrupted call from being read as that of the next call.

    Py4J keeps one connection a thread, found again as long as anybody holds it, such as the
    traceback of this interrupt. One that waits for an answer is not in its queue.
    """
    client = context._gateway._gateway_client
    get = getattr(client, "get_thread_connection", None)
    connection = get() if get is not None else None
    if connection is not None and connection not in client.deque:
        client.thread_connection.connection = None
