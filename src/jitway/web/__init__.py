"""HTTP: bytes to one verb and its answer back to bytes. Holds no business word."""
