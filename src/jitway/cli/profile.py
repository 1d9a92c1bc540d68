"""`profile.py`: `jitway profile`: where a running gateway's milliseconds go, as a table.

Asks `GET /v1/profile` and draws; measures nothing. `--watch` asks again until Ctrl-C.
"""

import http.client
import json
import ssl
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from jitway.settings import Settings

CANNOT_RUN = 2
PATH = "/v1/profile"
TIMEOUT_S = 5.0
# To put a profile together takes the gateway some milliseconds: it is not asked more often.
INTERVAL_S = 2.0
WINDOWS = ("minute", "hour", "start")
SLOW_SHOWN = 5
ANSWER_BYTES_MAX = 16_777_216

_CAPTIONS = {
    "minute": "milliseconds, in the last minute",
    "hour": "milliseconds, in the last hour",
    "start": "milliseconds, since the gateway started",
}
_REFUSED = {
    401: "the key is not good there; make one with `jitway keys create`",
    403: "the key may not read; it needs the scope read",
    404: "that is no jitway, or the key is of one program: this is about all of them",
}


class CannotAsk(Exception):
    """The gateway gave no profile; the text says what to do."""


def address_of(settings: "Settings") -> str:
    """Where a gateway with these settings is reached from its own machine.

    Raises:
        CannotAsk: the settings do not say.
    """
    host, port = settings.host, settings.port
    if port == 0:
        raise CannotAsk("PORT is 0, so the gateway took any free port: say which with --url")
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 is not bound
    scheme = "http" if settings.tls_cert is None else "https"
    name = f"[{reachable}]" if ":" in reachable else reachable
    return f"{scheme}://{name}:{port}"


def play(url: str, *, key: str, window: str | None, watch: bool, as_json: bool) -> int:
    """Shows the profile, once or until Ctrl-C.

    Args:
        url: of the gateway.
        key: of the operator.
        window: `minute`, `hour` or `start`; None = the last minute when watching, else all.
        watch: go on.
        as_json: one JSON document each time.

    Returns:
        The exit code: 0, or 2 when the gateway gave none.
    """
    window = window or ("minute" if watch else "start")
    try:
        if as_json:
            _print(url, key, watch=watch)
        else:
            _draw(url, key, window=window, watch=watch)
    except CannotAsk as error:
        click.echo(f"jitway: {error}", err=True)
        return CANNOT_RUN
    except KeyboardInterrupt:
        pass
    return 0


def _print(url: str, key: str, *, watch: bool) -> None:
    while True:
        click.echo(json.dumps(ask(url, key)))
        if not watch:
            return
        time.sleep(INTERVAL_S)


def _draw(url: str, key: str, *, window: str, watch: bool) -> None:
    console = Console()
    profile = ask(url, key)
    if not watch:
        console.print(drawn(profile, window))
        return
    with Live(drawn(profile, window), console=console, auto_refresh=False) as live:
        while True:
            time.sleep(INTERVAL_S)
            live.update(drawn(ask(url, key), window), refresh=True)


def ask(url: str, key: str) -> dict[str, Any]:
    """The profile of a running gateway.

    Args:
        url: `http://127.0.0.1:3000`.
        key: with the scope `read`, of the operator.

    Raises:
        CannotAsk: there is none, or no answer within five seconds.
    """
    connection = _connection(url)
    headers = {"Authorization": f"Bearer {key}", "Accept": "application/json"}
    try:
        connection.request("GET", urlsplit(url).path.rstrip("/") + PATH, headers=headers)
        response = connection.getresponse()
        body = response.read(ANSWER_BYTES_MAX)
    except ssl.SSLError as error:
        said = getattr(error, "verify_message", None) or error.reason or error
        raise CannotAsk(
            f"{url} cannot be trusted ({said}): say with --url the name that its certificate has; "
            "SSL_CERT_FILE names an authority of your own"
        ) from None
    except OSError as error:
        raise CannotAsk(
            f"no gateway answers at {url} ({error.strerror or error}): "
            "start one with `jitway serve`, or say where it is with --url"
        ) from None
    except http.client.HTTPException:
        raise CannotAsk(f"what answers at {url} does not speak HTTP: say with --url") from None
    except ValueError:
        raise CannotAsk("the key has characters that no key of jitway has") from None
    finally:
        connection.close()
    if response.status != 200:
        said = _REFUSED.get(response.status, f"it answered {response.status}")
        raise CannotAsk(f"{url} gave no profile: {said}")
    return _profile(url, body)


def _profile(url: str, body: bytes) -> dict[str, Any]:
    try:
        profile = json.loads(body)
    except ValueError:
        profile = None
    if not isinstance(profile, dict) or not set(WINDOWS) <= set(profile.get("windows", ())):
        raise CannotAsk(f"{url} answered something else than a profile: is it a jitway?")
    return profile


def _connection(url: str) -> http.client.HTTPConnection:
    try:
        parts = urlsplit(url)
        if parts.scheme == "http" and parts.hostname:
            return http.client.HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT_S)
        if parts.scheme == "https" and parts.hostname:
            return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=TIMEOUT_S)
    except (ValueError, http.client.HTTPException):
        pass
    raise CannotAsk(f"{url!r} is no address: write it like http://127.0.0.1:3000")


def drawn(profile: Mapping[str, Any], window: str) -> RenderableType:
    """A window of a profile as tables.

    Args:
        profile: as `GET /v1/profile` answers it.
        window: `minute`, `hour` or `start`.
    """
    chosen = profile["windows"][window]
    parts: list[RenderableType] = [_stages(chosen, window), Text(_decisions(chosen))]
    parts += [Text(line) for line in _cache(chosen)]
    lag, pause = profile["loop_lag_ms"], profile["gc_pause_ms"]
    parts.append(
        Text(
            f"event loop late: p99 {lag['p99']:.2f} ms, at most {lag['max']:.2f} ms; "
            f"garbage collection: p99 {pause['p99']:.2f} ms, at most {pause['max']:.2f} ms"
        )
    )
    if workers := profile.get("workers"):
        states = ", ".join(f"{count} {state}" for state, count in workers.items() if count)
        parts.append(Text(f"workers, all in one: {states}"))
    if any(profile["alerts"].values()):
        parts.append(Text(_alerts(profile["alerts"])))
    if slow := profile["over_threshold"][-SLOW_SHOWN:]:
        parts.append(_slow(slow))
    return Group(*parts)


def _stages(window: Mapping[str, Any], name: str) -> Table:
    total = window["total"]
    table = Table(title=f"{total['count']:,} authorizations", caption=_CAPTIONS[name])
    table.add_column("stage")
    columns = ("count", "average", "p50", "p95", "p99", "max", "budget", "share")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    whole = total["average"] * total["count"]
    for stage, row in [*window["stages"].items(), ("total", total)]:
        budget = row.get("budget")
        over = budget is not None and row["p99"] > budget
        share = 100 * row["average"] * row["count"] / whole if whole else 0.0
        table.add_row(
            stage,
            f"{row['count']:,}",
            *(f"{row[one]:.3f}" for one in ("average", "p50", "p95")),
            Text(f"{row['p99']:.3f}", style="bold red" if over else ""),
            f"{row['max']:.3f}",
            "" if budget is None else f"{budget:g}",
            f"{share:.1f} %",
            style="bold" if stage == "total" else None,
        )
    return table


def _decisions(window: Mapping[str, Any]) -> str:
    decisions = window["decisions"]
    declined = decisions.get("declined", {})
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in declined.items())
    others = ", ".join(
        f"{name} {count:,}"
        for name, count in decisions.items()
        if name not in ("approved", "declined") and isinstance(count, int)
    )
    line = f"approved {decisions['approved']:,} ({window['approval_rate']:.1f} %)"
    line += f", declined {sum(declined.values()):,}" + (f" ({reasons})" if reasons else "")
    return line + (f"; {others}" if others else "")


def _cache(window: Mapping[str, Any]) -> list[str]:
    return [
        f"cache {level}: "
        + ", ".join(f"{kind} {row['hit_rate']:.1f} % hits" for kind, row in kinds.items())
        for level, kinds in window["cache"].items()
    ]


def _alerts(alerts: Mapping[str, int]) -> str:
    told = ", ".join(f"{severity} {count:,}" for severity, count in alerts.items())
    return f"episodes of slow answers since the start: {told}"


def _slow(requests: list[Mapping[str, Any]]) -> Table:
    table = Table(title="slow requests, the last ones")
    for column in ("finished at", "request", "decision", "ms", "guilty stage", "its ms"):
        table.add_column(column, justify="right" if column.endswith("ms") else "left")
    for slow in requests:
        style = "red" if slow["severity"] == "critical" else "yellow"
        table.add_row(
            slow["finished_at"],
            slow["request_id"],
            slow["decision"],
            f"{slow['total_ms']:.1f}",
            Text(slow["guilty"], style=style),
            f"{slow['stages_ms'][slow['guilty']]:.1f}",
        )
    return table
