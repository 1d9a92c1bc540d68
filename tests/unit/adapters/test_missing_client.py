"""An adapter whose client is not installed says which extra brings it."""

import subprocess
import sys


def test_without_the_client_the_error_names_the_extra() -> None:
    code = "import sys; sys.modules['redis'] = None; import jitway.adapters.redis"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert b"pip install 'jitway[redis]'" in done.stderr.splitlines()[-1]
