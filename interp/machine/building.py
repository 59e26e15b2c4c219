"""Folders that appear whole or not at all."""

import contextlib
import ctypes
import errno
import glob
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from interp.errors import InputError
from interp.machine.folder import LOCK, Folder, temporary_name
from interp.machine.plain_files import refusals_as

_ASIDE = ".old"


@contextlib.contextmanager
def built_beside(path: Path, replaced: Folder | None = None, *, stays_locked: bool = False) -> Iterator[Folder]:
    """An empty folder, locked, that is moved to `path` when it is left: whole, or, where anything goes wrong, not at
    all.

    Nothing is replaced but the folder `replaced`, whose lock is held by the caller, and an empty one: where something
    else has come to `path` meanwhile, InputError. InputErrors from inside name `path`, and not where it is built.
    """
    target = Path(os.path.realpath(path))  # a symbolic link stays one
    fresh, beside = None, target
    try:
        with refusals_as(f"cannot write {path}"):
            with contextlib.suppress(FileExistsError):  # a file, which the next line will say
                target.parent.mkdir(parents=True, exist_ok=True)
            with Folder(target.parent, f"cannot write {path}") as around:
                around.remove_leftovers(of=target.name)
            _put_back(target)
            fresh = _fresh_folder(target, stays_locked=stays_locked)
            beside = fresh.path
            yield fresh
            _move(fresh, target, path, replaced)
            try:
                with Folder(target.parent) as around:
                    around.sync()
            except OSError:  # nobody knows whether it would be there after the next start
                _swap(target, beside, nothing_there=replaced is None)
                raise
            fresh.path = path
            if not stays_locked:
                fresh.remove(LOCK)
    except InputError as error:
        told = str(error) if fresh is None else str(error).replace(str(beside), str(path))
        raise type(error)(told) from None
    finally:
        if fresh is not None:
            # What lies under the temporary name is what failed, or what was replaced.
            shutil.rmtree(beside, ignore_errors=True)
            fresh.close()


def _fresh_folder(target: Path, *, stays_locked: bool) -> Folder:
    """A new folder beside a path, with its lock held."""
    while True:
        beside = target.with_name(temporary_name(target.name))
        os.mkdir(beside)
        fresh = Folder(beside)
        try:
            fresh.lock()
            return fresh
        except InputError:
            if fresh.is_locked() or not fresh.is_at_its_path():  # who removes leftovers came in between
                fresh.close()
                continue
            if not stays_locked:  # a file system without locks, where leftovers are never removed
                return fresh
            fresh.close()
            shutil.rmtree(beside, ignore_errors=True)
            raise


def _move(fresh: Folder, target: Path, path: Path, replaced: Folder | None) -> None:
    """Rename the folder to `target`, where `replaced` is, or nothing; that comes to stand where the folder was."""
    taken = f"{path} was made by another process meanwhile; choose another --out, or give --overwrite to replace it"
    if replaced is None:
        try:
            os.rename(fresh.path, target)  # over nothing, or over an empty folder
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise InputError(taken) from None
            raise
        return
    if not replaced.is_at(target, follow=False):
        raise InputError(f"{path} is no longer what was to be replaced: another process has moved or replaced it")
    _swap(fresh.path, target)
    if not replaced.is_at(fresh.path, follow=False):  # between the look and the exchange
        _swap(fresh.path, target)
        raise InputError(taken)


def _swap(one: Path, other: Path, *, nothing_there: bool = False) -> None:
    """Let two folders change places, in one moment where the system can; or move the first where there is nothing."""
    if nothing_there:
        os.rename(one, other)
        return
    if _exchange(one, other):
        return
    aside = one.with_suffix(_ASIDE)
    os.rename(other, aside)
    try:
        os.rename(one, other)
    except OSError:
        if not os.path.lexists(other):
            os.rename(aside, other)
        raise
    os.rename(aside, one)


def _put_back(target: Path) -> None:
    """Where a process was killed between the two renames of a file system that cannot exchange: undo the first."""
    if os.path.lexists(target):
        return
    for aside in sorted(target.parent.glob(f".{glob.escape(target.name)}.*{_ASIDE}")):
        with contextlib.suppress(OSError, InputError), Folder(aside) as folder:
            if not folder.is_locked():
                os.rename(aside, target)
                return


def _exchange(one: Path, other: Path) -> bool:
    """Let two paths change places in one moment; False where this system, or this file system, cannot."""
    library = ctypes.CDLL(None, use_errno=True)
    a, b = os.fsencode(one), os.fsencode(other)
    if sys.platform == "darwin" and hasattr(library, "renamex_np"):
        failed = library.renamex_np(a, b, ctypes.c_uint(2))  # RENAME_SWAP
    elif hasattr(library, "renameat2"):
        at_here = ctypes.c_int(-100)  # AT_FDCWD
        failed = library.renameat2(at_here, a, at_here, b, ctypes.c_uint(2))  # RENAME_EXCHANGE
    else:
        return False
    if not failed:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EXDEV):
        return False
    raise OSError(code, os.strerror(code))
