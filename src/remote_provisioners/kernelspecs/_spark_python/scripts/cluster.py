"""Become the IPython kernel in the container of its driver: `cluster.py CONNECTION_FILE ...`."""

import argparse

import spark_session
import within

parser = argparse.ArgumentParser()
parser.add_argument("connection_file")
modes = ("lazy", "eager", "none")
parser.add_argument("--spark-context-initialization-mode", dest="mode", choices=modes)
arguments, _ = parser.parse_known_args()
within.end_with_parent()

from ipykernel.kernelapp import IPKernelApp  # noqa: E402

app = IPKernelApp.instance()
app.initialize(["-f", arguments.connection_file])
# YARN ends an application whose driver has no session: it is made at once, behind the kernel.
spark_session.install(app.shell, arguments.mode or "eager")
app.start()
spark_session.stop()
