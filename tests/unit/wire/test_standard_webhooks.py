"""Signatures of webhooks, as the Standard Webhooks specification says, and nothing beside it."""

import base64
import hmac
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest

from jitway.wire.standard_webhooks import Secret, is_signed, read_secrets

# The specification's own example.
EXAMPLE_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
EXAMPLE = {
    b"webhook-id": b"msg_p5jXN8AQM9LWM0D4loKWxJek",
    b"webhook-timestamp": b"1614265330",
    b"webhook-signature": b"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}
EXAMPLE_BODY = b'{"test": 2432232314}'
EXAMPLE_NOW = datetime.fromtimestamp(1614265330, UTC)

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
SECRET = Secret(b"s" * 32)
OTHER = Secret(b"o" * 32)
BODY = b'{"type":"card.created"}'


def signed(
    *, at: int | bytes | None = None, body: bytes = BODY, id_: bytes = b"msg_1", key: bytes = b""
) -> dict[bytes, bytes]:
    if not isinstance(at, bytes):
        at = b"%d" % (int(NOW.timestamp()) if at is None else at)
    digest = hmac.digest(key or SECRET.key, b"%s.%s.%s" % (id_, at, body), sha256)
    return {
        b"webhook-id": id_,
        b"webhook-timestamp": at,
        b"webhook-signature": b"v1," + base64.b64encode(digest),
    }


def good(headers: dict[bytes, bytes], body: bytes = BODY, *secrets: Secret) -> bool:
    return is_signed(headers, body, secrets or (SECRET,), now=NOW)


def test_the_example_of_the_specification() -> None:
    (secret,) = read_secrets(f"acme={EXAMPLE_SECRET}")["acme"]
    assert is_signed(EXAMPLE, EXAMPLE_BODY, [secret], now=EXAMPLE_NOW)
    assert not is_signed(EXAMPLE, EXAMPLE_BODY + b" ", [secret], now=EXAMPLE_NOW)


def test_any_bit_that_is_changed_breaks_it() -> None:
    """S2."""
    headers = signed()
    assert good(headers)
    for place in range(len(BODY)):
        changed = bytearray(BODY)
        changed[place] ^= 1
        assert not good(headers, bytes(changed))
    for name, value in headers.items():
        for place in range(len(value)):
            altered = bytearray(value)
            altered[place] ^= 1
            assert not good(headers | {name: bytes(altered)}), (name, bytes(altered))


@pytest.mark.parametrize(("apart_s", "is_good"), [(0, True), (299, True), (301, False)])
@pytest.mark.parametrize("sign", [1, -1])
def test_its_time_is_near(apart_s: int, is_good: bool, sign: int) -> None:
    assert good(signed(at=int(NOW.timestamp()) + sign * apart_s)) is is_good


@pytest.mark.parametrize(
    "at",
    [b"", b"1e9", b" 1", b"-1", b"+1", b"0", b"99999999999999999999", b"1.0", "\u0661".encode()],
)
def test_a_time_that_is_none_is_refused(at: bytes) -> None:
    assert not good(signed(at=at))


@pytest.mark.parametrize(
    "signature",
    [
        b"",
        b"v1",
        b"v1,",
        b"v1,!!!!",
        b"v2," + b"A" * 43 + b"=",
        b"\x80\xff\x00",
        b"v1," + b"A" * 8192,
    ],
)
def test_a_signature_that_is_none_is_refused(signature: bytes) -> None:
    assert not good(signed() | {b"webhook-signature": signature})


def test_several_signatures_may_come_and_one_must_be_good() -> None:
    mine, theirs = signed()[b"webhook-signature"], signed(key=OTHER.key)[b"webhook-signature"]
    assert good(signed() | {b"webhook-signature": theirs + b" v1a,xyz " + mine})
    assert not good(signed() | {b"webhook-signature": theirs})


def test_two_secrets_are_good_at_the_same_time_until_the_old_one_ends() -> None:
    """S5."""
    old = Secret(OTHER.key, NOW + timedelta(seconds=1))
    ended = Secret(OTHER.key, NOW)
    by_old = signed(key=OTHER.key)
    assert good(signed(), BODY, SECRET, old)
    assert good(by_old, BODY, SECRET, old)
    assert not good(by_old, BODY, SECRET, ended)
    assert not good(by_old, BODY, ended)


def test_nobodys_secret_is_no_secret() -> None:
    assert not is_signed(signed(), BODY, (), now=NOW)
    assert not is_signed(signed(key=b"\0" * 32), BODY, (), now=NOW)


def test_secrets_are_read() -> None:
    key = "whsec_" + base64.b64encode(b"k" * 32).decode()
    old = "whsec_" + base64.b64encode(b"o" * 24).decode()
    found = read_secrets(f" acme = {key} , {old}@2027-01-01T00:00:00Z ; lithic={key};")
    assert found["acme"] == (
        Secret(b"k" * 32),
        Secret(b"o" * 24, datetime(2027, 1, 1, tzinfo=UTC)),
    )
    assert found["lithic"] == (Secret(b"k" * 32),)
    assert read_secrets("") == {}
    assert "kkk" not in repr(found)


@pytest.mark.parametrize(
    "text",
    [
        "acme",
        "acme=",
        "acme=whsec_canary",
        "acme=Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5",
        "Acme=whsec_Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5",
        "acme=whsec_Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5@tomorrow",
        "a=whsec_Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5;"
        "a=whsec_Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5",
        "a=" + ",".join(["whsec_Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5"] * 3),
    ],
)
def test_what_are_no_secrets_is_refused_without_a_word_of_them(text: str) -> None:
    with pytest.raises(ValueError, match=r"for each (source|secret)") as refused:
        read_secrets(text)
    assert "canary" not in str(refused.value)
    assert "Y2Fu" not in str(refused.value)
