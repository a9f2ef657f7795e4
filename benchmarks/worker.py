"""The steps of a measurement; one JSON request a line in, one reply out.

Runs in the subject's own interpreter and, like the module that it imports, needs jupyter_client
and the standard library only. Every subject goes through these same lines.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from .kernel import Kernel, is_idle, is_status, make_context

CHUNK = 1_000_000
LAG_CHUNK = 100_000  # few enough messages that ZeroMQ, which keeps 1000, drops none
PROBE_SECONDS = 0.001
PRINTER = """
import sys
chunk = "x" * ({chunk} - 1) + "\\n"
for _ in range({count}):
    sys.stdout.write(chunk)
    sys.stdout.flush()
"""


class Worker:
    """The measures, times in seconds. One kernel at a time is kept from step to step."""

    def __init__(self, kernel_name: str) -> None:
        self._kernel_name = kernel_name
        self._context = make_context()
        self._kernel: Kernel | None = None
        self._idle: list[Kernel] = []

    async def _current(self) -> Kernel:
        """The kernel of the previous step, or a new one if that step lost it."""
        if self._kernel is None:
            kernel = self._kernel = Kernel(self._context, self._kernel_name)
            await kernel.start()
            await kernel.join_output()
        return self._kernel

    async def discard(self) -> dict[str, float]:
        if self._kernel is not None:
            kernel, self._kernel = self._kernel, None
            await kernel.dispose()
        idle, self._idle = self._idle, []
        await asyncio.gather(*(kernel.dispose() for kernel in idle))
        return {}

    async def idle(self, count: int) -> dict[str, Any]:
        """Kernels that have nothing to do: they stay until the next step that starts one."""
        await self.discard()
        self._idle = [Kernel(self._context, self._kernel_name) for _ in range(count)]
        pids = []
        for kernel in self._idle:
            await kernel.start()
            await kernel.join_output()
            pids.append(await kernel.pid())
        await asyncio.sleep(1)
        return {"pids": pids}

    async def lag(self, count: int, megabytes: int) -> dict[str, float]:
        """How late this loop is while kernels start at once, and while one of them prints."""
        await self.discard()
        self._idle = [Kernel(self._context, self._kernel_name) for _ in range(count)]
        starts = await lag_during(asyncio.gather(*(kernel.start() for kernel in self._idle)))
        await asyncio.sleep(1)  # what kernels still do after their first reply is none of output
        kernel = self._idle[0]
        await kernel.join_output()
        code = PRINTER.format(chunk=LAG_CHUNK, count=megabytes * CHUNK // LAG_CHUNK)
        output = await lag_during(kernel.output_of(kernel.client.execute(code), is_idle))
        await self.discard()
        return {
            "starts_p99": starts[-(-len(starts) * 99 // 100) - 1],
            "starts_max": starts[-1],
            "output_p99": output[-(-len(output) * 99 // 100) - 1],
            "output_max": output[-1],
        }

    async def fairness(self, count: int) -> dict[str, float]:
        """What another kernel's printing adds to a round trip, its client being no burden."""
        await self.discard()
        kernel, printing = self._idle = [Kernel(self._context, self._kernel_name) for _ in "ab"]
        for each in self._idle:
            await each.start()
        quiet = statistics.median([await kernel.round_trip() for _ in range(count)])
        printing.connect(output=False)  # else the output would be carried twice
        reading = asyncio.create_task(printing.discard_output())
        try:
            printing.client.execute(PRINTER.format(chunk=CHUNK, count=1_000_000))
            await asyncio.sleep(0.5)
            begun, before = time.perf_counter(), printing.discarded
            busy = statistics.median([await kernel.round_trip() for _ in range(count)])
            printed = (printing.discarded - before) / (time.perf_counter() - begun)
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        await self.discard()
        return {"added": busy - quiet, "printed": printed}

    async def in_a_row(self, count: int) -> dict[str, float]:
        """The time of that many starts, one after the other; the kernels stay meanwhile."""
        await self.discard()
        begun = time.perf_counter()
        for _ in range(count):
            self._idle.append(Kernel(self._context, self._kernel_name))
            await self._idle[-1].start()
        seconds = time.perf_counter() - begun
        await self.discard()
        return {"seconds": seconds}

    async def start(self, settle: float = 0.0, kernel_name: str = "") -> dict[str, float]:
        await self.discard()
        await asyncio.sleep(settle)
        kernel = self._kernel = Kernel(self._context, kernel_name or self._kernel_name)
        begun = time.perf_counter()
        await kernel.start()
        info = time.perf_counter() - begun
        await kernel.join_output()
        pid = await kernel.pid()
        result = time.perf_counter() - begun
        return {"info": info, "result": result, "pid": pid}

    async def round_trips(self, count: int, warm_up: int) -> dict[str, float]:
        kernel = await self._current()
        for _ in range(warm_up):
            await kernel.round_trip()
        samples = [await kernel.round_trip() for _ in range(count)]
        await kernel.drain()
        return {"median": statistics.median(samples)}

    async def output(self, megabytes: int) -> dict[str, float]:
        kernel = await self._current()
        begun = time.perf_counter()
        request = kernel.client.execute(PRINTER.format(chunk=CHUNK, count=megabytes))
        messages = await kernel.output_of(request, is_idle)
        seconds = time.perf_counter() - begun
        texts = (m["content"]["text"] for m in messages if m["msg_type"] == "stream")
        arrived = sum(map(len, texts))
        if arrived != megabytes * CHUNK:
            raise RuntimeError(f"{arrived} of {megabytes * CHUNK} bytes of output arrived")
        return {"seconds": seconds}

    async def interrupt(self) -> dict[str, float]:
        kernel = await self._current()
        request = kernel.client.execute("import time; time.sleep(60)")
        await kernel.output_of(request, lambda message: is_status(message, "busy"))
        await asyncio.sleep(0.2)  # from busy to the sleep itself
        begun = time.perf_counter()
        await kernel.manager.interrupt_kernel()
        await kernel.output_of(request, is_idle)
        return {"seconds": time.perf_counter() - begun}

    async def restart(self) -> dict[str, float]:
        kernel = await self._current()
        kernel.disconnect()
        begun = time.perf_counter()
        await kernel.manager.restart_kernel()
        kernel.connect()
        await kernel.first_info()
        seconds = time.perf_counter() - begun
        await kernel.join_output()
        return {"seconds": seconds}

    async def shutdown(self) -> dict[str, float]:
        kernel = await self._current()
        begun = time.perf_counter()
        await kernel.manager.shutdown_kernel()
        seconds = time.perf_counter() - begun
        kernel.disconnect()
        self._kernel = None
        return {"seconds": seconds}

    async def death(self) -> dict[str, float]:
        kernel = await self._current()
        begun = time.perf_counter()
        kernel.client.execute("import os; os._exit(1)")
        while await kernel.manager.is_alive():
            await asyncio.sleep(0.005)
        seconds = time.perf_counter() - begun
        await self.discard()
        return {"seconds": seconds}

    async def burst(self, count: int, patience: int, kernel_name: str) -> dict[str, float]:
        """Kernels at once; those that have not answered in time are counted, not waited for."""
        await self.discard()
        kernels = [Kernel(self._context, kernel_name) for _ in range(count)]
        begun = time.perf_counter()
        starts = [asyncio.create_task(kernel.start()) for kernel in kernels]
        try:
            done, late = await asyncio.wait(starts, timeout=patience)
            seconds = time.perf_counter() - begun
            errors = [error for start in done if (error := start.exception())]
            if errors or late:
                reasons = [f"{len(late)} without an answer in {patience} s"] if late else []
                reasons += [f"{len(errors)} raised, such as {error!r}" for error in errors[:1]]
                started = len(done) - len(errors)
                raise RuntimeError(f"{started} of {count} started, {', '.join(reasons)}")
            return {"seconds": seconds}
        finally:
            for start in starts:
                start.cancel()
            await asyncio.gather(*starts, return_exceptions=True)
            await asyncio.gather(*(kernel.dispose() for kernel in kernels))


async def lag_during(working: Awaitable[Any]) -> list[float]:
    """By how much timers of this loop were late while `working`: seconds, in order."""
    lags: list[float] = []

    async def probe() -> None:
        while True:
            due = time.perf_counter() + PROBE_SECONDS
            await asyncio.sleep(PROBE_SECONDS)
            lags.append(max(0.0, time.perf_counter() - due))

    probing = asyncio.create_task(probe())
    try:
        await working
    finally:
        probing.cancel()
    return sorted(lags)


async def answer(worker: Worker, request: dict[str, Any]) -> dict[str, Any]:
    """Do one step within its limit. A step that fails takes its kernel with it."""
    step: Callable[..., Awaitable[dict[str, float]]] = getattr(worker, request["step"])
    try:
        figures = await asyncio.wait_for(step(**request["arguments"]), request["limit"])
    except Exception as error:  # whatever a provisioner raises belongs into the table
        await worker.discard()
        if isinstance(error, asyncio.TimeoutError) and not str(error):
            return {"error": f"no end within {request['limit']:g} s"}
        return {"error": f"{type(error).__name__}: {error}"}
    return {"figures": figures}


async def main() -> None:
    # Anything that a provisioner prints must not get between the replies.
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    requests = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(requests), sys.stdin)
    worker = Worker(sys.argv[1])
    replies.write("{}\n")  # jupyter_client is imported: from here on, time may be taken
    # End of input is the driver's wish, or its end: both times the kernel goes first.
    while line := await requests.readline():
        replies.write(json.dumps(await answer(worker, json.loads(line))) + "\n")
    await worker.discard()


if __name__ == "__main__":
    asyncio.run(main())
