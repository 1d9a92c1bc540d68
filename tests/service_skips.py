"""Tests that need a service: skipped where it is missing, failed where services are required.

A pytest plugin as well: it prints the seed of the run first, and names every skipped test last.
"""

import os
import random

import pytest

REQUIRED = os.environ.get("JITWAY_REQUIRE_SERVICES") == "1"
VARIABLES = {
    "postgresql": "DATABASE_URL",
    "redis": "REDIS_URL",
    "rabbitmq": "RABBITMQ_URL",
    "mongodb": "MONGODB_URI",
}


def require_service(name: str) -> str:
    """The URL of a service, or the end of this test.

    Args:
        name: `postgresql`, `redis`, `rabbitmq` or `mongodb`.
    """
    url = os.environ.get(VARIABLES[name])
    if url:
        return url
    missing = f"{name} is missing: {VARIABLES[name]} is not set (`scripts/services start`)"
    if REQUIRED:
        pytest.fail(missing, pytrace=False)
    pytest.skip(missing)


def pytest_configure(config: pytest.Config) -> None:
    """Choose the seed of the run, or take the one of TEST_SEED; workers inherit it."""
    seed = os.environ.setdefault("TEST_SEED", str(random.SystemRandom().randrange(2**32)))
    if config.getoption("--hypothesis-seed", default=None) is None:
        config.option.hypothesis_seed = seed
    config.addinivalue_line("markers", "service(name): skipped or failed when it is missing")


def pytest_report_header(config: pytest.Config) -> str:
    """The seed that repeats this run's random choices."""
    demand = "required" if REQUIRED else "skipped when missing"
    return f"seed: TEST_SEED={os.environ['TEST_SEED']}; services: {demand}"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Look for the services that a test's markers name."""
    for marker in item.iter_markers("service"):
        require_service(marker.args[0])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Count and name the skipped tests, just before pytest's last line."""
    skipped = terminalreporter.stats.get("skipped", [])
    terminalreporter.section(f"skipped: {len(skipped)}")
    for report in skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        terminalreporter.line(f"{report.nodeid}: {reason}")
