"""What the machine has to have: tests skip without it, but never in CI."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess

import pytest


def need(reason: str) -> None:
    """Skip if there is a reason to; where nothing may be skipped, fail."""
    if reason:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


def require(language: str) -> None:
    """Skip if the machine lacks what kernels of this language are made of."""
    if language == "scala" and importlib.util.find_spec("toree") is None:
        need("Apache Toree is not installed (pip install --no-deps toree==0.5.0)")
    if language == "R":
        if shutil.which("R") is None:
            need("R is not installed (on Debian: r-base-core)")
        for package in ("IRkernel", "reticulate"):
            # The hosts' environment, not ours: that of a virtual machine of R's may differ.
            test = f"quit(status = !requireNamespace('{package}', quietly = TRUE))"
            environ = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]}
            if subprocess.run(["R", "--slave", "-e", test], env=environ, check=False).returncode:
                need(f"{package} is not installed (on Debian: r-cran-{package.lower()})")
