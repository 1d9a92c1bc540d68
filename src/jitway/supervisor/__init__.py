"""One gateway of several processes: who starts them, ends them, and adds up what they counted.

A supervisor and its workers speak over a socket that only they have. Knows no card, no statement
and no setting: what a worker is started with is handed in.
"""

from jitway.supervisor.crew import Crew
from jitway.supervisor.supervisor import Supervisor

__all__ = ["Crew", "Supervisor"]
