"""Passwords of tests are hashed cheaply: how dear it is to guess is argon2's business, and tests guess a lot."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import argon2
import pytest


@pytest.fixture(scope="session", autouse=True)
def cheap_passwords() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        cheap = partial(argon2.PasswordHasher, time_cost=1, memory_cost=8, parallelism=1)
        patch.setattr(argon2, "PasswordHasher", cheap)
        yield
