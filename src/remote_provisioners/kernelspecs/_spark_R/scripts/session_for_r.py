"""The Spark session of an R kernel without SparkR: `reticulate` imports this."""

import ctypes
import signal

import spark_driver

# Made in a thread of its own: in the main one Spark would take over SIGINT, which is R's.
_session = spark_driver.Session()
#: reticulate's handler of what is Python's part of an interrupt; None while ours is not before it.
_decide = None
#: More than any system's struct sigaction has.
_SIGACTION_BYTES = 1024


def notices():
    """What there is to say while the session is made, each time it changes."""
    return _session.notices()


def session():
    """The session of the driver that spark-submit has started. Raises what Spark raises."""
    made = _session.get()
    _take_interrupts()
    return made


def stop():
    """Leave nothing in the engine."""
    _session.stop()


def _take_interrupts():
    """Have an interrupt that Python gets cancel Spark's jobs, before R has it.

    The process's handler of SIGINT, which tells both R and Python, stays reticulate's: only
    Python's part is exchanged.
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
        _decide(signum, frame)  # R may have had it already
    except KeyboardInterrupt:
        spark_driver.cancel_jobs()
        raise
