"""`setting.py`: what is known of one setting. Reads nothing."""

from dataclasses import dataclass

from jitway.settings.values import Reader

PREFIX = "JITWAY_"


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table.

    Args:
        name: of the environment variable.
        default: as it would be written; empty when there is none.
        unit: of a bare number.
        meaning: one sentence for the operator.
        read: text to value.
        is_url: it may hold a password: it is masked, and `NAME_FILE` may name a file with it.
        example: what `.env.example` sets, to suit the services of `compose.yaml`.
    """

    name: str
    default: str
    unit: str
    meaning: str
    read: Reader
    is_url: bool = False
    example: str = ""

    @property
    def attribute(self) -> str:
        """The field of `Settings`."""
        return self.name.removeprefix(PREFIX).lower()
