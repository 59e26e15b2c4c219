"""Runs in words, and how runs were configured differently."""

from collections.abc import Callable
from pathlib import Path

import pytest

from interp import reference_path
from interp.experiment import ModelConfig, Samples, Task, TrainingConfig
from interp.runs import Run, RunWriter, configuration_differences, describe, open_run
from interp.runs.description import _files
from interp.runs.remedies import remedy_of_state

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


def test_a_run_that_began_anew_is_as_far_as_its_lines(written_run: Callable[..., Run], tmp_path: Path) -> None:
    run = written_run(tmp_path / "run", Task(7), ModelConfig(d_model=8, d_mlp=4), (0, 10, 20), TrainingConfig(steps=40))
    lines = (run.path / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (run.path / "metrics.jsonl").write_bytes(b"".join(lines[:2]))
    assert any("3 checkpoints, unfinished (10 of 40 steps)" in line for line in describe(open_run(run.path)))
    with RunWriter.reopen(run.path) as writer:
        writer.log_divergence(15)
    assert any("3 checkpoints, diverged at step 15 of 40" in line for line in describe(open_run(run.path)))
    assert remedy_of_state(open_run(run.path)).startswith("a run that diverged needs no state")


def test_one_line_says_how_it_was_trained_and_is_computed() -> None:
    """Training by token tables and analyses by the factored form are not told as if one were both."""
    [line] = [line for line in describe(open_run(reference_path())) if "factored" in line]
    assert line == "computed by  factored, closed-form gradient"
    run = open_run(reference_path())
    run.info["arithmetic"] = "token tables"
    told = [line for line in describe(run) if "tables" in line or "factored" in line]
    assert told == ["computed by  token tables in training; in analyses factored, closed-form gradient"]


def test_of_many_files_the_last_is_known_by_name_and_all_are_counted() -> None:
    names = [f"step_{step}" for step in [*range(19), 52]]
    assert _files(names, 53) == "step_0, step_1, … and 50 more, step_52"
    # As runs have it that were imported before: which one was the last they do not say.
    assert _files([*names[:19], "step_19", "and 33 more"]) == "step_0, step_1, … and 51 more"
