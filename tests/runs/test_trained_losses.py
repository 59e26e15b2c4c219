"""Runs that were trained on another loss: what is logged is of that loss, everywhere, and no verdict is told from it as
from a cross-entropy."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import interp
from interp.analysis import analyze, find, measure_checkpoint
from interp.explanation import explain
from interp.mathematics import grokking
from interp.runs import Checkpoint, open_run, verify
from interp.sweeps import driver, resume_run, run_experiment

TASK = interp.Task(7, train_fraction=0.5)
MODEL = interp.ModelConfig(d_model=8, n_heads=2, d_mlp=8)
LATER: dict[str, dict[str, Any]] = {
    "stablemax": {"loss": "stablemax"},
    "squared-error": {"loss": "squared-error"},
    "smoothed": {"label_smoothing": 0.1},
    "float32": {"loss_precision": "float32", "zero_sum": True},
}


def run_of(path: Path, **fields: Any) -> interp.Run:
    training = interp.TrainingConfig(steps=20, checkpoint_every=5, log_every=2, **fields)
    return run_experiment(interp.Experiment(TASK, MODEL, training), path)


@pytest.mark.parametrize("fields", LATER.values(), ids=LATER)
def test_what_is_logged_is_what_the_weights_give(fields: dict[str, Any], tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", **fields)
    assert open_run(run.path).training == run.training
    assert verify(run).contradictions == []
    last = run.last
    for split, name in {"train": "train", "held_out": "unmirrored_test"}.items():
        assert float(run.metrics[f"{name}_loss"][-1]) == pytest.approx(last.trained_loss(split), rel=1e-5)
    if fields.get("loss_precision") != "float32":
        assert abs(last.trained_loss("train") / last.loss("train") - 1) > 1e-3
    curves = find("learning_curves").function(run)
    assert float(curves.loss.sel(split="train")[-1]) == pytest.approx(last.trained_loss("train"), rel=1e-5)


def test_a_checkpoint_whose_line_is_lost_is_told_by_the_loss_it_was_trained_on(tmp_path: Path) -> None:
    """A run without logged metrics: they are taken from the weights."""
    run = run_of(tmp_path / "run", loss="squared-error")
    with interp.RunWriter.create(tmp_path / "bare", TASK, MODEL, run.training) as writer:
        for step in run.steps:
            writer.append(step, run[step].weights)
    logged, bare = (find("learning_curves").function(one) for one in (run, writer.run))
    for result in (logged, bare):
        assert (result.loss.attrs["long_name"], result.loss.attrs["units"]) == ("squared error", "1")
        assert result.attrs["chance_loss"] == pytest.approx(1 / 7)
        assert result.attrs["losses_decide"] == 0
    np.testing.assert_allclose(bare.loss, logged.loss.sel(step=bare.step), rtol=1e-5)
    with interp.Recorder(tmp_path / "recorded", TASK, MODEL, training=run.training) as recorder:
        recorder.save(0, run[0].weights)
    assert float(recorder.run.metrics.train_loss[0]) == pytest.approx(run[0].trained_loss("train"), rel=1e-5)


def test_a_small_squared_error_is_no_cross_entropy_that_proves_anything() -> None:
    """Held-out pairs that are answered no longer: by a loss of ln 2 that would never be seen."""
    steps = np.arange(0, 100, 5)
    accuracy = np.where(steps < 60, 1.0, 0.1) * np.ones((2, 1))
    small = np.full((2, len(steps)), 0.01)
    assert grokking.events(steps, accuracy, small, 1 / 7).verdict != "collapse"
    assert grokking.events(steps, accuracy, None, 1 / 7).verdict == "collapse"


def test_the_story_says_what_it_was_trained_on(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", loss="squared-error")
    told = explain(run)
    assert "trained on another loss (squared error)" in " ".join(str(told).split())
    found = analyze(run, ["transitions", "learning_curves"])
    for name, result in found.items():
        figure = find(name).module.plot(result)
        assert figure.layout.yaxis.title.text.startswith("squared error"), name
    usual = explain(run_of(tmp_path / "usual"))
    assert "another loss" not in str(usual)


def test_a_rescaled_network_is_judged_by_the_loss_it_was_trained_on(tmp_path: Path) -> None:
    """At factor 1 the landscape's loss is that of the network, on all its pairs."""
    run = run_of(tmp_path / "run", loss="squared-error")
    found = measure_checkpoint(run.last, "norm_landscape").isel(step=0)
    here = float(found.loss.sel(split="train", factor=1.0))
    assert here == pytest.approx(run.last.trained_loss("train"), rel=1e-6)
    assert found.loss.attrs["units"] == "1"
    outputs_of_nothing = Checkpoint(
        0, {n: 0 * w for n, w in run.last.weights.items()}, TASK, MODEL, training=run.training
    )
    assert outputs_of_nothing.trained_loss("train") == pytest.approx(1 / 7, rel=1e-9)


def test_a_run_that_was_begun_before_its_highest_loss_was_logged_is_read_and_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = interp.RunWriter.write

    def as_before(writer: interp.RunWriter, snapshot: Any) -> None:
        for name in ("train_loss_max", "train_loss_max_step"):
            del snapshot.metrics[name]
        write(writer, snapshot)

    def stop(snapshot: Any) -> None:
        if snapshot.step == 10:
            raise KeyboardInterrupt

    training = interp.TrainingConfig(steps=20, checkpoint_every=5, log_every=2)
    with monkeypatch.context() as before:
        before.setattr(interp.RunWriter, "write", as_before)
        with pytest.raises(driver.InterruptedTrainingError):
            run_experiment(interp.Experiment(TASK, MODEL, training), tmp_path / "run", report=stop)
    run = resume_run(tmp_path / "run")
    highest = run.metrics.train_loss_max
    assert np.isnan(highest.sel(step=10))
    assert highest.sel(step=12) >= run.metrics.train_loss.sel(step=12)
    assert run.metrics.train_loss_max_step.sel(step=12).item() in (11, 12)
    assert verify(run).contradictions == []
