"""The README's tour, copied as it stands: a newcomer's first card, decline, reason and approval."""

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from jitway.embedded import reachable_data_dir
from tests.servers.process import free_port

ROOT = Path(__file__).parents[2]
ENDED = "--- said ---"
TOUR_S = 180


def steps() -> list[tuple[str, str]]:
    """The commands of the tour, each with what it prints where the README shows it."""
    text = (ROOT / "README.md").read_text()
    tour = text.partition("\n## A tour\n")[2].partition("\n## ")[0]
    found = re.findall(r"^```sh\n(.*?)^```\n(?:^```\n(.*?)^```$)?", tour, re.DOTALL | re.MULTILINE)
    return [(commands, expected) for commands, expected in found]


def fits(said: str, expected: str) -> bool:
    """Whether it was said; `...` stands for anything."""
    pattern = ".*".join(re.escape(part) for part in expected.strip().split("..."))
    return re.fullmatch(pattern, said.strip(), re.DOTALL) is not None


@pytest.mark.timeout(TOUR_S)
def test_the_tour_goes_as_the_readme_says(tmp_path: Path) -> None:
    port = free_port()
    data_dir = reachable_data_dir(tmp_path / "data", "readme")
    script = "set -eo pipefail\n"
    for commands, _ in steps():
        # Who copies line by line has read "jitway serves at" before going on.
        waited = commands.replace(
            "jitway serve &",
            "jitway serve >serve.log 2>&1 &\nserving=$!\n"
            "timeout 60 bash -c 'until grep -q \"jitway serves\" serve.log; do sleep 0.1; done'",
        )
        script += waited.replace(":3000", f":{port}") + f"echo '{ENDED}'\n"
    script = script.replace('scripts/setup && export PATH="$PWD', f'export PATH="{ROOT}')
    script += "kill -TERM $serving; wait $serving\n"
    # A tour that fails leaves a server behind: it is in the group, and goes with it.
    process = subprocess.Popen(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={
            "HOME": str(tmp_path),
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "PORT": str(port),
            "JITWAY_DATA_DIR": str(data_dir),
            "JITWAY_ENV_FILE": os.devnull,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        said, complaints = process.communicate(timeout=TOUR_S)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
    assert process.returncode == 0, f"{said}\n{complaints}\n{tmp_path / 'serve.log'}"
    for (commands, expected), printed in zip(steps(), said.split(ENDED), strict=False):
        assert not expected or fits(printed, expected), f"{commands}\nsaid:\n{printed}"


def test_the_tour_tells_the_whole_story() -> None:
    text = "".join(commands + expected for commands, expected in steps())
    for needed in ("/v1/programs", "/v1/cards", "/controls", "declined", "jitway why", "verify"):
        assert needed in text


@pytest.mark.parametrize(
    ("said", "expected", "is_so"),
    [("a 1 b\n", "a ... b", True), ("a\nb\nc", "a\n...\nc", True), ("a 1", "a 2", False)],
)
def test_a_wrong_line_would_be_found(said: str, expected: str, is_so: bool) -> None:
    assert fits(said, expected) is is_so
