"""The demonstration: a program with traffic on an embedded PostgreSQL. Never imported by src."""
