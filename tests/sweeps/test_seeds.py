"""Several seeds at once: each as it is alone."""

import math
from pathlib import Path

import pytest
from torch.testing import assert_close

from interp.cli import main
from interp.errors import InputError
from interp.experiment import Experiment, ModelConfig, Task, TrainingConfig
from interp.models import DivergedError, Snapshot, Weights
from interp.runs import open_run
from interp.sweeps import InterruptedTrainingError, resume_run, run_experiment, run_seeds
from interp.sweeps.seeds import with_seed
from interp.training import loop, side_by_side, together

TASK = Task(11, train_fraction=0.5)
SMALL = ModelConfig(d_model=8, n_heads=2, d_mlp=12)
SHORT = TrainingConfig(steps=9, lr=1e-2, log_every=3, checkpoint_every=4)
EXPERIMENT = Experiment(TASK, SMALL, SHORT)


def of_all(experiment: Experiment, n_seeds: int = 3) -> list[list[Snapshot]]:
    """The snapshots of every seed."""
    found: list[list[Snapshot]] = [[] for _ in range(n_seeds)]
    for moment in together([with_seed(experiment, seed) for seed in range(n_seeds)]):
        for index, snapshot in (moment or {}).items():
            assert isinstance(snapshot, Snapshot)
            found[index].append(snapshot)
    return found


def broken_seed_1(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = loop.initial_weights

    def initial_weights(model: ModelConfig, p: int) -> Weights:
        weights = drawn(model, p)
        return {name: weight * math.nan for name, weight in weights.items()} if model.seed == 1 else weights

    monkeypatch.setattr(loop, "initial_weights", initial_weights)


@pytest.mark.parametrize("cores", [True, False])
def test_one_that_diverges_leaves_the_others_alone(
    cores: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    expected = [found[-1] for found in of_all(EXPERIMENT)]
    broken_seed_1(monkeypatch)
    monkeypatch.setattr(side_by_side, "_has_cores", lambda device: cores)
    moments = [moment for moment in together([with_seed(EXPERIMENT, seed) for seed in range(3)]) if moment]
    assert [list(moment) for moment in moments] == [[1], *[[0, 2]] * 6]
    assert isinstance(moments[0][1], DivergedError)
    for index in (0, 2):
        assert_close(moments[-1][index].weights, expected[index].weights, rtol=1e-3, atol=1e-4)
    with pytest.raises(
        InputError, match=r"^seed1: training diverged: the loss of step 0 is not finite; .* the other seeds, are in "
    ):
        run_seeds(EXPERIMENT, 3, tmp_path / "runs")
    assert [open_run(tmp_path / "runs" / f"seed{index}").is_complete for index in range(3)] == [True, False, True]


def test_runs_are_ordinary_and_can_be_resumed_one_by_one(tmp_path: Path) -> None:
    def stop(snapshot: Snapshot) -> None:
        if snapshot.step == 6:
            raise KeyboardInterrupt

    with pytest.raises(
        InterruptedTrainingError, match=r"^interrupted at step 6; each run in .*runs goes on with: interp resume RUN$"
    ):
        run_seeds(EXPERIMENT, 2, tmp_path / "runs", report=stop)
    for seed in range(2):
        resumed = resume_run(tmp_path / "runs" / f"seed{seed}")
        alone = run_experiment(with_seed(EXPERIMENT, seed), tmp_path / f"alone{seed}")
        assert resumed.is_complete
        assert resumed.steps == alone.steps == [0, 4, 8, 9]
        for step in alone.steps:
            assert_close(resumed[step].weights, alone[step].weights, rtol=0, atol=0)
        assert resumed.metrics.drop_attrs().equals(alone.metrics.drop_attrs())


def test_an_interruption_after_the_last_step_leaves_whole_runs(tmp_path: Path) -> None:
    def stop(snapshot: Snapshot) -> None:
        if snapshot.step == EXPERIMENT.training.steps:
            raise KeyboardInterrupt

    with pytest.raises(
        InterruptedTrainingError, match=r"^interrupted after the last step; the runs in .*runs are complete$"
    ):
        run_seeds(EXPERIMENT, 2, tmp_path / "runs", report=stop)
    assert all(open_run(tmp_path / "runs" / f"seed{seed}").is_complete for seed in range(2))


def test_an_interruption_does_not_call_complete_what_diverged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(snapshot: Snapshot) -> None:
        if snapshot.step == EXPERIMENT.training.steps:
            raise KeyboardInterrupt

    broken_seed_1(monkeypatch)
    with pytest.raises(InterruptedTrainingError, match=r"^interrupted at step 9; each run in .*runs goes on with"):
        run_seeds(EXPERIMENT, 3, tmp_path / "runs", report=stop)
    assert [open_run(tmp_path / "runs" / f"seed{seed}").is_complete for seed in range(3)] == [True, False, True]


def test_what_is_refused_leaves_nothing_behind(tmp_path: Path) -> None:
    for wrong in (0, -1):
        with pytest.raises(InputError, match="seeds"):
            run_seeds(EXPERIMENT, wrong, tmp_path / "runs")
    (tmp_path / "runs" / "seed1").mkdir(parents=True)
    (tmp_path / "runs" / "seed1" / "mine").touch()
    with pytest.raises(InputError, match="seed1 already exists"):
        run_seeds(EXPERIMENT, 2, tmp_path / "runs")
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["seed1"]
    run_experiment(EXPERIMENT, tmp_path / "run")
    with pytest.raises(InputError, match="is a run itself"):
        run_seeds(EXPERIMENT, 2, tmp_path / "run")


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [
        "--task.p",
        "11",
        "--model.d-model",
        "8",
        "--model.d-mlp",
        "12",
        "--training.steps",
        "5",
        "--out",
        str(tmp_path / "runs"),
    ]
    assert main(["train", *options, "--seeds", "2"]) == 0
    written = capsys.readouterr().out
    assert written.startswith(f"training {tmp_path / 'runs'}: 2 seeds, 5 steps, ")
    assert written.endswith(f"done: interp list {tmp_path / 'runs'}\n")
    runs = [open_run(tmp_path / "runs" / f"seed{seed}") for seed in range(2)]
    assert [(run.task.seed, run.model.seed) for run in runs] == [(0, 0), (1, 1)]
    assert main(["train", *options, "--seeds", "2", "--log", "wandb"]) == 2
    assert "--log wandb shows one run" in capsys.readouterr().err
