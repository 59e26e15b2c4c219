"""Files that are never seen half-written: safetensors, JSON and lines, written whole or not at all, and read with errors that name them."""

import contextlib
import json
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from interp.errors import InputError

_NUMPY_TYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32}


def write_atomically(path: Path, content: bytes) -> None:
    """Write under a temporary name, fsync, rename, fsync the folder: a reader sees the old file or the new one, never a torn one.

    Raises InputError when the disk is full or the folder cannot be written to; then no trace is left.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make the folder's entries durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def tensor_bytes(tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> bytes:
    """A safetensors file. All metadata is one key, `interp`, of sorted JSON: several keys would come out in random order."""
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    return safetensors.torch.save(contiguous, {"interp": json.dumps(header, sort_keys=True)})


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the `interp` metadata of a safetensors file. Raises InputError, naming the file, for anything else."""
    content = _read(path)
    header = _header(path, content[: 8 + _header_length(path, content)])
    try:
        tensors = safetensors.torch.load(content)
    except (SafetensorError, KeyError, ValueError) as error:
        raise InputError(f"{path} is damaged: {error}") from None
    return tensors, _metadata(path, header)


def read_stacked(paths: Sequence[Path], name: str) -> Tensor:
    """One tensor out of many files of one layout, stacked. The header is parsed once; then each file costs two small reads."""
    first = _read_head(paths[0])
    header = _header(paths[0], first)
    if name not in header:
        raise InputError(f"{paths[0]} has no tensor {name!r}; it has {', '.join(key for key in header if key != '__metadata__')}")
    entry = header[name]
    if entry["dtype"] not in _NUMPY_TYPES:
        raise InputError(f"{paths[0]}: tensor {name!r} has type {entry['dtype']}, which is not read here")
    stacked = np.empty((len(paths), *entry["shape"]), dtype=_NUMPY_TYPES[entry["dtype"]])
    begin, end = entry["data_offsets"]
    layout = {key: value for key, value in header.items() if key != "__metadata__"}
    for row, path in zip(stacked, paths, strict=True):
        with open_binary(path) as file:
            head = os.pread(file.fileno(), len(first), 0)
            if head != first and {k: v for k, v in _header(path, head).items() if k != "__metadata__"} != layout:
                raise InputError(f"{path} has other tensors than {paths[0]}: they are not of one run")
            if os.preadv(file.fileno(), [memoryview(row).cast("B")], len(first) + begin) != end - begin:
                raise InputError(f"{path} is damaged: tensor {name!r} ends before its {end - begin} bytes")
    return torch.from_numpy(stacked)


def open_binary(path: Path) -> Any:
    try:
        return open(path, "rb")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises InputError, naming the file."""
    try:
        return json.loads(_read(path))
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}") from None


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines. A last line without its newline is still being written, and left out."""
    *lines, _unfinished = _read(path).split(b"\n")
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise InputError(f"{path} is damaged at line {number}: not a JSON object")
        rows.append(row)
    return rows


def _read(path: Path) -> bytes:
    with open_binary(path) as file:
        try:
            return file.read()
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from None


def _read_head(path: Path) -> bytes:
    with open_binary(path) as file:
        length = _header_length(path, file.read(8))
        return os.pread(file.fileno(), 8 + length, 0)


def _header_length(path: Path, content: bytes) -> int:
    if content[:4] == b"PK\x03\x04" or content[:1] == b"\x80":
        raise InputError(f"{path} is a pickle (torch.save), not safetensors; nothing is unpickled here")
    length = struct.unpack("<Q", content[:8])[0] if len(content) >= 8 else 0
    if not 2 <= length <= 100_000_000:
        raise InputError(f"{path} is damaged: not a safetensors file")
    return length


def _header(path: Path, head: bytes) -> dict[str, Any]:
    try:
        header = json.loads(head[8:])
    except ValueError:
        header = None
    if not isinstance(header, dict):
        raise InputError(f"{path} is damaged: its safetensors header is not readable")
    return header


def _metadata(path: Path, header: dict[str, Any]) -> dict[str, Any]:
    try:
        return json.loads(header["__metadata__"]["interp"])
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{path} was not written by interp: it has no `interp` metadata") from None
