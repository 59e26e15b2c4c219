"""What a person meets when something they gave cannot work: one sentence that says what was seen, what was expected,
and what mends it."""

import difflib
import math
from collections.abc import Iterable
from numbers import Integral


class InputError(ValueError):
    """Something the user gave is wrong. The command line prints it as one line and exits with code 2.

    >>> import interp
    >>> interp.Task(p=1)
    Traceback (most recent call last):
        ...
    interp.errors.InputError: task.p must be at least 2, got 1
    """


class FullDiskError(InputError):
    """There is no room left to write. Whoever does many things stops at it: the next one would meet it too.

    >>> issubclass(FullDiskError, InputError)
    True
    """


class Notice(UserWarning):
    """What a person should know though no answer is wrong for it: what could not be kept, what is gone, who was lost.
    The command line prints it as one line on stderr, and its exit code stays what it is.

    >>> issubclass(Notice, Warning)
    True
    """


MOST_NAMED = 24  # of names that are known, where none is near


def unknown_name(kind: str, name: str, known: Iterable[str], rest: str = "") -> InputError:
    """The error for a name that does not exist, with the nearest name that does. A name with dots is also near to who
    is near to its last part, or gives the first letters of that. `rest`: where those are to be found that are too many
    to be named.

    >>> unknown_name("axis", "wd", ["seed", "training.weight-decay"])
    InputError("unknown axis 'wd'; did you mean 'training.weight-decay'?")
    """
    known, name = list(known), str(name)
    ends = {candidate.rpartition(".")[2].lower(): candidate for candidate in reversed(known)}
    spelled = ends | {candidate.lower(): candidate for candidate in known}
    initials = {"".join(word[:1] for word in end.split("-")): full for end, full in ends.items() if "-" in end}
    near = difflib.get_close_matches(name.lower(), spelled, n=1, cutoff=0.5)
    found = initials.get(name.lower()) or (spelled[near[0]] if near else None)
    listed = ", ".join(known[:MOST_NAMED])
    if len(known) > MOST_NAMED:
        listed += f" and {len(known) - MOST_NAMED:,} more" + (f"; {rest}" if rest else "")
    hint = f"did you mean {found!r}?" if found is not None else f"known: {listed}"
    return InputError(f"unknown {kind} {name!r}; {hint}")


def check_choice(name: str, value: object, choices: Iterable[str]) -> None:
    """Raises InputError unless `value` is one of `choices`."""
    choices = list(choices)
    if value not in choices:
        raise unknown_name(name, str(value), choices)


def check_integer(name: str, value: object, minimum: int, maximum: int | None = None) -> None:
    """Raises InputError unless `value` is an integer (numpy's too, no bool) with minimum ≤ value ≤ maximum."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise InputError(f"{name} must be an integer, got {value!r:.200}")
    if int(value) < minimum:
        raise InputError(f"{name} must be at least {minimum}, got {_shown(int(value))}")
    if maximum is not None and int(value) > maximum:
        raise InputError(f"{name} must be at most {maximum}, got {_shown(int(value))}")


def _shown(value: int) -> str:
    """An integer in the digits that a line has room for."""
    bits = value.bit_length()
    return str(value) if bits < 100 else f"an integer of {bits:,} bits"


def check_number(
    name: str, value: object, minimum: float, maximum: float = math.inf, *, above: bool = False, below: bool = False
) -> None:
    """Raises InputError unless `value` is finite and minimum ≤ value ≤ maximum; `above` and `below` exclude the end
    itself."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{name} must be a number, got {value!r}")
    if not math.isfinite(value):
        raise InputError(f"{name} must be finite, got {value}")
    if value < minimum or (above and value == minimum):
        raise InputError(f"{name} must be {'greater than' if above else 'at least'} {minimum:g}, got {value:g}")
    if value > maximum or (below and value == maximum):
        raise InputError(f"{name} must be {'less than' if below else 'at most'} {maximum:g}, got {value:g}")


def flag(field_name: str) -> str:
    """The spelling of a field on the command line and in TOML: d_model → d-model."""
    return field_name.replace("_", "-")
