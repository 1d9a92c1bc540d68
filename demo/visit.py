"""After the demonstration: the gateway serves on under light traffic, to look around in."""

import asyncio
import json
from collections.abc import Mapping

from rich.console import Console

from demo.gateway import Gateway, GatewayFailed
from jitway.simulator.population import Population
from jitway.simulator.simulate import simulate

RATE = 20.0
ROUND_S = 30.0
# Who pays most often gets money again, so that approvals go on for as long as somebody watches.
TOPPED_UP = 40
TOP_UP_MINOR = 5_000_00


class Visit:
    """A gateway that somebody looks at, until Ctrl-C.

    Args:
        console: where to say what can be tried.
        gateway: serves.
        key: may authorize and operate.
        population: whose cards pay.
        processes: servers that may be stopped to see what happens, by name.
    """

    def __init__(
        self,
        console: Console,
        gateway: Gateway,
        key: str,
        population: Population,
        processes: Mapping[str, int],
    ) -> None:
        self._console = console
        self._gateway = gateway
        self._key = key
        self._population = population
        self._processes = processes

    def stay(self, *, seed: int) -> None:
        """Says what can be tried and keeps light traffic going.

        Raises:
            GatewayFailed: the gateway ended by itself.
            KeyboardInterrupt: somebody has seen enough.
        """
        self._say_what_to_try()
        asyncio.run(self._keep_traffic(seed))
        raise GatewayFailed("the gateway ended by itself")

    def _say_what_to_try(self) -> None:
        body = json.dumps({"card": self._population.ordinary[0], "amount": 1250, "currency": "USD"})
        link = self._gateway.command("dashboard-link", "--url", self._gateway.url)["url"]
        self._console.print("\nThe live page, open to one browser for ten minutes:\n")
        self._console.print(link, markup=False, soft_wrap=True)
        self._console.print(
            f"\nThe gateway serves on at {self._gateway.url} under {RATE:.0f} authorizations a "
            "second, until Ctrl-C. One more, to paste:\n"
        )
        self._console.print(
            f"curl -sS {self._gateway.url}/v1/authorizations \\\n"
            f"  -H 'Authorization: Bearer {self._key}' \\\n"
            f"  -H 'Content-Type: application/json' -H \"Idempotency-Key: $(date +%s%N)\" \\\n"
            f"  -d '{body}'\n",
            markup=False,
            soft_wrap=True,
        )
        if self._processes:
            self._console.print("A server that hangs, and one that returns:\n")
            for name, process in self._processes.items():
                self._console.print(
                    f"kill -STOP {process}; sleep 20; kill -CONT {process}  # {name}"
                )
            self._console.print()

    async def _keep_traffic(self, seed: int) -> None:
        number = 0
        while not self._gateway.ended():
            number += 1
            await asyncio.to_thread(self._top_up)
            try:
                await simulate(
                    self._gateway.url,
                    key=self._key,
                    rate=RATE,
                    seconds=ROUND_S,
                    seed=seed + number,
                    cards=self._population,
                )
            except OSError:
                await asyncio.sleep(1)

    def _top_up(self) -> None:
        for rank, card in enumerate(self._population.ordinary[:TOPPED_UP], 1):
            try:
                account = self._gateway.get(f"/v1/cards/{card}", self._key)["account"]
                self._gateway.post(
                    f"/v1/accounts/{account}/deposits",
                    self._key,
                    {"amount": TOP_UP_MINOR // rank, "description": "demo funding"},
                )
            except GatewayFailed:
                return
