"""An adapter whose client is not installed says which extra brings it."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("client", "adapter", "extra"),
    [("redis", "redis", "redis"), ("opentelemetry", "opentelemetry", "otel")],
)
def test_without_the_client_the_error_names_the_extra(
    client: str, adapter: str, extra: str
) -> None:
    code = f"import sys; sys.modules['{client}'] = None; import jitway.adapters.{adapter}"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert f"pip install 'jitway[{extra}]'".encode() in done.stderr.splitlines()[-1]
