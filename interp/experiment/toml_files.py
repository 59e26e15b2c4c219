"""Files of settings in TOML, of which nothing is believed before it is known to be small, plain and flat."""

import os
import re
import stat
import tomllib
from pathlib import Path
from typing import Any

from interp.errors import InputError

LARGEST = 1_000_000  # bytes
# tomllib remembers every beginning of a dotted name: 40 kB of "a.a.a…" take 1.6 GB.
MOST_PARTS = 30


def read_toml(path: Path, what: str = "the configuration") -> dict[str, Any]:
    """What is in a TOML file. Raises InputError, naming the file, for anything else, before much of it is read.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "mine.toml")
    ...     characters = path.write_text("task.p = 97")
    ...     read_toml(path)
    {'task': {'p': 97}}
    """
    try:
        # Without O_NONBLOCK a FIFO would wait for somebody to write into it.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise InputError(f"{path} is no plain file, expected one of TOML")
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise InputError(f"cannot read {what} {path}: {error.strerror}") from None
    if len(content) > LARGEST:
        raise InputError(f"{path} has more than {LARGEST:,} bytes; no file of settings has")
    return parse_toml(content, str(path))


def parse_toml(content: bytes, name: str) -> dict[str, Any]:
    """The values of a text in TOML. Raises InputError, beginning with the `name` of where it stands, for what is none.

    >>> parse_toml(b".".join([b"a"] * 100) + b" = 1", "mine.toml")
    Traceback (most recent call last):
        ...
    interp.errors.InputError: mine.toml is not valid TOML: a name in it has more than 30 parts
    """
    try:
        text = content.decode()
        words = re.split(r"[=,\[\]{}#\n]", text.translate(_WITHIN_NAMES))
        if max((word.count(".") for word in words), default=0) > MOST_PARTS:
            raise ValueError(f"a name in it has more than {MOST_PARTS} parts")
        return tomllib.loads(text)
    except RecursionError:
        raise InputError(f"{name} is not valid TOML: it is nested too deeply") from None
    except ValueError as error:  # of UTF-8, of TOML, of an integer of thousands of digits
        raise InputError(f"{name} is not valid TOML: {error}") from None


_WITHIN_NAMES = str.maketrans("", "", " \t\"'")  # what can stand between the parts of a name
