"""Training pairs as people store them: a list under some name, in a file beside the weights or in its metadata; of
indices, of pairs, of pairs with their answers, or a mask."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from interp.errors import InputError
from interp.interchange.importing.source import check_tensor, printable

LARGEST_ARRAY = 300_000_000  # bytes: all 17 million pairs of the largest p, each as two numbers
MOST_NUMBERS = 2 * 4096**2
_DEEPEST = 3  # lists within lists

NAMES = (
    *("train_indices", "train_idx", "train_idxs", "train_inds", "train_ids", "train_pairs", "training_indices"),
    *("training_pairs", "indices_train", "idx_train", "train_mask", "train_data", "train_set", "train"),
)
FEWEST_ROWS = 8  # of three or more columns: in fewer, a column can be constant by chance
_SECTIONS = ("split", "splits", "data", "dataset", "indices", "metadata", "data_split")


def pairs_in(content: Mapping[Any, Any]) -> tuple[str, Any] | None:
    """The entry that holds the training pairs, by its name, and its value; also one section down.

    >>> pairs_in({"p": 7, "split": {"train": [3, 0], "test": [1, 2]}})
    ('train', [3, 0])
    """
    for section in (content, *(content.get(name) for name in _SECTIONS)):
        if isinstance(section, Mapping):
            for name in NAMES:
                if _could_be(section.get(name)):
                    return name, section[name]
    return None


def _could_be(value: Any) -> bool:
    """Whether an entry can be pairs at all: curves and data sets of tokens are called `train` too."""
    if isinstance(value, np.ndarray | Tensor):
        return value.ndim > 0 and len(value) > 0 and not str(value.dtype).removeprefix("torch.").startswith("float")
    if not isinstance(value, list | tuple) or not value:
        return False
    first = value[0]
    if isinstance(first, list | tuple):
        return bool(first) and all(type(entry) in (int, bool) for entry in first)
    return type(first) in (int, bool) or isinstance(first, Mapping)


def as_indices(where: str, values: Any) -> np.ndarray:
    """What was stored as integers [n] (indices a·p + b) or [n, 2] (pairs), for whoever knows p.

    Of rows of three, the one that is constant is a token, and the last one otherwise the answer; a mask [p, p] or
    [p²] has True where a pair was trained on. Raises InputError for anything else.

    >>> equals = 5
    >>> as_indices("x.json", [[a, b, equals] for a in range(4) for b in range(2)])[:3].tolist()
    [[0, 0], [0, 1], [1, 0]]
    """
    if isinstance(values, list) and values and all(isinstance(entry, Mapping) for entry in values):
        values = [[_named(where, entry, names) for names in (("a", "x"), ("b", "y"))] for entry in values]
    if isinstance(values, Tensor):
        check_tensor(where, "train_indices", values)  # one number can claim to be a million times itself
    check_count(where, values)
    try:
        found = values.detach().numpy() if isinstance(values, Tensor) else np.array(values)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise InputError(f"{where} holds rows of different lengths, expected pairs [a, b] or indices a·p + b") from None
    if found.dtype == bool and found.ndim in (1, 2):
        return np.flatnonzero(found)
    if found.ndim == 2 and found.shape[1] in (3, 4) and len(found) >= FEWEST_ROWS and found.dtype.kind in "iu":
        varying = [column for column in range(found.shape[1]) if (found[:, column] != found[0, column]).any()]
        if len(varying) >= 2:
            return found[:, varying[:2]]
    return found


def _named(where: str, entry: Mapping[Any, Any], names: tuple[str, ...]) -> Any:
    for name in names:
        if name in entry:
            return entry[name]
    raise InputError(f"{where} holds objects with {', '.join(map(printable, entry))}, expected pairs [a, b]")


def check_count(where: str, values: Any) -> None:
    """Raises InputError for more numbers than all pairs are, before an array is made of them. A pickle of a kilobyte
    can hold lists of lists that are all the same one, and tensors that claim a number a million times over.

    >>> row = [0] * 1000
    >>> check_count("x.pt", [[row] * 1000] * 1000)
    Traceback (most recent call last):
        ...
    interp.errors.InputError: x.pt claims 1,000,000,000 numbers as training pairs, more than all pairs are
    """
    if (count := _count(where, values, {}, 0)) > MOST_NUMBERS:
        raise InputError(f"{where} claims {count:,} numbers as training pairs, more than all pairs are")


def _count(where: str, values: Any, seen: dict[int, int], depth: int) -> int:
    if isinstance(values, Tensor | np.ndarray):
        return int(np.prod(values.shape, dtype=object))
    if not isinstance(values, list | tuple):
        return 1
    if depth > _DEEPEST:
        raise InputError(f"{where} holds lists within lists, expected pairs [a, b] or indices a·p + b")
    if id(values) not in seen:
        seen[id(values)] = sum(_count(where, value, seen, depth + 1) for value in values)
    return seen[id(values)]
