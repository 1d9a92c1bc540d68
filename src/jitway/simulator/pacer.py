"""Wakes the run at the instant the next request is due.

Event loops sleep in whole milliseconds: rounded up, every request is half a millisecond late;
rounded down, the generator burns the processor it shares with the gateway. So where there is one
(Linux), the kernel's timer wakes the loop through a file descriptor; elsewhere the loop's own does.
"""

import asyncio
import ctypes
import os
import sys
import time
from collections.abc import Callable

# <time.h>, <sys/timerfd.h>; `perf_counter_ns` reads the same clock, so instants are absolute.
CLOCK_MONOTONIC = 1
TFD_TIMER_ABSTIME = 1


class _TimerSpec(ctypes.Structure):
    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


class Pacer:
    """One alarm, set again and again.

    Args:
        wake: called on the event loop when the instant has come; it may be early or spurious.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._loop = asyncio.get_running_loop()
        self._libc = ctypes.CDLL(None) if sys.platform == "linux" else None
        self._timer_fd = -1
        self._handle: asyncio.TimerHandle | None = None
        if self._libc is not None:
            self._timer_fd = self._libc.timerfd_create(
                CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC
            )
        if self._timer_fd >= 0:
            self._loop.add_reader(self._timer_fd, self._ring)

    def wake_at(self, instant_ns: int) -> None:
        """Set the alarm to an instant of `time.perf_counter_ns`; the earlier setting is void."""
        if self._timer_fd >= 0 and self._libc is not None:
            # Zero would disarm it: an instant long past must ring at once.
            seconds, nanoseconds = divmod(max(instant_ns, 1), 1_000_000_000)
            spec = _TimerSpec(0, 0, seconds, nanoseconds)
            self._libc.timerfd_settime(self._timer_fd, TFD_TIMER_ABSTIME, ctypes.byref(spec), None)
            return
        if self._handle is not None:
            self._handle.cancel()
        wait_ns = max(instant_ns - time.perf_counter_ns(), 0)
        self._handle = self._loop.call_later(-(-wait_ns // 1_000_000) / 1_000, self._wake)

    def close(self) -> None:
        """Ring no more; may come twice."""
        if self._handle is not None:
            self._handle.cancel()
        if self._timer_fd >= 0:
            self._loop.remove_reader(self._timer_fd)
            os.close(self._timer_fd)
            self._timer_fd = -1

    def _ring(self) -> None:
        try:
            os.read(self._timer_fd, 8)
        except BlockingIOError:
            return
        self._wake()
