"""The Spark session of an R kernel without SparkR: `reticulate` imports this."""

import ctypes
import signal

import spark_driver

# Spark makes it in a thread of its own: in the main one it would replace R's handler of SIGINT.
_session = spark_driver.Session()
#: reticulate's handler of Python's part of an interrupt; None until ours is in front of it.
_decide = None
#: More bytes than struct sigaction has on any system.
_SIGACTION_BYTES = 1024


def notices():
    """Yields progress messages while the session is made."""
    return _session.notices()


def session():
    """The session of the driver that spark-submit has started. Raises Spark's errors."""
    made = _session.get()
    _take_interrupts()
    return made


def stop():
    """Remove everything from the engine."""
    _session.stop()


def _take_interrupts():
    """Let an interrupt that reaches Python cancel Spark's jobs before R gets it.

    reticulate's handler of SIGINT notifies R and Python, and stays. We replace only Python's part.
    """
    global _decide
    if _decide is not None:
        return
    before = signal.getsignal(signal.SIGINT)
    _decide = before if callable(before) else signal.default_int_handler
    kept, libc = ctypes.create_string_buffer(_SIGACTION_BYTES), ctypes.CDLL(None)
    libc.sigaction(signal.SIGINT, None, kept)
    signal.signal(signal.SIGINT, _interrupt)
    libc.sigaction(signal.SIGINT, kept, None)


def _interrupt(signum, frame):
    try:
        _decide(signum, frame)  # R may have handled the interrupt already
    except KeyboardInterrupt:
        spark_driver.cancel_jobs()
        raise
