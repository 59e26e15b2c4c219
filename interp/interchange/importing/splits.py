"""Which pairs a stranger's network was trained on: drawn again as published code draws them, read from a file, or
unknown."""

import json
import os
import random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int

from interp.errors import InputError
from interp.interchange.importing.arrays import load_array, read_npz
from interp.interchange.importing.source import printable
from interp.interchange.importing.training_pairs import LARGEST_ARRAY, as_indices, check_count, pairs_in
from interp.interchange.plain_files import LARGEST_JSON, check_plain, check_tensors, read_plain
from interp.machine import read_foreign_tensors

_LISTS = "any list of pairs"
_AS_TEXT = "any list of pairs as text; as an array it could be longer: np.save('split.npy', pairs)"
WAYS = "torch-randperm:SEED, python-shuffle:SEED, file:PATH, infer or none"


def split_of(
    way: str | None,
    p: int,
    train_fraction: float | None,
    stored: Mapping[str, Any] | None = None,
    where: str = "",
) -> tuple[tuple[int, ...] | None, str]:
    """The row-major indices a·p + b of the training pairs, ascending, or None for unknown; and in words where they are
    from.

    `torch-randperm:SEED` and `python-shuffle:SEED` take the first ⌊fraction·p²⌋ of `torch.randperm(p²)` after
    `torch.manual_seed(SEED)`, and of the row-major list of pairs after `random.seed(SEED)` and `random.shuffle`.
    Without a way, `train_indices` stored with the weights are taken, or `train_data`, the triples (a, b, p) that Nanda
    et al.'s code stores with the first of them; `where` names the file in errors. Raises InputError for a way that does
    not exist, a fraction that is missing, and a list that cannot be.
    """
    source = (stored or {}).get("train_indices_from") or where
    named = f"{source}: " if source else ""
    if way is None:
        indices = (stored or {}).get("train_indices")
        if indices is None:
            pairs = _stored_pairs((stored or {}).get("train_data"), p)
            return (
                (None, "unknown")
                if pairs is None
                else (_checked(pairs, p, f"{named}train_data"), "train_data beside the weights")
            )
        try:
            check_count("train_indices", indices)
            file = (stored or {}).get("train_indices_from")
            return _checked(np.asarray(indices), p, "train_indices"), f"the file {file}" if file else (
                "train_indices beside the weights"
            )
        except (TypeError, ValueError, RuntimeError, InputError) as error:
            raise InputError(
                f"{named}train_indices beside the weights cannot be used ({error}); give --split, or --split none"
            ) from None
    if way in ("none", "infer"):  # inferred once the network is read
        return None, "unknown"
    if way.startswith("file:"):
        path = Path(way.removeprefix("file:"))
        return _checked(_read_list(path), p, str(path)), f"the file {path.name}"
    match = re.fullmatch(r"(torch-randperm|python-shuffle):(\d{1,19})", way)
    if not match:
        raise InputError(f"--split must be {WAYS}, got {way!r}")
    if train_fraction is None:
        raise InputError(f"--split {way} also needs the share of pairs trained on: --train-fraction")
    seed, n = int(match[2]), p * p
    if match[1] == "torch-randperm":
        if seed >= 2**64:
            raise InputError(f"--split {way}: the seed must be below 2^64")
        order = torch.randperm(n, generator=torch.Generator().manual_seed(seed)).tolist()
    else:
        order = list(range(n))
        random.Random(seed).shuffle(order)
    indices = order[: int(train_fraction * n)]
    if not indices:
        raise InputError(f"--train-fraction {train_fraction:g} of {n} pairs leaves none to train on")
    return tuple(sorted(indices)), f"{match[1]}, seed {seed}, {train_fraction:g} of all pairs"


def _stored_pairs(values: Any, p: int) -> np.ndarray | None:
    """The pairs of a list of triples (a, b, p), or None for anything else, as many things are called `train_data`."""
    triples = isinstance(values, list) and all(
        isinstance(entry, tuple) and len(entry) == 3 and entry[2] == p for entry in values
    )
    if not triples or not all(type(number) is int for entry in values for number in entry):
        return None
    return np.array([entry[:2] for entry in values]) if values else None


def check_list(path: Path) -> None:
    """Raises InputError unless a file can be a list of pairs: it is there, plain, and not too large. To be asked before
    the work begins."""
    if not os.path.exists(path):
        raise InputError(f"--split: there is no file {path}")
    is_array = path.suffix in (".safetensors", ".npy", ".npz")
    check_plain(path, LARGEST_ARRAY if is_array else LARGEST_JSON, _LISTS if is_array else _AS_TEXT)


def _read_list(path: Path) -> np.ndarray:
    """The numbers in a JSON, npy, npz or safetensors file."""
    check_list(path)
    if path.suffix == ".safetensors":
        check_tensors(path, LARGEST_ARRAY, _LISTS)
        tensors, _ = read_foreign_tensors(path)
        name = "train_indices" if "train_indices" in tensors else next(iter(tensors), "")
        if not name or (name != "train_indices" and len(tensors) != 1):
            names = ", ".join(repr(printable(one)) for one in list(tensors)[:8])
            raise InputError(f"{path} holds {names or 'nothing'}; expected one tensor, or one called 'train_indices'")
        if not tensors[name].is_floating_point():
            return tensors[name].numpy()
        raise InputError(f"{path}: {name!r} has type {tensors[name].dtype}, expected integers")
    try:
        if path.suffix == ".npz":
            return _of_npz(path)
        if path.suffix == ".npy":
            return load_array(path, LARGEST_ARRAY, _LISTS)
        content = json.loads(read_plain(path, LARGEST_JSON, _AS_TEXT))
        if isinstance(content, dict):
            if (found := pairs_in(content)) is None:
                names = ", ".join(repr(printable(name)) for name in list(content)[:8])
                raise InputError(f"{path} holds an object with {names}; expected a list, or one called 'train_indices'")
            return as_indices(str(path), found[1])
        return as_indices(str(path), content)
    except InputError:
        raise
    except (OSError, ValueError, TypeError, RecursionError, OverflowError, EOFError, SyntaxError, MemoryError) as error:
        raise InputError(
            f"{path} holds no list of indices or pairs: "
            f"{str(error).splitlines()[0][:200] if str(error) else 'it is damaged'}"
        ) from None


def _of_npz(path: Path) -> np.ndarray:
    found = next((pairs for source in read_npz(path) if (pairs := pairs_in(source.beside))), None)
    if found is None:
        raise InputError(f"{path} holds no array called 'train_indices'")
    return as_indices(str(path), found[1])


def _checked(values: np.ndarray, p: int, where: str) -> tuple[int, ...]:
    indices = _indices(values, p, where)
    unique = np.unique(indices)
    if len(unique) != len(indices):
        raise InputError(f"{where} names a pair twice")
    return tuple(unique.tolist())


def _indices(values: np.ndarray, p: int, where: str) -> Int[np.ndarray, " pairs"]:
    if values.dtype.kind not in "iu" or values.size == 0:
        raise InputError(f"{where} must hold integers, and at least one; it has {values.size} of type {values.dtype}")
    if values.ndim == 2 and values.shape[1] == 2:
        limit, what = p, f"residues below {p}"
    elif values.ndim == 1:
        limit, what = p * p, f"indices a·p + b below {p * p}"
    else:
        raise InputError(
            f"{where} has shape {list(values.shape)}, expected a flat list of indices a·p + b, or a list of "
            "pairs [a, b]"
        )
    if int(values.min()) < 0 or int(values.max()) >= limit:
        raise InputError(f"{where} holds {int(values.min())} to {int(values.max())}, expected {what}")
    values = values.astype(np.int64)
    return values[:, 0] * p + values[:, 1] if values.ndim == 2 else values
