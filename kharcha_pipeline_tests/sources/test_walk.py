"""Walking directories: every file once, by the first way, whatever links, permissions and names there are."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType

import pytest

from kharcha_pipeline.sources import sweep, walk
from kharcha_pipeline.sources.sweep import Found, sweep_all

JSONL = (".jsonl",)


def without_descriptors(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module as it is where directories cannot be opened, as on Windows."""
    monkeypatch.setattr(os, "supports_fd", set())
    spec = importlib.util.spec_from_file_location("walk_without_descriptors", walk.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Logs with links of all kinds to one another."""
    top = tmp_path / "top"
    for name in ("a/one.jsonl", "a/b/two.jsonl", "a/b/notes.txt", "c/three.jsonl"):
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (top / "a/ring").symlink_to(top)
    (top / "c/same.jsonl").symlink_to(top / "a/one.jsonl")
    os.link(top / "a/b/two.jsonl", top / "c/linked.jsonl")
    (top / "c/self.jsonl").symlink_to("self.jsonl")
    (top / "c/nowhere.jsonl").symlink_to("nowhere")
    os.mkfifo(top / "c/pipe.jsonl")
    return top


def places(tree: Path) -> list[tuple[str, tuple[str, ...]]]:
    return [
        (str(tree / "a/one.jsonl"), ()),
        (str(tree / "missing"), JSONL),
        (f"{tree}/", JSONL),
        (str(tree / "c"), JSONL),
    ]


def listed(tree: Path) -> bytes:
    return b"".join(walk.listing(walk.walk_all(places(tree))))


def test_every_file_is_found_once_by_the_first_way(tree: Path) -> None:
    found = [(number, file) for number, file in sweep_all(places(tree)) if isinstance(file, Found)]
    assert found[0] == (0, Found(str(tree / "a/one.jsonl"), *identity(tree / "a/one.jsonl")))
    assert {number for number, _ in found[1:]} == {2}
    paths = [file.path for _, file in found]
    assert len(paths) == len({(file.device, file.inode) for _, file in found}) == 3
    assert {Path(path).read_text() for path in paths} == {"a/one.jsonl", "a/b/two.jsonl", "c/three.jsonl"}
    assert all("//" not in path for path in paths)


def identity(path: Path) -> tuple[int, int, int, int]:
    status = path.stat()
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def test_a_link_to_itself_is_unreadable_and_one_to_nowhere_is_nothing(tree: Path) -> None:
    unreadable = [file for _, file in sweep_all(places(tree)) if not isinstance(file, Found)]
    assert [(os.path.basename(file.path), file.reason) for file in unreadable] == [
        ("self.jsonl", "too many levels of symbolic links")
    ]


def test_a_listing_is_the_same_made_of_a_walk_and_of_what_a_sweep_found(tree: Path) -> None:
    (tree / "c/self.jsonl").unlink()
    assert listed(tree) == listed(tree) == sweep.listing(sweep_all(places(tree)))
    assert listed(tree).count(b"\0") == 3 + 3 * 3


@pytest.mark.parametrize("change", ["touched", "grown", "replaced", "removed", "added", "renamed"])
def test_a_listing_tells_every_change(tree: Path, change: str) -> None:
    (tree / "c/self.jsonl").unlink()
    before = listed(tree)
    path = tree / "c/three.jsonl"
    if change == "touched":
        os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))
    elif change == "grown":
        status = path.stat()
        path.write_text(path.read_text() + "more")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    elif change == "replaced":
        copy = path.with_suffix(".new")
        copy.write_text(path.read_text())
        os.utime(copy, ns=(1, path.stat().st_mtime_ns))
        copy.replace(path)
    elif change == "removed":
        path.unlink()
    elif change == "added":
        path.with_name("new.jsonl").touch()
    else:
        path.rename(path.with_name("renamed.jsonl"))
    assert listed(tree) != before


def test_a_listing_with_anything_unreadable_equals_no_other(tree: Path) -> None:
    assert listed(tree) != listed(tree)
    (tree / "c/self.jsonl").unlink()
    with open(os.fsencode(tree) + b"/c/\xff.jsonl", "w"):
        pass
    assert listed(tree) != listed(tree)
    assert sweep.listing(sweep_all(places(tree))) != sweep.listing(sweep_all(places(tree)))


def test_without_directory_descriptors_the_same_is_found(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def seen(module: ModuleType) -> list[tuple[int, str, list[tuple[str, int]], list[tuple[str, str]]]]:
        return [
            (number, found.prefix, [(name, status.st_ino) for name, status in found.files], found.unreadable)
            for number, found in module.walk_all(places(tree))
        ]

    assert seen(without_descriptors(monkeypatch)) == seen(walk)


def test_no_descriptor_is_left_open(tree: Path) -> None:
    before = os.listdir("/dev/fd")
    for _ in sweep_all(places(tree)):
        break
    list(sweep_all([(str(tree), JSONL), (str(tree / "a/one.jsonl/below"), JSONL)]))
    assert os.listdir("/dev/fd") == before
