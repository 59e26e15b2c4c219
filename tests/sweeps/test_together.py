"""Many experiments into a run each: in several turns, on cores and as one batch; interrupted, diverged, refused."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from interp.cli import main
from interp.errors import InputError
from interp.experiment import Experiment, ModelConfig, Task, TrainingConfig
from interp.models import DivergedError, Snapshot
from interp.runs import ON_GPU, ON_GPU_TF32, Run, open_run, verify
from interp.runs.format import with_sum
from interp.sweeps import InterruptedTrainingError, driver, resume_run, run_experiment, run_together, together
from interp.sweeps.together import chunks_of
from interp.training import at_once, networks_at_once, side_by_side

TASK = Task(11, train_fraction=0.5)
SMALL = ModelConfig(d_model=8, n_heads=2, d_mlp=12)
MLP = ModelConfig(family="mlp", d_mlp=16, embedding="none")
SHORT = TrainingConfig(steps=9, lr=1e-2, log_every=3, checkpoint_every=4)


def of_rates(model: ModelConfig = SMALL, n: int = 3) -> list[Experiment]:
    return [Experiment(TASK, replace(model, seed=place), replace(SHORT, lr=0.01 * (place + 1))) for place in range(n)]


def named(folder: Path, n: int = 3) -> list[Path]:
    return [folder / f"run{place}" for place in range(n)]


def same(one: Run, other: Run) -> bool:
    return dict(one.digests) == dict(other.digests) and one.metrics.drop_attrs().equals(other.metrics.drop_attrs())


@pytest.mark.parametrize("model", [SMALL, MLP], ids=["transformer", "MLP"])
@pytest.mark.parametrize("most", [None, 2])
def test_every_run_is_ordinary_and_as_alone(model: ModelConfig, most: int | None, tmp_path: Path) -> None:
    experiments, seen = of_rates(model), []
    runs = run_together(experiments, named(tmp_path), at_once=most, report=lambda snapshot: seen.append(snapshot.step))
    assert seen == [0, 3, 4, 6, 8, 9] * (1 if most is None else 2)
    for place, (run, experiment) in enumerate(zip(runs, experiments, strict=True)):
        assert isinstance(run, Run)
        assert (run.experiment, run.is_complete, verify(run).contradictions) == (experiment, True, [])
        assert same(run, run_experiment(experiment, tmp_path / f"alone{place}"))


def test_of_what_has_no_factored_form_run_json_notes_a_thread_for_each(tmp_path: Path) -> None:
    torch.set_num_threads(2)
    try:
        runs = run_together(of_rates(MLP), named(tmp_path), at_once=2)
        run_together(of_rates(), named(tmp_path / "plain"))
    finally:
        torch.set_num_threads(1)
    assert [run.info["host"]["threads"] for run in runs if isinstance(run, Run)] == [1, 1, 2]  # two, and one alone
    assert open_run(tmp_path / "plain" / "run0").info["host"]["threads"] == 2


@pytest.mark.parametrize("at_step", [6, 9])
def test_interrupted_in_any_turn_every_run_goes_on_by_itself(at_step: int, tmp_path: Path) -> None:
    """In the second of two turns, of which the first is done; the third run is begun, and has nothing."""
    seen: list[int] = []

    def stop(snapshot: Snapshot) -> None:
        seen.append(snapshot.step)
        if seen.count(at_step) == 2:
            raise KeyboardInterrupt

    words = "at step 6; each run in" if at_step == 6 else "after the last step of 2 of 3 runs; each run in"
    with pytest.raises(InterruptedTrainingError, match=f"interrupted {words} .* goes on with: interp resume RUN"):
        run_together(of_rates(), named(tmp_path), at_once=1, report=stop)
    assert [open_run(path).is_complete for path in named(tmp_path)] == [True, at_step == 9, False]
    for place, (path, experiment) in enumerate(zip(named(tmp_path), of_rates(), strict=True)):
        run = open_run(path)
        assert same(
            run if run.is_complete else resume_run(path), run_experiment(experiment, tmp_path / f"alone{place}")
        )


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From when it is called, "cuda" is the CPU, and what is trained there is one batch."""

    def begin() -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (10**9, 10**9))
        batch = side_by_side.AsOneBatch

        def on_cpu(experiments: list[Experiment], starts: list, device: str, *, tf32: bool = False) -> object:
            found = batch(experiments, starts, "cpu", tf32=tf32)
            found._device = device
            return found

        monkeypatch.setattr(side_by_side, "AsOneBatch", on_cpu)

    return begin


@pytest.mark.parametrize("tf32", [False, True])
def test_on_a_gpu_runs_say_how_they_were_trained_and_go_on_so(
    tf32: bool, tmp_path: Path, on_gpu: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_gpu()
    asked: list[bool] = []
    products_in = side_by_side.products_in
    monkeypatch.setattr(
        side_by_side, "products_in", lambda device, *, tf32: asked.append(tf32) or products_in(device, tf32=tf32)
    )

    def stop(snapshot: Snapshot) -> None:
        if snapshot.step == 6:
            raise KeyboardInterrupt

    with pytest.raises(InterruptedTrainingError, match="interrupted at step 4;"):  # there are no weights at step 6
        run_together(of_rates(), named(tmp_path), device="cuda", tf32=tf32, report=stop)
    for place, (path, experiment) in enumerate(zip(named(tmp_path), of_rates(), strict=True)):
        run = resume_run(path, device="cuda")
        assert run.info["arithmetic"] == (ON_GPU_TF32 if tf32 else ON_GPU)
        assert (run.is_complete, verify(run).contradictions) == (True, [])
        alone = run_experiment(experiment, tmp_path / f"alone{place}", device="cuda", tf32=tf32)
        for step in run.steps:
            for name, weight in alone[step].weights.items():
                torch.testing.assert_close(run[step].weights[name], weight, rtol=1e-3, atol=1e-3)
    assert set(asked) == {tf32}


def test_a_run_of_a_gpu_goes_on_on_a_cpu(tmp_path: Path, on_gpu: Callable[[], None]) -> None:
    path = tmp_path / "run"

    def stop(snapshot: Snapshot) -> None:
        if snapshot.step == 4:
            raise KeyboardInterrupt

    on_gpu()
    with pytest.raises(InterruptedTrainingError):
        run_experiment(of_rates()[0], path, device="cuda", tf32=True, report=stop)
    assert verify(resume_run(path)).contradictions == []


@pytest.mark.parametrize("cores", [True, False])
def test_one_that_diverges_is_told_of_and_the_others_are_whole(
    cores: bool, tmp_path: Path, on_gpu: Callable[[], None]
) -> None:
    experiments = of_rates()
    experiments[1] = replace(experiments[1], training=replace(SHORT, lr=1e30))
    if not cores:
        on_gpu()
    ends = run_together(experiments, named(tmp_path), device="cpu" if cores else "cuda", at_once=2)
    assert [type(end) for end in ends] == [Run, DivergedError, Run]
    runs = [open_run(path) for path in named(tmp_path)]
    assert [run.is_complete for run in runs] == [True, False, True]
    assert math.isnan(float(runs[1].metrics.train_loss[-1]))
    assert [verify(run).contradictions for run in runs] == [[], [], []]


def test_what_is_refused_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two, _ = of_rates()
    for experiments, paths, options, said in (
        ([one, replace(two, task=Task(7))], named(tmp_path, 2), {}, "have one task.p, and these have 11 and 7"),
        ([one, two], [tmp_path / "run"] * 2, {}, "2 experiments need as many different paths, and there are 1"),
        ([one, two], named(tmp_path), {}, "2 experiments need as many different paths, and there are 3"),
        ([one, two], named(tmp_path, 2), {"at_once": 0}, "at-once"),
        ([one, two], named(tmp_path, 2), {"tf32": True}, "TF32"),
    ):
        with pytest.raises(InputError, match=said):
            run_together(experiments, paths, **options)
    assert list(tmp_path.iterdir()) == []

    def full(*arguments: object, **options: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(together, "drive", full)
    with pytest.raises(InputError, match="does not hold 2 of these networks at once; give --at-once 1"):
        run_together([one, two], named(tmp_path, 2))


def test_states_of_many_are_saved_less_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[int] = []
    monkeypatch.setattr(driver, "STATE_INTERVAL_SECONDS", 0.0)
    monkeypatch.setattr("interp.runs.RunWriter.save_state", lambda self, snapshot: saved.append(snapshot.step))
    run_together(of_rates(), named(tmp_path))
    monkeypatch.setattr(driver, "STATE_INTERVAL_SECONDS", 1.0)
    monkeypatch.setattr(driver, "STATES_IN_NO_TIME", 1e-3)
    often = len(saved)
    run_together(of_rates(), named(tmp_path / "again"))
    assert (often, len(saved) - often) == (3 * 6, 3)  # at every step that is shown, and at the end alone


def test_as_few_turns_as_the_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chunks_of(3, 5) == [range(3)]
    assert chunks_of(7, 3) == [range(3), range(3, 5), range(5, 7)]
    big = Experiment()
    assert networks_at_once(of_rates()[0]) == at_once.MOST_AT_ONCE
    for free, expected in ((80e9, 256), (16e9, 298), (1e9, 18), (1e6, 1)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda free=free: (int(free), int(free)))
        assert networks_at_once(big, "cuda") == min(expected, at_once.MOST_AT_ONCE)
    assert networks_at_once(Experiment(model=ModelConfig(n_layers=2)), "cuda") >= 1


def test_an_arithmetic_of_a_later_version_is_refused_for_what_is_new(tmp_path: Path) -> None:
    (run, *_) = run_together(of_rates(), named(tmp_path))
    assert isinstance(run, Run)
    path = run.path / "run.json"
    info = json.loads(path.read_text()) | {"arithmetic": "a GPU, in FP8"}
    info.pop("sum")
    path.write_bytes(with_sum(info))
    with pytest.raises(InputError, match="which this version of interp does not know"):
        driver.arithmetic_of(open_run(run.path))


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--task.p", "11", "--model.d-model", "8", "--model.d-mlp", "12", "--training.steps", "5"]
    out = str(tmp_path / "runs")
    assert main(["train", *options, "--seeds", "3", "--at-once", "2", "--out", out]) == 0
    assert "mean over those in training, of 3 seeds: loss" in capsys.readouterr().out
    assert all(open_run(tmp_path / "runs" / f"seed{seed}").is_complete for seed in range(3))
    for wrong, said in (
        (["--tf32"], "TF32 is how a GPU can multiply"),
        (["--at-once", "2"], "give --seeds too"),
        (["--seeds", "2", "--at-once", "0"], "at-once"),
    ):
        assert main(["train", *options, *wrong, "--out", str(tmp_path / "more")]) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "more").exists()
