"""How a network stood at each step at which it was looked at: three losses, and where it would have been stopped."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Bool, Float, Int

from interp.experiment import Examples, Samples
from interp.runs import Checkpoint, Run
from interp.studies.digit_networks import brier
from interp.studies.double_descent_design import Arm, DoubleDescentDesign

LOSSES = {"test_error": "test error", "brier": "Brier score", "cross_entropy": "cross-entropy (nats)"}
SCORES = {"training_error": "training error, on the labels trained on", **LOSSES}


@dataclass(frozen=True)
class Curves:
    """Of one network at each kept step: `scores` by the names of SCORES, and `stopped_error`, the test error of who
    stops early. That step is chosen on one half of the test examples and reported on the other, and the other way
    about: chosen and reported on the same ones, the least of many errors is below what the network is good for."""

    steps: Int[np.ndarray, " step"]
    scores: Mapping[str, Float[np.ndarray, " step"]]
    stopped_error: float


def curves(run: Run) -> Curves:
    """Read the checkpoints of a run. Tested is on true labels: of digits on all test examples, of addition on those
    that no symmetry makes of a training pair."""
    halves = _halves(run.task)
    rows, of_halves = [], []
    for step in run.steps:
        row, error = _scores(run[step], halves)
        rows.append(row)
        of_halves.append(error)
    return Curves(
        np.array(run.steps),
        dict(zip(SCORES, np.array(rows).T, strict=True)),
        stopped_error(np.array(of_halves)),
    )


def stopped_error(of_halves: Float[np.ndarray, "step half"]) -> float:
    """The error on each half at the step that is best for the other, averaged.

    >>> stopped_error(np.array([[0.5, 0.5], [0.1, 0.3], [0.2, 0.2]]))  # stopped at 1, reported .3; at 2, reported .2
    0.25
    """
    chosen = of_halves.argmin(0)
    return float((of_halves[chosen[0], 1] + of_halves[chosen[1], 0]) / 2)


def _halves(task: Examples) -> tuple[Bool[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """Two halves of what is tested on. A pair (a, b) and its mirror, which a network may answer alike, are in one."""
    test = np.flatnonzero(task.mask("held_out").reshape(-1))
    place = np.arange(len(test)) if isinstance(task, Samples) else test // task.shape[-1] + test % task.shape[-1]
    first, second = (np.zeros(task.labels.size, dtype=bool) for _ in range(2))
    first[test[place % 2 == 0]] = second[test[place % 2 == 1]] = True
    return first, second


def _scores(
    checkpoint: Checkpoint, halves: tuple[Bool[np.ndarray, " n"], Bool[np.ndarray, " n"]]
) -> tuple[list[float], list[float]]:
    """The values of SCORES, and the error on each half."""
    task = checkpoint.task
    logits = checkpoint.logits.reshape(-1, task.n_classes).double()
    answers, train = logits.argmax(1).numpy(), task.mask("train").reshape(-1)
    true = task.true_labels.reshape(-1)
    test = np.flatnonzero(halves[0] | halves[1])
    log_probabilities = logits[test].log_softmax(1)
    labels = torch.from_numpy(true[test])
    row = [
        float((answers != task.labels.reshape(-1))[train].mean()),
        float((answers != true)[test].mean()),
        brier(log_probabilities.exp(), labels),
        float(torch.nn.functional.nll_loss(log_probabilities, labels)),
    ]
    return row, [float((answers != true)[half].mean()) for half in halves]


def measure_curves(runs: Mapping[str, Run], design: DoubleDescentDesign) -> xr.Dataset:
    """SCORES [arm, width, draw, seed, step] and `stopped_error` [arm, width, draw, seed]; and where the number of
    examples is varied, at the last step, SCORES of it as `samples_…` [n, draw, seed]."""
    found = dict[str, Curves]()

    def of(width: int, arm: Arm, draw: int, seed: int) -> Curves:
        name = design.run(width, arm, draw, seed).name
        if name not in found:
            found[name] = curves(runs[name])
        return found[name]

    widths, ns = sorted(design.widths), sorted(design.samples)
    arms, base, networks = design.arms, design.base, list(design.networks())
    by_draw = design.draws, design.seeds

    def table(places: list[tuple[int, Arm]], get: Callable[[Curves], Any]) -> np.ndarray:
        values = np.array([[get(of(width, arm, *network)) for network in networks] for width, arm in places])
        return values.reshape(len(places), *by_draw, *values.shape[2:])

    of_widths = [(width, arm) for arm in arms for width in widths]
    of_samples = [(design.width, Arm(n, base.noise, base.decay)) for n in ns]
    steps = of(widths[0], base, 0, 0).steps
    grid = (len(arms), len(widths), *by_draw)
    variables: dict[str, Any] = {
        "stopped_error": (
            ("arm", "width", "draw", "seed"),
            table(of_widths, lambda one: one.stopped_error).reshape(grid),
            {"long_name": "test error of who stops early", "units": "1"},
        )
    }
    for name, words in SCORES.items():
        about = {"long_name": words, "units": "nats" if name == "cross_entropy" else "1"}
        values = table(of_widths, lambda one, name=name: one.scores[name]).reshape(*grid, len(steps))
        variables[name] = ("arm", "width", "draw", "seed", "step"), values, about
        if ns:
            values = table(of_samples, lambda one, name=name: one.scores[name][-1])
            variables[f"samples_{name}"] = ("n", "draw", "seed"), values, about
    one = {"units": "1"}
    coords: dict[str, Any] = {
        "arm": ("arm", np.array([arm.name for arm in arms]), {"long_name": "curve", "units": "name"}),
        "arm_n": ("arm", np.array([arm.n for arm in arms]), {"long_name": "training examples"} | one),
        "arm_noise": ("arm", np.array([arm.noise for arm in arms]), {"long_name": "label noise"} | one),
        "arm_decay": ("arm", np.array([arm.decay for arm in arms]), {"long_name": "weight decay"} | one),
        "width": ("width", np.array(widths), {"long_name": "width"} | one),
        "draw": ("draw", np.arange(design.draws), {"long_name": "draw of the training set"} | one),
        "seed": ("seed", np.arange(design.seeds), {"long_name": "initial weights within a draw"} | one),
        "step": ("step", steps, {"long_name": "step", "units": "updates"}),
    }
    if ns:
        coords["n"] = ("n", np.array(ns), {"long_name": "training examples"} | one)
    return xr.Dataset(variables, coords, {"task": design.task, "samples_width": design.width})
