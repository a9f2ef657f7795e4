"""`jupyter remote kernels`, `attach`, `stop`, `logs`: kernels on hosts, whoever started them."""
