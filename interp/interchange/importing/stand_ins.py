"""What stands in for objects that people keep beside their weights: settings (argparse's Namespace, a `…Config`),
paths, and numpy's numbers and arrays. Their classes are neither imported nor made: torch's restricted reader is handed
ours in their place, which keep the plain values alone."""

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from interp.errors import InputError

DEEPEST = 6
_SETTINGS = re.compile(
    r"[\w.]+\.\w*(Config|Configuration|Args|Arguments|Params|Parameters|HParams|Hyperparameters|Settings|Options|Namespace)"
    r"|builtins\.(list|dict|int|float)"
)
_DICTIONARIES = re.compile(r"[\w.]+\.(AttributeDict|AttrDict|EasyDict)|collections\.defaultdict")
_OF_NUMPY = re.compile(r"numpy\._?core\.multiarray\.(scalar|_reconstruct)")


class Settings(dict):
    """The fields of an object, by name; how it was to be made is not asked."""

    def __init__(self, *_: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        for part in state if isinstance(state, tuple) else (state,):
            if isinstance(part, Mapping):
                # Anything but a string could be containers within containers, whose text never ends.
                self.update((key, value) for key, value in part.items() if isinstance(key, str))


class Fields:
    """A kind of dictionary, as a dictionary."""

    def __new__(cls, *_: Any) -> dict[Any, Any]:  # pyright: ignore[reportInconsistentConstructor]
        return {}


def path(*parts: Any) -> str:
    """A path, as text."""
    return "/".join(part for part in parts if isinstance(part, str))


class Kind:
    """numpy's type of numbers."""

    def __init__(self, name: Any, *_: Any) -> None:
        self.name, self.order = name if isinstance(name, str) else "", "="

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">"):
            self.order = state[1]

    def of_numbers(self) -> np.dtype:
        """The type. Raises InputError for one of anything else than numbers."""
        if not re.fullmatch(r"[fiu][248]|[iub]1", self.name):
            raise InputError(f"numpy's values of type {self.name[:20]!r} are not read")
        return np.dtype(self.name if self.order == "=" else self.order + self.name)


def scalar(kind: Kind, content: Any = b"") -> int | float | bool:
    """A number of numpy's."""
    of = kind.of_numbers()
    if not isinstance(content, bytes) or len(content) != of.itemsize:
        raise InputError("a number of numpy's is damaged")
    return np.frombuffer(content, of)[0].item()


class Array:
    """An array of numpy's: `values` once its numbers are known; one of objects has none."""

    def __init__(self, *_: Any) -> None:
        self.values: torch.Tensor | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, by_columns, content = state
        of = kind.of_numbers()
        if not isinstance(content, bytes) or math.prod(shape) * of.itemsize != len(content):
            raise InputError("an array of numpy's is damaged")
        values = np.frombuffer(content, of).reshape(shape, order="F" if by_columns else "C")
        plain = of.newbyteorder("=") if of.kind == "f" else np.dtype(bool if of.kind == "b" else np.int64)
        self.values = torch.from_numpy(np.array(values, dtype=plain, order="C"))


def stand_in_for(name: str) -> Any:
    """What is handed out under a name, or None for one that is refused.

    >>> stand_in_for("argparse.Namespace").__name__, stand_in_for("os.system")
    ('Settings', None)
    """
    if _SETTINGS.fullmatch(name):
        return Settings
    if _DICTIONARIES.fullmatch(name):
        return Fields
    if re.fullmatch(r"pathlib\.(_local\.)?(Pure)?(Posix|Windows)?Path", name):
        return path
    if (of_numpy := _OF_NUMPY.fullmatch(name)) is not None:
        return scalar if of_numpy[1] == "scalar" else Array
    return {"numpy.dtype": Kind, "numpy.ndarray": Array}.get(name)


def plain(content: Any, depth: int = 0, seen: set[int] | None = None) -> Any:
    """The content with arrays of numpy's as tensors, as far as dictionaries and lists reach."""
    seen = set() if seen is None else seen
    if isinstance(content, Array):
        return content.values
    if depth < DEEPEST and id(content) not in seen and isinstance(content, dict | list):
        seen.add(id(content))
        for key, value in list(content.items() if isinstance(content, dict) else enumerate(content)):
            if isinstance(value, Array | dict | list):
                content[key] = plain(value, depth + 1, seen)
    return content
