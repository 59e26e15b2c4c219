"""Which pairs a stranger's network was trained on: drawn again as published code draws them, read from a file, or
unknown."""

import json
import random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int

from interp.errors import InputError
from interp.interchange.importing.source import printable
from interp.interchange.importing.training_pairs import as_indices, pairs_in
from interp.machine import read_bytes, read_foreign_tensors, refusals_as

WAYS = "torch-randperm:SEED, python-shuffle:SEED, file:PATH, infer or none"
LARGEST_LIST = 400_000_000  # bytes; all pairs for the largest p are 17 million


def split_of(
    way: str | None, p: int, train_fraction: float | None, stored: Mapping[str, Any] | None = None
) -> tuple[tuple[int, ...] | None, str]:
    """The row-major indices a·p + b of the training pairs, ascending, or None for unknown; and in words where they are
    from.

    `torch-randperm:SEED` and `python-shuffle:SEED` take the first ⌊fraction·p²⌋ of `torch.randperm(p²)` after
    `torch.manual_seed(SEED)`, and of the row-major list of pairs after `random.seed(SEED)` and `random.shuffle`.
    Without a way, `train_indices` stored with the weights are taken, or `train_data`, the triples (a, b, p) that Nanda
    et al.'s code stores with the first of them. Raises InputError for a way that does not exist, a fraction that is
    missing, and a list that cannot be.
    """
    if way is None:
        indices = (stored or {}).get("train_indices")
        if indices is None:
            pairs = _stored_pairs((stored or {}).get("train_data"), p)
            return (
                (None, "unknown")
                if pairs is None
                else (_checked(pairs, p, "train_data"), "train_data beside the weights")
            )
        try:
            file = (stored or {}).get("train_indices_from")
            return _checked(np.asarray(indices), p, "train_indices"), f"the file {file}" if file else (
                "train_indices beside the weights"
            )
        except (TypeError, ValueError, RuntimeError, InputError) as error:
            raise InputError(
                f"train_indices beside the weights cannot be used ({error}); give --split, or --split none"
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


def _read_list(path: Path) -> np.ndarray:
    """The numbers in a JSON, npy, npz or safetensors file."""
    with refusals_as(f"cannot read {path}"):
        size = path.stat().st_size if path.is_file() else None
    if size is None:
        raise InputError(f"--split: there is no file {path}")
    if size > LARGEST_LIST:
        raise InputError(f"{path} has {size:,} bytes, more than any list of pairs")
    if path.suffix == ".safetensors":
        tensors, _ = read_foreign_tensors(path)
        name = "train_indices" if "train_indices" in tensors else next(iter(tensors), "")
        if not name or (name != "train_indices" and len(tensors) != 1):
            raise InputError(
                f"{path} holds {', '.join(map(repr, tensors)) or 'nothing'}; expected one tensor, or one called "
                "'train_indices'"
            )
        if not tensors[name].is_floating_point():
            return tensors[name].numpy()
        raise InputError(f"{path}: {name!r} has type {tensors[name].dtype}, expected integers")
    try:
        if path.suffix == ".npz":
            return _of_npz(path)
        if path.suffix == ".npy":
            # Mapped: a shape that the file does not hold is an error.
            return np.array(np.load(path, allow_pickle=False, mmap_mode="r"))
        content = json.loads(read_bytes(path))
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
    from interp.interchange.importing.arrays import read_npz

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
