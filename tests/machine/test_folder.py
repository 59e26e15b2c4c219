"""What is written through a folder is in it, whole or not at all, whatever becomes of its path and whatever links lie
in it."""

import contextlib
import errno
import fcntl
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from interp.errors import InputError
from interp.machine import Folder, write_atomically


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """A disk that really fills up: the kernel cuts the write at `size` bytes and refuses the rest."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def refuse(code: int) -> Callable[..., None]:
    def refusing(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return refusing


def test_what_is_written_is_read_and_replaces_what_was_there(tmp_path: Path) -> None:
    for content in (b"first", b"", b"second, and longer"):
        write_atomically(tmp_path / "file", content)
        assert (tmp_path / "file").read_bytes() == content
    write_atomically(tmp_path / "file", lambda file: file.write(b"by a function"))
    assert (tmp_path / "file").read_bytes() == b"by a function"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("function", "code"), [("fsync", errno.ENOSPC), ("fsync", errno.EIO), ("rename", errno.EACCES)]
)
def test_a_refusal_at_any_point_leaves_the_old_file_and_nothing_else(
    function: str, code: int, tmp_path: Path, monkeypatch
) -> None:
    write_atomically(tmp_path / "file", b"old")
    monkeypatch.setattr(os, function, refuse(code))
    with pytest.raises(InputError, match=f"cannot write {tmp_path / 'file'}: {os.strerror(code)}"):
        write_atomically(tmp_path / "file", b"new")
    assert os.listdir(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    with (
        files_no_larger_than(1000),
        pytest.raises(InputError, match=f"cannot write {tmp_path / 'file'}: File too large"),
    ):
        write_atomically(tmp_path / "file", bytes(1_000_000))
    assert os.listdir(tmp_path) == []


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "folder").write_bytes(b"")
    with pytest.raises(InputError, match=r"cannot write .*Not a directory"):
        write_atomically(tmp_path / "folder" / "file", b"")
    with pytest.raises(InputError, match=r"cannot read .*Not a directory"):
        Folder(tmp_path / "folder")


# ---- links -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["inner/file", "file"])
def test_no_link_below_a_folder_is_followed_whatever_is_done(name: str, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "file").write_bytes(b"theirs")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name.split("/", maxsplit=1)[0]).symlink_to(foreign if "/" in name else foreign / "file")
    with Folder(tmp_path / "mine") as folder:
        tried = {
            "read": lambda: folder.read(name),
            "append": lambda: folder.append_to(name),
            "names": lambda: folder.names(name.split("/", maxsplit=1)[0]),
            "make": lambda: folder.make(f"{name}/more"),
        }
        if "/" in name:
            tried |= {"write": lambda: folder.write(name, b"mine"), "remove": lambda: folder.remove(name)}
        for act in tried.values():
            with pytest.raises(InputError, match=r"is a symbolic link|Not a directory"):
                act()
        if "/" not in name:  # the link itself may go
            folder.write(name, b"mine")
            assert (tmp_path / "mine" / name).read_bytes() == b"mine"
    assert [(path.name, path.read_bytes()) for path in foreign.iterdir()] == [("file", b"theirs")]


def test_a_folder_that_is_moved_is_still_the_one_that_is_written_to(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with Folder(tmp_path / "a") as folder:
        (tmp_path / "a").rename(tmp_path / "b")
        (tmp_path / "a").mkdir()
        folder.write("file", b"1")
        assert not folder.is_at_its_path()
    assert os.listdir(tmp_path / "b") == ["file"]
    assert os.listdir(tmp_path / "a") == []


def test_appending_to_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "lines")
    with Folder(tmp_path) as folder, pytest.raises(InputError, match="lines is a named pipe, expected a plain file"):
        folder.append_to("lines")


# ---- locks -----------------------------------------------------------------------------------------------------------


def test_a_lock_is_held_until_all_who_hold_it_are_closed(tmp_path: Path) -> None:
    with Folder(tmp_path) as folder:
        folder.lock()
        twin = folder.twin()
    with Folder(tmp_path) as other:
        assert other.is_locked()
        with pytest.raises(InputError, match=f"{tmp_path} is being written by another process"):
            other.lock()
        twin.close()
        assert not other.is_locked()
        other.lock()


def test_a_lock_on_a_folder_that_was_replaced_meanwhile_is_none(tmp_path: Path, monkeypatch) -> None:
    flock = fcntl.flock

    def replaced_first(lock: int, how: int) -> None:
        (tmp_path / ".lock").unlink()
        (tmp_path / ".lock").touch()
        flock(lock, how)

    monkeypatch.setattr(fcntl, "flock", replaced_first)
    with Folder(tmp_path) as folder, pytest.raises(InputError, match=f"{tmp_path} is being written by another process"):
        folder.lock()


@pytest.mark.parametrize("kind", ["pipe", "link", "folder"])
def test_a_lock_that_is_no_file(kind: str, tmp_path: Path) -> None:
    (tmp_path / "theirs").write_bytes(b"")
    lock = tmp_path / ".lock"
    {"pipe": os.mkfifo, "link": lambda path: path.symlink_to("theirs"), "folder": Path.mkdir}[kind](lock)
    with Folder(tmp_path) as folder, pytest.raises(InputError, match=f"cannot write to {tmp_path}: "):
        folder.lock()


# ---- leftovers -------------------------------------------------------------------------------------------------------


def test_leftovers_of_the_living_stay(tmp_path: Path) -> None:
    """Whatever number is in their name: two machines on one disk share those of processes."""
    for name in (".a.1.tmp", f".a.{os.getpid()}.tmp", ".b.7.tmp", "a", ".a"):
        (tmp_path / name).touch()
    (tmp_path / ".c.7.tmp" / "steps").mkdir(parents=True)
    (tmp_path / ".d.7.tmp").mkdir()
    with (tmp_path / ".b.7.tmp").open() as living, Folder(tmp_path / ".d.7.tmp") as built, Folder(tmp_path) as folder:
        fcntl.flock(living, fcntl.LOCK_EX)
        built.lock()
        folder.remove_leftovers()
        assert sorted(os.listdir(tmp_path)) == [".a", ".b.7.tmp", ".d.7.tmp", "a"]
    with Folder(tmp_path) as folder:
        folder.remove_leftovers()
    assert sorted(os.listdir(tmp_path)) == [".a", "a"]


def test_only_the_leftovers_of_one_name(tmp_path: Path) -> None:
    """Folders too; and a name is a name, not a pattern."""
    for name in ("a", "[ab]"):
        (tmp_path / f".{name}.7.tmp" / "steps").mkdir(parents=True)
    with Folder(tmp_path) as folder:
        folder.remove_leftovers(of="[ab]")
    assert os.listdir(tmp_path) == [".a.7.tmp"]


def test_what_somebody_removes_while_it_is_begun_is_begun_again(tmp_path: Path, monkeypatch) -> None:
    flock, removed = fcntl.flock, []

    def remove_first(lock: int, how: int) -> None:
        if not removed:
            removed.extend(name for name in os.listdir(tmp_path) if name.endswith(".tmp"))
            (tmp_path / removed[0]).unlink()
        flock(lock, how)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    write_atomically(tmp_path / "file", b"1")
    assert removed
    assert (tmp_path / "file").read_bytes() == b"1"


def test_a_file_system_without_locks_is_written_to_all_the_same(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / ".file.7.tmp").touch()
    with contextlib.closing(Folder(tmp_path)), monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", refuse(errno.ENOSYS))
        write_atomically(tmp_path / "file", b"1")
    assert sorted(os.listdir(tmp_path)) == [".file.7.tmp", "file"]  # nobody knows whether that writer is dead


def test_temporary_names_are_not_known_before(tmp_path: Path, monkeypatch) -> None:
    names = []
    rename = os.rename
    monkeypatch.setattr(os, "rename", lambda old, new, **at: (names.append(old), rename(old, new, **at))[1])
    for _ in range(2):
        write_atomically(tmp_path / "file", b"1")
    assert len(set(names)) == 2
    assert str(os.getpid()) not in names[0].split(".")
