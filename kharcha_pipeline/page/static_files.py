"""The files that a browser loads beside the page. They come with the package; nothing is fetched from elsewhere."""

from __future__ import annotations

import hashlib
from pathlib import Path

_DIRECTORY = Path(__file__).parent / "static"
_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


class StaticFiles:
    """All files in memory, under names that change with their content, so that browsers may keep them for ever."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._files: dict[str, tuple[bytes, str]] = {}
        for path in sorted(_DIRECTORY.iterdir()):
            if path.suffix in _MEDIA_TYPES:
                content = path.read_bytes()
                name = f"{path.stem}.{hashlib.sha256(content).hexdigest()[:12]}{path.suffix}"
                self._names[path.name] = name
                self._files[name] = (content, _MEDIA_TYPES[path.suffix])

    def address(self, name: str) -> str:
        """Where a file is, seen from the page."""
        return f"static/{self._names[name]}"

    def find(self, name: str) -> tuple[bytes, str] | None:
        """Content and media type of the file at an address, `None` when there is none."""
        return self._files.get(name)

    @property
    def digest(self) -> str:
        """Changes when any of the files does."""
        return hashlib.sha256("\n".join(self._files).encode()).hexdigest()
