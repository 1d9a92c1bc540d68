"""Real servers for the tests: found or installed, and started on private ports.

One file per product. `scripts/services` keeps one of each running for a test run (`services.py`);
a test that has to kill or freeze a server starts a private one.
"""
