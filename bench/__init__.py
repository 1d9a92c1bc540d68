"""Traffic and measurements for `scripts/bench` and `scripts/demo`; never imported by `src`."""
