"""The proof of a backup: what is in its way is one sentence, and nothing of it is left."""

from pathlib import Path
from typing import Any

import pytest

from jitway.cli import backup
from jitway.errors import EmbeddedServerError
from jitway.settings import load


def sentence(capsys: pytest.CaptureFixture[str]) -> str:
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("jitway: ")
    return line


def test_a_place_that_cannot_be_made_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = tmp_path / "a-file"
    taken.write_text("in the way")
    # Whoever is root gets a place of the machine's instead; the failure is the same there.
    monkeypatch.setattr("jitway.embedded.reachable_data_dir", lambda *_: taken / "below")
    with pytest.raises(SystemExit) as ended:
        backup._prove(load(data_dir=tmp_path), tmp_path)
    assert ended.value.code == backup.CANNOT_RUN
    assert f"{taken / 'below'} cannot be used (Not a directory)" in sentence(capsys)


def test_a_server_that_does_not_stop_leaves_no_copy_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    places: list[Path] = []

    async def put_back(_: Path, place: Path) -> None:
        (place / "postgresql").mkdir()
        places.append(place)

    async def stop_left_behind(_: Path) -> Any:
        raise EmbeddedServerError("it does not stop")

    monkeypatch.setattr("jitway.embedded.reachable_data_dir", lambda *_: tmp_path / "beside")
    monkeypatch.setattr("jitway.embedded.backup.put_back", put_back)
    monkeypatch.setattr("jitway.embedded.stop_left_behind", stop_left_behind)
    monkeypatch.setattr(backup, "_books", lambda _: {"ok": True})
    with pytest.raises(SystemExit) as ended:
        backup._prove(load(data_dir=tmp_path), tmp_path)
    assert ended.value.code == backup.CANNOT_RUN
    assert "it does not stop" in sentence(capsys)
    (place,) = places
    assert place.parent == tmp_path / "beside"
    assert list(place.parent.iterdir()) == []
