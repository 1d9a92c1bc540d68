"""Settings of one process: environment, then `.env`, then defaults; checked against each other."""

from jitway.settings.environment import Settings, load
from jitway.settings.setting import Setting
from jitway.settings.table import TABLE, env_example, markdown_table
from jitway.settings.values import masked_url

__all__ = [
    "TABLE",
    "Setting",
    "Settings",
    "env_example",
    "load",
    "markdown_table",
    "masked_url",
]
