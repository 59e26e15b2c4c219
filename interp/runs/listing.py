"""Lists of runs: those under a folder, which of them, and in which order."""

import math
import operator
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interp.errors import InputError, flag, unknown_name
from interp.experiment import choices_of
from interp.figures import as_count, readable
from interp.mathematics.grokking import VERDICTS
from interp.printable import one_line
from interp.runs.description import configuration, progress_of
from interp.runs.ending import DIVERGED, STATES, Ending, ending_of
from interp.runs.run import Run, open_run

SEEDS = ("task.seed", "model.seed", "training.seed")
# What can be asked of any run, beside its fields and its last metrics.
OF_ENDINGS = ("state", "verdict", "memorized-at", "generalized-at", "step")
_CHOICES = {"state": STATES, "verdict": (*VERDICTS, DIVERGED)}
MOST_VALUES = 8  # that are named where no run meets the conditions
IN_EVERY_LINE = ("state", "verdict")  # which need no column of their own where they are asked for
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    **{">=": operator.ge, "<=": operator.le, "!=": operator.ne, "==": operator.eq},
    **{"=": operator.eq, ">": operator.gt, "<": operator.lt},
}
_CONDITION = re.compile(r"\s*([\w.+-]+?)\s*(>=|<=|!=|==|=|>|<)\s*(.*?)\s*")


@dataclass(frozen=True)
class Listed:
    """One run of a list: where it is, what can be asked of it by name, and its line."""

    path: Path
    fields: Mapping[str, Any]
    line: str


def list_runs(
    folder: Path,
    *,
    where: Sequence[str] = (),
    sort: str | None = None,
    reverse: bool = False,
    coordinates: Mapping[str, Mapping[str, Any]] | None = None,
) -> Iterator[str]:
    """One line per run under `folder`; a run that cannot be read is named with the reason.

    `where` are conditions that a run has to meet, such as "training.weight-decay>=1" or "verdict=grokking", and `sort`
    is what they are ordered by: fields of task, model and training, last metrics, and OF_ENDINGS; with a minus before
    it, or by `reverse`, the largest first; what is asked for by name stands at the end of the line. The beginning of a
    name can be left out where the rest tells which.
    `coordinates`: by the name of a run what else is known of it. Raises InputError for what cannot be asked: a name, or
    of fields with a fixed choice a word, that there is not.

    >>> import interp
    >>> [line] = list_runs(interp.reference_path())
    >>> "add modulo 43" in line, line.endswith("test accuracy 100.0%; grokking, generalized at step 950")
    (True, True)
    >>> list(list_runs(interp.reference_path(), where=["weight-decay>1"]))
    ['no run of 1 meets weight-decay>1; training.weight-decay is 1.0']
    >>> [line] = list_runs(interp.reference_path(), where=["weight-decay<=1"])
    >>> line.endswith("generalized at step 950; training.weight-decay 1")
    True
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}")
    conditions = [_condition(text) for text in where]
    paths = list(run_folders(folder))
    if not paths:
        yield f"no runs under {folder}; `interp train` makes one"
    elif not conditions and sort is None:
        for one in _found(paths, coordinates or {}):
            yield one if isinstance(one, str) else one.line
    else:
        # All of them first: a name is wrong only if no run has it.
        found = [one for one in _found(paths, coordinates or {}) if isinstance(one, Listed)]
        names = dict.fromkeys(name for one in found for name in one.fields)
        known = [(_known_name(name, names), sign, given) for name, sign, given in conditions]
        for name, sign, given in known:
            _check_choice(name, sign, given, coordinates or {})
        falls = sort is not None and sort.startswith("-")
        by = _known_name(sort[falls:], names) if sort is not None else None
        kept = [one for one in found if all(_meets(one.fields, *condition) for condition in known)]
        asked = [name for name, *_ in known]
        if by is not None:
            asked.append(by)
        for one in kept if by is None else _sorted(kept, by, reverse != falls):
            in_line = {*IN_EVERY_LINE, *(coordinates or {}).get(one.path.name, ())}
            yield "; ".join(
                [one.line, *(_column(one.fields, name) for name in dict.fromkeys(asked) if name not in in_line)]
            )
        if not kept:
            values = "; ".join(_values_in_words(name, found) for name in dict.fromkeys(name for name, *_ in known))
            yield f"no run of {len(paths):,} meets {' and '.join(where)}; {values}"


def _found(paths: Sequence[Path], coordinates: Mapping[str, Mapping[str, Any]]) -> Iterator[Listed | str]:
    """The runs, and a line for one that cannot be read."""
    for path in paths:
        try:
            yield _listed(path, open_run(path), coordinates.get(path.name))
        except InputError as error:
            yield f"{path!s:<36} unreadable: {error}"


def run_folders(folder: Path) -> Iterator[Path]:
    """The folders under one, it included, that hold a run; what lies within a run is not looked at.

    >>> import interp
    >>> [path == interp.reference_path() for path in run_folders(interp.reference_path())]
    [True]
    """
    for parent, names, files in os.walk(folder):
        names.sort()
        if "run.json" in files or "run.json" in names:  # also what is none: it is told why
            names.clear()
            if ".tmp" not in os.path.basename(parent):
                yield Path(parent)


def _listed(path: Path, run: Run, coordinates: Mapping[str, Any] | None) -> Listed:
    ending = ending_of(run)
    place = run.task.title
    if coordinates is not None:
        place = ", ".join(f"{axis.rpartition('.')[2]} {readable(label)}" for axis, label in coordinates.items())
    is_told = ending.step >= 0 and ending.state != DIVERGED  # which the line says already
    verdict = f"; {ending.in_words}" if is_told else ""
    return Listed(
        path, fields_of(run, ending) | dict(coordinates or {}), f"{path!s:<36} {place:<26} {progress_of(run)}{verdict}"
    )


def fields_of(run: Run, ending: Ending) -> dict[str, Any]:
    """What can be asked of a run by name: its configuration, what came of it, its last metrics; and `seed` where split,
    weights and batches have one."""
    fields = configuration(run)
    fields |= {name: getattr(ending, name.replace("-", "_")) for name in OF_ENDINGS}
    told = ("verdict", "memorized-at", "generalized-at")
    for operation, one in ending.of_each.items():
        fields |= {f"{operation}.{name}": getattr(one, name.replace("-", "_")) for name in told}
    fields |= {flag(name): value for name, value in ending.metrics.items()}
    seeds = {fields[name] for name in SEEDS if name in fields}
    return fields | ({"seed": seeds.pop()} if len(seeds) == 1 else {})


def _column(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if value is None:  # what the run does not have, and what is left out of its configuration
        return f"{name} none"
    return f"{name} {f'{value:.6g}' if _is_known(value) and isinstance(value, float) else one_line(readable(value))}"


def _sorted(listed: Sequence[Listed], sort: str, reverse: bool) -> list[Listed]:
    """By numbers, then by words; what has none is last."""
    keyed = [(one.fields.get(sort), one) for one in listed]

    def order(value: Any) -> tuple[int, Any]:
        return (0, value) if isinstance(value, bool | int | float) else (1, str(value))

    known = [pair for pair in keyed if _is_known(pair[0])]
    unknown = [one for value, one in keyed if not _is_known(value)]
    return [one for _, one in sorted(known, key=lambda pair: order(pair[0]), reverse=reverse)] + unknown


def _condition(text: str) -> tuple[str, str, str]:
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise InputError(f"--where {text!r:.80} is no condition, expected such as training.weight-decay>=1")
    return match[1], match[2], match[3]


def _meets(fields: Mapping[str, Any], name: str, sign: str, given: str) -> bool:
    """Whether the value of a run is as asked for; one that is not known is not, unless with !=."""
    value = fields.get(name)
    if not _is_known(value):
        return sign == "!="
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return _COMPARISONS[sign](value, float(given))
        except ValueError:
            raise InputError(f"{name} is a number, such as {value!r}, and {given!r:.40} is none") from None
    if sign not in ("=", "==", "!="):
        raise InputError(f"{name} is no number but {value!r:.40}; it can be compared by = and != alone")
    return _COMPARISONS[sign](str(value).lower(), given.strip("\"'").lower())


def _check_choice(name: str, sign: str, given: str, coordinates: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises InputError for a word that the field, or the axis of a sweep, cannot have."""
    choices = _CHOICES.get(name) or choices_of(name)
    labels = dict.fromkeys(place[name] for place in coordinates.values() if name in place)
    if not choices and labels and all(isinstance(label, str) for label in labels):
        choices = tuple(labels)
    given = given.strip("\"'")
    if choices and sign in ("=", "==", "!=") and given.lower() not in map(str.lower, choices):
        raise unknown_name(name, given, choices)


def _values_in_words(name: str, found: Sequence[Listed]) -> str:
    """Which values there are of a field: numbers from the least to the largest, words with how many runs have them."""
    values: list[Any] = [value for one in found if _is_known(value := one.fields.get(name))]
    if not values:
        return f"none of them has a {name}"
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        least, most = min(values), max(values)
        return f"{name} is {least!r}" if least == most else f"{name} is from {least!r} to {most!r}"
    counts = Counter(one_line(str(value)) for value in values)
    told = [f"{value} ({as_count(n, 'run')})" for value, n in counts.most_common(MOST_VALUES)]
    more = f" and {len(counts) - MOST_VALUES:,} others" if len(counts) > MOST_VALUES else ""
    return f"{name} is {', '.join(told)}{more}"


def _is_known(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def _known_name(name: str, known: Mapping[str, Any]) -> str:
    """A name in full, given it or the end of it after a dot where only one has that. Raises InputError for one that no
    run has."""
    name = flag(name)
    if name in known:
        return name
    ends = [full for full in known if full.endswith(f".{name}")]
    if len(ends) > 1:
        raise InputError(f"{name} can be {' or '.join(ends)}: give its whole name")
    if not ends:
        rest = "`interp info RUN` shows the fields of task, model and training"
        raise unknown_name("field of a run", name, sorted(known, key=lambda name: "." in name), rest)
    return ends[0]
