"""`violation.py`: something that must not be, in words for whoever has to find out why."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken promise.

    Args:
        invariant: which one.
        subject: the key, row or account.
        detail: what was found.
        account: whose history tells more; empty when none does.
    """

    invariant: str
    subject: str
    detail: str
    account: str = ""

    @property
    def document(self) -> dict[str, str]:
        """As it is printed."""
        return {"invariant": self.invariant, "subject": self.subject, "detail": self.detail}
