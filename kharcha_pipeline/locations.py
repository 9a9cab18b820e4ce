"""Where things are, worked out with the standard library alone: a run with nothing to do imports nothing else."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def home(environment: Mapping[str, str]) -> str:
    """The home directory: `HOME`, else what the operating system says."""
    return environment.get("HOME") or os.path.expanduser("~")


def expanded(path: str, environment: Mapping[str, str]) -> str:
    """An absolute path, with a leading `~` replaced by the home directory."""
    if path == "~" or path.startswith("~/"):
        path = home(environment) + path[1:]
    return os.path.abspath(path)


def checkout() -> str | None:
    """The source checkout this package runs from, `None` when it was installed."""
    top = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return top if os.path.exists(os.path.join(top, "workspace.yaml")) else None


SAMPLES_MARK = "samples"
"""A data directory with a file of this name holds the bundled samples, and no real usage is ever read into it."""


def sample_home() -> str | None:
    """The home directory of the bundled sample logs, `None` when they are not installed: only a checkout has them."""
    top = checkout()
    home_directory = os.path.join(top, "data", "sample", "home") if top else ""
    return home_directory if os.path.isdir(home_directory) else None


def data_directory(environment: Mapping[str, str]) -> str:
    """`KHARCHA_DATA_DIR`, else `data/` in a checkout, else the platform's directory for user data."""
    if configured := environment.get("KHARCHA_DATA_DIR"):
        return expanded(configured, environment)
    if top := checkout():
        return os.path.join(top, "data")
    if sys.platform == "darwin":
        return expanded("~/Library/Application Support/kharcha", environment)
    if sys.platform == "win32":
        return os.path.join(environment.get("LOCALAPPDATA") or expanded("~/AppData/Local", environment), "kharcha")
    return os.path.join(environment.get("XDG_DATA_HOME") or expanded("~/.local/share", environment), "kharcha")


def config_file(environment: Mapping[str, str]) -> str:
    """`KHARCHA_CONFIG`, else `config.toml` in the platform's directory for user settings."""
    if configured := environment.get("KHARCHA_CONFIG"):
        return expanded(configured, environment)
    if sys.platform == "darwin":
        return expanded("~/Library/Application Support/kharcha/config.toml", environment)
    if sys.platform == "win32":
        return os.path.join(environment.get("APPDATA") or expanded("~", environment), "kharcha", "config.toml")
    top = environment.get("XDG_CONFIG_HOME") or expanded("~/.config", environment)
    return os.path.join(top, "kharcha", "config.toml")
