"""One measurement in a process of its own: arguments and result are JSON."""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import asdict
from typing import Any

from . import client_sockets, placement, scale
from .process import limit_memory

_GIGABYTES = 4.0


def main(what: str, argument: Any) -> Any:
    if what == "scale":
        return asdict(scale.measure(scale.Scale(**argument)))
    if what == "placement":
        return placement.measure(argument)
    return {name: asdict(cost) for name, cost in client_sockets.measure().items()}


if __name__ == "__main__":
    limit_memory(_GIGABYTES)
    logging.disable(logging.WARNING)
    print(json.dumps(main(sys.argv[1], json.loads(sys.argv[2]))))
