"""Running experiments: what is on disk is what training yields, and an interruption leaves no trace in it."""

import os
import re
import signal
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from interp.cli import main
from interp.errors import InputError
from interp.experiment import Experiment, ModelConfig, Task, TrainingConfig
from interp.models import Snapshot
from interp.runs import RunWriter, open_run, verify
from interp.sweeps import InterruptedTrainingError, driver, resume_run, run_experiment, run_seeds
from interp.training import train

TRAINING = TrainingConfig(steps=24, checkpoint_every=5, log_every=2)
EXPERIMENT = Experiment(Task(p=7, train_fraction=0.5), ModelConfig(d_model=8, n_heads=2, d_mlp=8), TRAINING)
EXPERIMENTS = {
    "adamw": EXPERIMENT,
    "sgd": replace(EXPERIMENT, training=replace(TRAINING, optimizer="sgd", lr=0.02, weight_decay=1e-3)),
    "sgd without momentum": replace(
        EXPERIMENT, training=replace(TRAINING, optimizer="sgd", momentum=0.0, lr=0.02, weight_decay=0.0)
    ),
    "adam, mini-batches": replace(
        EXPERIMENT, training=replace(TRAINING, optimizer="adam", weight_decay=0.0, batch_size=7)
    ),
    "two layers, noise": replace(
        EXPERIMENT, model=replace(EXPERIMENT.model, n_layers=2), task=replace(EXPERIMENT.task, label_noise=0.2)
    ),
}
DIVERGING = replace(EXPERIMENT, training=replace(TRAINING, lr=1e30, warmup=0, checkpoint_every=1))


def contents(run: Path) -> dict[str, bytes]:
    """All of a run but when it was made and who is writing."""
    files = (path for path in run.rglob("*") if path.is_file() and path.name not in ("run.json", ".lock"))
    return {str(path.relative_to(run)): path.read_bytes() for path in files}


def at_step(step: int, act: Callable[[], object]) -> Callable[[Snapshot], None]:
    """Does something when training has come to a step."""

    def report(snapshot: Snapshot) -> None:
        if snapshot.step == step:
            act()

    return report


def interrupt() -> None:
    raise KeyboardInterrupt


def test_a_run_holds_what_training_yields(tmp_path: Path):
    run = run_experiment(EXPERIMENT, tmp_path / "run")
    snapshots = {snapshot.step: snapshot for snapshot in train(EXPERIMENT)}
    assert run.metrics.step.values.tolist() == list(snapshots)
    assert run.steps == [step for step, snapshot in snapshots.items() if snapshot.kept] == [0, 5, 10, 15, 20, 24]
    for step in run.steps:
        torch.testing.assert_close(run[step].weights, snapshots[step].weights, rtol=0, atol=0)
    for name, value in snapshots[24].metrics.items():
        assert float(run.metrics[name].sel(step=24)) == value
    assert run.is_complete
    assert verify(run).contradictions == []


def test_a_run_is_trained_by_as_many_threads_as_torch_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It is trained in a thread of its own, and how many are torch's is another number in every thread."""
    pools = []

    def pool(n_threads: int, **options: Any) -> ThreadPoolExecutor:
        pools.append(n_threads)
        return ThreadPoolExecutor(n_threads, **options)

    monkeypatch.setattr("interp.training.loss.ThreadPoolExecutor", pool)
    torch.set_num_threads(3)
    try:
        run_experiment(EXPERIMENT, tmp_path / "run")
        run_seeds(EXPERIMENT, 2, tmp_path / "runs")
    finally:
        torch.set_num_threads(1)
    assert pools == [3, 3]


@pytest.mark.parametrize("step", [0, 6, 10, 24])
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_interruption_leaves_no_trace(name: str, step: int, tmp_path: Path):
    run_experiment(EXPERIMENTS[name], tmp_path / "undisturbed")
    words = f"at step {step}; go on with: interp resume" if step < 24 else "after its last step; .*run is complete"
    with pytest.raises(InterruptedTrainingError, match=f"interrupted {words}"):
        run_experiment(EXPERIMENTS[name], tmp_path / "run", report=at_step(step, interrupt))
    run = open_run(tmp_path / "run")
    assert verify(run).contradictions == []
    assert run.is_complete == (step == 24)
    if not run.is_complete:
        resume_run(tmp_path / "run")
    assert contents(tmp_path / "run") == contents(tmp_path / "undisturbed")


def test_an_interruption_before_the_end_is_noted_leaves_it_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    finish, calls = RunWriter.finish, []

    def interrupted_at_first(writer: RunWriter) -> None:
        calls.append(writer)
        if len(calls) == 1:
            interrupt()
        finish(writer)

    monkeypatch.setattr(RunWriter, "finish", interrupted_at_first)
    with pytest.raises(InterruptedTrainingError, match="interrupted after its last step"):
        run_experiment(EXPERIMENT, tmp_path / "run")
    assert open_run(tmp_path / "run").info["end"]["step"] == EXPERIMENT.training.steps


def test_an_interrupted_resumption_goes_on_where_it_was(tmp_path: Path):
    run_experiment(EXPERIMENT, tmp_path / "undisturbed")
    with pytest.raises(InterruptedTrainingError):
        run_experiment(EXPERIMENT, tmp_path / "run", report=at_step(4, interrupt))
    for step in (6, 8, 15, 22):
        seen: list[int] = []
        with pytest.raises(InterruptedTrainingError, match=f"at step {step};"):
            resume_run(
                tmp_path / "run",
                report=lambda snapshot, seen=seen, step=step: (
                    seen.append(snapshot.step) or at_step(step, interrupt)(snapshot)
                ),
            )
        assert seen[0] > 4
    resume_run(tmp_path / "run")
    assert contents(tmp_path / "run") == contents(tmp_path / "undisturbed")


def test_a_run_without_any_state_starts_over(tmp_path: Path):
    run_experiment(EXPERIMENT, tmp_path / "undisturbed")
    RunWriter.create(tmp_path / "run", EXPERIMENT.task, EXPERIMENT.model, EXPERIMENT.training).close()
    resume_run(tmp_path / "run")
    assert contents(tmp_path / "run") == contents(tmp_path / "undisturbed")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_training_in_one_line(
    number: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    before = signal.getsignal(number)
    real = RunWriter.write

    def write(writer: RunWriter, snapshot: Snapshot) -> None:
        real(writer, snapshot)
        at_step(10, lambda: signal.raise_signal(number))(snapshot)

    monkeypatch.setattr(RunWriter, "write", write)
    monkeypatch.setattr("interp.cli.commands.training.preset", lambda name: EXPERIMENT)
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--out", "run"]) == 130
    assert re.fullmatch(r"interp: interrupted at step \d+; go on with: interp resume run\n", capsys.readouterr().err)
    assert signal.getsignal(number) is before
    assert open_run("run").steps == [0, 5, 10]


def test_training_beside_the_main_thread(tmp_path: Path):
    thread = threading.Thread(target=run_experiment, args=(EXPERIMENT, tmp_path / "run"))
    thread.start()
    thread.join()
    assert open_run(tmp_path / "run").is_complete


def test_a_device_that_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    RunWriter.create("begun", EXPERIMENT.task, EXPERIMENT.model, EXPERIMENT.training).close()
    for command in (["train", "--out", "run"], ["resume", "begun"]):
        assert main([*command, "--device", "cuda"]) == 2
        complaint = "interp: there is no CUDA device here that torch can use; leave the device at cpu\n"
        assert capsys.readouterr() == ("", complaint)
        assert main([*command, "--device", "gpu"]) == 2
        assert capsys.readouterr() == ("", "interp: unknown device 'gpu'; known: cpu, cuda\n")
    assert [path.name for path in tmp_path.iterdir()] == ["begun"]
    assert open_run("begun").steps == []


def test_divergence_keeps_what_came_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("interp.cli.commands.training.preset", lambda name: DIVERGING)
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--out", "run"]) == 2
    complaint = (
        r"interp: training diverged: the loss of step (\d+) is not finite; try a lower training.lr; the "
        r"checkpoints before it are in run\n"
    )
    [step] = re.fullmatch(complaint, capsys.readouterr().err).groups()
    run = open_run("run")
    assert run.steps == list(range(int(step)))
    assert 0 < len(run) < 24
    assert verify(run).contradictions == []
    for checkpoint in run:
        assert all(weight.isfinite().all() for weight in checkpoint.weights.values())
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    assert main(["resume", "run"]) == 2
    words = f"run diverged at step {step}, and the same steps lead there again; train a new run, with a "
    assert words in capsys.readouterr().err
    assert main(["resume", "run", "--force"]) == 2  # and they do
    assert f"diverged: the loss of step {step} is not finite" in capsys.readouterr().err
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before


def test_what_is_complete_or_was_not_trained_here_is_not_resumed(tmp_path: Path):
    run_experiment(EXPERIMENT, tmp_path / "run")
    with pytest.raises(InputError, match="run is complete: it has reached step 24"):
        resume_run(tmp_path / "run")
    RunWriter.create(tmp_path / "bare", EXPERIMENT.task, EXPERIMENT.model).close()
    with pytest.raises(InputError, match="bare was not trained by interp, so there is nothing to resume"):
        resume_run(tmp_path / "bare")


def test_a_resumption_adds_in_the_order_of_the_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(InterruptedTrainingError):
        run_experiment(EXPERIMENT, tmp_path / "run", report=at_step(4, interrupt))
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    resume_run(tmp_path / "run")
    assert asked[0] == torch.get_num_threads()


def test_the_state_rolls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen: dict[float, list[list[str]]] = {}
    for seconds in (0, 1000):
        states = seen[seconds] = []
        folder = tmp_path / str(seconds)
        monkeypatch.setattr(driver, "STATE_INTERVAL_SECONDS", seconds)
        run_experiment(
            EXPERIMENT,
            folder,
            report=lambda _, f=folder, s=states: s.append([path.name for path in (f / "state").iterdir()]),
        )
    steps = open_run(tmp_path / "0").metrics.step.values
    assert seen[0] == [[f"step_{step:09d}.safetensors"] for step in steps]
    assert seen[1000] == [*([] for _ in steps[:-1]), ["step_000000024.safetensors"]]


# ---- real processes, really killed -----------------------------------------------------------------------------------


def test_control_c_on_the_command_line(tmp_path: Path):
    flags = "--task.p 7 --model.d-model 8 --model.d-mlp 8 --training.steps 1000000 --training.checkpoint-every 1000"
    command = [Path(sysconfig.get_path("scripts")) / "interp", "train", *flags.split(), "--out", "run"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("training run: 1,000,000 steps, 1,001 checkpoints, about ")
            process.send_signal(signal.SIGINT)
            _, complaint = process.communicate(timeout=900)
        finally:
            process.kill()
    assert process.returncode == 130
    assert re.fullmatch(r"interp: interrupted at step \d+; go on with: interp resume run\n", complaint)
    assert verify(open_run(tmp_path / "run")).contradictions == []


def test_kills_at_random_moments():
    script = Path(__file__).parents[1] / "kill_and_resume.py"
    one_thread = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, script, "--kills", "5", "--seed", "2"],
        capture_output=True,
        text=True,
        check=False,
        env=one_thread,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    *kills, summary = done.stdout.splitlines()
    assert len(kills) >= 5
    assert all(line.endswith("opens, verifies, continues") for line in kills)
    assert summary.endswith("every run ended with the bytes of the undisturbed one")
