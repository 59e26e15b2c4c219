"""The outcome of every run of an experiment: verdicts of curves that are written down, by held-out pairs, and what is
left of what others began with."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from interp.experiment import ModelConfig, Task, TrainingConfig
from interp.mathematics import grokking
from interp.models import initial_weights
from interp.runs import Run, RunWriter, open_run
from interp.studies.generalization_times import EVENTS, event_steps
from interp.studies.outcomes import events_of, outcomes

MODEL = ModelConfig(d_model=8, n_heads=2, d_mlp=8)
STEPS = range(0, 2001, 10)
Curve = Callable[[int], float]


def late(at: float) -> Curve:
    return lambda step: 1.0 if step >= at else 0.1


def run_of(
    path: Path, train: Curve, test: Curve, held_out: Curve, *, task: Task | None = None, column: str = "unmirrored_test"
) -> Run:
    """A run without checkpoints whose accuracies these are; a loss is 4 nats times what is wrong."""
    training = TrainingConfig(steps=2000, checkpoint_every=2000, log_every=10)
    with RunWriter.create(path, task or Task(31, train_fraction=0.5), MODEL, training) as writer:
        for step in STEPS:
            of_splits = {"train": train(step), "test": test(step), column: held_out(step)}
            metrics = {f"{split}_accuracy": value for split, value in of_splits.items()}
            metrics |= {f"{split}_loss": 4 * (1 - value) for split, value in of_splits.items()}
            writer.log(step, metrics | {"weight_norm": 7.0})
    return open_run(path)


@pytest.mark.parametrize(
    ("train", "held_out", "expected"),
    [
        (late(100), late(1000), "grokking"),
        (late(100), late(200), "comprehension"),
        (late(100), late(290), "unknown"),
        (late(100), late(9999), "memorization"),
        (late(9999), late(9999), "confusion"),
        (late(100), lambda step: 1.0 if 400 <= step < 1500 else 0.1, "collapse"),
    ],
)
def test_verdicts_are_those_of_held_out_pairs(tmp_path: Path, train: Curve, held_out: Curve, expected: str) -> None:
    """Test pairs, with the mirrors of trained ones, are known sooner, and decide nothing."""
    [found] = outcomes({"one": run_of(tmp_path / "run", train, late(100), held_out)})
    assert (found.name, found.verdict, found.is_start) == ("one", expected, False)
    assert (found.train_accuracy, found.test_accuracy) == (train(2000), 1.0)
    for event, curve in ((found.memorized_at, train), (found.generalized_at, held_out)):
        first = next((step for step in STEPS if curve(step) == 1), math.nan)
        assert event == first or (math.isnan(event) and math.isnan(first))


def test_held_out_pairs_that_were_logged_apart_are_those_that_count(tmp_path: Path) -> None:
    """Of × fewer are held out than are unmirrored. A run of before they were logged cannot tell."""
    task = Task(31, "multiply", train_fraction=0.3)
    assert task.n_held_out >= grokking.FEWEST_HELD_OUT
    curves = late(100), late(150), late(1000)
    apart = run_of(tmp_path / "apart", *curves, task=task, column="held_out")
    before = run_of(tmp_path / "before", *curves, task=task)
    assert [one.verdict for one in outcomes({"apart": apart, "before": before})] == ["grokking", "unknown"]
    assert events_of(apart).delay == (1000 - 10 - 100, 1000 - 90)


def test_too_few_held_out_pairs_tell_nothing(tmp_path: Path) -> None:
    few = run_of(tmp_path / "run", late(100), late(1000), late(1000), task=Task(7, train_fraction=0.5))
    [found] = outcomes({"few": few})
    assert (found.verdict, found.memorized_at, found.generalized_at) == ("unknown", 100, 1000)


def test_the_times_of_a_study_hold_or_are_the_first(tmp_path: Path) -> None:
    """Accuracy that falls once moves nothing; a loss that is low once counts, as in published tables."""

    def falling(step: int) -> float:
        return 0.9 if step == 1010 else late(1000)(step)

    def lucky(step: int) -> float:
        return 1.0 if step == 500 else late(1000)(step)

    found = event_steps(run_of(tmp_path / "run", late(100), lucky, falling))
    assert list(found) == list(EVENTS)
    assert (found["memorized"], found["generalized"]) == (100, 1000)
    assert (found["train_loss_1e-2"], found["test_loss_1"], found["test_loss_1e-2"]) == (100, 500, 500)


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        ([1.0] * 5, "still generalizes"),
        ([1.0] * 3 + [0.3, 1.0], "still generalizes"),  # by the middle one of the last three
        ([0.3] * 4 + [1.0], "generalizes in part"),  # one good last point is not enough
        ([0.95] * 5, "generalizes in part"),
        ([0.3] * 5, "collapse"),
        ([1.0] * 4 + [0.3], "still generalizes"),  # nor is a bad one
        ([0.64] * 5, "generalizes in part"),
    ],
)
def test_a_run_that_goes_on_from_another_kept_it_or_not(tmp_path: Path, end: list[float], expected: str) -> None:
    start = run_of(tmp_path / "start", late(100), late(1000), late(1000))
    training = TrainingConfig(steps=50, checkpoint_every=50, log_every=10)
    task = Task(31, train_fraction=0.2)
    with RunWriter.create(tmp_path / "on", task, MODEL, training, initial=initial_weights(MODEL, 31)) as writer:
        for step, value in zip(range(0, 50, 10), end, strict=True):
            metrics = {"train_accuracy": 1.0, "test_accuracy": 1.0, "train_loss": 0.0, "weight_norm": 7.0}
            of_unseen = {"unmirrored_test_accuracy": value, "unmirrored_test_loss": 4 * (1 - value)}
            writer.log(step, metrics | {"test_loss": 0.0} | of_unseen)
    before, after = outcomes({"start": start, "on": open_run(tmp_path / "on")})
    assert (before.is_start, before.verdict) == (True, "grokking")
    assert (after.is_start, after.verdict) == (False, expected)
    assert np.isnan([after.memorized_at, after.generalized_at]).all()
