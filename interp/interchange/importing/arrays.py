"""numpy's arrays: a `.npz`, a folder of `.npy`, and what `interp export --to numpy` writes, which has every tensor of
all checkpoints in one array.

What a file claims to hold is read from its header and held against a bound before anything is allocated; arrays of
objects, which are pickles, are refused.
"""

import contextlib
import math
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from interp.errors import InputError
from interp.interchange.importing.claims import CLAIMS, claims_in, integer_of, step_inside
from interp.interchange.importing.source import Source, is_own_file, printable
from interp.interchange.importing.steps import step_in_name
from interp.interchange.plain_files import check_plain
from interp.machine import first_line, open_binary, read_lines
from interp.runs import LAST_STEP

MOST_ARRAYS = 2_000
PACKED_BYTES = 64_000_000  # that many bytes a packed archive may unpack to whatever its size,
MOST_PACKING = 20  # or so many times its size: weights hardly pack at all
MOST_BESIDE = 20_000_000  # bytes of what is read although it is no weight
STEPS = "steps"
# What lies beside weights under these names is no weight, whatever its numbers.
_NO_WEIGHTS = re.compile(
    r"(.*[_.])?(loss|losses|acc|accs|accuracy|accuracies|steps?|epochs?|labels?|train|test|train_(indices|idx|ids|pairs|data)"
    r"|test_(indices|idx|ids|pairs|data))"
)


class Header(NamedTuple):
    """What the beginning of an array says of it."""

    shape: tuple[int, ...]
    kind: np.dtype

    @property
    def n_bytes(self) -> int:
        """The bytes that its numbers take."""
        return math.prod(self.shape) * self.kind.itemsize


def is_npz(path: Path) -> bool:
    """Whether an archive holds numpy's arrays, and nothing of torch's."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception:
        return False  # damaged, or no archive: whoever reads it is told
    return bool(names) and all(name.endswith(".npy") for name in names)


def read_npz(path: Path) -> list[Source]:
    """The checkpoints in a `.npz`: one, or with an array `steps` [n] beside arrays [n, …], n.

    Raises InputError for a damaged archive, one that would unpack to far more than its size, and arrays of objects.
    """
    headers: dict[str, Header] = {}
    with _complaints(path), zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        names = [_name(entry.filename) for entry in entries]
        if len(entries) > MOST_ARRAYS or len(set(names)) != len(names):
            raise InputError(f"{path} has {len(names):,} arrays, or two of one name; no network here has")
        for name, entry in zip(names, entries, strict=True):
            if not entry.filename.endswith(".npy"):
                raise InputError(
                    f"{path} is an archive with {printable(entry.filename)!r} in it, and no .npz of arrays"
                )
            with archive.open(entry) as file:
                headers[name] = _header(f"{path}: {printable(name)!r}", file)
    claimed, packed = sum(header.n_bytes for header in headers.values()), path.stat().st_size
    if claimed > max(PACKED_BYTES, MOST_PACKING * packed):
        raise InputError(
            f"{path} has {packed:,} bytes and would unpack to {claimed:,}; it may be built to fill the memory"
        )
    return _sources(path, headers, _Unpacked(path, dict(zip(names, entries, strict=True))), step_in_name(path))


def has_no_network(path: Path) -> bool:
    """Whether fewer than two arrays of a `.npz` are matrices of numbers: curves and settings, kept as objects."""
    matrices = 0
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist()[:MOST_ARRAYS]:
                with archive.open(entry) as file, contextlib.suppress(InputError):
                    matrices += len(_header(str(path), file).shape) >= 2
    except Exception:
        return False  # damaged, which whoever reads it is told
    return matrices < 2


def read_array_folder(folder: Path, files: Sequence[Path]) -> list[Source]:
    """The checkpoints in the `.npy` files of a folder, one array each: one checkpoint, or with `steps.npy` [n] beside
    arrays [n, …], n. `metrics.jsonl` beside them, as we export it, says their losses."""
    if len(files) > MOST_ARRAYS:
        raise InputError(f"{folder} has {len(files):,} arrays; no network here has")
    paths = {_name(file.name): file for file in files}
    headers = {}
    for name, file in paths.items():
        check_plain(file)
        headers[name] = _checked_header(file)
    sources = _sources(folder, headers, partial(_mapped, paths), step_in_name(folder))
    metrics = folder / "metrics.jsonl"
    if len(sources) < 2 or not is_own_file(metrics):
        return sources
    try:
        check_plain(metrics, MOST_BESIDE, "any metrics beside arrays")
    except InputError as error:
        return [replace(sources[0], notes=(f"not read: {error}",)), *sources[1:]]
    said = {step: row for row in read_lines(metrics) if (step := integer_of(row.get("step"))) is not None}
    return [replace(source, claims=claims_in(said.get(source.step or 0, {}))) for source in sources]


def _name(stored: str) -> str:
    return stored.removesuffix(".npy").replace("/", ".")


class _complaints:
    """Whatever numpy, zipfile or zlib make of a damaged file is told in one line that names it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type | None, error: BaseException | None, _: Any) -> None:
        if isinstance(error, Exception) and not isinstance(error, InputError):
            raise InputError(f"{self.path} is damaged: {first_line(error)}") from None


def _header(where: str, file: Any) -> Header:
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise InputError(f"{where} is an array of a later kind (version {version}); save it with np.savez")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, kind = read(file)
    if kind.hasobject:
        raise InputError(
            f"{where} holds Python objects, which is a pickle; nothing of it was executed. Save one array per tensor: "
            "np.savez('weights.npz', **arrays)"
        )
    if kind.kind not in "fiubcUS" or (kind.kind == "f" and kind.itemsize > 8):
        raise InputError(f"{where} holds numbers of type {printable(kind)}; save them as float32")
    if any(size < 0 for size in shape) or len(shape) > 32 or math.prod(max(size, 1) for size in shape) >= 2**40:
        raise InputError(f"{where} is damaged: its shape {printable(list(shape))} makes no sense")
    return Header(tuple(shape), kind)


class _Unpacked:
    """The arrays of an archive, unpacked when one is first asked for, and kept: together they are within the bound."""

    def __init__(self, path: Path, entries: Mapping[str, zipfile.ZipInfo]) -> None:
        self.path, self.entries = path, entries
        self.kept: dict[str, np.ndarray] = {}

    def __call__(self, name: str) -> np.ndarray:
        if name not in self.kept:
            with (
                _complaints(self.path),
                zipfile.ZipFile(self.path) as archive,
                archive.open(self.entries[name]) as file,
            ):
                self.kept[name] = np.lib.format.read_array(file, allow_pickle=False)
                if file.read(1):  # which also holds what was read against its sum
                    raise InputError(f"{self.path} is damaged: {printable(name)!r} has more in it than its array")
        return self.kept[name]


def _mapped(paths: Mapping[str, Path], name: str) -> np.ndarray:
    with _complaints(paths[name]):
        return np.load(paths[name], mmap_mode="r", allow_pickle=False)


def load_array(path: Path, most: int, what: str) -> np.ndarray:
    """The array in a `.npy` of at most `most` bytes, mapped. Raises InputError, naming the file and `what` it should
    be, for anything else: for one that claims more than it holds before anything is allocated."""
    check_plain(path, most, what)
    _checked_header(path)
    return _mapped({"": path}, "")


def _checked_header(file: Path) -> Header:
    with _complaints(file), open_binary(file) as opened:
        header = _header(str(file), opened)
        if file.stat().st_size < header.n_bytes:
            raise InputError(f"{file} is damaged: it claims {header.n_bytes:,} bytes, and is shorter")
    return header


def _sources(
    path: Path, headers: Mapping[str, Header], array: Callable[[str], np.ndarray], step: int | None
) -> list[Source]:
    beside: dict[str, Any] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for name, header in headers.items():
        if header.shape and header.kind.kind not in "US" and not _NO_WEIGHTS.fullmatch(name.lower()):
            shapes[name] = header.shape
        elif header.n_bytes <= MOST_BESIDE:
            value = array(name)
            beside[name] = value.item() if value.ndim == 0 else value.tolist() if name in CLAIMS else np.array(value)
    # 1-d and of one number, as some save it, is a step too.
    told = {name: value.item() if getattr(value, "size", 0) == 1 else value for name, value in beside.items()}
    if (steps := _steps(path, beside.get(STEPS), shapes, headers)) is not None:
        rows = {name: shape[1:] for name, shape in shapes.items()}
        return [
            Source(path, f"[{place}]", rows, at, beside=beside, read=partial(_rows, rows, array, place))
            for place, at in enumerate(steps)
        ]
    at = step if step is not None else step_inside(told)
    return [Source(path, "", shapes, at, claims_in(told), beside, read=partial(_rows, shapes, array, None))]


def _steps(
    path: Path, steps: Any, shapes: Mapping[str, tuple[int, ...]], headers: Mapping[str, Header]
) -> list[int] | None:
    """The steps of a series: an array of them, where everything that could be a weight has as many rows. Raises
    InputError for one of other numbers than steps."""
    if not isinstance(steps, np.ndarray) or steps.ndim != 1 or not shapes:
        return None
    if not all(shape[0] == len(steps) for shape in shapes.values()):
        return None
    if sum(len(shape) >= 3 and headers[name].kind.kind == "f" for name, shape in shapes.items()) < 2:
        return None
    numbers = [integer_of(number) for number in steps.tolist()]
    if None in numbers:
        wrong = steps[numbers.index(None)]
        where = path / f"{STEPS}.npy" if path.is_dir() else path
        raise InputError(f"{where} holds {wrong} as a step, expected whole numbers up to {LAST_STEP:,}")
    return [number for number in numbers if number is not None]


def _rows(names: Mapping[str, Any], array: Callable[[str], np.ndarray], place: int | None) -> dict[str, Tensor]:
    """The arrays as tensors, or of a series one row of each."""
    found = {}
    for name in names:
        values = array(name) if place is None else array(name)[place]
        kind = values.dtype
        plain = kind.newbyteorder("=") if kind.kind in "fc" else np.dtype(bool if kind.kind == "b" else np.int64)
        found[name] = torch.from_numpy(np.array(values, dtype=plain, order="C"))
    return found
