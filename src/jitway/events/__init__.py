"""From committed fact to every reader, at least once; applied once."""
