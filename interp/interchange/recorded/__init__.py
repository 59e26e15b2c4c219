"""Learning curves that others recorded, without checkpoints: read from a file or from memory, and explained."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from interp.errors import InputError, check_choice, check_integer
from interp.explanation import Curves, RecordedCurves, explain_curves
from interp.figures import as_count
from interp.interchange.recorded.columns import (
    CURVES,
    chosen,
    counts_logging,
    is_no_cross_entropy,
    step_column,
)
from interp.interchange.recorded.doubts import goes_on_to, of_an_early_end, of_counting
from interp.interchange.recorded.ordering import Ordered, in_order
from interp.interchange.recorded.shapes import (
    check_goes_on,
    check_is_one_run,
    check_is_one_value_a_step,
    check_lengths,
)
from interp.interchange.recorded.tables import Column, Table, read_table, table_of

SCALES = ("share", "percent", "each")
LOSSES = ("cross-entropy", "other")
MOST_STEP = 2**31 - 1
# A share may pass 1 by so much, as a mean of small floats does.
NOISE = 1e-4


def curves(
    source: "str | Path | Sequence[str | Path] | Mapping[Any, Any]",
    *,
    step: str | None = None,
    train_loss: str | None = None,
    test_loss: str | None = None,
    train_accuracy: str | None = None,
    test_accuracy: str | None = None,
    weight_norm: str | None = None,
    every: int = 1,
    first: int = 0,
    accuracies: str | None = None,
    loss: str | None = None,
    classes: int | None = None,
) -> Curves:
    """What happened in a training of which only curves are left: a verdict, its steps, the falls, and what they cannot
    tell.

    `source`: a file (csv, tsv, json, jsonl, npz), several with one curve each, or a mapping of names to numbers, such
    as a data frame. Columns are recognized by their names, or named: `step`, `train_loss` and so on. Where there is no
    column of steps, rows are `every` steps apart and begin at `first`. `accuracies`: "share", "percent", or "each" by
    its own largest value; by default that is told from them all. `loss`: "other" where it is no cross-entropy in nats,
    and cannot stand for accuracies; by default it is one, unless its name says that of another (mse, hinge). `classes`:
    how many answers there are.

    Raises InputError for what is no table of curves, or one of several runs, and names the columns that were seen.

    >>> late = [min(1.0, 0.01 + 0.001 * max(0, step - 900)) for step in range(0, 3000, 10)]
    >>> told = curves({"step": range(0, 3000, 10), "train_acc": [0.01] * 10 + [1.0] * 290, "test_acc": late})
    >>> told.numbers["run"]["verdict"], told.numbers["run"]["memorized_at"], told.numbers["run"]["generalized_at"]
    ('grokking', 100, 1880)
    """
    if loss is not None:
        check_choice("loss", loss, LOSSES)
    if accuracies is not None:
        check_choice("accuracies", accuracies, SCALES)
    check_integer("every", every, 1, MOST_STEP)
    check_integer("first", first, 0, MOST_STEP)
    if classes is not None:
        check_integer("classes", classes, 2, MOST_STEP)
    tables, name = _tables(source)
    with _naming(() if hasattr(source, "keys") else name.split(", ")):
        for table in tables:
            check_is_one_run(table)
        named: dict[str, str | None] = dict(
            zip(CURVES, (train_loss, test_loss, train_accuracy, test_accuracy, weight_norm), strict=True)
        )
        found, notes = chosen(tables, named)
        read = {curve: _read(tables[one.table], one.name, step, every, first) for curve, one in found.items()}
        check_lengths({of.name: len(of.column.numbers) for of in read.values() if of.by is None})
        units = {of.unit for of in read.values()}
        if len(units) > 1:
            raise InputError(f"the curves are counted in {' and in '.join(sorted(units))}; name one with --step COLUMN")
        series = {curve: of.series for curve, of in read.items()}
        for of in read.values():
            notes += [note for note in of.notes if note not in notes]
        notes += _what_ordering_did(series)
        values, said = _as_shares(series, {curve: of.column for curve, of in read.items()}, accuracies, classes)
        notes += said
        columns = {curve: of.name for curve, of in read.items()}
        others = [name for curve, name in columns.items() if curve.endswith("loss") and is_no_cross_entropy(name)]
        if loss is None and others:
            notes.append(
                f"By its name {others[0]!r} is no cross-entropy in nats: losses stand for no accuracy (--loss)."
            )
        steps = np.unique(np.concatenate([one.steps for one in series.values()])).astype(np.int32)
        aligned = {}
        for curve, one in series.items():
            aligned[curve] = np.full(len(steps), np.nan)
            aligned[curve][np.searchsorted(steps, one.steps)] = values[curve]
        _check(aligned, columns)
        ends = [of.log_ends for of in read.values() if of.log_ends is not None]
        recorded = RecordedCurves(
            steps,
            aligned,
            name,
            columns,
            unit=units.pop(),
            notes=tuple(notes),
            classes=classes,
            is_cross_entropy=not others if loss is None else loss == "cross-entropy",
            counts_updates=not any(of.counts_logging for of in read.values()),
            doubts=tuple(dict.fromkeys(doubt for of in read.values() for doubt in of.doubts)),
            log_ends=max(ends) if len(ends) == len(read) else None,
        )
        return explain_curves(recorded)


@contextlib.contextmanager
def _naming(files: Sequence[str]) -> Iterator[None]:
    """What is refused of files names one of them."""
    try:
        yield
    except InputError as error:
        if not files or any(file in str(error) for file in files):
            raise
        raise InputError(f"{', '.join(files[:4])}: {error}") from None


def _tables(source: Any) -> tuple[list[Table], str]:
    if hasattr(source, "keys"):
        table = table_of(source)
        if not table:
            raise InputError("there are no columns of numbers; give lists by name, such as train_accuracy and step")
        return [table], "curves"
    paths = [Path(source)] if isinstance(source, str | Path) else [Path(path) for path in source]
    if not paths:
        raise InputError("no file of curves is named")
    return [read_table(path) for path in paths], ", ".join(path.name for path in paths)


class _Read(NamedTuple):
    """A curve in the order of its steps, its column, the one that its steps are from (None: there is none), what these
    are counted in, where the log ends if the curve ends before (`goes_on_to`), and what is to be said of it."""

    series: Ordered
    name: str
    column: Column
    by: str | None
    unit: str
    counts_logging: bool
    log_ends: int | None
    notes: list[str]
    doubts: list[str]


def _read(table: Table, name: str, step: str | None, every: int, first: int) -> _Read:
    column = table[name]
    values, notes = column.array, []
    if column.text is not None:
        row, text = column.text
        raise InputError(f"column {name!r} has {text!r} in row {row}; expected numbers, or nothing")
    if column.infinite:
        notes.append(f"{name!r} is infinite in {column.infinite:,} of {len(values):,} rows, which were left out.")
    by = step_column(table, step)
    unit = "epoch" if by is not None and "epoch" in by.lower() else "step"
    if by is None:
        steps = first + every * np.arange(len(values), dtype=np.float64)
        notes.append(
            f"There is no column of steps: the first row was taken for step {first:,}, and the next ones for {every:,} "
            f"{'step' if every == 1 else 'steps'} later each (--every, --first)."
        )
    else:
        steps = _steps(table, by, len(values), name)
        check_goes_on(table, by, np.where(np.isfinite(values), steps, np.nan))
    known = np.isfinite(values) & np.isfinite(steps)
    if not known.any():
        raise InputError(f"column {name!r} holds no number" + (" at a known step" if by else ""))
    if lost := int((np.isfinite(values) & ~np.isfinite(steps)).sum()):
        of = f"{as_count(lost, 'number')} of {name!r}"
        notes.append(f"{of} without a step {'was' if lost == 1 else 'were'} left out.")
    ordered = in_order(steps[known], values[known])
    check_is_one_value_a_step(name, ordered, unit)
    log_ends = goes_on_to(column, ordered, steps)
    doubts = [*of_an_early_end(name, ordered, log_ends, unit)]
    if by is not None:
        doubts += of_counting(table, by, unit, ordered.steps[0])
    is_logging = by is not None and counts_logging(by, table)
    return _Read(ordered, name, column, by, unit, is_logging, log_ends, notes, doubts)


def _steps(table: Table, by: str, length: int, beside: str) -> np.ndarray:
    column = table[by]
    if column.text is not None:
        row, text = column.text
        raise InputError(f"column {by!r} has {text!r} in row {row}; expected steps")
    steps = column.array
    if len(steps) != length:
        raise InputError(
            f"{beside!r} has {length:,} values and {by!r} {len(steps):,}; give as many, null where nothing was measured"
        )
    known = steps[np.isfinite(steps)]
    if (known != np.round(known)).any():
        raise InputError(
            f"{by!r} holds fractions ({known[known != np.round(known)][0]:g}), and steps are whole: name a column of "
            f"whole ones with --step, or write one, step, such as {by} times the updates in one, rounded"
        )
    if len(known) and (known.min() < 0 or known.max() > MOST_STEP):
        raise InputError(f"{by!r} must hold steps from 0 to 2³¹ − 1, got {known.min():g} to {known.max():g}")
    return steps


def _what_ordering_did(series: Mapping[str, Ordered]) -> list[str]:
    notes = []
    backs = next((one.went_back_to for one in series.values() if one.went_back_to), ())
    if backs:
        undone = max(one.undone for one in series.values())
        begins = min(int(one.steps[0]) for one in series.values() if one.went_back_to)
        places = list(dict.fromkeys(backs))
        where = ", ".join(f"{step:,}" for step in places[:5]) + (" …" if len(places) > 5 else "")
        if len(backs) > len(places):
            where += f" ({len(backs):,} times)"
        notes.append(
            f"The log goes back to step {where} and repeats steps: taken for a restart, of which the later pass counts "
            f"({undone:,} earlier values undone)."
        )
        if any(step <= begins for step in backs):
            notes.append(
                "It begins again from its first step: if these are several runs in one file, only the last is told; "
                "cut the file."
            )
    if (replaced := max(one.replaced for one in series.values())) > 0:
        notes.append(f"Up to {replaced:,} values of a curve stand at a step that has another: the later one counts.")
    if not backs and not all(one.is_sorted for one in series.values()):
        notes.append("Rows were not in the order of their steps, and were sorted.")
    return notes


def _as_shares(
    series: Mapping[str, Ordered], columns: Mapping[str, Column], accuracies: str | None, classes: int | None
) -> tuple[dict[str, np.ndarray], list[str]]:
    """The values of the curves, accuracies as shares; and what was said of that."""
    values = {curve: one.values for curve, one in series.items()}
    named = [curve for curve in values if curve.endswith("accuracy")]
    large = {curve: bool(values[curve].max() > 1 + NOISE) or columns[curve].signs > 0 for curve in named}
    if accuracies in ("share", "percent"):
        is_percent = dict.fromkeys(named, accuracies == "percent")
    elif accuracies == "each" or len(set(large.values())) < 2:
        is_percent = large
    else:
        big, small = (next(curve for curve in named if large[curve] is which) for which in (True, False))
        raise InputError(
            f"{big.replace('_', ' ')} goes to {values[big].max():g} and {small.replace('_', ' ')} to "
            f"{values[small].max():g}: in per cent both (--accuracies percent), or each as its own values say "
            "(--accuracies each)?"
        )
    for curve in named:
        if is_percent[curve]:
            values[curve] = values[curve] / 100
    told = [curve.replace("_", " ") for curve in named if is_percent[curve]]
    if told:
        return values, [f"Read as per cent: {' and '.join(told)}."]
    return values, [] if accuracies else _read_as_shares([values[curve] for curve in named], classes)


def _read_as_shares(accuracies: list[np.ndarray], classes: int | None) -> list[str]:
    """What is to be said of accuracies that never pass 1 where they were not said to be shares; an error where all
    begin as per cent of a guess would."""
    highest = max((float(of.max()) for of in accuracies), default=1.0)
    if classes and highest < 1 - NOISE and all(0.5 <= of[0] * classes / 100 <= 2 for of in accuracies):
        raise InputError(
            f"the accuracies never pass {highest:g}, and begin near {100 / classes:.2g}, a guess among {classes:,} in "
            "per cent: say --accuracies percent, or --accuracies share"
        )
    return [f"Read as shares: the highest accuracy is {highest:g} (--accuracies)."] if highest < 0.99 else []


def _check(values: dict[str, np.ndarray], columns: Mapping[str, str]) -> None:
    for curve, of in values.items():
        known = of[np.isfinite(of)]
        low, high = known.min(), known.max()
        if curve.endswith("accuracy"):
            if low < -NOISE or high > 1 + NOISE:
                raise InputError(
                    f"{columns[curve]!r} goes from {low:g} to {high:g} as shares; no accuracy does. If it is another "
                    "thing, name the right column"
                )
            values[curve] = np.clip(of, 0, 1)
        elif low < 0:
            raise InputError(
                f"{columns[curve]!r} has a negative value, {low:g}; a loss or a norm has none. Name the right column"
            )


__all__ = ["curves"]
