"""What stands in for objects that people keep beside their weights: settings (argparse's Namespace, a `…Config`),
paths, and numpy's numbers and arrays. Their classes are neither imported nor made: torch's restricted reader is handed
ours in their place, which keep the plain values alone."""

import math
import re
from collections import OrderedDict
from typing import Any

import numpy as np
import torch

from interp.errors import InputError

DEEPEST = 6
LONGEST_PATH = 4096
MOST_AXES, LONGEST_AXIS = 32, 2**40
_SETTINGS = re.compile(
    r"[\w.]+\.\w*(Config|Configuration|Args|Arguments|Params|Parameters|HParams|Hyperparameters|Settings|Options|Namespace)"
    r"|builtins\.(list|dict|int|float)"
)
_DICTIONARIES = re.compile(r"[\w.]+\.(AttributeDict|AttrDict|EasyDict)|collections\.defaultdict")
_OF_NUMPY = re.compile(r"numpy\._?core\.multiarray\.(scalar|_reconstruct)")
_PASSED_OVER = re.compile(
    r"datetime\.(datetime|date|time|timedelta|timezone)|builtins\.(complex|slice|range)|decimal\.Decimal"
    r"|fractions\.Fraction|zoneinfo\.ZoneInfo\._unpickle|uuid\.(UUID|SafeUUID)"
)


class Settings(dict):
    """The fields of an object, by name; how it was to be made is not asked."""

    def __init__(self, *_: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        for part in state if isinstance(state, tuple) else (state,):
            if isinstance(part, dict):
                # Anything but a string could be containers within containers, whose text never ends.
                self.update((key, value) for key, value in dict.items(part) if isinstance(key, str))


class Fields:
    """A kind of dictionary, as a dictionary; ordered, because of those alone torch's reader sets attributes, which are
    forgotten again."""

    def __new__(cls, *_: Any) -> OrderedDict[Any, Any]:  # pyright: ignore[reportInconsistentConstructor]
        return OrderedDict()


class PassedOver:
    """A value that is neither a number, text nor a container of these, and of no use to an import: `None` in its
    place."""

    def __init__(self, *_: Any) -> None:
        pass

    def __new__(cls, *_: Any) -> "PassedOver":
        return super().__new__(cls)

    def __setstate__(self, _: Any) -> None:
        pass


def path(*parts: Any) -> str:
    """A path, as text."""
    words = [part for part in parts if isinstance(part, str)]
    if sum(map(len, words)) + len(words) > LONGEST_PATH:
        raise InputError(f"a path is longer than {LONGEST_PATH:,} characters")
    return "/".join(words)


def no_bytes(*content: Any) -> bytes:
    """What stands for `b""`; other bytes are written as text."""
    if content:
        raise InputError("bytes are written in a way that torch.save has not")
    return b""


def byte_array(content: Any = b"", *_: Any) -> bytes:
    """Bytes that can be changed, as bytes."""
    return content if isinstance(content, bytes) else b""


def members(content: Any = ()) -> list[Any]:
    """A set that cannot be changed, as a list."""
    return list(content) if isinstance(content, list | tuple) else []


class Kind:
    """numpy's type of numbers."""

    name, order = "", "="  # of one that a program makes without saying so

    def __init__(self, name: Any, *_: Any) -> None:
        self.name = name if isinstance(name, str) else ""

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) > 1 and isinstance(state[1], str) and state[1] in ("<", ">"):
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

    values: torch.Tensor | None = None

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, by_columns, content = state if isinstance(state, tuple) and len(state) == 5 else (None,) * 5
        if not isinstance(kind, Kind) or not isinstance(shape, tuple) or len(shape) > MOST_AXES:
            raise InputError("an array of numpy's is damaged")
        if not all(type(n) is int and 0 <= n < LONGEST_AXIS for n in shape):
            raise InputError("an array of numpy's is damaged")
        of = kind.of_numbers()
        if not isinstance(content, bytes) or math.prod(shape) * of.itemsize != len(content):
            raise InputError("an array of numpy's is damaged")
        read = np.frombuffer(content, of) if content else np.empty(0, of)
        values = read.reshape(shape, order="F" if by_columns else "C")
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
    if _PASSED_OVER.fullmatch(name):
        return PassedOver
    return _OTHERS.get(name)


_OTHERS = {
    "numpy.dtype": Kind,
    "numpy.ndarray": Array,
    "builtins.bytes": no_bytes,
    "builtins.bytearray": byte_array,
    "builtins.frozenset": members,
}


def plain(content: Any, depth: int = 0, seen: set[int] | None = None) -> Any:
    """The content with arrays of numpy's as tensors, as far as dictionaries and lists reach."""
    seen = set() if seen is None else seen
    if isinstance(content, Array):
        return content.values
    if isinstance(content, PassedOver):
        return None
    if depth < DEEPEST and id(content) not in seen and isinstance(content, dict | list):
        seen.add(id(content))
        for key, value in list(content.items() if isinstance(content, dict) else enumerate(content)):
            if isinstance(value, Array | PassedOver | dict | list):
                content[key] = plain(value, depth + 1, seen)
    return content
