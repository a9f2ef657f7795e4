"""Get an environment's activation and files from its host. Call this in the I/O thread."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Iterable

from ..errors import AgentError, KernelStartError
from ..hosts.registry import host_registry
from ..placement.inventory import HostSpec
from ..protocol.agent_requests import Activate, GetKernelspecFiles
from ..protocol.answers import Activation, KernelspecFiles
from .environment import Environment
from .host_entry import Entry
from .installed import check_files
from .kernelspec import Offer

#: The scripts of an activation may take a minute.
_ANSWER_SECONDS = 90.0
#: Only notebooks before version 7 run it, in the browser.
_SCRIPT_FOR_BROWSERS = "kernel.js"


async def offers(
    spec: HostSpec, entry: Entry, environments: Iterable[Environment]
) -> list[Offer | KernelStartError]:
    """Each environment of a host with its activation and files, or the error.

    Raises HostError.
    """
    return list(await asyncio.gather(*(_offer(spec, entry, each) for each in environments)))


async def _offer(
    spec: HostSpec, entry: Entry, environment: Environment
) -> Offer | KernelStartError:
    host = (await host_registry()).host(spec)
    activation, files = Activation(), KernelspecFiles()
    try:
        if environment.activated is not None:
            kind, path, program = environment.activated
            request = Activate(kind=kind, path=path, program=program, hook=spec.hook)
            activation = await asyncio.wait_for(host.request(request), _ANSWER_SECONDS)
        if environment.files:
            get = GetKernelspecFiles(path=environment.files)
            files = await asyncio.wait_for(host.request(get), _ANSWER_SECONDS)
    except (asyncio.TimeoutError, TimeoutError):
        raise AgentError(f"no answer within {_ANSWER_SECONDS:.0f} s", host=spec.name) from None
    if activation.error or files.error:
        text = f"{environment.name}: {activation.error or files.error}"
        return KernelStartError(text, host=spec.name)
    try:
        contents = {
            name: base64.b64decode(text)
            for name, text in files.files.items()
            if name != _SCRIPT_FOR_BROWSERS
        }
    except (binascii.Error, TypeError):
        raise AgentError(
            "cannot read the host's answer: a file of a kernelspec is damaged"
        ) from None
    check_files(contents)
    return Offer(
        entry,
        environment,
        dict(activation.env),
        tuple(activation.scripts),
        contents,
        frozenset(files.programs),
    )
