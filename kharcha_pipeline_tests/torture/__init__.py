"""Torture: many processes, kills, full disks, lost writes and busy agents, with the truth known beforehand.

`make test` runs every scenario for a few seconds, `make torture` for as long as it is told.
"""
