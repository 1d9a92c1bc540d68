"""Bytes to domain words and back. The only place where a caller's field names may appear."""
