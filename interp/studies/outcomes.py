"""The runs of an experiment one by one: how each was configured differently, and what came of it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from interp.mathematics import grokking
from interp.runs import Run, configuration_differences, events_of

# What becomes of a run that begins with the weights of one that generalized: these, or collapse.
KEPT, KEPT_IN_PART = "still generalizes", "generalizes in part"


@dataclass(frozen=True)
class RunOutcome:
    """One run: its name, the values of the fields in which runs of the experiment differ, what happened, and its last
    metrics (NaN where unknown). `is_start`: others go on from its weights."""

    name: str
    fields: dict[str, Any]
    verdict: str
    memorized_at: float
    generalized_at: float
    train_accuracy: float
    test_accuracy: float
    weight_norm: float
    is_start: bool


def outcomes(runs: Mapping[str, Run]) -> list[RunOutcome]:
    """The outcome of every run, in the order given; the verdicts are those of `interp.mathematics.grokking`, from the
    logged metrics. A run that goes on from the weights of another still generalizes at its end (99 % of the held-out
    pairs), generalizes in part, or collapsed."""
    differing = configuration_differences(list(runs.values()))
    continued = [run.info.get("initial_weights") is not None for run in runs.values()]
    found = []
    for place, (name, run) in enumerate(runs.items()):
        metrics, events = run.metrics, events_of(run)
        happened = _what_was_kept(run) if continued[place] else events.verdict  # its curves begin where others end
        found.append(
            RunOutcome(
                name=name,
                fields={field: values[place] for field, values in differing.items()},
                verdict=happened,
                memorized_at=_at(None if continued[place] else events.memorized),
                generalized_at=_at(None if continued[place] else events.generalized),
                train_accuracy=float(metrics.train_accuracy.values[-1]),
                test_accuracy=float(metrics.test_accuracy.values[-1]),
                weight_norm=float(metrics.weight_norm.values[-1]),
                is_start=any(continued) and not continued[place],
            )
        )
    return found


def _at(crossing: grokking.Crossing | None) -> float:
    return math.nan if crossing is None else crossing.at


def _what_was_kept(run: Run) -> str:
    """By the middle one of the last three logged steps, so that it does not hang on one of them."""
    curves, chance = run.curves.sel(split="held_out"), math.log(run.task.n_classes)
    accuracy, loss = curves.accuracy.values, curves.loss.values
    states = grokking.reached(accuracy, loss, chance, grokking.level_for(int(run.task.mask("held_out").sum())))
    if len(states) and np.median(states[-grokking.LOST_POINTS :]) == 1:
        return KEPT
    return "collapse" if grokking.is_lost(states, accuracy, loss) else KEPT_IN_PART
