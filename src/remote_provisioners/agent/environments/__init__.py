"""Finds what could run kernels on this host.

Standard library only: this module travels to hosts.
"""
