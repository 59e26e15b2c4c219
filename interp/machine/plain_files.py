"""Opening files that anybody may have put there: only plain ones, and never more of them than is expected.

What a file is, is asked of the open file and not of its path: between a look at a path and its opening something else
can take its place.
"""

import contextlib
import errno
import json
import os
import stat
from collections.abc import Iterator
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Any

from interp.errors import FullDiskError, InputError

LARGEST_TEXT = 64 << 20  # bytes of a JSON file
LONGEST_LINE = 1 << 20  # bytes of one in a file of JSON lines
_OPENING = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY  # a pipe without a writer must not hold us up
_LARGE = 64 << 20  # bytes; a smaller file does no harm, whatever it is made of
_KINDS = {
    stat.S_ISDIR: "a folder",
    stat.S_ISLNK: "a symbolic link",
    stat.S_ISFIFO: "a named pipe",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
}


class PlainFile(FileIO):
    """A plain file, open to read; `path` is what errors call it, `size` its bytes when it was opened."""

    def __init__(self, descriptor: int, path: Path) -> None:
        super().__init__(descriptor, "rb")
        self.path = path
        self.size = os.fstat(descriptor).st_size

    def read_all(self) -> bytes:
        """The whole file, of any size. Raises InputError where it does not have its size any more, or never had: what
        the system makes up, as in /proc, says 0 bytes, and a limit would not hold for it."""
        parts, left = [], self.size
        with refusals_as(f"cannot read {self.path}"):
            self.seek(0)
            while left and (part := self.read(left)):  # in pieces: no system gives more than 2 GiB at once
                parts.append(part)
                left -= len(part)
            goes_on = not left and self.read(1)
        if left:
            raise InputError(
                f"{self.path} is damaged: it had {self.size:,} bytes, and {self.size - left:,} can be read"
            )
        if goes_on:
            raise InputError(f"{self.path} has more than the {self.size:,} bytes that it had when it was opened")
        return b"".join(parts)


def open_plain(
    path: str | Path, most: int | None = None, *, folder: int | None = None, shown: Path | None = None
) -> PlainFile:
    """A plain file to read, of at most `most` bytes. Symbolic links are followed: somebody named this path.

    Below a `folder`, an open one, they are not, and `shown` is what errors call the file. Raises InputError for what is
    not a plain file, is larger, or is a hole that would fill the memory and has never been written.
    """
    named = Path(path) if shown is None else shown
    not_followed = os.O_NOFOLLOW if folder is not None else 0
    try:
        descriptor = os.open(path, _OPENING | not_followed, dir_fd=folder)
    except OSError as error:
        raise _not_opened(named, path, folder, error) from None
    except ValueError as error:  # a NUL in the path
        raise InputError(f"cannot read {named}: {error}") from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            if stat.S_ISDIR(found.st_mode):
                raise InputError(f"cannot read {named}: {os.strerror(errno.EISDIR)}")
            raise InputError(f"{named} is {kind_of(found.st_mode)}, expected a plain file")
        _check_size(named, descriptor, found, most)
        return PlainFile(descriptor, named)
    except BaseException:
        os.close(descriptor)
        raise


def kind_of(mode: int) -> str:
    """What something that is not a plain file is, in words."""
    return next((words for is_one, words in _KINDS.items() if is_one(mode)), "no plain file")


def _not_opened(named: Path, path: str | Path, folder: int | None, error: OSError) -> InputError:
    """Why, where it lies in what the thing is; otherwise what the system says."""
    if folder is not None and error.errno in (errno.ELOOP, errno.EMLINK):
        return InputError(f"{named} is a symbolic link, and none below a run is followed; put the file itself there")
    if error.errno == errno.ENXIO:
        with contextlib.suppress(OSError):
            return InputError(f"{named} is {kind_of(os.stat(path, dir_fd=folder).st_mode)}, expected a plain file")
    return InputError(f"cannot read {named}: {reason(error)}")


def _check_size(named: Path, descriptor: int, found: os.stat_result, most: int | None) -> None:
    size = found.st_size
    if most is not None and size > most:
        raise InputError(f"{named} is damaged: it has {size:,} bytes, and can have at most {most:,}")
    if size < _LARGE:
        return
    if found.st_blocks * 512 < size // 64 and _has_hole(descriptor, size):
        raise InputError(f"{named} is damaged: of its {size:,} bytes only {found.st_blocks * 512:,} were ever written")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > memory:
        raise InputError(f"{named} has {size:,} bytes, and this machine {memory:,} of memory; read it on a larger one")


def _has_hole(descriptor: int, size: int) -> bool:
    """Whether the file system says so; those that know of no holes, and report no blocks, are believed."""
    try:
        return os.lseek(descriptor, 0, os.SEEK_HOLE) < size
    except (OSError, AttributeError):
        return False
    finally:
        os.lseek(descriptor, 0, os.SEEK_SET)


@contextlib.contextmanager
def open_binary(path: Path, most: int | None = None) -> Iterator[PlainFile]:
    """A plain file, to read. Whatever the system refuses, then or while reading, is an InputError that names it."""
    with open_plain(path, most) as file, refusals_as(f"cannot read {path}"):
        yield file


def read_bytes(path: Path, most: int | None = None) -> bytes:
    """All of a plain file. Raises InputError, naming it."""
    with open_binary(path, most) as file:
        return file.read_all()


def read_json(path: Path, most: int = LARGEST_TEXT) -> Any:
    """The content of a JSON file. Raises InputError, naming it."""
    return json_of(path, read_bytes(path, most))


def json_of(path: Path, content: bytes) -> Any:
    """What the content of a JSON file says. Raises InputError, naming it."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"{path} is damaged: {first_line(error)}") from None


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines. A last line without its newline is still being written, and left out."""
    with open_binary(path) as file:
        return [row for _, row in json_lines(file)]


def json_lines(file: PlainFile) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Each whole line of a file with its newline, and the JSON object that it holds. Raises InputError, naming file and
    line."""
    buffered, number = BufferedReader(file), 0
    try:
        while line := buffered.readline(LONGEST_LINE):
            number += 1
            if not line.endswith(b"\n"):
                if len(line) == LONGEST_LINE:
                    raise InputError(f"{file.path} is damaged at line {number}: longer than {LONGEST_LINE:,} bytes")
                return
            row = json_object(line)
            if row is None:
                raise InputError(f"{file.path} is damaged at line {number}: not a JSON object")
            yield line, row
    except OSError as error:
        raise InputError(f"cannot read {file.path}: {reason(error)}") from None
    finally:
        buffered.detach()  # the file stays the caller's


def json_object(content: bytes | str) -> dict[str, Any] | None:
    """What it says, if it is a JSON object."""
    try:
        value = json.loads(content)
    except (TypeError, ValueError, RecursionError, MemoryError):
        return None
    return value if isinstance(value, dict) else None


@contextlib.contextmanager
def refusals_as(complaint: str) -> Iterator[None]:
    """Whatever the system refuses inside is an InputError: the complaint, such as "cannot write FILE", and the
    reason. A FullDiskError where that is want of room."""
    try:
        yield
    except OSError as error:
        kind = FullDiskError if error.errno in (errno.ENOSPC, errno.EDQUOT) else InputError
        raise kind(f"{complaint}: {reason(error)}") from None


def reason(error: OSError) -> str:
    """What the system says went wrong; some errors of the standard library carry their own words instead."""
    return error.strerror or str(error)


def first_line(error: Exception) -> str:
    """The beginning of what an exception says, printable whatever the file had in it."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    return "".join(character if character.isprintable() else "?" for character in text)
