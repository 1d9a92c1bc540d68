"""What the live page looks like, for the docs: light, dark, narrow, why, and with a service down.

`JITWAY_SCREENSHOTS=docs/images scripts/test tests/browser/test_screenshots.py` makes them anew,
after a minute of traffic; else they are made after a moment of it, to see that they can be.
"""

import asyncio
import os
import re
from pathlib import Path

import pytest
from playwright.async_api import expect

from demo.population import load
from jitway.simulator.simulate import simulate
from tests.browser.conftest import Visit
from tests.browser.test_dashboard import BURY
from tests.browser.visitor import Visitor
from tests.integration.http.gateway import Gateway, serving
from tests.integration.private_redis import private_redis

FOR_DOCS = os.environ.get("JITWAY_SCREENSHOTS")
RATE, SECONDS = (40.0, 90.0) if FOR_DOCS else (20.0, 1.0)
WIDE = {"width": 1280, "height": 900}
NARROW = {"width": 390, "height": 844}
BYTES_MAX = 400_000


@pytest.mark.timeout(300)
async def test_the_page_is_shown_as_it_is(database: str, tmp_path: Path, visit: Visit) -> None:
    folder = Path(FOR_DOCS) if FOR_DOCS else tmp_path / "images"
    folder.mkdir(parents=True, exist_ok=True)
    async with (
        private_redis() as redis,
        serving(database, tmp_path, REDIS_URL=redis.url) as gateway,
    ):
        await gateway.services.postgres.execute_query(BURY)
        visitors = [
            await visit(gateway.port, viewport=viewport, color_scheme=scheme)
            for scheme, viewport in (("light", WIDE), ("dark", WIDE), ("light", NARROW))
        ]
        light, dark, narrow = visitors
        async with asyncio.TaskGroup() as group:
            traffic = group.create_task(_traffic(gateway))
            for visitor in visitors:
                await visitor.log_in(gateway.key)
            await expect(light.at("#verdict-title")).to_contain_text("Money flows")
            await asyncio.sleep(SECONDS * 0.6)
            await _shoot(light, folder / "dashboard-light.png", whole=True)
            await _shoot(dark, folder / "dashboard-dark.png")
            await _shoot(narrow, folder / "dashboard-narrow.png")
            declined = light.at("#decisions .declined")
            await light.at("#search select[name=decision]").select_option("declined")
            await light.at("#decisions tbody button").first.click()
            await expect(light.at("#detail")).to_be_visible()
            await _shoot(light, folder / "dashboard-why.png")
            assert await declined.count()
            await light.page.keyboard.press("Escape")
            await redis.kill()
            # A request that a busy machine could not decide in time is told first.
            await expect(light.at("#verdict-title")).to_have_text(
                re.compile("without Redis|not all of it")
            )
            await light.page.evaluate("window.scrollTo(0, 0)")
            await _shoot(light, folder / "dashboard-without-redis.png")
            await traffic
    names = sorted(path.name for path in folder.glob("dashboard-*.png"))
    assert len(names) == 5
    for name in names:
        assert 5_000 < (folder / name).stat().st_size < BYTES_MAX, name


async def _shoot(visitor: Visitor, path: Path, *, whole: bool = False) -> None:
    await visitor.page.screenshot(path=path, full_page=whole, animations="disabled")


async def _traffic(gateway: Gateway) -> None:
    population = await load(
        gateway.services.postgres,
        gateway.program["id"],
        cards=300,
        seed=7,
        on_progress=lambda _: None,
    )
    # One that is declined in any case.
    await gateway.authorize(amount=30_000)
    await simulate(
        f"http://127.0.0.1:{gateway.port}",
        key=gateway.key,
        rate=RATE,
        seconds=SECONDS,
        seed=7,
        cards=population,
    )
