"""`scripts/chaos WHAT ...`: what is broken on purpose; each has a module of its name."""

import importlib
import sys
from pathlib import Path

WHAT = ("kill", "events", "cache")


def main(arguments: list[str]) -> int:
    """Runs what the first argument names, with the others."""
    here = Path(__file__).parent
    there = [what for what in WHAT if (here / f"{what}.py").exists()]
    if not arguments or arguments[0] not in there:
        print(f"usage: scripts/chaos {{{','.join(there)}}} [--help]", file=sys.stderr)
        return 0 if arguments[:1] in (["-h"], ["--help"]) else 2
    module = importlib.import_module(f"chaos.{arguments[0]}")
    code: int = module.main(arguments[1:])
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
