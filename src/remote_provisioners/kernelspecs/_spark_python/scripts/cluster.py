"""Become the IPython kernel in the container of its driver: `cluster.py CONNECTION_FILE ...`."""

import within

within.be_kernel()
