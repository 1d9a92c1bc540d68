"""Copies for people and audits: searched, never read to decide, made again when they are lost."""
