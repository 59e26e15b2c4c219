"""The best of many runs: chosen on validation pairs, reported on test pairs.

Runs that differ in seeds alone are one setting. Of each setting the mean over its runs of what is chosen by is taken,
at their last logged line; the setting with the least validation loss, or the highest validation accuracy, is chosen,
and only then are test pairs looked at, and only its. What would choose by the pairs that are reported is refused: the
best of many noisy numbers is better than what it is a number of. (To look at test accuracies in their order is no
choice: `interp list --sort`.)

Over several seeds the interval of the held-out accuracy is Student's, of one run Wilson's over independent held-out
pairs. A setting of which a run is not complete, or diverged, is not chosen from: its other runs would stand for it.

It cannot tell that the chosen setting is better than the next one: of nearly equal validation losses either may be.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from interp.errors import InputError, unknown_name
from interp.experiment import TrainingConfig, hash_of
from interp.mathematics.intervals import mean_interval, wilson_interval
from interp.runs import Run, configuration, ending_of, open_run, run_folders
from interp.sweeps import read_sweep

CHOSEN_BY = {"validation_loss": 1, "validation_accuracy": -1}  # the sign that makes the best the least
REPORTED = ("test", "held_out", "unmirrored_test")
SEEDS = ("task.seed", "model.seed", "training.seed")


@dataclass(frozen=True)
class Setting:
    """Runs that differ in seeds alone: the folders; in which fields the setting differs from the others; and the mean
    over the runs of what is chosen by."""

    runs: tuple[Path, ...]
    fields: Mapping[str, Any]
    chosen_by: float

    @property
    def in_words(self) -> str:
        """Its fields, or the folder of its only run where it has none of its own.

        >>> Setting((Path("a"),), {"training.lr": 0.01}, 0.5).in_words, Setting((Path("a"),), {}, 0.5).in_words
        ('training.lr 0.01', 'a')
        """
        fields = ", ".join(f"{name} {value}" for name, value in self.fields.items())
        return fields or ", ".join(run.name for run in self.runs)


@dataclass(frozen=True)
class Best:
    """The setting that was chosen, `by` what; the others, the next best first; means over the runs of the chosen one on
    test pairs (`test_loss`, `test_accuracy`, `held_out_accuracy` with its 95 % `interval`); and what is to be known of
    it (`notes`)."""

    by: str
    setting: Setting
    others: tuple[Setting, ...]
    test_loss: float
    test_accuracy: float
    held_out_accuracy: float
    interval: tuple[float, float]
    notes: tuple[str, ...]


def best(
    folder: str | Path,
    by: str = "validation_loss",
    *,
    progress: Callable[[Sequence[Path]], Iterable[Path]] = lambda paths: paths,
) -> Best:
    """The best setting of the runs under a folder, chosen `by` "validation_loss" or "validation_accuracy".

    Raises InputError for a choice by what is reported, for a run without validation pairs, for runs of several tasks or
    (by loss) of several losses, and where no setting is complete.

    >>> best("sweeps/decays", by="test_accuracy")
    Traceback (most recent call last):
        ...
    interp.errors.InputError: the best by test_accuracy would be chosen on the pairs that it is reported on; choose by \
validation_loss or validation_accuracy, or look at all of them (interp list --sort test-accuracy)
    """
    by = by.replace("-", "_")
    _check_can_choose(by)
    folder = Path(folder)
    paths = list(run_folders(folder))
    if not paths:
        raise InputError(f"there are no runs under {folder}")
    runs = {path: open_run(path) for path in progress(paths)}
    _check_comparable(runs, by)
    settings, notes = _settings(runs, by)
    sweep, names = read_sweep(folder), {path.name for path in paths}
    if sweep is not None and (missing := len(sweep.runs.keys() - names)):
        notes.append(
            f"{missing:,} runs of the sweep are not there, and their settings are told without them: interp list"
        )
    if not settings:
        raise InputError(f"no setting of {folder} is complete with a {by.replace('_', ' ')}: {'; '.join(notes)}")
    first, *rest = sorted(settings, key=lambda one: (CHOSEN_BY[by] * one.chosen_by, one.runs))
    ties = sum(one.chosen_by == first.chosen_by for one in rest)
    if ties:
        notes.append(f"{ties:,} more have the same {by.replace('_', ' ')}; of these the first by name is taken")
    if len({run.task.seed for run in runs.values()}) > 1:
        notes.append(
            "the runs have several task.seed: validation pairs of one are test pairs of another; for a choice that no "
            "test pair had a part in give all the same"
        )
    return _report(by, first, tuple(rest), [runs[path] for path in first.runs], notes)


def _check_can_choose(by: str) -> None:
    tells_of_test = by.rpartition("_")[0] in REPORTED or by in ("verdict", "generalized_at", "generalized_after")
    if tells_of_test:
        raise InputError(
            f"the best by {by} would be chosen on the pairs that it is reported on; choose by "
            f"{' or '.join(CHOSEN_BY)}, or look at all of them (interp list --sort {by.replace('_', '-')})"
        )
    if by not in CHOSEN_BY:
        raise unknown_name("choice by", by, CHOSEN_BY)


def _check_comparable(runs: Mapping[Path, Run], by: str) -> None:
    for path, run in runs.items():
        if not run.task.mask("validation").any():
            raise InputError(
                f"{path} has no validation pairs to choose on; train it with --task.validation-fraction 0.5"
            )
    tasks = dict.fromkeys(run.task.title for run in runs.values())
    if len(tasks) > 1:
        raise InputError(f"what is best can be told of one task, and these are {' and '.join(list(tasks)[:2])}")
    losses = dict.fromkeys((run.training or TrainingConfig()).loss_title for run in runs.values())
    if len(losses) > 1 and by == "validation_loss":
        raise InputError(
            f"these were trained on several losses ({' and '.join(list(losses)[:2])}), which do not compare; choose by "
            "validation_accuracy"
        )


def _settings(runs: Mapping[Path, Run], by: str) -> tuple[list[Setting], list[str]]:
    """Those of which every run is complete, and a note of how many are not."""
    groups: dict[str, list[Path]] = {}
    fields = {
        path: {name: v for name, v in configuration(run).items() if name not in SEEDS} for path, run in runs.items()
    }
    for path in runs:
        groups.setdefault(hash_of({name: str(value) for name, value in fields[path].items()}), []).append(path)
    names = dict.fromkeys(name for own in fields.values() for name in own)
    varied = [name for name in names if len({str(own.get(name)) for own in fields.values()}) > 1]
    found, left_out = [], 0
    for paths in groups.values():
        endings = [ending_of(runs[path]) for path in paths]
        values = [one.metrics.get(by, math.nan) for one in endings]
        if not all(one.state in ("complete", "recorded") for one in endings) or not np.isfinite(values).all():
            left_out += 1
            continue
        own = {name: fields[paths[0]].get(name) for name in varied}
        found.append(Setting(tuple(sorted(paths)), own, float(np.mean(values))))
    what = "1 setting is" if left_out == 1 else f"{left_out:,} settings are"
    return found, [f"{what} left out: a run of it is unfinished or diverged"] if left_out else []


def _report(by: str, first: Setting, rest: tuple[Setting, ...], runs: Sequence[Run], notes: Sequence[str]) -> Best:
    """What the chosen setting has on test pairs."""
    metrics = [ending_of(run).metrics for run in runs]
    unseen = [_held_out_accuracy(run, own) for run, own in zip(runs, metrics, strict=True)]
    n = runs[0].task.n_held_out
    interval = mean_interval(np.array([unseen]))[:, 0]
    if len(runs) == 1:
        interval = wilson_interval(round(unseen[0] * n), n) if math.isfinite(unseen[0]) else (math.nan, math.nan)
    lower, upper = (float(end) for end in interval)
    return Best(
        by=by,
        setting=first,
        others=rest,
        test_loss=float(np.mean([own.get("test_loss", math.nan) for own in metrics])),
        test_accuracy=float(np.mean([own.get("test_accuracy", math.nan) for own in metrics])),
        held_out_accuracy=float(np.mean(unseen)),
        interval=(max(lower, 0.0), min(upper, 1.0)),  # Student's knows no end of what can be
        notes=tuple(notes),
    )


def _held_out_accuracy(run: Run, metrics: Mapping[str, float]) -> float:
    known = run.curves.accuracy.sel(split="held_out").values
    return float(known[-1]) if len(known) and metrics else math.nan
