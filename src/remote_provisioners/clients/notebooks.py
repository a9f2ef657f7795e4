"""nbclient and papermill: the notebook says where it ran, and the progress bar stays whole.

Neither has a plug-in point for this that works without an option of the user. Both are changed
only in a process that has imported them and starts a kernel of ours.
"""

from __future__ import annotations

import functools
import sys
from contextlib import ExitStack
from typing import Any

#: In the metadata of an executed notebook.
KEY = "remote_provisioners"

_until_the_end = ExitStack()


@functools.cache
def prepare() -> None:
    """Once for each process, when it starts its first kernel."""
    nbclient = sys.modules.get("nbclient.client")
    if nbclient is not None:
        _note_hosts(nbclient.NotebookClient)
    if "papermill.cli" in sys.modules:
        _keep_progress_bar_whole()


def _note_hosts(client_class: Any) -> None:
    """Write the host into the notebook as soon as the kernel runs."""
    begin, begin_async = (
        client_class.start_new_kernel_client,
        client_class.async_start_new_kernel_client,
    )

    @functools.wraps(begin)
    def started(client: Any, *args: Any, **kwargs: Any) -> Any:
        result = begin(client, *args, **kwargs)
        _note_host(client)
        return result

    @functools.wraps(begin_async)
    async def started_async(client: Any, *args: Any, **kwargs: Any) -> Any:
        result = await begin_async(client, *args, **kwargs)
        _note_host(client)
        return result

    client_class.start_new_kernel_client = started
    client_class.async_start_new_kernel_client = started_async


def _note_host(client: Any) -> None:
    metadata, place = client.nb.metadata, getattr(client.km.provisioner, "place", "")
    if place:
        metadata[KEY] = {"host": place}
    else:  # a local kernel: what an earlier run has written is no longer true
        metadata.pop(KEY, None)


def _keep_progress_bar_whole() -> None:
    """Print log messages above papermill's progress bar, not into it.

    papermill's command line logs to the console, at the level INFO by default.
    """
    try:
        from tqdm.contrib.logging import logging_redirect_tqdm  # type: ignore[import-untyped]  # noqa: PLC0415
    except ImportError:
        return
    _until_the_end.enter_context(logging_redirect_tqdm())
