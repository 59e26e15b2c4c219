"""Keeping results: what cannot be kept is no reason to throw away what was computed."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import xarray as xr

from interp.analysis.results import load_result, save_result
from interp.errors import InputError, Notice


class Shelf:
    """Where results are taken from and put; this one is empty and stays so, for whoever wants all computed anew."""

    def load(self, path: Path, identity: str) -> xr.Dataset | None:
        """The result that was kept before, if there is one."""
        return None

    def save(self, name: str, path: Path, result: xr.Dataset, after_piece: Callable[[], None] = lambda: None) -> None:
        """Keep the result of an analysis, if that is possible."""


class Keeper(Shelf):
    """The disk. It remembers which results could not be saved, and why."""

    def __init__(self) -> None:
        self._lost: dict[str, list[str]] = {}  # the names of analyses by the reason

    def load(self, path: Path, identity: str) -> xr.Dataset | None:
        """The result that was kept before, if this user wrote it and it is of the same."""
        return load_result(path, identity)

    def save(self, name: str, path: Path, result: xr.Dataset, after_piece: Callable[[], None] = lambda: None) -> None:
        """Save the result of an analysis, if that is possible."""
        try:
            save_result(path, result, after_piece)
        except InputError as error:
            # A line for every reason, and not for every file.
            self._lost.setdefault(str(error).replace(str(path), str(path.parent)), []).append(name)

    def tell(self) -> None:
        """Warn of what was lost: one line for each reason."""
        for reason, names in self._lost.items():
            warnings.warn(f"{reason}; not kept: {', '.join(names)}", Notice, stacklevel=5)  # at whoever asked


@contextmanager
def keeper() -> Iterator[Keeper]:
    """A Keeper, which tells what was lost when the context is left, also by an error.

    >>> from tempfile import TemporaryDirectory
    >>> result = xr.Dataset({"norm": ("step", [3.0, 5.0])}, attrs={"identity": "mine"})
    >>> with TemporaryDirectory() as folder, keeper() as kept:
    ...     kept.save("norms", Path(folder, "norms.nc"), result)
    """
    kept = Keeper()
    try:
        yield kept
    finally:
        kept.tell()
