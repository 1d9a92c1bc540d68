"""Times the one real path: stages, windows, slow requests, alerts. Records, and never decides."""
