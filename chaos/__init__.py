"""Faults on purpose: kills jitway and its stores under load and proves what must hold afterwards.

Never imported by src. Shares no code with the ledger that it judges: only the ways to reach it.
"""
