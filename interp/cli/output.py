"""What the command line says. Everything it prints passes here: one call is one line, and no name or note that somebody
else wrote makes it two, or tells the terminal anything."""

import codecs
import io
import os
import sys
from typing import TYPE_CHECKING, Any

from interp.errors import InputError
from interp.printable import MOST_OF_A_LINE, one_line

if TYPE_CHECKING:
    from rich.text import Text

MOST_OF_A_LIST = 100_000  # letters of a line of numbers, one for each layer, head or frequency, or of a mapping file
# Where the letters of a terminal or a file are ASCII, or some other few.
_IN_ASCII = {
    **{"·": "*", "×": "x", "÷": "/", "−": "-", "–": "-", "→": "->", "←": "<-", "…": "...", "’": "'"},
    **{"“": '"', "”": '"', "≤": "<=", "≥": ">=", "≠": "!=", "≈": "~", "±": "+-", "′": "'", "‖": "||", "√": "sqrt "},
    **{"\xa0": " ", "§": "section ", "■": "#", "━": "-", "─": "-", "│": "|"},
    **dict(zip("▁▂▃▄▅▆▇█", ".,:-=+*#", strict=True)),
    **dict.fromkeys("╭╮╯╰", "+"),
    "λ": "lambda",  # in Unicode lamda
    # Braille, of which `watch` makes curves.
    **{chr(0x2800 + dots): "*" if dots else " " for dots in range(256)},
}


def say(text: object = "", *, on_stderr: bool = False, most: int = MOST_OF_A_LINE) -> None:
    """Print one line, on stdout or on stderr, at once; of more than `most` letters the middle is left out."""
    _write(one_line(str(text), most), sys.stderr if on_stderr else sys.stdout)


def say_lines(text: object, most: int = MOST_OF_A_LINE) -> None:
    """Print a text of several lines, whose line ends are ours."""
    for line in str(text).split("\n"):
        say(line, most=most)


def say_json(values: Any) -> None:
    """Print JSON, in ASCII: what cannot be printed is escaped there as JSON has it."""
    import json

    _write(json.dumps(values, indent=2, allow_nan=False), sys.stdout)


def _write(text: str, stream: Any) -> None:
    try:
        print(text, file=stream, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise InputError(f"cannot write the output: {error.strerror or error}") from None


def drawn(text: str, style: str = "") -> "Text":
    """A line for a screen of rich: no markup, no codes."""
    from rich.text import Text

    return Text(one_line(text), style)


def prepare() -> None:
    """Have standard streams that can be written to, whatever this process was started with, and whatever their
    letters are."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:  # closed: the next file that is opened would take its place, and get what is meant for it
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115
    codecs.register_error("interp.in_ascii", _in_ascii)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="interp.in_ascii")


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_spelled, error.object[error.start : error.end])), error.end


def _spelled(letter: str) -> str:
    import unicodedata

    if letter in _IN_ASCII:
        return _IN_ASCII[letter]
    name = unicodedata.name(letter, "")
    if name.startswith("GREEK"):
        return name.split()[-1].capitalize() if "CAPITAL" in name else name.split()[-1].lower()
    small = unicodedata.normalize("NFKD", letter) if "SCRIPT " in name else ""  # super- and subscripts
    return small if small.isascii() and small else ascii(letter)[1:-1]


def finish() -> OSError | None:
    """Write what still waits to be written. Where that cannot be done it is dropped, or the interpreter would try again
    at its end, and complain; and the reason is returned."""
    reason = None
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            reason = reason or error
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return reason
