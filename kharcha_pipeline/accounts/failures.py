"""What may go wrong with an account, by what has to be done about it. Standard library only.

Every message is a sentence for people. None quotes an answer's text: it may hold anything.
"""

from __future__ import annotations


class AccountsError(Exception):
    """An account could not be polled or changed. The message is a sentence."""


class AccountsUsageError(Exception):
    """A mistake in `accounts.toml`, a reference or an argument: again does not help. The message is a sentence."""


class Failure(AccountsError):  # noqa: N818 - these names say what is the case
    """Why a cycle, or a part of it, could not be completed.

    Attributes:
        until_ms: when it may be tried again, in milliseconds since the epoch; `None` for the account's schedule.
    """

    def __init__(self, message: str, until_ms: int | None = None) -> None:
        super().__init__(message)
        self.until_ms = until_ms


class Unauthorized(Failure):
    """401: the credential is not accepted for this request. Whether for any, a probe has to show."""


class SessionExpired(Failure):
    """The answer itself shows that the session has ended: a login page, or the way to one."""


class RateLimited(Failure):
    """The vendor asks to wait longer than a cycle may: the whole account rests until `until_ms`."""


class Blocked(Failure):
    """A bot checkpoint stands in the way; says nothing about the session."""


class Denied(Failure):
    """This endpoint is not for this account (plan, permission, scope); others may be."""


class Moved(Failure):
    """The endpoint is not where it was: somebody has to look."""


class Misconfigured(Failure):
    """The account's settings cannot be right: another identity than configured, a wrong address."""


class Unreachable(Failure):
    """No whole answer after all attempts: network faults, 5xx, truncated bodies."""


class ProxiesDown(Failure):
    """None of the account's proxies can be reached; a fault of the way, not of the account."""


class DeadlinePassed(Failure):
    """The cycle took longer than it may."""


class Inconsistent(Failure):
    """Pages of one window do not fit together, also after reading them again."""


class Drifted(Failure):
    """An answer has not the shape that is known; nothing of its window is used.

    Attributes:
        sample: names and types of the fields that the answer had, never values; `''` where it was no JSON.
    """

    def __init__(self, message: str, until_ms: int | None = None, *, sample: str = "") -> None:
        super().__init__(message, until_ms)
        self.sample = sample[:2_000]
