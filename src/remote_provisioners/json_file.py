"""Replaces a JSON file as a whole: a reader sees the old content or the new one."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def replace(path: Path, content: Mapping[str, Any], mode: int = 0o600) -> None:
    """Write `content`, for this user only unless `mode` says else. Makes the directory if need be.

    Raises OSError.
    """
    # The records of kernels lie in the same directory, and must not be open to others.
    path.parent.mkdir(0o700, parents=True, exist_ok=True)
    descriptor, made = tempfile.mkstemp(prefix=".new-", dir=path.parent)
    try:
        # A name on a host may contain bytes that are not UTF-8. They become escapes of JSON.
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
        Path(made).chmod(mode)
        Path(made).replace(path)
    finally:
        Path(made).unlink(missing_ok=True)
