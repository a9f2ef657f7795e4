from __future__ import annotations

import asyncio

import pytest

from remote_provisioners.kernels.start.pausable_timeout import PausableTimeout, TimeoutExceeded


def test_in_time() -> None:
    async def body() -> str:
        return await asyncio.sleep(0, "done")

    assert asyncio.run(PausableTimeout(1).run(body())) == "done"


def test_too_late() -> None:
    ended: list[bool] = []

    async def body() -> None:
        try:
            await asyncio.sleep(10)
        finally:
            ended.append(True)

    with pytest.raises(TimeoutExceeded):
        asyncio.run(PausableTimeout(0.01).run(body()))
    assert ended


def test_its_own_errors_pass() -> None:
    async def body() -> None:
        raise KeyError

    with pytest.raises(KeyError):
        asyncio.run(PausableTimeout(1).run(body()))


def test_time_stands_still_while_it_is_suspended() -> None:
    async def main() -> str:
        limit = PausableTimeout(0.05)

        async def body() -> str:
            limit.suspend()
            await asyncio.sleep(0.15)
            limit.resume()
            return await asyncio.sleep(0.01, "done")

        return await limit.run(body())

    assert asyncio.run(main()) == "done"


def test_a_cancelled_caller_cancels() -> None:
    async def main() -> None:
        task = asyncio.ensure_future(PausableTimeout(5).run(asyncio.sleep(5)))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
