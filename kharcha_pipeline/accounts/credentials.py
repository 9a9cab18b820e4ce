"""Credentials: where they are kept, and how they get from there to a request without being seen on the way.

`accounts.toml` only holds *references*: `env:NAME`, `file:PATH` or `keyring:NAME`. What they lead to is read when a
poll begins, and lives in a `Secret` until it becomes a header. No sentence here quotes one.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn, cast

from kharcha_pipeline import locations
from kharcha_pipeline.accounts.failures import AccountsUsageError

KEYRING_SERVICE = "kharcha-accounts"
REFERENCE = r"^(env:[A-Z_][A-Z0-9_]*|file:[^\x00-\x1f]+|keyring:[^\x00-\x1f]+)$"
"""What a reference looks like. Variables are written in capitals: a key behind `env:` would be taken for a name
otherwise, and be told to everybody in the sentence that says that it is not set."""

FORMS = "env:NAME (a variable, in capitals), file:PATH (only for its owner), or keyring:NAME"
_REFERENCE = re.compile(REFERENCE)
_VISIBLE = re.compile(r"[\x20-\x7e]+")
_LONGEST = 65_536


class Secret:
    """A credential that shows itself to nobody who does not ask for it by name."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The credential itself: for a header and for its fingerprint, for nothing else."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"

    def __format__(self, how: str) -> str:
        return format("***", how)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and secrets.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __reduce__(self) -> NoReturn:
        raise TypeError("A secret is not written anywhere.")


class Reference(NamedTuple):
    """Where a credential is.

    Attributes:
        kind: `env`, `file` or `keyring`.
        name: the variable, the path or the entry's name.
    """

    kind: Literal["env", "file", "keyring"]
    name: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


def reference_of(text: str, what: str) -> Reference:
    """Understands a reference.

    Args:
        text: as it stands in the file.
        what: what it is for and where it stands, for a sentence: `secret of account "team" in …`.

    Raises:
        AccountsUsageError: when it is none. It may be the credential itself, so the sentence does not quote it.
    """
    if not _REFERENCE.fullmatch(text):
        raise AccountsUsageError(
            f"The {what} is not a reference. Credentials never stand in the file itself; write where they are: "
            f"{FORMS}. If a credential stood there, put it elsewhere and make a new one."
        )
    kind, _, name = text.partition(":")
    return Reference(cast(Literal["env", "file", "keyring"], kind), name)


def resolve(reference: str, environment: Mapping[str, str], relative_to: Path) -> Secret:
    """The credential that a reference leads to.

    Args:
        reference: as `accounts.toml` has it.
        environment: variables, `HOME` included.
        relative_to: what relative paths are relative to: the directory of `accounts.toml`.

    Raises:
        AccountsUsageError: when there is none, when others than its owner may read it, or when it cannot be one.
    """
    kind, name = found = reference_of(reference, "given credential")
    if kind == "env":
        value = environment.get(name, "")
        if not value.strip():
            raise AccountsUsageError(f"The variable {name} is not set, and a credential is expected in it.")
    elif kind == "file":
        value = _from_file(_path(name, environment, relative_to))
    else:
        value = _from_keyring(name)
    value = value.strip()
    if not _VISIBLE.fullmatch(value):
        raise AccountsUsageError(
            f"What is in {found} is no credential: it is empty, has several lines, or characters that no credential "
            "has. Copy it again."
        )
    return Secret(value)


def keep(reference: str, secret: Secret, environment: Mapping[str, str], relative_to: Path) -> None:
    """Keeps a credential where a reference says that it is, instead of what is there.

    A file is replaced as a whole: a poll at the same time reads the old credential or the new one.

    Raises:
        AccountsUsageError: when it cannot be kept there: a variable belongs to whoever starts the program.
    """
    kind, name = reference_of(reference, "given place")
    if kind == "env":
        raise AccountsUsageError(
            f"The credential is taken from the variable {name}, which only whoever starts the program can set. Set "
            "it there, or write a reference of the form file:PATH or keyring:NAME into accounts.toml."
        )
    if kind == "file":
        _to_file(_path(name, environment, relative_to), secret)
    else:
        _to_keyring(name, secret)


def _path(name: str, environment: Mapping[str, str], relative_to: Path) -> Path:
    if name == "~" or name.startswith("~/"):
        return Path(locations.expanded(name, environment))
    return Path(os.path.abspath(relative_to / name))


def _from_file(path: Path) -> str:
    try:
        # Not to wait for ever where somebody put a pipe.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        raise AccountsUsageError(
            f"There is no file {path}, and a credential is expected in it. `kharcha accounts login` writes it."
        ) from None
    except OSError as error:
        raise AccountsUsageError(f"The credential's file {path} cannot be read: {error.strerror}.") from None
    try:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise AccountsUsageError(f"{path} should hold a credential, but is no file.")
        if os.name == "posix" and (state.st_mode & 0o077 or state.st_uid not in (os.getuid(), 0)):
            raise AccountsUsageError(
                f"Others than its owner may read the credential in {path}. Run `chmod 600 {path}` as the user who "
                "runs this program; if others could really read it, make a new credential."
            )
        content = os.read(descriptor, _LONGEST + 1)
    finally:
        os.close(descriptor)
    try:
        return content.decode("utf-8-sig") if len(content) <= _LONGEST else ""
    except UnicodeDecodeError:
        return ""


def _to_file(path: Path, secret: Secret) -> None:
    target = Path(os.path.realpath(path))  # a link stays one, and what it leads to is replaced
    draft = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(secret.reveal().encode() + b"\n")
                file.flush()
                os.fsync(descriptor)
            os.replace(draft, target)
        except BaseException:
            with suppress(OSError):
                os.unlink(draft)
            raise
        _settle(target.parent)
    except OSError as error:
        raise AccountsUsageError(f"The credential cannot be written to {path}: {error.strerror}.") from None


def _settle(directory: Path) -> None:
    """Makes a new name in a directory last through a power cut, where the operating system can."""
    if os.name == "posix":
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _keyring() -> Any:
    """The library, which is an extra: only who keeps credentials in a keyring needs it."""
    try:
        import keyring
    except ImportError:
        raise AccountsUsageError(
            "Credentials in the operating system's keyring need the package `keyring`. Install "
            "`kharcha-pipeline[keyring]`, or write a reference of the form file:PATH or env:NAME."
        ) from None
    return keyring


def _from_keyring(name: str) -> str:
    keyring = _keyring()
    try:
        value = keyring.get_password(KEYRING_SERVICE, name)
    except Exception:  # backends raise what they like, and what they say may hold anything
        raise AccountsUsageError(
            f"The operating system's keyring cannot be read for {name!r}: there is none, or it is locked. Unlock "
            "it, or write a reference of the form file:PATH or env:NAME."
        ) from None
    if not value:
        raise AccountsUsageError(
            f"The operating system's keyring has no credential {name!r} of the service {KEYRING_SERVICE!r}. "
            f"Put it there with `keyring set {KEYRING_SERVICE} {name}`."
        )
    return str(value)


def _to_keyring(name: str, secret: Secret) -> None:
    keyring = _keyring()
    try:
        keyring.set_password(KEYRING_SERVICE, name, secret.reveal())
    except Exception:
        raise AccountsUsageError(
            f"The operating system's keyring does not take the credential {name!r}: there is none, or it is locked. "
            "Unlock it, or write a reference of the form file:PATH into accounts.toml."
        ) from None
