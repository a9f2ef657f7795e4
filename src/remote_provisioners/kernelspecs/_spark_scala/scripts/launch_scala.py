"""Start Spark's own Scala interpreter as a kernel, and report it. Runs in the driver."""

import launch_ipykernel

launch_ipykernel.main(kernel_class="scala_kernel.ScalaKernel")
