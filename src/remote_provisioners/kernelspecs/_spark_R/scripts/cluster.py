"""Become IRkernel in the container of its driver: `cluster.py CONNECTION_FILE ...`."""

import os

import within

within.end_with_parent()
# YARN ends an application whose driver has no session. So R creates it before it listens.
os.environ["RP_EAGER_SESSION"] = "1"

import start_r  # noqa: E402, F401
