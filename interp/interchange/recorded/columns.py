"""Which column is what: names as people write them (`train_loss`, `val/acc`, "Train Accuracy", `eval_accuracy`), or as
the user names them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from interp.errors import InputError, flag, unknown_name
from interp.interchange.recorded.tables import Column, Table

CURVES = ("train_loss", "test_loss", "train_accuracy", "test_accuracy", "weight_norm")
MOST_NAMED = 12
_WORDS = {
    "train": {"train", "training", "trn", "tr"},
    "test": {"test", "testing", "tst", "val", "valid", "validation", "eval", "evaluation", "dev", "heldout", "held"},
    "loss": {"loss", "losses", "nll", "ce", "xent", "crossentropy"},
    "accuracy": {"acc", "accs", "accuracy", "accuracies", "acc1", "top1"},
    "of weights": {"weight", "weights", "param", "params", "parameter", "parameters", "l2", "model"},
    "norm": {"norm", "norms"},
}
# What has one of these is no curve itself, but something made of it or beside it.
_BESIDE = frozenset(
    (
        *("min", "max", "std", "var", "stderr", "sem", "grad", "grads", "gradient", "best", "lr", "time", "delta"),
        *("diff", "ratio", "gap", "runtime", "restricted", "excluded", "trig", "reg", "regularization", "penalty"),
        *("top3", "top5", "top10", "topk", "se", "sd", "ci", "lower", "upper", "err", "error", "errors", "weight"),
        *("weights", "scale", "count", "counts", "ema"),
    )
)
_FILLERS = frozenset(("out", "cross", "entropy", "epoch", "mean", "avg", "average", "full", "metrics", "history", "1"))
# The names of steps, from what counts updates to what counts calls of a logger (W&B's `_step`).
_EPOCHS = ("epoch", "epochs", "train epoch", "epoch idx")
_STEPS = (
    *("step", "steps", "global step", "trainer global step", "train step", "optimizer step", "update", "updates"),
    *("num updates", "iteration", "iterations", "iter", "iters", "it", "train iter", "batch", "train global step"),
    *(*_EPOCHS, "log steps", "log epochs", "checkpoint epochs", "t", "_step"),
)
# Losses that are no cross-entropy in nats over all answers, whatever their scale.
_OTHER_LOSSES = frozenset(
    ("mse", "rmse", "squared", "l1", "l2", "mae", "hinge", "kl", "bce", "huber", "brier", "focal", "smooth")
)
_JOINED = re.compile(r"(train|training|test|val|valid|validation|eval|dev)(loss|losses|acc|accs|accuracy|accuracies)$")


class Chosen(NamedTuple):
    """A curve: in which table, under which name."""

    table: int
    name: str


def chosen(tables: Sequence[Table], named: Mapping[str, str | None]) -> tuple[dict[str, Chosen], list[str]]:
    """Which column is which of CURVES, and notes on what had to be chosen; `named`: what the user says.

    Raises InputError, with the columns that were seen, where none is recognized, a name is not there, or several
    columns may be meant.

    >>> from interp.interchange.recorded.tables import table_of
    >>> table = table_of({"epoch": [0, 1], "loss": [4.7, 1.0], "val_acc": [0.0, 0.9], "train_acc": [0.0, 1.0]})
    >>> {curve: column.name for curve, column in chosen([table], {})[0].items()}
    {'train_loss': 'loss', 'train_accuracy': 'train_acc', 'test_accuracy': 'val_acc'}
    """
    found: dict[str, Chosen] = {}
    notes: list[str] = []
    taken = {name for name in named.values() if name is not None}
    all_names = [name for table in tables for name in table]
    for curve in CURVES:
        if (name := named.get(curve)) is not None:
            found[curve] = _named(tables, name)
            continue
        candidates = [one for one in _candidates(tables, curve) if one[1].name not in taken]
        if candidates:
            found[curve] = _best(curve, candidates, tables, notes)
    _take_bare(tables, found, taken, notes)
    if not found.keys() - {"weight_norm"}:
        if empty := [one.name for curve in CURVES for _, one, _ in _candidates(tables, curve, or_empty=True)]:
            raise InputError(f"of curves there are only columns that hold no number: {seen(empty)}")
        errors = [name for name in all_names if {"err", "error", "errors"}.intersection(name_words(name))]
        hint = f" If {seen(errors[:1])} is an error rate, give 1 minus it, as an accuracy." if errors else ""
        raise InputError(
            f"no column is recognized as a loss or an accuracy; seen: {seen(all_names)}. Name them, such as "
            f"--train-accuracy COLUMN --test-accuracy COLUMN.{hint}"
        )
    return {curve: found[curve] for curve in CURVES if curve in found}, notes


def step_column(table: Table, named: str | None) -> str | None:
    """The column of steps of a table; None where there is none, and rows stand for steps.

    >>> from interp.interchange.recorded.tables import table_of
    >>> step_column(table_of({"_step": [0, 1], "epoch": [0, 100], "loss": [4.7, 1.0]}), None)
    'epoch'
    """
    if named is not None:
        if named not in table:
            raise unknown_name("column", named, table)
        return named
    return _first_of(table, _STEPS)


def epoch_column(table: Table) -> str | None:
    """The column that counts epochs; None where there is none."""
    return _first_of(table, _EPOCHS)


def _first_of(table: Table, names: Sequence[str]) -> str | None:
    by_words = {}
    for name, column in table.items():
        words = "_step" if name.strip().lower() == "_step" else " ".join(name_words(name))
        if words in names and (column.text is not None or np.isfinite(column.array).any()):
            by_words.setdefault(words, name)
    return next((by_words[words] for words in names if words in by_words), None)


def counts_logging(by: str, table: Table) -> bool:
    """Whether steps count calls of a logger, as W&B's `_step` does, which is "Step" in the tables that it writes.

    >>> from interp.interchange.recorded.tables import table_of
    >>> counts_logging("Step", table_of({"Step": [0], "brisk-1 - val/acc": [0.1]}))
    True
    """
    return by.strip().lower() == "_step" or (by == "Step" and any(" - " in name for name in table))


def is_no_cross_entropy(name: str) -> bool:
    """Whether a loss is another by its name.

    >>> is_no_cross_entropy("val_mse_loss"), is_no_cross_entropy("val_loss")
    (True, False)
    """
    return not _OTHER_LOSSES.isdisjoint(name_words(name))


def seen(names: Sequence[str]) -> str:
    """Some names, as they are shown to a reader."""
    some = ", ".join(repr(name[:60]) for name in names[:MOST_NAMED])
    return f"{some} and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else some or "none"


def _named(tables: Sequence[Table], name: str) -> Chosen:
    for index, table in enumerate(tables):
        if name in table:
            return Chosen(index, name)
    raise unknown_name("column", name, [name for table in tables for name in table])


def name_words(name: str) -> list[str]:
    """The words of a name, in small letters; of "run - train/lossPerEpoch" those after the run that W&B puts before."""
    own = name.rpartition(" - ")[2]
    parts = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", own)
    words = [word for word in re.split(r"[^A-Za-z0-9]+", parts.lower()) if word]
    joined = [_JOINED.match(word) for word in words]
    return [part for word, match in zip(words, joined, strict=True) for part in (match.groups() if match else [word])]


def _candidates(tables: Sequence[Table], curve: str, *, or_empty: bool = False) -> Iterator[tuple[int, Chosen, int]]:
    """Columns that may be a curve: how many other words their names have, which, and how many numbers they hold."""
    first, second = ("of weights", "norm") if curve == "weight_norm" else tuple(curve.split("_"))
    for index, table in enumerate(tables):
        for name, column in table.items():
            words = name_words(name)
            if _BESIDE.intersection(words) - (_WORDS[first] if curve == "weight_norm" else set()):
                continue
            if "top" in words and "1" not in words:
                continue
            if _is(words, first) and _is(words, second) and not (first == "test" and _is(words, "train")):
                known = _WORDS[first] | _WORDS[second] | _FILLERS
                count = int(np.isfinite(column.array).sum())
                if count or or_empty or column.text is not None:
                    yield sum(word not in known for word in words), Chosen(index, name), count


def _is(words: Sequence[str], what: str) -> bool:
    if what == "loss" and {"cross", "entropy"} <= set(words):
        return True
    return not _WORDS[what].isdisjoint(words)


def _best(
    curve: str, candidates: Sequence[tuple[int, Chosen, int]], tables: Sequence[Table], notes: list[str]
) -> Chosen:
    """The candidate with the fewest other words among those that hold numbers enough; where several are as good, the
    same column over again or an error."""
    most = max(count for *_, count in candidates)
    full = [one for one in candidates if 2 * one[2] >= most]
    least = min(extra for extra, *_ in full)
    best = [one for extra, one, _ in full if extra == least]
    if len(best) > 1 and curve.startswith("test"):  # both were recorded: the words in their order in the paper
        best = [one for one in best if "test" in name_words(one.name)] or best
    if len({tuple(tables[one.table][one.name].numbers) for one in best}) > 1:
        names = [one.name for one in best]
        raise InputError(f"which is the {curve.replace('_', ' ')}? {seen(names)}; say --{flag(curve)} COLUMN")
    others = [one.name for _, one, _ in candidates if one not in best]
    if least and not others:
        what = f"{curve.replace('_', ' ')}, though its name says more (--{flag(curve)})"
        notes.append(f"{best[0].name!r} was taken for the {what}.")
    if others:
        notes.append(
            f"Of several columns {best[0].name!r} was taken for the {curve.replace('_', ' ')}, not {seen(others[:3])}."
        )
    return best[0]


def _take_bare(tables: Sequence[Table], found: dict[str, Chosen], taken: set[str], notes: list[str]) -> None:
    """A loss that does not say of what is that of training; an accuracy only where another one is of test examples."""
    for metric in ("loss", "accuracy"):
        curve = f"train_{metric}"
        bare = [
            Chosen(index, name)
            for index, table in enumerate(tables)
            for name in table
            if name not in taken
            and set(name_words(name)) - _FILLERS
            and set(name_words(name)) <= _WORDS[metric] | _FILLERS
        ]
        if len(bare) != 1:
            continue
        is_more = curve not in found or _count(tables, bare[0]) > 2 * _count(tables, found[curve])
        if metric == "accuracy" and curve not in found and "test_accuracy" not in found:
            notes.append(
                f"Column {bare[0].name!r} does not say of which examples it is, and was left out: say "
                "--train-accuracy or --test-accuracy."
            )
        elif is_more:
            found[curve] = bare[0]
            notes.append(f"Column {bare[0].name!r} was taken for that of training.")


def _count(tables: Sequence[Table], one: Chosen) -> int:
    column: Column = tables[one.table][one.name]
    return int(np.isfinite(column.array).sum())
