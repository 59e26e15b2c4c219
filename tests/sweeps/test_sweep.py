"""Sweeps: the product of their axes, and the same bytes by any executor, interrupted or not."""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interp.errors import InputError
from interp.experiment import Experiment, ModelConfig, Samples, Task, TrainingConfig, preset
from interp.models import Snapshot
from interp.sweeps import GridProgress, InterruptedTrainingError, Sweep, run_experiment, run_grid, sweep_from_toml

TRAINING = TrainingConfig(steps=12, checkpoint_every=None, log_every=4)
BASE = Experiment(Task(p=7, train_fraction=0.5), ModelConfig(d_model=8, n_heads=2, d_mlp=8), TRAINING)
FOUR = Sweep(BASE, {"training.weight-decay": (0.3, 1.0), "seed": range(2)})


def test_the_runs_are_the_product_of_the_axes_named_by_what_they_are() -> None:
    expected = [
        Experiment(
            replace(BASE.task, seed=seed),
            replace(BASE.model, seed=seed),
            replace(TRAINING, weight_decay=weight_decay, seed=seed),
        )
        for weight_decay in (0.3, 1.0)
        for seed in range(2)
    ]
    runs = FOUR.runs()
    assert [run.experiment for run in runs] == expected
    assert [run.name for run in runs] == [run.key for run in runs]
    assert Sweep(BASE, {}).runs()[0].experiment == BASE
    assert Sweep(BASE, {"training.weight_decay": [1]}).runs()[0].key == Sweep(BASE, {}).runs()[0].key


def test_samples_stay_samples() -> None:
    base = Experiment(Samples(n_train=100, n_test=50), ModelConfig(family="mlp", d_mlp=8), TRAINING)
    (run,) = Sweep(base, {"seed": (1,), "task.n-train": (20,)}).runs()
    assert run.experiment.task == Samples(n_train=20, n_test=50, seed=1)
    with pytest.raises(InputError, match=r"^unknown axis 'task.train-fraction'"):
        Sweep(base, {"task.train-fraction": (0.5,)})


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        (
            {"training.weight-decai": (1.0,)},
            "unknown axis 'training.weight-decai'; did you mean 'training.weight-decay'?",
        ),
        ({"weight-decay": (1.0,)}, "unknown axis 'weight-decay'; did you mean 'training.weight-decay'?"),
        ({"seeds": (1,)}, "unknown axis 'seeds'; did you mean 'seed'?"),
        ({"seed": ()}, "the axis 'seed' has no values"),
        ({"task.p": (7, "8")}, "task.p: input should be a valid integer, got '8'"),
        ({"training.lr": (0.1, 1, 1.0)}, "the sweep has an experiment twice: training.lr 1.0"),
        ({"training.lr": 0.1}, "the axis 'training.lr' must be a list of values, got 0.1; a single one is no axis"),
        ({"seed": 0}, "axes.seed, the number of seeds, must be at least 1, got 0"),
        ({"seed": 2, "model.seed": (0, 1)}, "model.seed is set by two axes, 'seed' and 'model.seed'"),
        ({"seed": 1_000_000}, "axes.seed, the number of seeds, must be at most 100000, got 1000000"),
        ({"seed": 1000, "model.d-mlp": range(1, 1000)}, "the sweep has 999,000 runs, expected at most 100,000"),
        ({"size": [{"name": "a", "model.d-mpl": 4}]}, "unknown field of the axis 'size' 'model.d-mpl'; did you mean "),
        ({"size": [{"model.d-mlp": 4}]}, "every table of the axis 'size' needs a name of up to 80 letters, got None"),
        (
            {"size": [{"name": "a", "model.d-mlp": 4}, {"name": "a", "model.d-mlp": 8}]},
            "the axis 'size' has two places called \"a\"",
        ),
        (
            {"size": {"model.d-mlp": [4, 8], "model.d-model": [8]}},
            "the lists of the axis 'size' must be of one length, got model.d-mlp 2, model.d-model 1",
        ),
    ],
)
def test_what_cannot_be_is_refused(axes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        Sweep(BASE, axes).runs()
    assert str(caught.value).startswith(words)


def test_fields_are_set_together_in_tables_with_a_name_and_in_lists_of_one_length() -> None:
    slow = {"name": "slow", "training.lr": 1e-3, "training": {"betas": [0.5, 0.9]}}
    sweep = Sweep(BASE, {"pace": [slow, {"name": "fast", "seed": 3}], "size": {"model.d-mlp": [4, 8]}})
    assert list(sweep.coordinates.values()) == [
        {"pace": pace, "size": size} for pace in ("slow", "fast") for size in ("4", "8")
    ]
    slow_and_small, *_, fast_and_large = [run.experiment for run in sweep.runs()]
    assert slow_and_small.training == replace(TRAINING, lr=1e-3, betas=(0.5, 0.9))
    assert fast_and_large == Experiment(
        replace(BASE.task, seed=3), replace(BASE.model, d_mlp=8, seed=3), replace(TRAINING, seed=3)
    )


def test_fields_within_fields_are_axes_too() -> None:
    (run,) = Sweep(BASE, {"model.mlp.gated": [True]}).runs()
    assert run.experiment.model.mlp.gated
    with pytest.raises(InputError, match=r"^model.mlp.gated is set by two axes"):
        Sweep(BASE, {"model.mlp": [{"gated": True}], "model.mlp.gated": [True]})


def test_numbers_of_numpy_are_numbers() -> None:
    there = Sweep(BASE, {"training.lr": np.array([0.1, 0.2]), "seed": np.arange(2)}).runs()
    assert there == Sweep(BASE, {"training.lr": [0.1, 0.2], "seed": 2}).runs()


GRID = """
preset = "reference"
task.p = 7
training.steps = 12
[axes]
training.weight-decay = [0.3, 1.0]
seed = 2
"""


def test_a_grid_file_varies_a_preset(tmp_path: Path) -> None:
    (tmp_path / "grid.toml").write_text(GRID)
    sweep = sweep_from_toml(tmp_path / "grid.toml")
    base = preset("reference")
    assert sweep.base == replace(base, task=replace(base.task, p=7), training=replace(base.training, steps=12))
    assert list(sweep.coordinates.values())[1] == {"training.weight-decay": 0.3, "seed": 1}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("task.p = 7", r"it needs axes, such as \[axes\] with"),
        ("axis.seed = 2", r"unknown part of a grid 'axis'; did you mean 'axes'\?"),
        ("preset = 'quik'\naxes.seed = 2", r"unknown preset 'quik'; did you mean 'quick'\?"),
        (
            "training.lr = [0.1, 0.2]\naxes.seed = 2",
            r"training.lr: .*; several values of a field are an axis: \"training.lr\" under \[axes\]",
        ),
    ],
)
def test_a_grid_file_that_cannot_be_is_refused_by_name(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "grid.toml").write_text(text)
    with pytest.raises(InputError, match=rf"^{re.escape(str(tmp_path / 'grid.toml'))}: {words}"):
        sweep_from_toml(tmp_path / "grid.toml")


def contents(folder: Path) -> dict[str, bytes]:
    """All of a folder of runs but when they were made, who is writing, and the states, which a grid removes at the end
    of a run."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in ("run.json", ".lock"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.parent.name != "state"}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed")
    run_grid(folder, FOUR.runs(), processes=1)
    return contents(folder)


def interrupt(stop: Callable[[Any], bool]) -> Callable[[Any], None]:
    """Ctrl-C at a certain moment."""

    def report(seen: Any) -> None:
        if stop(seen):
            raise KeyboardInterrupt

    return report


@pytest.mark.parametrize("given", [True, False])
def test_four_runs_interrupted_and_continued_end_in_the_same_bytes(
    given: bool, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    """On an executor of one's own, and on the processes of run_grid."""
    runs, once = FOUR.runs(), interrupt(lambda seen: isinstance(seen, GridProgress) and seen.done == 2)
    at_step_4 = interrupt(lambda seen: isinstance(seen, Snapshot) and seen.step == 4)
    with pytest.raises(InterruptedTrainingError):
        run_experiment(runs[0].experiment, tmp_path / runs[0].name, report=at_step_4)
    with pytest.raises(
        InterruptedTrainingError, match=r"^interrupted with 2 of 4 runs done; the same command goes on$"
    ):
        with_executor(tmp_path, given, report=once)
    found = with_executor(tmp_path, given)
    assert list(found) == [run.name for run in runs]
    assert contents(tmp_path) == undisturbed


def with_executor(folder: Path, given: bool, **options: Any) -> dict[str, Any]:
    if not given:
        return run_grid(folder, FOUR.runs(), processes=2, **options)
    with ThreadPoolExecutor(1) as executor:
        return run_grid(folder, FOUR.runs(), executor=executor, **options)
