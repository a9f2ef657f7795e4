"""Kernels in Slurm jobs."""
