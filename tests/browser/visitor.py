"""Somebody in front of the live page: what they see, press and type."""

import re
from dataclasses import dataclass, field

from playwright.async_api import ConsoleMessage, Locator, Page, Request, expect

from tests.integration.http.gateway import Gateway

# A busy machine is slow; what is waited for is an event and never a span.
PATIENCE_MS = 20_000
expect.set_options(timeout=PATIENCE_MS)


@dataclass
class Visitor:
    """A browser's page, and whatever went wrong in it."""

    page: Page
    base: str
    complaints: list[str] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        self.page.on("request", self._note)

    def _note(self, request: Request) -> None:
        self.requests.append(request)

    def _hear(self, message: ConsoleMessage) -> None:
        # A browser says by itself that an answer was 401, which is how the page asks.
        if message.type in {"error", "warning"} and "Failed to load resource" not in message.text:
            self.complaints.append(f"{message.type}: {message.text}")

    def at(self, selector: str) -> Locator:
        """A place of the page."""
        return self.page.locator(selector)

    async def open(self, fragment: str = "") -> None:
        """Goes to the page."""
        await self.page.goto(f"{self.base}/dashboard{fragment}")

    async def log_in(self, key: str) -> None:
        """Logs in by typing a key, and waits for the first figures."""
        await self.open()
        await self.at("#login-key").fill(key)
        await self.at("#login-key").press("Enter")
        await self.is_live()

    async def is_live(self) -> None:
        """Waits until figures come."""
        await expect(self.at("#connection")).to_have_text(re.compile("^Live"))
        await expect(self.at("#verdict-title")).not_to_have_text("No figures yet")

    async def is_asked_to_log_in(self, why: str) -> None:
        """Waits for the login, which says why."""
        await expect(self.at("#login")).to_be_visible()
        await expect(self.at("#login-why")).to_contain_text(why)
        await expect(self.at("#page")).to_be_hidden()

    async def number(self, id_: str) -> float:
        """What one of the key figures says."""
        text = await self.at(f"#{id_}").inner_text()
        found = re.search(r"[\d,.]+", text)
        return float(found[0].replace(",", "")) if found else 0.0

    async def give_reason(self, reason: str) -> None:
        """Says why, in the dialog that asks."""
        await self.at("#ask-reason").fill(reason)
        await self.at("#ask-go").click()
        await expect(self.at("#ask")).to_be_hidden()


async def deposit(gateway: Gateway, amount: int) -> None:
    """Money for the card."""
    path = f"/v1/accounts/{gateway.account['id']}/deposits"
    assert (await gateway.post(path, {"amount": amount})).status == 201
