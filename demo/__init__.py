"""The demonstration: a card program with traffic on an embedded PostgreSQL. Never imported by src."""
