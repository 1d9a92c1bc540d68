"""`health.py`: what the probes of an orchestrator are answered, from what was seen last.

Nothing is asked here, so a hung store never hangs a probe. `/live` looks at nothing at all.
"""

import msgspec

from jitway.gateway.caller import Answer
from jitway.health import HealthWatch


def live() -> Answer:
    """`GET /live`: this process answers."""
    return Answer(200, '{"status":"alive"}')


def ready(watch: HealthWatch, *, draining: bool) -> Answer:
    """`GET /ready`: whether requests should be sent here."""
    if draining:
        return Answer(503, '{"status":"draining"}')
    if not watch.is_ready:
        return Answer(503, '{"status":"not_ready"}')
    return Answer(200, '{"status":"ready"}')


def health(watch: HealthWatch) -> Answer:
    """`GET /health`: each service and its state; 503 when money cannot be decided."""
    services = {name: service.status for name, service in watch.services.items()}
    document = {"status": watch.status, "services": services}
    return Answer(200 if watch.is_ready else 503, msgspec.json.encode(document).decode())
