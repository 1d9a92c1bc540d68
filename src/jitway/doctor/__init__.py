"""What `jitway doctor` looks at: every store at once, in bounded time, changing nothing.

    Plan -> examine() -> one Seen per store, with Findings -> the command line prints them

Owns the limits beyond which something is wrong, and what to do then. Repairs nothing.
"""

from jitway.doctor.examine import Plan, examine
from jitway.doctor.findings import CATALOGUE, NOTE, PROBLEM, Finding, Seen

__all__ = ["CATALOGUE", "NOTE", "PROBLEM", "Finding", "Plan", "Seen", "examine"]
