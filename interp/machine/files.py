"""Files that are never seen half-written: safetensors, JSON and lines, written whole or not at all, and read with
errors that name them."""

import contextlib
import fcntl
import glob
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from interp.errors import InputError

_TYPES = {"F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL"}
MOST_OF_A_POINTER = 1024  # bytes, as Git LFS has it
_UNREADABLE = (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, AttributeError)


def write_atomically(path: Path, content: bytes | Callable[[Path], object]) -> None:
    """Write under a temporary name, fsync, rename, fsync the folder: a reader sees the old file or the new one, never a
    torn one.

    `content` is the bytes, or what writes them to the path it is given. Raises InputError when the disk is full or the
    folder cannot be written to; then no trace is left.
    """
    temporary = temporary_beside(path)
    try:
        with refusals_as(f"cannot write {path}"):
            if isinstance(content, bytes):
                temporary.write_bytes(content)
            else:
                content(temporary)
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.rename(temporary, path)
            sync_folder(path.parent)
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


@contextlib.contextmanager
def built_beside(path: Path) -> Iterator[Path]:
    """An empty folder that is moved to `path` when it is left: whole, or, where anything goes wrong, not at all.

    What was at `path` is replaced then, and untouched until then. InputErrors from inside name `path`, and not where it
    is built.
    """
    target = Path(os.path.realpath(path))  # a symbolic link stays one
    fresh = temporary_beside(target)
    try:
        with refusals_as(f"cannot write {path}"):
            remove_leftovers(target.parent, of=target.name, of_the_dead_only=True)
            fresh.mkdir(parents=True)
            yield fresh
            move_into_place(fresh, target)
    except InputError as error:
        raise InputError(str(error).replace(str(fresh), str(path))) from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def lock_folder(path: Path) -> int:
    """An exclusive lock (close it to give it back), which the system gives back when the process ends, however it
    ends."""
    with refusals_as(f"cannot write to {path}"):
        lock = os.open(path / ".lock", os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(lock).st_ino != os.stat(path / ".lock").st_ino:
            # The folder was replaced meanwhile: this lock is its predecessor's.
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


@contextlib.contextmanager
def refusals_as(complaint: str) -> Iterator[None]:
    """Whatever the system refuses inside is an InputError: the complaint, such as "cannot write FILE", and the
    reason."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{complaint}: {reason(error)}") from None


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
    with open_binary(path) as file:
        if os.pread(file.fileno(), 9, 0)[8:] != b"{":
            raise _refusal(path, SafetensorError())
        content = os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0)
    try:
        tensors = safetensors.torch.load(content)
    except _UNREADABLE as error:
        raise _refusal(path, error) from None
    header = _json_object(content[8 : 8 + int.from_bytes(content[:8], "little")]) or {}
    metadata = _metadata(path, header.pop("__metadata__", None))
    for name, entry in header.items():
        _check_entry(path, name, entry["dtype"], entry["shape"])
    return tensors, metadata


def read_foreign_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The same of a file that somebody else wrote, with all its metadata; its tensors are mapped, not read."""
    with _opened(path, "pt") as file:
        return {name: file.get_tensor(name) for name in _shapes(path, file)}, file.metadata() or {}


def foreign_shapes(path: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, Any]]:
    """The shapes of the tensors in a safetensors file that somebody else wrote, and its metadata; no tensor is read."""
    with _opened(path, "pt") as file:
        return _shapes(path, file), file.metadata() or {}


def read_stacked(paths: Sequence[Path], name: str, shape: Sequence[int]) -> tuple[Tensor, list[dict[str, Any]]]:
    """One float32 tensor out of one or more safetensors files, stacked, and each one's `interp` metadata. Small reads
    only.

    Raises InputError, naming the file, where the tensor is missing or has another shape or type.
    """
    stacked = np.empty(0, dtype=np.float32)
    metadata = []
    for row, path in enumerate(paths):
        with _opened(path, "numpy") as file:
            if name not in (names := file.keys()):
                raise InputError(f"{path} has no tensor {name!r}; it has {', '.join(names)}")
            entry = file.get_slice(name)
            kind, size = entry.get_dtype(), entry.get_shape()
            if (kind, size) != ("F32", list(shape)):
                raise InputError(f"{path}: tensor {name!r} is {kind} {size}, expected F32 {list(shape)}")
            if row == 0:  # only now is it known that the file really has this many bytes
                stacked = np.empty((len(paths), *shape), dtype=np.float32)
            stacked[row] = file.get_tensor(name)
            metadata.append(_metadata(path, file.metadata()))
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
    with refusals_as(f"cannot read {path}"), open(path, "rb", buffering=0) as file:
        yield file


# ---- safetensors: the library trusts nothing that a header says; what it refuses is told in one line -----------------


@contextlib.contextmanager
def _opened(path: Path, framework: str) -> Iterator[Any]:
    """A safetensors file, mapped while it is open. Raises InputError, naming the file, for anything else."""
    try:
        with safe_open(path, framework) as file:
            yield file
    except InputError:
        raise
    except (*_UNREADABLE, OSError) as error:
        raise _refusal(path, error, foreign=framework == "pt") from None


def _refusal(path: Path, error: Exception, *, foreign: bool = False) -> InputError:
    """Why a file is not read, as the system says it, or as its first bytes or its size do, or as the library does."""
    with open_binary(path) as file:
        start, size = os.pread(file.fileno(), 9, 0), os.fstat(file.fileno()).st_size
        pointer = os.pread(file.fileno(), MOST_OF_A_POINTER, 0)
        data = 8 + int.from_bytes(start[:8], "little")
        header = os.pread(file.fileno(), data - 8, 8) if start[8:] == b"{" and data <= size else b""
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
    entries = _json_object(header) or {}
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
    found = _json_object((metadata or {}).get("interp", ""))
    if found is None:
        raise InputError(f"{path} was not written by interp: it has no `interp` metadata")
    return found


def first_line(error: Exception) -> str:
    """The beginning of what an exception says, printable whatever the file had in it."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    return "".join(character if character.isprintable() else "?" for character in text)


def _json_object(content: bytes | str) -> dict[str, Any] | None:
    try:
        value = json.loads(content)
    except (TypeError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
