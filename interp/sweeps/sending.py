"""A run that is trained on another machine and comes back in pieces, where no disk is shared."""

import re
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from io import BufferedRandom
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from interp.errors import InputError
from interp.machine import built_beside, one_thread
from interp.models import Weights
from interp.runs import open_run
from interp.sweeps.grid_run import divergence, found_at, is_settled, settle, train
from interp.sweeps.planned_run import UNFINISHED, GridRun

BYTES_OF_A_PIECE = 16 << 20
# What a run that has come to its end consists of (checkpoints/README.md).
_NAMES = re.compile(r"run\.json|split\.safetensors|metrics\.jsonl|thinned\.json|steps/step_[-0-9]{9}\.safetensors")

Piece = tuple[str, bytes]  # a file's name in the run, and the next part of it


class SendsBack(Protocol):
    """What an executor without a shared disk has: the pieces that `fn` yields elsewhere are given to `receive` here."""

    def submit_pieces(
        self, receive: Callable[[Iterator[Piece]], Any], fn: Callable[..., Iterator[Piece]], /, *args: Any
    ) -> Future[Any]: ...


def trained_elsewhere(run: GridRun, initial: Weights | None, keep: str, is_start: bool, device: str) -> Iterator[Piece]:
    """Train a run in a temporary folder, from given weights or those of its seed, and give its files."""
    with TemporaryDirectory(prefix="interp-") as folder, one_thread():
        path, place = Path(folder, UNFINISHED, run.name), Path(folder, run.name)
        train(path, run, initial, None, device)
        settle(path, place, keep, is_start)
        yield from pieces_of(place)


def pieces_of(path: Path, size: int = BYTES_OF_A_PIECE) -> Iterator[Piece]:
    """The files of a run, in pieces of at most `size` bytes."""
    with open_run(path).folder() as folder:
        for name in [*folder.names(), *(f"steps/{name}" for name in folder.names("steps"))]:
            if _NAMES.fullmatch(name):
                with folder.open(name) as file:
                    yield name, file.read(size)  # also of an empty file
                    while piece := file.read(size):
                        yield name, piece


def _write(pieces: Iterator[Piece], file: BufferedRandom) -> None:
    file.writelines(content for _, content in pieces)


def put_in_place(folder: Path, run: GridRun, began: str, pieces: Iterator[Piece]) -> str | None:
    """Make `folder`/NAME of what comes, at once and as a whole; returns None, or why the run diverged.

    Raises InputError where something is there already, and where what came is not this run to its end.
    """
    place = folder / run.name
    with built_beside(place) as fresh:
        for name in ("steps", "state"):
            fresh.make(name)
        for name, parts in groupby(pieces, key=itemgetter(0)):
            if not _NAMES.fullmatch(name):
                raise InputError(f"what came back of {run.name} has a file {name!r:.100}, which is no part of a run")
            fresh.write(name, partial(_write, parts))
        there = found_at(fresh.path, run, lambda: began)
        if there is None or not is_settled(there):
            raise InputError(f"what came back of {run.name} is not a run that has come to its end")
    shutil.rmtree(folder / UNFINISHED / run.name, ignore_errors=True)  # of an earlier call, which trained it here
    return divergence(open_run(place))
