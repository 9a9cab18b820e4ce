"""Priced events → sums per session and day, and the views analysts read.

What belongs here: sums and views over priced events. What does not: anything that decides what an event is or costs.
"""
