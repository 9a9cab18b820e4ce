"""Log files → usage records → settled records: one module per agent, the registry, the scanner, the landing.

What belongs here: where an agent keeps its logs, what its lines mean, which copies are one response, and which
bytes are new. What does not: provider and model names (`events`), prices (`pricing`), sums (`rollups`).
"""
