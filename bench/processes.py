"""Processor time of groups of processes, from /proc (Linux only), and what machine this is.

A group is some processes with all their descendants: those that ended meanwhile are in the times
of the parents that waited for them.
"""

import os
import platform
import statistics
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

PROC = Path("/proc")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
SYNCS = 100
PAGE = bytes(8192)


def cpu_s(pids: Iterable[int]) -> float:
    """Seconds of processor time that some processes and their descendants have used."""
    parents = _parents()
    wanted = set(pids)
    return sum(_used_s(pid) for pid in parents if _descends(pid, wanted, parents))


def _used_s(pid: int) -> float:
    # utime, stime, and both of the children that were waited for.
    return sum(map(int, _stat(pid)[11:15])) / TICKS_PER_S


def _stat(pid: int) -> list[str]:
    """The fields of a process after its name; zeros if it has just ended."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ["0"] * 15


def _parents() -> dict[int, int]:
    pids = [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()]
    return {pid: int(_stat(pid)[1]) for pid in pids}


def _descends(pid: int, wanted: set[int], parents: Mapping[int, int]) -> bool:
    while pid:
        if pid in wanted:
            return True
        pid = parents.get(pid, 0)
    return False


class CpuMeter:
    """Measures how busy groups of processes were between its making and its reading.

    Args:
        groups: name of a group to its processes; descendants count with them.
    """

    def __init__(self, groups: Mapping[str, Iterable[int]]) -> None:
        self._groups = {name: tuple(pids) for name, pids in groups.items()}
        self._machine_before = _machine_busy_s()
        self._before = {name: cpu_s(pids) for name, pids in self._groups.items()}
        self._began = time.perf_counter()

    def cores(self) -> dict[str, float]:
        """Cores used by each group, 1.0 being one core all the time, and by the whole machine."""
        elapsed = time.perf_counter() - self._began
        used = {
            name: (cpu_s(pids) - self._before[name]) / elapsed
            for name, pids in self._groups.items()
        }
        return used | {"machine": (_machine_busy_s() - self._machine_before) / elapsed}


def _machine_busy_s() -> float:
    times = list(map(int, (PROC / "stat").read_text().split("\n", 1)[0].split()[1:9]))
    idle = times[3] + times[4]
    return (sum(times) - idle) / TICKS_PER_S


def machine() -> dict[str, Any]:
    """What this was measured on: figures of different machines are not comparable."""
    models = [
        line.split(":", 1)[1].strip()
        for line in (PROC / "cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    memory_kb = int((PROC / "meminfo").read_text().split()[1])
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": models[0] if models else platform.machine(),
        "memory_gb": round(memory_kb / 1e6, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }


def fdatasync_ms(directory: Path) -> float:
    """The median time to make one page durable there, as a commit must.

    Args:
        directory: on the file system in question.
    """
    spans: list[float] = []
    with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
        for _ in range(SYNCS):
            file.write(PAGE)
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            spans.append(time.perf_counter() - began)
    return 1_000 * statistics.median(spans)
