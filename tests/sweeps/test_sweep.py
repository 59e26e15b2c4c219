"""Sweeps: the product of their axes, and the same bytes by any executor, interrupted or not."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from interp.errors import InputError
from interp.experiment import Experiment, ModelConfig, Samples, Task, TrainingConfig
from interp.models import Snapshot
from interp.sweeps import GridProgress, InterruptedTrainingError, Sweep, run_experiment, run_grid

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
    ],
)
def test_what_cannot_be_is_refused(axes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        Sweep(BASE, axes).runs()
    assert str(caught.value) == words


def contents(folder: Path) -> dict[str, bytes]:
    """All of a folder of runs but when they were made and who is writing."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in ("run.json", ".lock"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


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
