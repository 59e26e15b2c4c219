"""What leaves the command line besides its answer: for everything that a person, a file or the system can do wrong one
line on stderr, and an exit code. A defect of ours stays a traceback."""

import contextlib
import dataclasses
import re
import shlex
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from interp.cli.output import finish, say
from interp.errors import InputError

BAD_INPUT, INTERRUPTED, NO_READER = 2, 130, 141  # the last two as shells have them: 128 and the number of the signal


def leave(error: BaseException) -> int | None:
    """Say in one line why a command ended, and return its exit code; None for an error that is a defect of ours."""
    if isinstance(error, BrokenPipeError):
        finish()
        return NO_READER
    if isinstance(error.__cause__, KeyboardInterrupt):  # Python wraps what comes up while it makes a class
        error = error.__cause__
    if isinstance(error, KeyboardInterrupt):
        message, code = str(error) or "interrupted", INTERRUPTED
    elif isinstance(error, InputError):
        message, code = str(error), BAD_INPUT
    elif isinstance(error, OSError):
        message, code = ": ".join(str(part) for part in (error.filename, error.strerror or error) if part), BAD_INPUT
    elif (complaint := of_data(error)) is not None:
        message, code = complaint, BAD_INPUT
    else:
        return None
    with contextlib.suppress(InputError, OSError):  # where nobody can be told, the code says it
        say(f"interp: {' '.join(message.split())}", on_stderr=True)
    finish()
    return code


def of_data(error: BaseException) -> str | None:
    """What is wrong with the input, and which file or run it is, where an error is one that data alone can cause; None
    for any other.

    Readers say it themselves where they can foresee it. What is caught here comes up anywhere in somebody else's code,
    and what was being worked on is told by the functions that were at work.
    """
    fault = _fault(error)
    if fault is None:
        return None
    where = _at_work_on(error)
    traceback.clear_frames(error.__traceback__)  # they hold what there was no room for
    if where is None:
        return f"the input {fault}"
    if fault.startswith("needs more memory"):
        return f"{where} {fault}; end other programs, or take a machine that has more"
    run = next((folder for folder in (where, *where.parents[:2]) if (folder / "run.json").is_file()), None)
    if run is None:
        return f"{where} {fault}; get it from its source again"
    return f"{where} {fault}; `interp verify {shlex.quote(str(run))}` says what is damaged"


def _fault(error: BaseException) -> str | None:
    said = " ".join(str(error).split())[:200]
    kind = f"{type(error).__module__}.{type(error).__name__}"
    words = {
        f"needs more memory than there is ({said or 'none is left'})": isinstance(error, MemoryError)
        or (isinstance(error, RuntimeError) and _NO_ROOM.search(said)),
        "is nested too deeply to be read": isinstance(error, RecursionError),
        f"holds text that cannot be read or written ({said})": isinstance(error, UnicodeError),
        f"holds a number that is too large ({said})": isinstance(error, OverflowError) or said.startswith(_TOO_LONG),
        "ends too early": isinstance(error, EOFError),
        f"is damaged ({said})": kind in _OF_READERS,
    }
    return next((fault for fault, is_so in words.items() if is_so), None)


# What torch says.
_NO_ROOM = re.compile("not enough memory|allocate memory|out of memory")
_TOO_LONG = "Exceeds the limit ("  # what Python says of an integer of thousands of digits, as a ValueError
# What the libraries that read files raise for bytes that are wrong, by name: here nothing of them is imported.
_OF_READERS = frozenset(
    {
        *("zlib.error", "struct.error", "binascii.Error", "_csv.Error", "zipfile.BadZipFile", "_lzma.LZMAError"),
        *("json.decoder.JSONDecodeError", "tomllib.TOMLDecodeError", "safetensors._safetensors_rust.SafetensorError"),
    }
)


def _at_work_on(error: BaseException) -> Path | None:
    """The file or folder that the innermost function of ours was given; else the one that the command was."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    for frame in reversed(frames):
        name = frame.f_globals.get("__name__", "")
        if name.startswith("interp.") and not name.startswith("interp.cli"):
            found = [path for value in frame.f_locals.values() if (path := _path_of(value)) is not None]
            if found:
                return next((path for path in found if path.is_file()), found[0])
    for frame in frames:
        command = frame.f_locals.get("command")
        if dataclasses.is_dataclass(command) and frame.f_globals.get("__name__") == "interp.cli.commands":
            found = [path for path in _given(command) if path.exists()]
            return found[0] if found else None
    return None


def _path_of(value: Any) -> Path | None:
    """A path that is there; of a run its folder."""
    path = value if isinstance(value, Path) else getattr(value, "path", None) if _is_ours(value) else None
    try:
        return path if isinstance(path, Path) and path.exists() else None
    except (OSError, ValueError):
        return None


def _is_ours(value: Any) -> bool:
    return type(value).__module__.startswith("interp.")


def _given(command: Any) -> Iterator[Path]:
    """The paths that a command was given to read, in the order of its help."""
    for field in dataclasses.fields(command):
        value = getattr(command, field.name)
        for each in value if isinstance(value, tuple) else (value,):
            if isinstance(each, str | Path) and field.name not in ("output", "out", "csv", "write_mapping"):
                yield Path(str(each).rpartition("@")[0] or each) if field.name == "sides" else Path(each)
