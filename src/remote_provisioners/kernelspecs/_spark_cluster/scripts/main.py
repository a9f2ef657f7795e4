"""Become spark-submit, which takes the launcher of this launch to YARN. Runs on the server."""

import os
import sys

import submit

submit.replace_by([os.environ["RP_LAUNCHER"]], sys.argv[1:])
