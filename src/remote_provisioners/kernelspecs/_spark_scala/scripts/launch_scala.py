"""Start Spark's own interpreter of Scala as a kernel, and report. In the driver."""

import launch_ipykernel

launch_ipykernel.main(kernel_class="scala_kernel.ScalaKernel")
