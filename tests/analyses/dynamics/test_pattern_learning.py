"""Patterns in the curves of a run: planted ones are found, runs that cannot tell are refused, in words too."""

from pathlib import Path

import numpy as np
import pytest

from interp.analyses import pattern_learning
from interp.errors import InputError
from interp.experiment import ModelConfig, Task
from interp.mathematics.pattern_fit import fitted
from interp.models import initial_weights
from interp.runs import Run, RunWriter, open_run
from interp.runs.curves import columns_of

MODEL = ModelConfig(d_model=8, n_heads=2, d_mlp=12)
TASK = Task(31, train_fraction=0.4)
STEPS = np.unique(np.geomspace(1, 3000, 40).round().astype(int))
PLANTED = np.array([0.98, 6.0, 6.5, 3.0, 4.0])


def run_of(path: Path, train: np.ndarray, held_out: np.ndarray, steps: np.ndarray = STEPS) -> Run:
    """A run with these accuracies."""
    weights = initial_weights(MODEL, TASK.p)
    with RunWriter.create(path, TASK, MODEL) as writer:
        writer.append(0, weights, dict.fromkeys(("train_loss", "train_accuracy"), 0.0))
        for step, known, unseen in zip(steps, train, held_out, strict=True):
            row = {"train_loss": 0.1, "train_accuracy": float(known)}
            for split, column in columns_of(TASK).items():
                if split != "train":
                    row |= {f"{column}_loss": 0.1, f"{column}_accuracy": float(unseen)}
            writer.log(int(step), row)
    return open_run(path)


def planted(path: Path) -> Run:
    curves = fitted(2, PLANTED, np.log(STEPS.astype(float)), 1.0, TASK.guessing_accuracy)
    return run_of(path, curves.train, curves.test)


def test_planted_patterns_are_found_and_told(tmp_path: Path):
    result = pattern_learning.compute(planted(tmp_path / "run"))
    assert result.refused.item() == ""
    np.testing.assert_allclose(result.number, PLANTED, rtol=0.05)
    assert ((result.interval[:, 0] <= PLANTED) & (result.interval[:, 1] >= PLANTED)).all()
    np.testing.assert_allclose(result.accuracy, result.fitted_accuracy, atol=0.01)
    told = pattern_learning.summary(result)
    assert told["patterns"] == 2
    lines = pattern_learning.in_words(told)
    assert lines[0].startswith("2 patterns, misfit 0.0")
    assert lines[3].startswith("rule midpoint: 6.5 (6.4")
    assert [trace.mode for trace in pattern_learning.plot(result).data] == ["markers", "lines"] * 2


def test_what_cannot_be_told_is_refused(tmp_path: Path):
    few = pattern_learning.compute(run_of(tmp_path / "few", STEPS[:5] / 9, STEPS[:5] / 9, STEPS[:5]))
    assert "5 points are too few" in few.refused.item()
    assert np.isnan(few.number).all()
    flat = np.full(len(STEPS), TASK.guessing_accuracy)
    chance = pattern_learning.summary(pattern_learning.compute(run_of(tmp_path / "flat", flat, flat)))
    assert chance["refused"] is not None
    assert np.isnan(chance["rule_midpoint"]["value"])
    assert pattern_learning.in_words(chance)[1].startswith("refused: ")


def test_there_are_one_to_three(tmp_path: Path):
    with pytest.raises(InputError, match=r"^[^\n]*$"):
        pattern_learning.compute(planted(tmp_path / "run"), patterns=4)
