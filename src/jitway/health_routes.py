"""`health_routes.py`: `/health`, `/ready`, `/live` for anybody's Starlette or FastAPI application.

    initialize_health_routes(manager)
    app.mount("/", health_router)             # or Starlette(routes=health_router.routes)

The routes look when they are asked, within about a second; jitway's own gateway serves the same
answers from what it saw last.
"""

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, Router

from jitway.database import DatabaseManager
from jitway.health import UNHEALTHY, overall


class _Watched:
    """Whose stores the routes report."""

    manager: DatabaseManager | None = None


def initialize_health_routes(manager: DatabaseManager) -> None:
    """Says whose stores the routes report.

    Args:
        manager: initialized now or later; until it is, nothing is ready.
    """
    _Watched.manager = manager


async def _statuses() -> dict[str, str]:
    if _Watched.manager is None:
        return {"postgres": UNHEALTHY}
    statuses = await _Watched.manager.get_health_status()
    # A manager that is not open has looked at nothing.
    return statuses if statuses["postgres"] != "disabled" else {**statuses, "postgres": UNHEALTHY}


async def _health(_: Request) -> JSONResponse:
    statuses = await _statuses()
    status = overall(statuses)
    document = {"status": status, "services": statuses}
    return JSONResponse(document, status_code=503 if status == UNHEALTHY else 200)


async def _ready(_: Request) -> JSONResponse:
    if overall(await _statuses()) == UNHEALTHY:
        return JSONResponse({"status": "not_ready"}, status_code=503)
    return JSONResponse({"status": "ready"})


async def _live(_: Request) -> JSONResponse:
    return JSONResponse({"status": "alive"})


health_router = Router(
    routes=[
        Route("/health", _health, methods=["GET"]),
        Route("/ready", _ready, methods=["GET"]),
        Route("/live", _live, methods=["GET"]),
    ]
)
