"""The low class: so many at a time, so many wait, and everybody comes to an end."""

import asyncio

import pytest

from jitway.web.problems import Refused
from jitway.web.queries import Queries


async def test_turns_are_taken_waited_for_and_given_back() -> None:
    queries = Queries(2, waiting_max=3, wait_s=20)
    opened, inside, most = asyncio.Event(), 0, 0

    async def read() -> int:
        nonlocal inside, most
        try:
            async with queries.turn():
                inside += 1
                most = max(most, inside)
                await opened.wait()
                inside -= 1
                return 200
        except Refused as refused:
            return refused.status + int(refused.headers["Retry-After"])

    reading = [asyncio.create_task(read()) for _ in range(8)]
    while sum(task.done() for task in reading) < 3:
        await asyncio.sleep(0)
    opened.set()
    assert sorted(await asyncio.gather(*reading)) == [200] * 5 + [504] * 3
    assert most == 2
    assert queries.refused == 3
    assert await read() == 200


async def test_a_wait_has_an_end_and_a_failure_gives_its_turn_back() -> None:
    queries = Queries(1, wait_s=0.01)
    async with queries.turn():
        with pytest.raises(Refused) as refused:
            async with queries.turn():
                pass
    assert (refused.value.status, refused.value.code) == (503, "too_many_queries")
    for _ in range(2):
        with pytest.raises(RuntimeError):
            async with queries.turn():
                raise RuntimeError("a bug")


async def test_a_turn_is_followed_by_a_rest_while_authorizations_are_under_way() -> None:
    is_busy = True
    queries = Queries(1, lambda: is_busy, wait_s=20)
    loop = asyncio.get_running_loop()
    async with queries.turn():
        await asyncio.sleep(0.05)
    ended_s = loop.time()
    is_busy = False
    async with queries.turn():
        assert loop.time() - ended_s >= 0.1
    ended_s = loop.time()
    async with queries.turn():
        assert loop.time() - ended_s < 0.1
