"""A real Chromium, and pages in it that complain when something is wrong."""

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, async_playwright

from tests.browser.chromium import provide_chromium
from tests.browser.visitor import Visitor
from tests.integration.http.gateway import Gateway, serving
from tests.servers.process import ServerMissing
from tests.service_skips import REQUIRED

# /dev/shm is small in containers, and as root there is no sandbox to be had.
ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]

Visit = Callable[..., Coroutine[Any, Any, Visitor]]


@pytest.fixture(scope="session")
async def chromium() -> AsyncIterator[Browser]:
    """The browser; its tests are skipped, or fail, where there is none."""
    try:
        path = provide_chromium()
    except ServerMissing as missing:
        if REQUIRED:
            pytest.fail(str(missing), pytrace=False)
        pytest.skip(str(missing))
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        await browser.close()


@pytest.fixture
async def gateway(database: str, tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway that leaves events where they are."""
    async with serving(database, tmp_path, JITWAY_WORK="none") as gateway:
        yield gateway


@pytest.fixture
async def visit(chromium: Browser) -> AsyncIterator[Visit]:
    """Opens browsers that know nothing of each other; at the end none may have complained."""
    visitors = []
    async with AsyncExitStack() as stack:

        async def visit(port: int, **options: Any) -> Visitor:
            context = await chromium.new_context(**options)
            stack.push_async_callback(context.close)
            visitor = Visitor(await context.new_page(), f"http://127.0.0.1:{port}")
            visitors.append(visitor)
            return visitor

        yield visit
        assert [visitor.complaints for visitor in visitors] == [[] for _ in visitors]
