"""A missing service ends a test: skipped here, failed where services are required."""

import pytest

from tests import service_skips
from tests.service_skips import require_service


def test_a_service_that_is_there_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "unix:///run/redis.sock")
    assert require_service("redis") == "unix:///run/redis.sock"


@pytest.mark.parametrize(
    ("required", "ending"), [(False, pytest.skip.Exception), (True, pytest.fail.Exception)]
)
def test_a_missing_service_is_named(
    monkeypatch: pytest.MonkeyPatch, required: bool, ending: type[BaseException]
) -> None:
    monkeypatch.delenv("RABBITMQ_URL", raising=False)
    monkeypatch.setattr(service_skips, "REQUIRED", required)
    with pytest.raises(ending, match="rabbitmq is missing: RABBITMQ_URL"):
        require_service("rabbitmq")
