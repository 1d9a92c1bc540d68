"""jitway: a self-hosted JIT funding gateway for card programs.

What an integrator may import stands here, and is loaded when it is first used, so that a service
which only wants `RedisAdapter` needs no client of RabbitMQ.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jitway.adapters.mongodb import MongoDBAdapter
    from jitway.adapters.postgresql import PostgreSQLAdapter
    from jitway.adapters.rabbitmq import MessageQueueManager
    from jitway.adapters.redis import RedisAdapter
    from jitway.client import AsyncClient, Client
    from jitway.database import DatabaseManager
    from jitway.health_routes import health_router, initialize_health_routes
    from jitway.profiling import JITFundingProfiler

__version__ = "0.2.0"

__all__ = [
    "AsyncClient",
    "Client",
    "DatabaseManager",
    "JITFundingProfiler",
    "MessageQueueManager",
    "MongoDBAdapter",
    "PostgreSQLAdapter",
    "RedisAdapter",
    "health_router",
    "initialize_health_routes",
]

_HOMES = {
    "AsyncClient": "jitway.client",
    "Client": "jitway.client",
    "DatabaseManager": "jitway.database",
    "JITFundingProfiler": "jitway.profiling",
    "MessageQueueManager": "jitway.adapters.rabbitmq",
    "MongoDBAdapter": "jitway.adapters.mongodb",
    "PostgreSQLAdapter": "jitway.adapters.postgresql",
    "RedisAdapter": "jitway.adapters.redis",
    "health_router": "jitway.health_routes",
    "initialize_health_routes": "jitway.health_routes",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'jitway' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
