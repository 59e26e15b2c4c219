"""Files that are never seen half-written: safetensors, JSON and lines, written whole or not at all, and read with
errors that name them."""

import contextlib
import fcntl
import glob
import json
import math
import os
import shutil
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from interp.errors import InputError

_ITEM_SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}


def write_atomically(path: Path, content: bytes | Callable[[Path], object]) -> None:
    """Write under a temporary name, fsync, rename, fsync the folder: a reader sees the old file or the new one, never a
    torn one.

    `content` is the bytes, or what writes them to the path it is given. Raises InputError when the disk is full or the
    folder cannot be written to; then no trace is left.
    """
    temporary = temporary_beside(path)
    try:
        if isinstance(content, bytes):
            temporary.write_bytes(content)
        else:
            content(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.rename(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        raise InputError(f"cannot write {path}: {reason(error)}") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def temporary_beside(path: Path) -> Path:
    """Where something is written before it is renamed to `path`: no reader looks at it, and a kill leaves nothing else
    behind."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def remove_leftovers(folder: Path, *, of: str | None = None, of_the_dead_only: bool = False) -> None:
    """Remove what killed processes left under temporary names (of the file or folder `of`); of_the_dead_only where
    others may be writing at this moment."""
    for leftover in folder.glob(f".{glob.escape(of)}.*.tmp" if of else ".*.tmp"):
        number = leftover.name.split(".")[-2]
        if of_the_dead_only and number.isdecimal() and _is_alive(int(number)):
            continue
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    if process == os.getpid():  # the file is older than we are: the number was our predecessor's
        return False
    try:
        os.kill(process, 0)  # sends nothing
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def move_into_place(fresh: Path, target: Path) -> None:
    """Rename a folder to `target`. A folder that is there is moved aside first, put back if this fails, and removed
    when it is done."""
    aside = temporary_beside(fresh)
    try:
        if target.exists() and any(target.iterdir()):  # an empty one can be renamed over
            os.rename(target, aside)
        os.rename(fresh, target)
    except BaseException:
        if aside.exists() and not target.exists():
            os.rename(aside, target)
        raise
    try:
        sync_folder(target.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def lock_folder(path: Path) -> int:
    """An exclusive lock (close it to give it back), which the system gives back when the process ends, however it
    ends."""
    try:
        lock = os.open(path / ".lock", os.O_WRONLY | os.O_CREAT, 0o644)
    except OSError as error:
        raise InputError(f"cannot write to {path}: {reason(error)}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if (
            os.fstat(lock).st_ino != os.stat(path / ".lock").st_ino
        ):  # the folder was replaced meanwhile: this is its predecessor's
            raise BlockingIOError
    except BlockingIOError:
        os.close(lock)
        raise InputError(f"{path} is being written by another process") from None
    except OSError as error:
        os.close(lock)
        raise InputError(f"cannot lock {path}: {reason(error)}") from None
    return lock


def sync_folder(folder: Path) -> None:
    """Make the folder's entries durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def reason(error: OSError) -> str:
    """What the system says went wrong; some errors of the standard library carry their own words instead."""
    return error.strerror or str(error)


def tensor_bytes(tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> bytes:
    """A safetensors file. All metadata is one key, `interp`, of sorted JSON: several keys would come out in random
    order."""
    separate: dict[str, Tensor] = {}
    memories = set()
    for name, tensor in tensors.items():
        contiguous = tensor.detach().contiguous()
        memory = contiguous.untyped_storage().data_ptr()
        # safetensors refuses tensors that share memory, as a user's tied weights do.
        separate[name] = contiguous.clone() if memory in memories else contiguous
        memories.add(memory)
    return safetensors.torch.save(separate, {"interp": json.dumps(header, sort_keys=True)})


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the `interp` metadata of a safetensors file. Raises InputError, naming the file, for anything
    else."""
    return _read_all(path, foreign=False)


def read_foreign_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The same of a file that somebody else wrote, with all its metadata; its tensors are mapped, not read."""
    return _read_all(path, foreign=True)


def foreign_shapes(path: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, Any]]:
    """The shapes of the tensors in a safetensors file that somebody else wrote, and its metadata; no tensor is read."""
    with open_binary(path) as file:
        head = _read_head(path, file, foreign=True)
    return {name: entry.shape for name, entry in head.tensors.items()}, head.metadata


def _read_all(path: Path, *, foreign: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with open_binary(path) as file:
        head = _read_head(path, file, foreign=foreign)
        content = b"" if foreign else os.pread(file.fileno(), head.file_size, 0)
    try:
        return safetensors.torch.load_file(path) if foreign else safetensors.torch.load(content), head.metadata
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{path} is damaged: {error}") from None


def read_stacked(paths: Sequence[Path], name: str, shape: Sequence[int]) -> tuple[Tensor, list[dict[str, Any]]]:
    """One float32 tensor out of one or more safetensors files, stacked, and each one's `interp` metadata. Small reads
    only.

    Raises InputError, naming the file, where the tensor is missing or has another shape or type.
    """
    stacked = np.empty(0, dtype=np.float32)
    metadata = []
    for row, path in enumerate(paths):
        with open_binary(path) as file:
            head = _read_head(path, file)
            if name not in head.tensors:
                raise InputError(f"{path} has no tensor {name!r}; it has {', '.join(head.tensors)}")
            entry = head.tensors[name]
            if (entry.type, entry.shape) != ("F32", tuple(shape)):
                raise InputError(
                    f"{path}: tensor {name!r} is {entry.type} {list(entry.shape)}, expected F32 {list(shape)}"
                )
            if row == 0:  # only now is it known that the file really has this many bytes
                stacked = np.empty((len(paths), *shape), dtype=np.float32)
            if os.preadv(file.fileno(), [memoryview(stacked[row]).cast("B")], entry.begin) != stacked[row].nbytes:
                raise InputError(f"{path} is damaged: it ends within tensor {name!r}")
        metadata.append(head.metadata)
    return torch.from_numpy(stacked), metadata


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises InputError, naming the file."""
    try:
        return json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged: {error}") from None


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines. A last line without its newline is still being written, and left out."""
    *lines, _unfinished = read_bytes(path).split(b"\n")
    rows = []
    for number, line in enumerate(lines, start=1):
        row = _json_object(line)
        if row is None:
            raise InputError(f"{path} is damaged at line {number}: not a JSON object")
        rows.append(row)
    return rows


def read_bytes(path: Path) -> bytes:
    """All of a file. Raises InputError, naming the file."""
    with open_binary(path) as file:
        return file.readall()


@contextlib.contextmanager
def open_binary(path: Path) -> Iterator[FileIO]:
    """The file, to read. Whatever the system refuses, then or while reading, is an InputError that names it."""
    try:
        with open(path, "rb", buffering=0) as file:
            yield file
    except OSError as error:
        raise InputError(f"cannot read {path}: {reason(error)}") from None


# ---- the head of a safetensors file: trusted in nothing, so that a damaged one can neither crash nor allocate --------


class _Entry(NamedTuple):
    type: str
    shape: tuple[int, ...]
    begin: int  # in the file
    end: int


class _Head(NamedTuple):
    tensors: dict[str, _Entry]
    metadata: dict[str, Any]
    file_size: int


def _read_head(path: Path, file: FileIO, *, foreign: bool = False) -> _Head:
    """The header, every number of which has been compared with the size of the file; a foreign one has its own
    metadata, or none."""
    size = os.fstat(file.fileno()).st_size
    start = os.pread(file.fileno(), 9, 0)
    # The first bytes are a length, and a length can look like a pickle: 128 is b"\x80". The brace after it decides.
    if start[8:] != b"{":
        if start[:4] == b"PK\x03\x04" or start[:1] == b"\x80":
            raise InputError(f"{path} is a pickle (torch.save), not safetensors; nothing is unpickled here")
        raise InputError(
            f"{path} is damaged: {'neither a file of torch.save nor' if foreign else 'not'} a safetensors file"
        )
    data = 8 + struct.unpack("<Q", start[:8])[0]
    if data > size:
        raise InputError(f"{path} is damaged: its header should take {data} bytes, and the file has {size}")
    header = _json_object(os.pread(file.fileno(), data - 8, 8))
    if header is None:
        raise InputError(f"{path} is damaged: its safetensors header is not readable")
    tensors = {name: _entry(path, name, value, data) for name, value in header.items() if name != "__metadata__"}
    end = data
    for entry in sorted(tensors.values(), key=lambda entry: (entry.begin, entry.end)):
        if entry.begin != end:
            raise InputError(f"{path} is damaged: its tensors do not follow one another without gap or overlap")
        end = entry.end
    if end != size:
        raise InputError(f"{path} is damaged: it should have {end} bytes, and has {size}")
    return _Head(tensors, (header.get("__metadata__") or {}) if foreign else _metadata(path, header), size)


def _entry(path: Path, name: str, value: Any, data: int) -> _Entry:
    kind, shape, begin, end = "", (), 0, 0
    try:
        kind, shape, (begin, end) = value["dtype"], tuple(value["shape"]), value["data_offsets"]
        sound = len(shape) <= 32 and all(type(number) is int and 0 <= number < 2**40 for number in (*shape, begin, end))
        # The second product keeps an empty tensor from having other sizes that no array can have.
        sound = (
            sound
            and math.prod(shape) * _ITEM_SIZES[kind] == end - begin
            and math.prod(max(n, 1) for n in shape) < 2**40
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        sound = False
    if not sound:
        raise InputError(
            f"{path} is damaged: the header's entry for tensor {name!r} makes no sense (type {str(kind)[:20]!r})"
        )
    return _Entry(kind, shape, data + begin, data + end)


def _metadata(path: Path, header: dict[str, Any]) -> dict[str, Any]:
    try:
        metadata = _json_object(header["__metadata__"]["interp"])
    except (KeyError, TypeError):
        metadata = None
    if metadata is None:
        raise InputError(f"{path} was not written by interp: it has no `interp` metadata")
    return metadata


def _json_object(content: bytes | str) -> dict[str, Any] | None:
    try:
        value = json.loads(content)
    except (TypeError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
