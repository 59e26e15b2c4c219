"""What lies in a folder: its files, three folders deep, in the order of the numbers in their names, and what of it was
passed over. A link is followed only where it stays inside the folder that was named."""

import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from interp.errors import InputError
from interp.interchange.importing.kinds import check_folder_kind
from interp.interchange.importing.shards import INDEX
from interp.interchange.importing.source import printable
from interp.interchange.plain_files import what_else
from interp.machine import open_binary, refusals_as

ENDINGS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".tar", ".npz")
DEEPEST = 3
MOST_FILES = 20_000


def is_tar(path: Path) -> bool:
    """Whether a file called `.tar` is one, and not a checkpoint that PyTorch's tutorial calls so.

    >>> is_tar(Path("model.pt"))
    False
    """
    if path.suffix != ".tar":
        return False
    with open_binary(path) as file:
        start = file.read(4)
    return start[:2] != b"PK" and start[:1] != b"\x80" and start != b""


@dataclass
class Place:
    """One folder: the files in it that could be networks, and its `.npy` files, which are one network together."""

    folder: Path
    parts: tuple[str, ...]  # below the folder that was named
    files: list[Path] = field(default_factory=list)
    arrays: list[Path] = field(default_factory=list)
    odd: list[Path] = field(default_factory=list)  # what is called `.npy` and is no plain file of this folder
    others: set[str] = field(default_factory=set)  # endings of what is not read

    def add(self, path: Path) -> None:
        """Put a file where it belongs."""
        if (path.suffix in ENDINGS and not is_tar(path)) or path.name.endswith(INDEX):
            self.files.append(path)
        elif path.suffix == ".npy":
            self.arrays.append(path)
        else:
            self.others.add(path.suffix.lower())


class Passed:
    """What was passed over, and why: said once for all files whose names differ by numbers alone."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.refusals: list[InputError] = []  # of files that are known to hold no network
        self.why: dict[tuple[str, str], list[str]] = defaultdict(list)

    def over(self, path: Path, why: str) -> None:
        """A file or folder that was passed over."""
        shown = self.shown(path)
        self.why[re.sub(r"\d+", "*", shown), why].append(shown)

    def shown(self, path: Path) -> str:
        """A path as seen from the folder that was named."""
        for base in (self.root, self.root.resolve()):
            if path.is_relative_to(base):
                return printable(path.relative_to(base), 120)
        return printable(path.name, 120)

    def said(self) -> list[str]:
        """One line for each kind."""
        return [
            f"{names[0]!r} was passed over: {why}"
            if len(names) == 1
            else f"{pattern!r} ({len(names)} of them) were passed over: {why}"
            for (pattern, why), names in self.why.items()
        ]


def natural(name: str) -> list[tuple[int, int | str]]:
    """A key that sorts 9 before 10 in names."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", name)]


def places_in(root: Path, passed: Passed, only: Collection[Path] | None = None) -> Iterator[Place]:
    """The folders, three deep, each with its files in the order of the numbers in their names."""
    bounds, seen, count = _bounds(root), {root.resolve()}, 0
    waiting: list[tuple[Path, tuple[str, ...]]] = [(root, ())]
    while waiting:
        folder, parts = waiting.pop(0)
        with refusals_as(f"cannot read {folder}"), os.scandir(folder) as listed:
            entries = [Path(entry.path) for entry in islice(listed, MOST_FILES + 1)]
        count += len(entries)
        if count > MOST_FILES:
            raise InputError(f"{root} has more than {MOST_FILES:,} files; name the folder of the checkpoints in it")
        try:
            check_folder_kind(folder, [path.name for path in entries])
        except InputError as error:
            passed.refusals.append(error)  # told where nothing else is found
            passed.over(folder, "it is a checkpoint of another program")
            continue
        place = Place(folder, parts)
        for path in sorted(entries, key=lambda path: natural(path.name)):
            hidden = path.name.startswith(".") or path.name == "__pycache__"
            if only is not None and not path.is_dir() and path not in only:
                continue
            if hidden:
                continue
            if path.is_symlink() and not _follows(bounds, path, passed):
                place.odd += [path] if path.suffix == ".npy" else []
                continue
            if path.suffix == ".npy" and what_else(path) is not None:
                place.odd.append(path)
            if path.is_dir() and path.resolve() not in seen:
                seen.add(path.resolve())
                if len(parts) < DEEPEST:
                    waiting.append((path, (*parts, path.name)))
            elif (kind := what_else(path)) is None:
                place.add(path)
            elif kind != "a folder" and path.suffix in (*ENDINGS, ".npy"):
                passed.over(path, f"it is {kind}, and no plain file")
        yield place


def _follows(bounds: Path, link: Path, passed: Passed) -> bool:
    """Whether a link is looked at: one to a blob of the Hub's cache is. What it leads to inside the folder is found
    where it lies, and what lies outside was not named."""
    target = Path(os.path.realpath(link))
    of_weights = link.suffix in ENDINGS or link.name.endswith(INDEX) or target.is_dir()
    if target.is_relative_to(passed.root.resolve()):
        if of_weights:
            passed.over(link, f"it is a link to {passed.shown(target)!r}")
        return False
    if not target.is_relative_to(bounds):
        if of_weights:
            passed.over(link, "it is a link that leads out of the folder")
        return False
    return True


def _bounds(root: Path) -> Path:
    """The folder that no link may leave. In the Hub's cache a snapshot is links to the blobs beside it."""
    real = root.resolve()
    for parent in (real, *real.parents):
        if parent.parent.name == "snapshots" and parent.parent.parent.name.startswith("models--"):
            return parent.parent.parent
    return real
