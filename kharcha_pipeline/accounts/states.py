"""The states of an account, and what each means for polling and for people."""

from __future__ import annotations

from typing import Literal, get_args

State = Literal[
    "active",
    "rate_limited",
    "waiting",
    "degraded",
    "blocked",
    "needs_attention",
    "session_expired",
    "paused",
]
"""How an account is.

- `active`: the last poll went well, or there was none yet.
- `rate_limited`: the vendor asked for a longer rest than a poll may wait.
- `waiting`: none of the account's proxies can be reached.
- `degraded`: the vendor could not be reached, or did not answer properly.
- `blocked`: a bot checkpoint stands in the way.
- `needs_attention`: somebody has to look; what still works is polled.
- `session_expired`: the credential is no longer accepted; nothing is asked until there is another one.
- `paused`: somebody said so; nothing is asked until somebody says otherwise.
"""

STATES: tuple[State, ...] = get_args(State)
"""All of them."""

ALERTING: frozenset[State] = frozenset({"blocked", "needs_attention", "session_expired"})
"""States that are told to people, once each time an account enters them. The others end by themselves."""

SILENT: frozenset[State] = frozenset({"session_expired", "paused"})
"""States in which a vendor is asked nothing at all."""
