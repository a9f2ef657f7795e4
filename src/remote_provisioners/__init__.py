"""Jupyter kernels on other machines: kernel provisioners that need nothing but SSH."""

__version__ = "0.1.0"
