"""Become R, within a spark-submit that has no SparkR. R can still reach the JVM through Python, by
`reticulate`.
"""

import os
import shutil
import signal
import sys

program = shutil.which("R")
if program is None:
    sys.exit("R is not on PATH ({})".format(os.environ.get("PATH", "")))
# spark-submit's processes ignore interrupts, and we inherit that.
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.environ.setdefault("RETICULATE_PYTHON", sys.executable)
here = os.path.dirname(os.path.abspath(__file__))
kernel = os.path.join(here, "kernel.R")
os.execv(program, ["R", "--no-save", "--slave", "-f", kernel, "--args", sys.argv[1], here])
