"""`health.py`: what the probes of an orchestrator are answered, from what was seen last.

Nothing is asked here, so a hung store never hangs a probe. `/live` looks at nothing at all.
Each worker answers for itself, and says how many there are.
"""

from typing import Any

import msgspec

from jitway.gateway.caller import Answer
from jitway.health import HealthWatch
from jitway.supervisor import Crew


def live() -> Answer:
    """`GET /live`: this process answers."""
    return Answer(200, '{"status":"alive"}')


def ready(watch: HealthWatch, crew: Crew | None = None, *, draining: bool) -> Answer:
    """`GET /ready`: whether requests should be sent here."""
    if draining:
        return _told(503, {"status": "draining"}, crew)
    if not watch.is_ready:
        return _told(503, {"status": "not_ready"}, crew)
    return _told(200, {"status": "ready"}, crew)


def health(watch: HealthWatch, crew: Crew | None = None) -> Answer:
    """`GET /health`: each service and its state; 503 when money cannot be decided."""
    services = {name: service.status for name, service in watch.services.items()}
    document = {"status": watch.status, "services": services}
    return _told(200 if watch.is_ready else 503, document, crew)


def _told(status: int, document: dict[str, Any], crew: Crew | None) -> Answer:
    if crew is not None:
        document |= {"worker": crew.number, "workers": msgspec.structs.asdict(crew.roll)}
    return Answer(status, msgspec.json.encode(document).decode())
