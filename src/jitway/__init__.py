"""jitway: a self-hosted JIT funding gateway for card programs."""

__version__ = "0.1.0"
