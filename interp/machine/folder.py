"""A folder held by a descriptor: what is read and written through it is in it, whatever becomes of its path, and
whatever links were put into it. Files are written whole or not at all."""

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from io import BufferedRandom
from pathlib import Path
from typing import Any

from interp.errors import InputError
from interp.machine.plain_files import LARGEST_TEXT, PlainFile, json_of, kind_of, open_plain, reason, refusals_as

LOCK = ".lock"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Folder:
    """An open folder. Names below it are such as "run.json" or "steps/step_000000010.safetensors"; on the way to them
    no symbolic link is followed, and only plain files are opened. `path` is what errors call it.

    Raises InputError, a `complaint` with the reason, where there is no folder at the path; that itself may be a link.
    """

    def __init__(self, path: Path, complaint: str = "") -> None:
        self.path, self._lock = Path(path), -1
        with refusals_as(complaint or f"cannot read {path}"):
            self._descriptor = os.open(path, _FOLDER)

    def twin(self) -> "Folder":
        """The same folder, held a second time, and its lock with it: until both are closed."""
        twin = object.__new__(Folder)
        twin.path, twin._descriptor, twin._lock = self.path, os.dup(self._descriptor), -1
        if self._lock >= 0:
            twin._lock = os.dup(self._lock)
        return twin

    def close(self) -> None:
        """Let it go, and the lock with it. Closing twice does nothing more."""
        held, self._descriptor, lock, self._lock = self._descriptor, -1, self._lock, -1
        for descriptor in (held, lock):
            if descriptor >= 0:
                os.close(descriptor)

    def __enter__(self) -> "Folder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- reading -----------------------------------------------------------------------------------------------------

    def open(self, name: str, most: int | None = None) -> PlainFile:
        """A file below it, to read, of at most `most` bytes. Raises InputError, naming it."""
        with self._parent(name) as (parent, last):
            return open_plain(last, most, folder=parent, shown=self.path / name)

    def read(self, name: str, most: int | None = None) -> bytes:
        """All of a file below it. Raises InputError, naming it."""
        with self.open(name, most) as file:
            return file.read_all()

    def read_json(self, name: str, most: int = LARGEST_TEXT) -> Any:
        """The content of a JSON file below it. Raises InputError, naming it."""
        return json_of(self.path / name, self.read(name, most))

    def stat(self, name: str) -> os.stat_result | None:
        """What the system knows of something below it, of a link itself; None where there is nothing."""
        with refusals_as(f"cannot read {self.path / name}"):
            try:
                with self._parent(name) as (parent, last):
                    return os.stat(last, dir_fd=parent, follow_symlinks=False)
            except FileNotFoundError:
                return None

    def names(self, name: str = ".") -> list[str]:
        """What is in a folder below it; nothing where that is not there."""
        with refusals_as(f"cannot read {self.path / name}"):
            try:
                with self._parent(f"{name}/.") as (parent, _):
                    return os.listdir(parent)
            except FileNotFoundError:
                return []

    # ---- writing -----------------------------------------------------------------------------------------------------

    def write(self, name: str, content: bytes | Callable[[BufferedRandom], object]) -> None:
        """Write under a random name, fsync, rename, fsync the folder: a reader sees the old file or the new one, never
        a torn one.

        `content` is the bytes, or what writes them to the open file it is given. Raises InputError when the disk is
        full or the folder cannot be written to; then no trace is left.
        """
        with refusals_as(f"cannot write {self.path / name}"), self._parent(name) as (parent, last):
            temporary, descriptor = _temporary(parent, last)
            try:
                with open(descriptor, "w+b", closefd=False) as file:
                    if isinstance(content, bytes):
                        file.write(content)
                    else:
                        content(file)
                os.fsync(descriptor)
                os.rename(temporary, last, src_dir_fd=parent, dst_dir_fd=parent)
                os.fsync(parent)
            finally:
                with contextlib.suppress(OSError):
                    os.unlink(temporary, dir_fd=parent)
                os.close(descriptor)

    def append_to(self, name: str) -> int:
        """The descriptor of a file whose end is written to, made if it is not there."""
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with refusals_as(f"cannot write {self.path / name}"), self._parent(name) as (parent, last):
            try:
                descriptor = os.open(last, flags, 0o666, dir_fd=parent)
            except OSError as error:
                if error.errno == errno.ELOOP:
                    raise InputError(
                        f"{self.path / name} is a symbolic link, and none below a run is followed"
                    ) from None
                raise
            if not stat.S_ISREG(mode := os.fstat(descriptor).st_mode):
                os.close(descriptor)
                raise InputError(f"{self.path / name} is {kind_of(mode)}, expected a plain file")
            return descriptor

    def make(self, name: str) -> None:
        """A folder below it, if it is not there yet."""
        with refusals_as(f"cannot write {self.path / name}"), self._parent(name) as (parent, last):
            try:
                os.mkdir(last, dir_fd=parent)
            except FileExistsError:
                mode = os.stat(last, dir_fd=parent, follow_symlinks=False).st_mode
                if stat.S_ISLNK(mode):
                    raise InputError(_of_a_link(self.path / name)) from None
                if not stat.S_ISDIR(mode):
                    raise

    def remove(self, name: str) -> None:
        """Remove a file below it; nothing is to be done where it is gone. A link is removed, not what it points to."""
        with (
            refusals_as(f"cannot remove {self.path / name}"),
            contextlib.suppress(FileNotFoundError),
            self._parent(name) as (parent, last),
        ):
            os.unlink(last, dir_fd=parent)

    def remove_leftovers(self, name: str = ".", *, of: str | None = None) -> None:
        """Remove what processes that are dead left under temporary names in a folder below it (`of` one file or
        folder). Whoever lives holds the lock of what it writes."""
        prefix = "." if of is None else _prefix(of)
        for found in self.names(name):
            if found.startswith(prefix) and found.endswith(".tmp"):
                with contextlib.suppress(OSError, InputError), self._parent(f"{name}/{found}") as (parent, last):
                    _remove_if_dead(parent, last)

    # ---- one writer --------------------------------------------------------------------------------------------------

    def lock(self) -> None:
        """Hold an exclusive lock, which the system gives back when the process ends, however it ends. Raises InputError
        where another process has it, and where the folder is not the one at its path any more."""
        with refusals_as(f"cannot write to {self.path}"):
            lock = _lock_file(self._descriptor)
        try:
            _take(lock, self._descriptor)
            if not self.is_at_its_path():
                raise BlockingIOError  # replaced meanwhile: this lock is its predecessor's
        except BlockingIOError:
            os.close(lock)
            raise InputError(f"{self.path} is being written by another process") from None
        except OSError as error:
            os.close(lock)
            raise InputError(f"cannot lock {self.path}: {reason(error)}") from None
        self._lock = lock

    def is_locked(self) -> bool:
        """Whether a process, this one too, holds the lock."""
        try:
            lock = os.open(LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=self._descriptor)
        except OSError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
        except BlockingIOError:
            return True
        except OSError:  # a file system without locks
            return False
        finally:
            os.close(lock)

    def is_at_its_path(self) -> bool:
        """Whether its path still leads to it, and to no other folder."""
        return self.is_at(self.path)

    def is_at(self, path: Path, *, follow: bool = True) -> bool:
        """Whether a path leads to it; without `follow`, through no link."""
        try:
            return os.path.samestat(os.stat(path, follow_symlinks=follow), os.fstat(self._descriptor))
        except OSError:
            return False

    def sync(self) -> None:
        """Make its entries durable."""
        os.fsync(self._descriptor)

    @contextlib.contextmanager
    def _parent(self, name: str) -> Iterator[tuple[int, str]]:
        """The descriptor of the folder that a name stands in, and its last part."""
        *parts, last = name.split("/")
        parent = self._descriptor
        try:
            for depth, part in enumerate(parts, start=1):
                if part in ("", "."):
                    continue
                try:
                    inner = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=parent)
                except NotADirectoryError as error:
                    mode = os.stat(part, dir_fd=parent, follow_symlinks=False).st_mode
                    if stat.S_ISLNK(mode):
                        at = self.path.joinpath(*parts[:depth])
                        raise InputError(_of_a_link(at)) from None
                    raise error from None
                if parent != self._descriptor:
                    os.close(parent)
                parent = inner
            yield parent, last
        finally:
            if parent != self._descriptor:
                os.close(parent)


def _of_a_link(path: Path) -> str:
    return f"{path} is a symbolic link, and none below a run is followed; put the folder itself there"


def write_atomically(path: Path, content: bytes | Callable[[BufferedRandom], object]) -> None:
    """Write a file at a path that somebody gave, whole or not at all (`Folder.write`). What dead processes left of it
    is removed."""
    with Folder(path.parent, f"cannot write {path}") as folder:
        folder.remove_leftovers(of=path.name)
        folder.write(path.name, content)


# ---- temporary names: random, so that nobody knows them before, and locked while their writer lives ------------------


def _prefix(name: str) -> str:
    return f".{os.fsdecode(os.fsencode(name)[:200])}."


def temporary_name(name: str) -> str:
    """Under which something is written before it is renamed: no reader looks at it."""
    return f"{_prefix(name)}{secrets.token_hex(8)}.tmp"


def _temporary(parent: int, name: str) -> tuple[str, int]:
    """A new file, locked."""
    while True:
        temporary = temporary_name(name)
        descriptor = os.open(temporary, _NEW, 0o666, dir_fd=parent)
        if _is_ours(descriptor, parent, temporary):
            return temporary, descriptor
        os.close(descriptor)


def _is_ours(lock: int, parent: int, name: str) -> bool:
    """Lock a new file. Whether it is still there then: somebody who removes leftovers may have been quicker."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.stat(name, dir_fd=parent, follow_symlinks=False), os.fstat(lock))
    except (BlockingIOError, FileNotFoundError):
        return False
    except OSError:  # a file system without locks: there nobody can lock it to remove it either
        return True


def _lock_file(folder: int) -> int:
    """The open lock of a folder, which is made if it is not there."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        lock = os.open(LOCK, flags, 0o644, dir_fd=folder)
    except IsADirectoryError:
        raise OSError(f"{LOCK} in it is a folder, expected a plain file; remove it") from None
    if not stat.S_ISREG(mode := os.fstat(lock).st_mode):
        os.close(lock)
        raise OSError(f"{LOCK} in it is {kind_of(mode)}, expected a plain file")
    return lock


def _take(lock: int, folder: int) -> None:
    """Lock it. Raises BlockingIOError where another process has it, or has put another in its place."""
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        there = os.stat(LOCK, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        raise BlockingIOError from None
    if not os.path.samestat(os.fstat(lock), there):
        raise BlockingIOError


def _remove_if_dead(parent: int, name: str) -> None:
    mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
    if not stat.S_ISDIR(mode):
        lock = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=parent)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(name, dir_fd=parent)
        finally:
            os.close(lock)
        return
    folder = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=parent)
    try:
        lock = _lock_file(folder)
        try:
            _take(lock, folder)
            if os.path.samestat(os.fstat(folder), os.stat(name, dir_fd=parent, follow_symlinks=False)):
                shutil.rmtree(name, ignore_errors=True, dir_fd=parent)
        finally:
            os.close(lock)
    finally:
        os.close(folder)
