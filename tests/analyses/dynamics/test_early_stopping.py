"""Early stopping of runs whose curves are made by hand: what is kept, on which pairs it is told, and how sure."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from interp.analyses import early_stopping
from interp.errors import InputError
from interp.experiment import ModelConfig, Task
from interp.explanation.early_stopping import early_stopping as sentences
from interp.mathematics.intervals import wilson_interval
from interp.models import initial_weights
from interp.runs import Run, RunWriter, open_run
from interp.runs.curves import columns_of

MODEL = ModelConfig(d_model=8, n_heads=2, d_mlp=12)
TASK = Task(31, train_fraction=0.4, validation_fraction=0.5)
STEPS = range(0, 3001, 100)


def run_of(path: Path, validation, test, accuracy, *, task: Task = TASK, kept=(0, 3000)) -> Run:
    """A run with these losses and accuracies of steps, and weights where they are kept."""
    weights = initial_weights(MODEL, task.p)
    with RunWriter.create(path, task, MODEL) as writer:
        for step in STEPS:
            row = {"train_loss": 0.1, "train_accuracy": 1.0}
            for split, column in columns_of(task).items():
                if split != "train":
                    losses = validation if split == "validation" else test
                    row |= {f"{column}_loss": float(losses(step)), f"{column}_accuracy": float(accuracy(step))}
            if step in kept:
                writer.append(step, weights, row)
            else:
                writer.log(step, row)
    return open_run(path)


def grokking(step: int) -> float:
    """Memorizes at once, and generalizes at step 2,000."""
    return 4.0 + step / 100 if step < 2000 else 1e-3


def known(step: int) -> float:
    return 0.02 if step < 2000 else 1.0


def test_a_run_that_groks_is_kept_at_chance(tmp_path: Path) -> None:
    found = early_stopping.summary(early_stopping.compute(run_of(tmp_path / "run", grokking, grokking, known)))
    assert (found["judged_by"], found["kept_step"], found["ended_at"], found["longest_wait"]) == (
        "validation",
        0,
        500,
        1900,
    )
    assert (found["kept_test_accuracy"], found["last_test_accuracy"]) == (0.02, 1.0)
    assert found["kept_at_chance"]
    n = TASK.n_held_out
    low, high = wilson_interval(round(0.02 * n), n)
    assert found["kept_held_out_accuracy_interval_95"] == [low, high]
    assert low < TASK.guessing_accuracy < high < 0.1
    patient = early_stopping.summary(
        early_stopping.compute(run_of(tmp_path / "again", grokking, grokking, known), patience=1901)
    )
    assert (patient["kept_step"], patient["ended_at"], patient["kept_at_chance"]) == (2000, None, False)


def test_a_network_that_overfits_is_kept_at_its_valley_and_of_checkpoints_at_the_lowest(tmp_path: Path) -> None:
    run = run_of(
        tmp_path / "run",
        lambda step: 1 + (step / 1000 - 0.7) ** 2,
        lambda step: 1 + (step / 1000 - 0.8) ** 2,  # the least test loss is not asked for
        lambda step: 0.9 - abs(step - 700) / 10_000,
        kept=(0, 500, 1000, 3000),
    )
    found = early_stopping.summary(early_stopping.compute(run))
    assert (found["kept_step"], found["ended_at"], found["kept_checkpoint"]) == (700, 1200, 500)
    assert found["kept_test_accuracy"] == pytest.approx(0.9)
    assert found["last_test_accuracy"] == pytest.approx(0.67)
    assert not found["kept_at_chance"]


def test_a_curve_that_falls_keeps_its_end(tmp_path: Path) -> None:
    def falling(step: int) -> float:
        return 4 - step / 1000

    found = early_stopping.summary(early_stopping.compute(run_of(tmp_path / "run", falling, falling, known)))
    assert (found["kept_step"], found["last_step"], found["ended_at"], found["longest_wait"]) == (3000, 3000, None, 0)


def test_without_validation_pairs_it_is_told_from_test_pairs_and_has_no_interval(tmp_path: Path) -> None:
    task = replace(TASK, validation_fraction=0.0)
    result = early_stopping.compute(run_of(tmp_path / "run", grokking, grokking, known, task=task))
    found = early_stopping.summary(result)
    assert (found["judged_by"], found["kept_step"]) == ("test", 0)
    assert found["kept_held_out_accuracy_interval_95"] is found["kept_at_chance"] is None
    assert found["last_held_out_accuracy_interval_95"][1] == 1
    assert np.isnan(result.loss.sel(split="validation")).all()
    names = [trace.name for trace in early_stopping.plot(result).data]
    assert "test (chosen on)" in names


def test_where_nothing_can_be_tested_nothing_is_told(tmp_path: Path) -> None:
    task = Task(7, train_fraction=1.0)
    with RunWriter.create(tmp_path / "run", task, MODEL) as writer:
        writer.append(0, initial_weights(MODEL, 7))
    found = early_stopping.summary(early_stopping.compute(open_run(tmp_path / "run")))
    assert found["kept_step"] is found["ended_at"] is found["longest_wait"] is None


def test_no_patience_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="patience must be at least 1"):
        early_stopping.compute(run_of(tmp_path / "run", grokking, grokking, known), patience=0)


# ---- the sentence ----------------------------------------------------------------------------------------------------


def told(run: Run) -> tuple[str, ...]:
    return sentences(run.result("learning_curves"), run.task)


def test_the_sentence_of_a_run_that_groks(tmp_path: Path) -> None:
    full, short, shortest = told(run_of(tmp_path / "run", grokking, grokking, known))
    assert short == (
        "Early stopping would have kept step 0, where 2.0 % of test pairs are right; the last step has 100 %."
    )
    assert "ended training at step 500 and kept step 0" in full
    assert ", as a guess has)" in full
    assert full.endswith("Only a patience of more than 1,900 updates would have kept the least validation loss.")
    assert shortest == "early stopping would have kept step 0 (2.0 % of test pairs; the last: 100 %)."


def test_it_is_told_only_where_it_says_something(tmp_path: Path) -> None:
    task = replace(TASK, validation_fraction=0.0)
    assert told(run_of(tmp_path / "without", grokking, grokking, known, task=task)) == ()
    assert told(run_of(tmp_path / "same", grokking, grokking, lambda step: 0.9 + step / 100_000)) == ()
    better = told(run_of(tmp_path / "better", lambda step: 1 + step, grokking, lambda step: 0.8 - step / 10_000))
    assert "where 80.0 % of test pairs are right" in better[1]
    assert "as a guess has" not in better[0]
