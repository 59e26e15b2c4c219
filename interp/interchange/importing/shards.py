"""A state dict that was saved in several files (`model-00001-of-00002.safetensors`), with an index of which tensor is
in which (`model.safetensors.index.json`), read as the one that it is."""

import re
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from interp.errors import InputError
from interp.interchange.importing.pickles import is_pickled, load_pickled
from interp.interchange.importing.source import Source, is_own_file, printable
from interp.interchange.plain_files import check_plain, check_tensors
from interp.machine import foreign_shapes, read_foreign_tensors, read_json

INDEX = ".index.json"
LARGEST_INDEX = 20_000_000  # bytes
MOST_SHARDS = 1_000
_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<ending>\.\w+)")


def shard_of(path: Path) -> tuple[str, int] | None:
    """What a shard is a part of, and of how many; None for a file that is whole.

    >>> shard_of(Path("model-00001-of-00002.safetensors"))
    ('model.safetensors', 2)
    """
    match = _SHARD.fullmatch(path.name)
    return (match["stem"] + match["ending"], int(match["count"])) if match else None


def read_shards(path: Path) -> Source:
    """The state dict of an index, or of the set that a shard belongs to; its step is not looked for.

    Raises InputError, naming what is missing.
    """
    if path.name.endswith(INDEX):
        files = _of_index(path)
        shapes: dict[str, tuple[int, ...]] = {}
        metadata: dict[str, Any] = {}
        for file, names in files.items():
            there, said = _shapes(file)
            metadata |= said
            if absent := next((name for name in names if name not in there), None):
                raise InputError(f"{path} says that {printable(absent)!r} is in {file.name}, and it is not")
            shapes |= {name: there[name] for name in names}
        return Source(path, "", shapes, beside=beside_of(metadata, shapes), read=partial(_joined, files))
    whole = shard_of(path)
    assert whole is not None
    name, count = whole
    stem, _, ending = name.rpartition(".")
    parts = [path.with_name(f"{stem}-{number:05d}-of-{count:05d}.{ending}") for number in range(1, count + 1)]
    if count > MOST_SHARDS:
        raise InputError(f"{path} says that it is one of {count:,} parts; no network here has so many")
    if absent := next((part for part in parts if not is_own_file(part)), None):
        raise InputError(f"{path} is one of {count} parts of {name}, and {absent.name} is not beside it")
    every = {part: _shapes(part)[0] for part in parts}
    shapes = {tensor: shape for there in every.values() for tensor, shape in there.items()}
    if len(shapes) != sum(map(len, every.values())):
        raise InputError(f"{path}: the parts of {name} have a tensor twice")
    return Source(path, f"{count} parts", shapes, read=partial(_joined, {part: list(every[part]) for part in parts}))


def beside_of(metadata: Mapping[str, Any], shapes: Mapping[str, Any]) -> dict[str, Any]:
    """What the metadata of a safetensors file say beside its weights, and its `aliases`: the names of tied weights,
    which are stored once."""
    aliases = {name: kept for name, kept in metadata.items() if kept in shapes and name not in shapes}
    rest = {name: value for name, value in metadata.items() if name not in aliases}
    return {**rest, "aliases": aliases} if aliases else rest


def _of_index(path: Path) -> dict[Path, list[str]]:
    """The files of an index, each with the tensors that are looked for in it."""
    check_plain(path, LARGEST_INDEX, "an index of any network here")
    content = read_json(path)
    places = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(places, dict) or not places or not all(isinstance(file, str) for file in places.values()):
        raise InputError(f"{path} is no index of weights: it has no weight_map of names to files")
    files: dict[Path, list[str]] = {}
    for name, file in places.items():
        if file != Path(file).name or file in ("", ".", ".."):
            raise InputError(f"{path} points out of its folder, to {printable(file)!r}")
        files.setdefault(path.with_name(file), []).append(name)
    if len(files) > MOST_SHARDS:
        raise InputError(f"{path} names {len(files):,} files; no network here has so many")
    if absent := next((file for file in files if not is_own_file(file)), None):
        raise InputError(f"{path} names {printable(absent.name)!r}, which is not beside it")
    return files


def _shapes(file: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, Any]]:
    check_tensors(file)
    if not is_pickled(file):
        return foreign_shapes(file)
    return {name: tuple(tensor.shape) for name, tensor in _pickled(file).items()}, {}


def _pickled(file: Path) -> dict[str, Tensor]:
    content = load_pickled(file)
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise InputError(f"{file} is no part of a state dict: it holds more than names and tensors")
    return {str(name): tensor for name, tensor in content.items()}


def _joined(files: Mapping[Path, Iterable[str]]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for file, names in files.items():
        tensors = _pickled(file) if is_pickled(file) else read_foreign_tensors(file)[0]
        found |= {name: tensors[name] for name in names}
    return found
