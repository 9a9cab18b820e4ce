"""What a usage event costs: pricing snapshots, the files behind them, and the price of every event.

What belongs here: reading rates from the price catalogue, the shipped corrections and the user's own file; writing
them down once per (price provider, price model, UTC day); turning tokens into USD in SQL; the audited reprice.
What does not: which model a raw name means (`events.names`) and sums of costs (`rollups`).
"""
