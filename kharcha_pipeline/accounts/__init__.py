"""Vendor accounts: what vendors say of the accounts behind the agents, polled, kept as it was said, and normalized.

Everything lands in `accounts.sqlite` of the data directory first: raw responses, what they say of events, reports,
periods, invoices and limits in every version that was ever seen, and the state of each account. From there the
warehouse reads it, as it reads agents' logs. A poll never opens the warehouse.
"""
