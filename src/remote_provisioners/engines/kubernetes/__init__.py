"""Kubernetes as an engine: one pod a kernel."""
