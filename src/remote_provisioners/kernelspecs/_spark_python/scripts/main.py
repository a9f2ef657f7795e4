"""Become spark-submit, which starts the launcher of the IPython kernel in its driver."""

import os
import sys

import submit

LAUNCHER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "launch_ipykernel.py")

submit.replace_by([LAUNCHER], sys.argv[1:])
