"""The DuckDB file: its lock, its transactions, its schema, the ledger of days, and the published copy.

What belongs here: how the file is opened, changed and handed to readers. What does not: what the rows mean.
"""
