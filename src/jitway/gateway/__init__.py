"""The verbs: one story per file, and the only room where domain, ledger and cache meet."""
