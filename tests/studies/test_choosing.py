"""The best of many runs: chosen by validation pairs alone, whatever the test pairs say, and refused where a choice
would be flattered."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from interp.cli import main
from interp.errors import InputError
from interp.experiment import ModelConfig, Task, TrainingConfig
from interp.mathematics.intervals import wilson_interval
from interp.models import initial_weights
from interp.runs import RunWriter
from interp.runs.curves import columns_of
from interp.studies import best

TASK = Task(23, train_fraction=0.4, validation_fraction=0.5)
MODEL = ModelConfig(d_model=8, n_heads=2, d_mlp=8)
TRAINING = TrainingConfig(steps=10, checkpoint_every=10, log_every=10)


def make(
    path: Path,
    validation: float,
    test: float,
    *,
    task: Task = TASK,
    seed: int = 0,
    last: int = 10,
    **training: Any,
) -> None:
    """A run whose losses at the end are these, its accuracies 1 − loss."""
    model = replace(MODEL, seed=seed)
    with RunWriter.create(path, task, model, replace(TRAINING, **training)) as writer:
        for step in (0, last):
            row = {"train_loss": 0.1, "train_accuracy": 1.0}
            for split, column in columns_of(task).items():
                if split != "train":
                    loss = validation if split == "validation" else test
                    row |= {f"{column}_loss": loss, f"{column}_accuracy": 1 - loss}
            writer.append(step, initial_weights(model, task.p), row)


def test_the_least_validation_loss_is_chosen_though_another_has_the_least_test_loss(tmp_path: Path) -> None:
    make(tmp_path / "a", 0.30, 0.01, lr=0.1)
    make(tmp_path / "b", 0.10, 0.25, lr=0.2)
    make(tmp_path / "c", 0.20, 0.02, lr=0.3)
    for by in ("validation_loss", "validation-accuracy"):
        found = best(tmp_path, by)
        assert [path.name for path in found.setting.runs] == ["b"]
        assert found.setting.fields == {"training.lr": 0.2}
        assert [one.fields["training.lr"] for one in found.others] == [0.3, 0.1]
        assert (found.test_loss, found.test_accuracy) == (0.25, 0.75)
        n = TASK.n_held_out
        assert found.interval == pytest.approx(wilson_interval(round(0.75 * n), n), rel=1e-12)
        assert found.notes == ()


def test_choosing_by_validation_is_unbiased_and_by_the_reported_pairs_is_not() -> None:
    """Why it is refused. Of 20 settings that are all right on half of the pairs, each told from 100: the best by
    validation has one half of the test pairs, and the best by test more, by the largest of 20 binomials."""
    generator = np.random.default_rng(0)
    validation, test = generator.binomial(100, 0.5, size=(2, 5000, 20)) / 100
    honest = np.take_along_axis(test, validation.argmax(1)[:, None], 1)[:, 0]
    assert abs(honest.mean() - 0.5) < 5 * honest.std() / math.sqrt(len(honest))
    assert test.max(1).mean() > 0.58


def test_seeds_are_one_setting_and_their_spread_is_the_interval(tmp_path: Path) -> None:
    tests = [0.10, 0.14, 0.06]
    for seed, test in enumerate(tests):
        make(tmp_path / f"steady{seed}", 0.2, test, seed=seed, lr=0.1)
        make(tmp_path / f"lucky{seed}", [0.01, 0.9, 0.9][seed], 0.0, seed=seed, lr=0.2)  # one seed is no setting
    found = best(tmp_path)
    assert [path.name for path in found.setting.runs] == ["steady0", "steady1", "steady2"]
    assert found.setting.chosen_by == pytest.approx(0.2)
    accuracies = [1 - test for test in tests]
    assert found.test_accuracy == pytest.approx(0.9)
    interval = stats.ttest_1samp(accuracies, 0).confidence_interval()
    assert found.interval == pytest.approx((interval.low, min(interval.high, 1)), rel=1e-9)


def test_a_setting_of_which_a_run_did_not_end_is_not_stood_for_by_the_others(tmp_path: Path) -> None:
    make(tmp_path / "a0", 0.01, 0.1, lr=0.1)
    make(tmp_path / "a1", 0.01, 0.1, lr=0.1, seed=1, last=5)
    make(tmp_path / "b0", 0.5, 0.4, lr=0.2)
    found = best(tmp_path)
    assert [path.name for path in found.setting.runs] == ["b0"]
    assert found.notes == ("1 setting is left out: a run of it is unfinished or diverged",)


def test_ties_and_splits_of_several_seeds_are_told(tmp_path: Path) -> None:
    make(tmp_path / "a", 0.0, 0.1, lr=0.1)
    make(tmp_path / "b", 0.0, 0.0, lr=0.2, task=replace(TASK, seed=1))
    found = best(tmp_path)
    assert found.setting.runs[0].name == "a"
    assert "1 more have the same validation loss" in found.notes[0]
    assert "validation pairs of one are test pairs of another" in found.notes[1]


@pytest.mark.parametrize(
    "by", ["test_loss", "test-accuracy", "held_out_accuracy", "unmirrored_test_loss", "verdict", "generalized_at"]
)
def test_a_choice_by_what_is_reported_is_refused(by: str, tmp_path: Path, capsys) -> None:
    make(tmp_path / "a", 0.1, 0.1)
    assert main(["best", str(tmp_path), "--by", by]) == 2
    said = capsys.readouterr().err.strip()
    assert said.count("\n") == 0
    assert "would be chosen on the pairs that it is reported on; choose by validation_loss or" in said
    assert main(["list", str(tmp_path), "--sort", "test-accuracy"]) == 0  # to look is no choice


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ([], "there are no runs under"),
        ([{"task": replace(TASK, validation_fraction=0.0)}], "a0 has no validation pairs to choose on; train it with"),
        ([{}, {"task": replace(TASK, operation="x2+y2")}], r"one task, and these are add modulo 23 and x2\+y2 modulo"),
        ([{}, {"loss": "squared-error"}], "several losses .cross-entropy and squared error., which do not compare"),
        ([{"last": 5}], "no setting of .* is complete with a validation loss: 1 setting is left out"),
    ],
)
def test_what_cannot_be_chosen_is_refused_in_one_line(runs: list[dict], message: str, tmp_path: Path) -> None:
    for place, fields in enumerate(runs):
        make(tmp_path / f"a{place}", 0.1, 0.1, **fields)
    with pytest.raises(InputError, match=message) as caught:
        best(tmp_path)
    assert "\n" not in str(caught.value)


def test_an_unknown_choice_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown choice by 'validation_los'; did you mean 'validation_loss'"):
        best(tmp_path, "validation_los")


def test_the_command_reports_the_chosen_alone(tmp_path: Path, capsys) -> None:
    make(tmp_path / "a", 0.30, 0.01, lr=0.1)
    make(tmp_path / "b", 0.10, 0.25, lr=0.2)
    assert main(["best", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "best         training.lr 0.2"
    assert lines[1] == "chosen by    validation loss 0.1, of 2 settings; next 0.3 (training.lr 0.1)"
    assert lines[2].startswith("reported     test accuracy 75.0 %, held-out accuracy 75.0 % (95 %: ")
    assert lines[3] == f"run          {tmp_path / 'b'}"
    assert "0.99" not in "".join(lines)
