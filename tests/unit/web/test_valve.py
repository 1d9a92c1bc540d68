"""The valve: what it turns away without reading it, and what must be read however full it is."""

import asyncio
import json
import time

import pytest

from jitway.gateway.admission import Admission
from jitway.web.exchange import Reply, Request
from jitway.web.reader import EdgeLimits
from jitway.web.valve import Valve
from tests.integration.http.gateway import parsed
from tests.unit.web.test_server import hang_up, one_answer, serving, talk

DATE = (b"date", b"Sun, 22 Nov 2026 19:03:34 GMT")
HEAD = b"POST /hot HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n"
ASKED = HEAD + b"\r\n{}"
LAST = HEAD + b"Connection: close\r\n\r\n{}"


@pytest.fixture
def valve() -> Valve:
    admission = Admission(
        budget_ms=1000, batch_size_max=1, lanes=1, waiting_max=1, monotonic_ns=time.monotonic_ns
    )
    return Valve(admission, b"/hot")


async def echo(request: Request) -> Reply:
    return Reply(200, [], request.target)


def test_a_refusal_is_a_whole_problem_with_an_id_of_its_own(valve: Valve) -> None:
    answers = [valve.refuse(ASKED, DATE) for _ in range(2)]
    (first,), (second,) = (parsed(answer or b"") for answer in answers)
    assert first.status == 503
    assert first.code == "no_decision"
    assert first.headers["retry-after"] == "1"
    assert first.headers["date"] == DATE[1].decode()
    assert first.json["request_id"] != second.json["request_id"]
    assert valve.admission.refused == 2


@pytest.mark.parametrize(
    "data",
    [
        b"",
        ASKED[:-1],
        ASKED + b"P",
        ASKED + ASKED,
        LAST,
        ASKED.replace(b"POST", b"GET"),
        ASKED.replace(b"/hot", b"/hotter"),
        ASKED.replace(b"/hot", b"/hot?x"),
        HEAD + b"X-Request-Id: mine\r\n\r\n{}",
        HEAD + b"expect: 100-continue\r\n\r\n{}",
        HEAD + b"Content-Length: 3\r\n\r\n{}",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n{}",
        ASKED.replace(b" HTTP/1.1", b" HTTP/9.9"),
    ],
)
def test_what_must_be_read_properly(valve: Valve, data: bytes) -> None:
    assert valve.refuse(data, DATE) is None
    # Whatever it was, the next one is looked at afresh.
    assert valve.refuse(ASKED, DATE) is not None


async def test_over_a_socket_whole_in_pieces_and_pipelined(valve: Valve) -> None:
    valve.admission.limit = 0
    async with serving(echo, EdgeLimits(), valve=valve) as (_, port):
        said = await talk(port, ASKED, HEAD, b"\r\n{", b"}", ASKED * 20 + LAST)
    answers = parsed(said)
    assert [answer.status for answer in answers] == [503] * 23
    assert answers[-1].headers["connection"] == "close"
    assert {json.loads(answer.body)["code"] for answer in answers} == {"no_decision"}


async def test_other_routes_and_named_requests_keep_their_manners(valve: Valve) -> None:
    valve.admission.limit = 0
    async with serving(echo, EdgeLimits(), valve=valve) as (_, port):
        named = HEAD + b"X-Request-Id: mine\r\nConnection: close\r\n\r\n{}"
        (refused,) = parsed(await talk(port, named))
        assert (refused.status, refused.headers["x-request-id"]) == (503, "mine")
        (other,) = parsed(await talk(port, LAST.replace(b"/hot", b"/cold")))
        assert other.status == 200


async def test_what_is_let_in_is_counted_until_it_is_answered(valve: Valve) -> None:
    valve.admission.limit = 1
    opened, began = asyncio.Event(), asyncio.Event()

    async def wait(_: Request) -> Reply:
        began.set()
        await opened.wait()
        raise RuntimeError("a bug")

    async with serving(wait, EdgeLimits(), valve=valve) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(ASKED)
        await began.wait()
        assert valve.admission.under_way == 1
        (refused,) = parsed(await talk(port, LAST))
        assert refused.status == 503
        opened.set()
        assert b" 500 " in await one_answer(reader)
        assert valve.admission.under_way == 0
        await hang_up(writer)
