"""Tables that hold no curves of one run, or hold them in another shape: several runs below each other, a row for each
split, steps that begin anew with every epoch. They are refused, with what mends them."""

import re
from collections.abc import Mapping

import numpy as np

from interp.errors import InputError
from interp.interchange.recorded.columns import epoch_column, name_words
from interp.interchange.recorded.ordering import Ordered
from interp.interchange.recorded.tables import MOST_WORDS, Column, Table

# Columns that say whose row it is: which run, and which split or measure.
_RUNS = re.compile(
    r"(run|run (id|name|index)|seed|id|name|group|experiment|exp|trial|config|model|wd|weight decay|"
    r"(train )?fraction|frac train)$"
)
_SPLITS = re.compile(r"(split|phase|set|subset|dataset|mode|stage|partition|metric|tag|key|variable)$")


def check_is_one_run(table: Table) -> None:
    """Raises InputError where rows of several runs, or of several splits, stand in one table: a column as long as the
    longest says whose they are, and has several values, each twice or more on the average.

    >>> from interp.interchange.recorded.tables import table_of
    >>> check_is_one_run(table_of({"seed": [0, 1, 0, 1], "step": [0, 0, 9, 9]}))
    Traceback (most recent call last):
    ...
    interp.errors.InputError: column 'seed' has 2 values (0, 1): several runs? Keep the rows of one, a file for each
    run; of one run that was resumed leave this column out
    """
    length = max((len(column.numbers) for column in table.values()), default=0)
    for name, column in table.items():
        kinds = _kinds(column) if len(column.numbers) == length else []
        if not 1 < len(kinds) <= min(length / 2, MOST_WORDS):
            continue
        words, some = " ".join(name_words(name)), ", ".join(kinds[:3]) + (" …" if len(kinds) > 3 else "")
        said = f"column {name!r} has {len(kinds):,} values ({some})"
        if _SPLITS.match(words) and column.words:
            raise InputError(
                f"{said}: a row for each split or measure? Give each a column of its own (in pandas, "
                f"table.pivot(index=…, columns={name!r}, values=…)), such as step,train_accuracy,test_accuracy; "
                "where it is neither, leave this column out"
            )
        if _RUNS.match(words):
            raise InputError(
                f"{said}: several runs? Keep the rows of one, a file for each run; of one run that was resumed leave "
                "this column out"
            )


def _kinds(column: Column) -> list[str]:
    numbers = column.array
    return [*map(repr, column.words), *(f"{number:g}" for number in np.unique(numbers[np.isfinite(numbers)]))]


def check_goes_on(table: Table, by: str, steps: np.ndarray) -> None:
    """Raises InputError where the steps of rows begin anew whenever the epoch beside them goes on: they would be read
    as restarts, which undo all epochs but the last."""
    epochs = epoch_column(table)
    if epochs is None or epochs == by:
        return
    epoch = table[epochs].array
    rows = np.isfinite(steps) & np.isfinite(epoch) if len(epoch) == len(steps) else np.zeros(len(steps), bool)
    back, goes_on = np.diff(steps[rows]) < 0, np.diff(epoch[rows])
    if back.any() and (goes_on >= 0).all() and (goes_on[back] > 0).all():
        raise InputError(
            f"{by!r} begins anew with every {epochs!r}: write a column step that goes on, such as {epochs} times the "
            f"batches of an epoch, plus {by}"
        )


def check_is_one_value_a_step(name: str, ordered: Ordered, unit: str) -> None:
    """Raises InputError where half of the steps have several values that differ, or some have and the log goes back
    too often to tell which is the later one."""
    n, several = len(ordered.steps), ordered.contradicted
    if several and (ordered.is_unclear or 2 <= several >= n / 2):
        each = "an epoch" if unit == "epoch" else f"a {unit}"
        often = ", and goes back too often for restarts" if ordered.is_unclear else ""
        raise InputError(
            f"{name!r} has several values at {several:,} of {n:,} {unit}s{often}: several runs, or several rows "
            f"{each}? Keep one row {each}, a file for each run"
        )


def check_lengths(series: Mapping[str, int]) -> None:
    """Raises InputError where columns without steps are of several lengths; `series`: the length of each.

    >>> check_lengths({"train_acc": 10_000, "test_acc": 100})
    Traceback (most recent call last):
    ...
    interp.errors.InputError: 'train_acc' has 10,000 values and 'test_acc' 100, and there is no column of steps: give
    one as long as both (null where a curve was not measured), or each curve a file with its steps
    """
    if len(set(series.values())) > 1:
        long, short = max(series, key=series.__getitem__), min(series, key=series.__getitem__)
        raise InputError(
            f"{long!r} has {series[long]:,} values and {short!r} {series[short]:,}, and there is no column of steps: "
            "give one as long as both (null where a curve was not measured), or each curve a file with its steps"
        )
