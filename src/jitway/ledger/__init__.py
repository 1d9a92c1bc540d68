"""The rows of money in PostgreSQL, the only decider; nothing here decides or announces."""
