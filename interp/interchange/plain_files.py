"""Files that somebody else wrote: opened when they are known to be plain and no larger than what is looked for can be.
A FIFO would wait for ever, a device never ends, and a file with a hole can claim more than any memory holds."""

import contextlib
import os
import re
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from interp.errors import InputError
from interp.machine import first_line, refusals_as

# Of JSON, one byte can become twenty in memory: "[]," is an object of 56 bytes, and 8 that point to it. A million pairs
# are 10 MB.
LARGEST_JSON = 16_000_000
LARGEST_SETTINGS = 200_000  # of YAML and TOML, which are slow to read
LARGEST_WEIGHTS = 16 * 2**30
LARGEST_HEADER = 10_000_000  # of safetensors: some thousand tensors, or training pairs in the metadata
# The reader of TOML keeps every beginning of a key: of one with 50,000 parts that is gigabytes.
DEEPEST_KEY = 50
_PART = r"(?:[\w-]++|\"[^\"\n]*+\"|'[^'\n]*+')"
_DEEP_KEY = re.compile(rf"(?<![\w-]){_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{{DEEPEST_KEY},}}")
MOST_LETTERS = 800
_MOSTLY_HOLES = 16  # so many times the bytes that are stored; weights can hardly be packed at all
_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


def what_else(path: Path) -> str | None:
    """What is there in place of a plain file, in words; None where there is one. Nothing is opened.

    >>> what_else(Path("/dev/null")), what_else(Path("/dev/null/none"))
    ('a device', 'nothing')
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):  # ValueError: a name with a NUL in it
        return "a link that leads nowhere" if os.path.islink(path) else "nothing"
    return None if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "something else")


def check_plain(path: Path, most: int = LARGEST_WEIGHTS, what: str = "weights of any network here") -> None:
    """Raises InputError, naming the file, unless it is plain, holds at most `most` bytes, and stores what it claims."""
    with open_plain(path, most, what) as descriptor:
        told = os.fstat(descriptor)
    # Some network file systems say 0 of every file.
    if 0 < told.st_blocks * 512 * _MOSTLY_HOLES < told.st_size:
        raise InputError(
            f"{path} is damaged: it claims {told.st_size:,} bytes, and no more than {told.st_blocks * 512:,} of them "
            "were ever written; copy or download it again"
        )


def check_tensors(path: Path, most: int = LARGEST_WEIGHTS, what: str = "weights of any network here") -> None:
    """The same for a file of tensors; and a header of safetensors that would take minutes to read is refused too."""
    check_plain(path, most, what)
    with open_plain(path, most, what) as descriptor:
        start, size = os.pread(descriptor, 9, 0), os.fstat(descriptor).st_size
    header = int.from_bytes(start[:8], "little")
    if start[8:] == b"{" and LARGEST_HEADER < header < size:
        raise InputError(
            f"{path} has a header of {header:,} bytes, and at most {LARGEST_HEADER:,} are read: no network here has "
            "so many tensors"
        )


@contextlib.contextmanager
def open_plain(path: Path, most: int, what: str) -> Iterator[int]:
    """The descriptor of a plain file of at most `most` bytes, open to read. Raises InputError, naming the file, for
    anything else, before it is opened and again after: another may be in its place then."""
    with refusals_as(f"cannot read {path}"):
        os.stat(path)  # says why there is none
    if (kind := what_else(path)) is not None:
        raise InputError(f"{path} is {kind}, and no plain file; nothing of it was read")
    with refusals_as(f"cannot read {path}"):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        told = os.fstat(descriptor)
        if not stat.S_ISREG(told.st_mode):
            raise InputError(f"{path} is no plain file; nothing of it was read")
        if told.st_size > most:
            raise InputError(f"{path} has {told.st_size:,} bytes; at most {most:,} are read of {what}")
        yield descriptor
    finally:
        os.close(descriptor)


def read_plain(path: Path, most: int, what: str) -> bytes:
    """All of a plain file of at most `most` bytes. Raises InputError, naming the file, for anything else.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "c.json")
    ...     characters = path.write_text("{}")
    ...     read_plain(path, 10, "any configuration")
    b'{}'
    """
    with open_plain(path, most, what) as descriptor:
        parts, left = [], most + 1
        with refusals_as(f"cannot read {path}"):  # what the system makes up, as in /proc, may not come
            while left > 0 and (part := os.read(descriptor, min(left, 2**24))):
                parts.append(part)
                left -= len(part)
    if not left:
        raise InputError(f"{path} has no end; at most {most:,} bytes are read of {what}")
    return b"".join(parts)


def shortened(error: InputError) -> str:
    """What is said of a file, without most of what it repeats from there where that is long."""
    said = str(error)
    return said if len(said) < MOST_LETTERS else f"{said[: MOST_LETTERS // 2]} … {said[-MOST_LETTERS // 2 :]}"


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """The content of a TOML file. Raises InputError, naming the file, for anything else."""
    content = read_plain(path, LARGEST_SETTINGS, what)
    try:
        text = content.decode()
        if _DEEP_KEY.search(text):
            raise ValueError(f"a key of more than {DEEPEST_KEY} parts (a.b.c …)")
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid TOML: {first_line(error)}") from None
