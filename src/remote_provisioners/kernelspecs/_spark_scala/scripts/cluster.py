"""Become the Scala kernel in the container of its driver: `cluster.py CONNECTION_FILE ...`."""

import within

within.be_kernel(kernel_class="scala_kernel.ScalaKernel")
