"""As an ordinary user: what this user may not write is said in one sentence."""

from pathlib import Path

import pytest

from jitway.embedded import reachable_data_dir
from jitway.errors import EmbeddedServerError
from tests.integration.embedded.users import another


async def test_a_directory_that_cannot_be_written_is_refused(place: Path) -> None:
    (place / "data").mkdir(mode=0o500)
    with pytest.raises(EmbeddedServerError, match=r"Permission denied.*JITWAY_DATA_DIR"):
        await another(place).start()
    (place / "data").chmod(0o700)


def test_every_directory_is_its_own_servers(place: Path) -> None:
    assert reachable_data_dir(place / "demo", "demo") == place / "demo"
