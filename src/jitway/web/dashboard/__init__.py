"""The live page: what happens now, and why, for operators who logged in."""
