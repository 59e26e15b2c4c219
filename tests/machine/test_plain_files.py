"""Files that anybody may have put there: what is no plain file, or larger than it can be, is refused before it is
read."""

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from interp.errors import InputError
from interp.machine import Folder, open_plain, read_bytes, read_foreign_tensors, read_json, read_lines, read_tensors

DEEP = b"[" * 100_000  # deeper than Python's stack
READERS = [read_bytes, read_json, read_lines, read_tensors, read_foreign_tensors]


@pytest.mark.parametrize("read", READERS)
def test_what_is_no_plain_file_is_refused_at_once(read: Callable, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        for name, kind in {"pipe": "a named pipe", "device": "a device", "socket": "a socket"}.items():
            with pytest.raises(InputError, match=f"{tmp_path / name} is {kind}, expected a plain file"):
                read(tmp_path / name)


@pytest.mark.parametrize("read", READERS)
def test_a_hole_and_what_no_memory_holds_are_refused_before_they_are_read(read: Callable, tmp_path: Path) -> None:
    began = time.process_time()  # whatever else the machine is doing
    for size, start in ((20 << 30, b""), (20 << 30, b"{" * 4096), (1 << 42, b"")):
        with (tmp_path / "hole").open("wb") as file:
            file.write(start)
            file.truncate(size)
        with pytest.raises(InputError, match=rf"hole is damaged: (of its|it has) {size:,} bytes"):
            read(tmp_path / "hole")
    assert time.process_time() - began < 1


def test_a_limit_is_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert read_bytes(tmp_path / "file", most=5) == b"12345"
    with pytest.raises(InputError, match="file is damaged: it has 5 bytes, and can have at most 4"):
        read_bytes(tmp_path / "file", most=4)


def test_a_link_is_followed_where_somebody_named_it_and_not_below_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1")
    (tmp_path / "link").symlink_to("file")
    assert read_bytes(tmp_path / "link") == b"1"
    with Folder(tmp_path) as folder:
        assert folder.read("file") == b"1"
        with pytest.raises(InputError, match="link is a symbolic link, and none below a run is followed"):
            folder.read("link")


def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    with open_plain(tmp_path / "file") as file:
        os.truncate(tmp_path / "file", 2)
        with pytest.raises(InputError, match="file is damaged: it had 5 bytes, and 2 can be read"):
            file.read_all()


def test_a_file_that_grows_while_it_is_read_and_one_that_says_no_size(tmp_path: Path) -> None:
    """Or a limit, which is asked of the size, would not hold."""
    (tmp_path / "file").write_bytes(b"12345")
    with open_plain(tmp_path / "file", most=5) as file:
        with (tmp_path / "file").open("ab") as writer:
            writer.write(b"6")
        with pytest.raises(InputError, match="file has more than the 5 bytes that it had when it was opened"):
            file.read_all()
    with pytest.raises(InputError, match="has more than the 0 bytes"):
        read_bytes(Path("/proc/self/maps"), most=100)


def test_a_name_with_a_nul(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*null"):
        read_bytes(tmp_path / "a\0b")


def test_a_line_without_end(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b'{"a": 1}\n' + b" " * (1 << 20) + b"{}\n")
    with pytest.raises(InputError, match="file is damaged at line 2: longer than 1,048,576 bytes"):
        read_lines(tmp_path / "file")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff", DEEP, b"1" * 5000], ids=["empty", "open", "no UTF-8", "too deep", "long number"]
)
def test_damaged_json_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(InputError, match=f"{tmp_path / 'file'} is damaged"):
        read_json(tmp_path / "file")
    (tmp_path / "file").write_bytes(b"{}\n" + content + b"\n")
    with pytest.raises(InputError, match=f"{tmp_path / 'file'} is damaged at line 2"):
        read_lines(tmp_path / "file")


def test_an_unfinished_last_line_is_left_out(tmp_path: Path) -> None:
    for unfinished in ("", '{"step"', '{"step": 2}'):
        (tmp_path / "file").write_text('{"step": 1}\n' + unfinished)
        assert read_lines(tmp_path / "file") == [{"step": 1}]


@pytest.mark.parametrize("read", READERS)
def test_what_the_system_refuses_to_read_is_named(read: Callable, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"cannot read {tmp_path}: Is a directory"):
        read(tmp_path)
    with pytest.raises(InputError, match=f"cannot read {tmp_path / 'none'}: No such file"):
        read(tmp_path / "none")
