"""The runs of an experiment one by one: how each was configured differently, and what came of it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from interp.mathematics import grokking
from interp.runs import Run, configuration_differences

# What becomes of a run that begins with the weights of one that generalized: this, or collapse.
KEPT = "still generalizes"


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
    logged metrics; a run that goes on from the weights of another still generalizes at its end, or collapsed."""
    differing = configuration_differences(list(runs.values()))
    continued = [run.info.get("initial_weights") is not None for run in runs.values()]
    found = []
    for place, (name, run) in enumerate(runs.items()):
        metrics = run.metrics
        accuracies, losses = (
            metrics[[f"train_{curve}", f"test_{curve}"]].to_array().values for curve in ("accuracy", "loss")
        )
        events = grokking.events(metrics.step.values, accuracies, losses, math.log(run.task.p))
        if continued[place]:  # its curves begin where others end
            happened, memorized_at, generalized_at = KEPT if events.test[-1] == 1 else "collapse", math.nan, math.nan
        else:
            happened, memorized_at = events.verdict, events.memorized[0]
            generalized_at = events.generalized_for_good[0]
        found.append(
            RunOutcome(
                name=name,
                fields={field: values[place] for field, values in differing.items()},
                verdict=happened,
                memorized_at=memorized_at,
                generalized_at=generalized_at,
                train_accuracy=float(metrics.train_accuracy.values[-1]),
                test_accuracy=float(metrics.test_accuracy.values[-1]),
                weight_norm=float(metrics.weight_norm.values[-1]),
                is_start=any(continued) and not continued[place],
            )
        )
    return found
