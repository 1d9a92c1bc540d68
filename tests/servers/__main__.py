"""`python -m tests.servers`, which `scripts/services` calls."""

import sys

from tests.servers.services import main

sys.exit(main(sys.argv[1:]))
