"""`why.py`: `jitway why`: a decision in words on a terminal. Knows no rule."""

from collections.abc import Mapping
from typing import Any

from jitway.gateway.explain import amount_text


def told(explained: Mapping[str, Any]) -> str:
    """An explained authorization, line by line.

    Args:
        explained: as `gateway/explain.py` gives it.
    """
    currency = explained["currency"]
    lines = [f"{explained['id']}  {explained['summary']}", ""]
    lines += _facts(explained)
    lines += ["", "Rules, in order:"]
    for finding in explained["explanation"]:
        mark = "passed" if finding["outcome"] == "passed" else "BROKEN"
        lines.append(f"  {mark}  {finding['rule']:<18} {finding['text']}")
    lines += ["", "Later:"]
    for transfer in explained["transfers"]:
        amount = amount_text(transfer["amount"], currency)
        lines.append(
            f"  {transfer['created_at']}  {transfer['kind']:<12} {amount} {currency}"
            f"  (account version {transfer['account_version']}, {transfer['id']})"
        )
    if not explained["transfers"]:
        lines.append("  nothing moved")
    return "\n".join(lines)


def _facts(explained: Mapping[str, Any]) -> list[str]:
    currency, balance = explained["currency"], explained["balance"]
    lines = [f"decided at  {explained['decided_at']}", f"card        {explained['card']}"]
    lines += [line for line in (_time(explained), _versions(explained)) if line]
    if balance is None:
        return [*lines, "account     none: the card was not known"]
    before, after = (amount_text(balance[when], currency) for when in ("before", "after"))
    return [
        *lines,
        f"account     {explained['account']}, version {explained['account_version']}",
        f"available   {before} before, {after} {currency} after",
    ]


def _time(explained: Mapping[str, Any]) -> str:
    timings = explained["timings"]
    if not timings:
        return ""
    stages = ", ".join(f"{stage} {ms:.3f}" for stage, ms in timings.items())
    return f"took        {sum(timings.values()):.3f} ms until it was written: {stages}"


def _versions(explained: Mapping[str, Any]) -> str:
    versions = explained["versions"]
    if not versions:
        return ""
    told = ", ".join(f"{what} {version}" for what, version in versions.items())
    return f"versions    {told}"
