"""safetensors files, written with sorted metadata, and read with errors that name them. The library trusts nothing that
a header says; what it refuses is told in one line."""

import contextlib
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, deserialize, safe_open

from interp.errors import InputError
from interp.machine.plain_files import PlainFile, first_line, json_object, open_binary, open_plain

if TYPE_CHECKING:
    from torch import Tensor

MOST_OF_A_POINTER = 1024  # bytes, as Git LFS has it
_LARGEST_HEADER = 100_000_000  # bytes, as the library has it
_TYPES = {"F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL"}
_OF_NUMPY = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2"}
_OF_NUMPY |= {"I8": "i1", "U8": "u1", "BOOL": "?"}
_UNREADABLE = (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, AttributeError, MemoryError)


def tensor_bytes(tensors: "Mapping[str, Tensor]", header: Mapping[str, Any]) -> bytes:
    """A safetensors file. All metadata is one key, `interp`, of sorted JSON: several keys would come out in random
    order."""
    import safetensors.torch

    separate: dict[str, Tensor] = {}
    memories = set()
    for name, tensor in tensors.items():
        contiguous = tensor.detach().contiguous()
        memory = contiguous.untyped_storage().data_ptr()
        # safetensors refuses tensors that share memory, as a user's tied weights do.
        separate[name] = contiguous.clone() if memory in memories else contiguous
        memories.add(memory)
    return safetensors.torch.save(separate, {"interp": json.dumps(header, sort_keys=True)})


def read_tensors(source: Path | PlainFile) -> "tuple[dict[str, Tensor], dict[str, Any]]":
    """The tensors and the `interp` metadata of a safetensors file, of any size, given by its path or open. Raises
    InputError, naming the file, for anything else."""
    import safetensors.torch

    return _read(source, safetensors.torch.load)


def read_arrays(source: Path | PlainFile) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The same as arrays of numpy, without torch, which takes most of a second to load; a type that numpy does not have
    is one of bare bytes."""
    return _read(source, _arrays)


def _arrays(content: bytes) -> dict[str, np.ndarray]:
    arrays = {}
    for name, entry in deserialize(content):
        data, shape = entry["data"], entry["shape"]
        bare = f"V{len(data) // math.prod(shape) if data else 1}"
        arrays[name] = np.frombuffer(data, _OF_NUMPY.get(entry["dtype"], bare)).reshape(shape)
    return arrays


def _read(source: Path | PlainFile, load: Callable[[bytes], dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    if not isinstance(source, PlainFile):
        with open_plain(source) as file:
            return _read(file, load)
    path = source.path
    if os.pread(source.fileno(), 9, 0)[8:] != b"{":
        raise _refusal(source, SafetensorError())
    content = source.read_all()
    try:
        tensors = load(content)
    except _UNREADABLE as error:
        raise _refusal(source, error) from None
    header = json_object(content[8 : 8 + int.from_bytes(content[:8], "little")]) or {}
    metadata = _metadata(path, header.pop("__metadata__", None))
    for name, entry in header.items():
        _check_entry(path, name, entry["dtype"], entry["shape"])
    return tensors, metadata


def read_foreign_tensors(path: Path) -> "tuple[dict[str, Tensor], dict[str, Any]]":
    """The same of a file that somebody else wrote, with all its metadata; its tensors are mapped, not read."""
    with _mapped(path) as file:
        return {name: file.get_tensor(name) for name in _shapes(path, file)}, file.metadata() or {}


def foreign_shapes(path: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, Any]]:
    """The shapes of the tensors in a safetensors file that somebody else wrote, and its metadata; no tensor is read."""
    with _mapped(path) as file:
        return _shapes(path, file), file.metadata() or {}


@contextlib.contextmanager
def _mapped(path: Path) -> Iterator[Any]:
    """A safetensors file, mapped while it is open. Raises InputError, naming the file, for anything else."""
    open_plain(path).close()  # the library would wait for a pipe
    try:
        with safe_open(path, "pt") as file:
            yield file
    except InputError:
        raise
    except (*_UNREADABLE, OSError) as error:
        with open_binary(path) as opened:
            raise _refusal(opened, error, foreign=True) from None


def _refusal(file: PlainFile, error: Exception, *, foreign: bool = False) -> InputError:
    """Why a file is not read, as its first bytes or its size say it, or as the library does."""
    path, size = file.path, file.size
    start, pointer = os.pread(file.fileno(), 9, 0), os.pread(file.fileno(), MOST_OF_A_POINTER, 0)
    data = 8 + int.from_bytes(start[:8], "little")
    is_whole = start[8:] == b"{" and data <= min(size, 8 + _LARGEST_HEADER)
    header = os.pread(file.fileno(), data - 8, 8) if is_whole else b""
    # The first bytes are a length, and a length can look like a pickle: 128 is b"\x80". The brace after it decides.
    if pointer.startswith(b"version https://git-lfs.github.com/spec/"):
        elsewhere = re.search(rb"^size (\d{1,15})$", pointer, re.MULTILINE)
        bytes_of_it = f"{int(elsewhere[1]):,} bytes are elsewhere" if elsewhere else "the weights are elsewhere"
        return InputError(f"{path} is a Git LFS pointer ({bytes_of_it}): fetch them with git lfs pull")
    if start[8:] != b"{":
        if start[:4] == b"PK\x03\x04" or start[:1] == b"\x80":
            return InputError(f"{path} is a pickle (torch.save), not safetensors; nothing is unpickled here")
        seen = "neither a file of torch.save nor" if foreign else "not"
        return InputError(f"{path} is damaged: {seen} a safetensors file")
    if data > size:
        return InputError(f"{path} is damaged: its header should take {data} bytes, and the file has {size}")
    entries = json_object(header) or {}
    with contextlib.suppress(KeyError, TypeError, ValueError, IndexError):
        end = data + max(entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__")
        if end != size:
            return InputError(f"{path} is damaged: it should have {end} bytes, and has {size}")
    return InputError(f"{path} is damaged: {first_line(error)}")


def _shapes(path: Path, file: Any) -> dict[str, tuple[int, ...]]:
    shapes, names = {}, file.keys()
    for name in names:
        entry = file.get_slice(name)
        shapes[name] = tuple(entry.get_shape())
        _check_entry(path, name, entry.get_dtype(), shapes[name])
    return shapes


def _check_entry(path: Path, name: str, kind: str, shape: Sequence[int]) -> None:
    """The library also lets pass numbers that nobody computes with, and an empty tensor of sizes that no array can
    have."""
    if kind not in _TYPES or len(shape) > 32 or math.prod(max(n, 1) for n in shape) >= 2**40:
        raise InputError(
            f"{path} is damaged: the header's entry for tensor {name!r} makes no sense (type {kind[:20]!r})"
        )


def _metadata(path: Path, metadata: dict[str, str] | None) -> dict[str, Any]:
    found = json_object((metadata or {}).get("interp", ""))
    if found is None:
        raise InputError(f"{path} was not written by interp: it has no `interp` metadata")
    return found
