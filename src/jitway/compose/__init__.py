"""The one place that knows every part: settings in, running services out.

Nothing happens at import. A store whose URL is not set is not even imported.
"""

from jitway.compose.archives import (
    archive_assembler,
    archive_days,
    archive_handlers,
    archive_of,
)
from jitway.compose.messaging import Role, broker_of, dead_letters_of, role_of
from jitway.compose.serving import Services, services
from jitway.compose.stores import EMBEDDED, database_shown, ledger, stores

__all__ = [
    "EMBEDDED",
    "Role",
    "Services",
    "archive_assembler",
    "archive_days",
    "archive_handlers",
    "archive_of",
    "broker_of",
    "database_shown",
    "dead_letters_of",
    "ledger",
    "role_of",
    "services",
    "stores",
]
