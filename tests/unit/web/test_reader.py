"""Bytes to requests: cut anywhere, limited everywhere, and never read in two ways."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jitway.web.exchange import Request
from jitway.web.problems import Problem
from jitway.web.reader import EdgeLimits, Phase, RequestReader

LIMITS = EdgeLimits(body_bytes_max=1000)
POST = b"POST /v1/x?y=1 HTTP/1.1\r\nHost: a\r\nX-Twice: 1\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nhel\r\n2;ext=1\r\nlo\r\n0\r\nTrailer: no\r\n\r\n"
)
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def read(*pieces: bytes, limits: EdgeLimits = LIMITS) -> list[Request | Problem]:
    reader = RequestReader(limits)
    found: list[Request | Problem] = []
    for piece in pieces:
        if reader.phase is Phase.ENDED:
            break
        found += reader.feed(piece)
    return found


def refusal(*pieces: bytes, limits: EdgeLimits = LIMITS) -> Problem:
    found = read(*pieces, limits=limits)
    assert len(found) == 1
    assert isinstance(found[0], Problem)
    return found[0]


def test_a_whole_request() -> None:
    (request,) = read(POST)
    assert isinstance(request, Request)
    assert (request.method, request.target, request.body) == ("POST", b"/v1/x?y=1", b"hello")
    assert request.fields()[b"x-twice"] == b"1"
    assert request.keeps_alive


def test_chunks_are_joined_and_trailers_mean_nothing() -> None:
    (request,) = read(CHUNKED)
    assert isinstance(request, Request)
    assert request.body == b"hello"
    assert b"trailer" not in request.fields()


@pytest.mark.parametrize("raw", [POST, CHUNKED, GET + POST + CHUNKED + GET])
def test_cut_at_every_byte_it_reads_the_same(raw: bytes) -> None:
    whole = read(raw)
    for place in range(1, len(raw)):
        assert read(raw[:place], raw[place:]) == whole
    assert read(*(raw[place : place + 1] for place in range(len(raw)))) == whole


def test_pipelined_requests_come_in_order() -> None:
    targets = [request.target for request in read(GET + POST + CHUNKED) if type(request) is Request]
    assert targets == [b"/", b"/v1/x?y=1", b"/c"]


def test_after_a_request_that_closes_nothing_is_read() -> None:
    closing = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    (request,) = read(closing + GET + b"garbage")
    assert isinstance(request, Request)
    assert not request.keeps_alive
    (old,) = read(b"GET / HTTP/1.0\r\n\r\n")
    assert isinstance(old, Request)
    assert not old.keeps_alive


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"FOO / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
        b"GET / HTTP/0.9\r\nHost: a\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://x/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(raw: bytes) -> None:
    assert refusal(raw).status == 400
    assert refusal(*(raw[place : place + 1] for place in range(len(raw)))).status == 400


def test_what_came_before_a_bad_request_is_still_read() -> None:
    found = read(GET + POST + b"\x00")
    assert [type(one) for one in found] == [Request, Request, Problem]


def sized_head(size: int) -> bytes:
    head = b"GET / HTTP/1.1\r\nHost: a\r\nX: "
    return head + b"x" * (size - len(head)) + b"\r\n\r\n"


def test_heads_are_limited_however_they_come() -> None:
    limits = EdgeLimits(head_bytes_max=2000, fields_max=8)
    assert isinstance(read(sized_head(1900), limits=limits)[0], Request)
    assert refusal(sized_head(2100), limits=limits).status == 431
    endless = [b"GET / HTTP/1.1\r\nHost: a\r\nX: "] + [b"x" * 100] * 100
    assert refusal(*endless, limits=limits).status == 431
    assert refusal(b"GET /" + b"x" * 2100, limits=limits).status == 431
    assert refusal(*[b"\r\n" * 50] * 100, limits=limits).status == 431
    many = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 8 + b"\r\n"
    assert refusal(many, limits=limits).status == 431


def test_many_small_requests_are_no_large_head() -> None:
    limits = EdgeLimits(head_bytes_max=200)
    found = read(GET * 50 + GET[:10], GET[10:], limits=limits)
    assert [type(one) for one in found] == [Request] * 51


def test_bodies_are_limited_when_announced_and_when_not() -> None:
    at_limit = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000
    assert isinstance(read(at_limit)[0], Request)
    announced = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n"
    assert refusal(announced).status == 413
    chunk = b"64\r\n" + b"x" * 100 + b"\r\n"
    chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert refusal(chunked + chunk * 11).status == 413
    assert refusal(chunked, *[chunk] * 11).status == 413


IN_CHUNKS = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("begun", "piece"),
    [
        (b"0\r\nX: ", b"x" * 50),
        (b"0\r\n", b"X: 1\r\n" * 10),
        (b"3\r\nabc\r\n0\r\nX: ", b"x"),
        (b"3;x=", b"x" * 50),
        (b"", b"1;x=" + b"x" * 50 + b"\r\nx\r\n"),
        (b"", b"00000000000000000000000000000001\r\nx\r\n"),
    ],
)
def test_trailers_and_chunk_extensions_are_limited(begun: bytes, piece: bytes) -> None:
    limits = EdgeLimits(head_bytes_max=2000)
    reader = RequestReader(limits)
    assert not reader.feed(IN_CHUNKS + begun)
    found: list[Request | Problem] = []
    sent = 0
    while not found and sent < 10_000:
        found += reader.feed(piece)
        sent += len(piece)
    (refused,) = found
    assert isinstance(refused, Problem)
    assert (refused.status, refused.code) == (431, "headers_too_large")
    assert reader.phase is Phase.ENDED


def test_trailers_within_the_limit_and_any_number_of_chunks_are_read() -> None:
    limits = EdgeLimits(head_bytes_max=200, body_bytes_max=5_000)
    chunks = b"1\r\nx\r\n" * 4_000 + b"001\r\ny\r\n" * 1_000
    raw = IN_CHUNKS + chunks + b"0\r\nX: " + b"x" * 180 + b"\r\n\r\n"
    for size in (1, 7, 1_000, len(raw)):
        pieces = [raw[at : at + size] for at in range(0, len(raw), size)]
        # Twice on one connection: what one request took is not the next one's.
        found = read(*pieces, *pieces, limits=limits)
        assert [type(one) for one in found] == [Request, Request]
    plain = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n"
    assert isinstance(read(plain, *[b"x" * 10] * 500, limits=limits)[0], Request)


def test_a_caller_that_waits_to_be_told_is_told_once() -> None:
    reader = RequestReader(LIMITS)
    head = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    assert not reader.feed(head)
    assert reader.continue_asked()
    assert not reader.continue_asked()
    assert len(reader.feed(b"ok")) == 1
    assert len(reader.feed(head + b"ok")) == 1
    assert not reader.continue_asked()


@given(st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=20))
def test_any_bytes_at_all_end_in_requests_or_one_refusal(pieces: list[bytes]) -> None:
    found = read(*pieces)
    assert all(isinstance(one, Request) for one in found[:-1])
    assert len(b"".join(pieces)) < 2000


@given(st.integers(0, len(CHUNKED) - 1), st.binary(min_size=1, max_size=4))
def test_a_mutated_request_never_breaks_the_reader(place: int, other: bytes) -> None:
    mutated = CHUNKED[:place] + other + CHUNKED[place + len(other) :]
    for one in read(mutated):
        assert isinstance(one, Request) or one.status in {400, 413, 431}
