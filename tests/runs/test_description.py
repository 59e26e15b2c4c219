"""Runs in words, and how runs were configured differently."""

from pathlib import Path

import pytest

from interp.experiment import ModelConfig, Samples, Task, TrainingConfig
from interp.runs import Run, RunWriter, configuration_differences
from interp.runs.description import _files

MLP = ModelConfig(family="mlp", d_mlp=8)


def run_of(task: Task | Samples, path: Path) -> Run:
    with RunWriter.create(path, task, MLP, TrainingConfig(steps=1)) as writer:
        return writer.run


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (Samples(n_train=30, n_test=10), {}),
        (Samples(n_train=30, n_test=20, seed=1), {"task.n-test": [10, 20], "task.seed": [0, 1]}),
    ],
)
def test_runs_of_digits_differ_in_the_fields_of_samples(other: Samples, expected: dict, tmp_path: Path) -> None:
    digits = run_of(Samples(n_train=30, n_test=10), tmp_path / "digits")
    assert configuration_differences([digits, run_of(other, tmp_path / "other")]) == expected


def test_digits_and_pairs_lack_the_fields_of_each_other(tmp_path: Path) -> None:
    digits, pairs = run_of(Samples(n_train=30), tmp_path / "digits"), run_of(Task(7, seed=0), tmp_path / "pairs")
    differences = configuration_differences([digits, pairs])
    assert differences["task.p"] == [None, 7]
    assert differences["task.n-train"] == [30, None]
    assert "task.seed" not in differences


def test_a_listed_split_is_told_by_its_length_and_a_digest(tmp_path: Path) -> None:
    drawn = run_of(Task(7), tmp_path / "drawn")
    pairs = (1, 17, 33)
    one, turned = (
        run_of(Task(7, split=split), tmp_path / name) for name, split in (("one", pairs), ("turned", pairs[::-1]))
    )
    assert configuration_differences([one, turned]) == {}
    of_drawn, of_listed = configuration_differences([drawn, one])["task.split"]
    assert of_drawn == drawn.task.split
    assert of_listed.startswith("3 listed pairs (")


@pytest.mark.parametrize(
    ("names", "shown"),
    [("a", "a"), ("a b c", "a, b, c"), ("a b c d", "a, b, … and 1 more, d"), ("a b c d e", "a, b, … and 2 more, e")],
)
def test_files_that_are_not_listed_are_counted_and_the_last_is_shown(names: str, shown: str) -> None:
    assert _files(names.split()) == shown
