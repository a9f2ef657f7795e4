"""Become a "child subreaper", then the given program: ``subreaper.py PROGRAM ARGUMENT...``.

Standard library only, and no import of this package: it runs as a script.  Every orphan below
becomes a child of that program, so what a host started can be found however it was detached.
"""

import ctypes
import os
import sys

PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>; kept across exec, not inherited by children

if __name__ == "__main__":
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    os.execvp(sys.argv[1], sys.argv[1:])
