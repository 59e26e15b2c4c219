"""Planted logs and norms whose slingshots are known; a small network that spikes in float32, and not in float64."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
import xarray as xr

from interp.analyses import slingshots
from interp.experiment import Experiment, ModelConfig, Task, TrainingConfig
from interp.sweeps import run_experiment

STEPS = np.arange(0, 4001, 10)
SPIKES_AT = (1000, 2000, 3000)


def planted(
    *,
    defect: float = 0.4,
    grows: bool = True,
    between: bool = False,
    precision: Literal["float32", "float64"] = "float32",
) -> Any:
    """A run whose loss jumps three times; the mean feature grows for 200 steps before. With `between` the logged steps
    miss the jumps, and only the highest loss since the line before has them."""
    loss, highest = np.where(STEPS < 200, 3.0, 1e-6), np.full(len(STEPS), np.nan)
    growth = np.zeros(len(STEPS))
    for step in SPIKES_AT:
        since = STEPS - step
        if between:
            highest[since == 10] = 2.0
        else:
            loss = np.where((since >= 0) & (since < 60), 0.5 * np.exp(-np.maximum(since, 0) / 5), loss)
        growth += np.where((since > -200) & (since <= 0), 10 * 2e-3 * grows, 0)
    accuracy = np.where(STEPS < 200, 0.5, 1.0)
    curves = xr.Dataset(
        {
            "loss": (("step", "split"), np.stack([loss, loss], 1), {"units": "nats"}),
            "accuracy": (("step", "split"), np.stack([accuracy, np.full(len(STEPS), 0.1)], 1)),
            "highest_train_loss": ("step", highest),
            "highest_train_loss_step": ("step", STEPS - 3.0),
        },
        coords={"step": STEPS, "split": ["train", "test"]},
    )
    still = np.ones(len(STEPS))
    of_precision = {"float32": defect, "float64": 1e-9, "bfloat16": 1.0}
    of_all = np.tile(list(of_precision.values()), (len(STEPS), 1))
    measured = xr.Dataset(
        {
            "zero_sum_defect": (("step", "precision"), of_all),
            "collapsed_share": (("step", "precision"), of_all),
            "last_layer_norm": ("step", still),
            "classifier_mean_norm": ("step", still),
            "feature_mean_norm": ("step", np.exp(np.cumsum(growth))),
            "cosine": ("step", -still),
        },
        coords={"step": STEPS, "precision": list(of_precision)},
    )
    training = TrainingConfig(loss_precision=precision)
    results = {"learning_curves": curves, "softmax_collapse": measured}
    return SimpleNamespace(training=training, result=results.__getitem__)


def told(run: Any) -> dict[str, Any]:
    return slingshots.summary(slingshots.compute(run))


def test_planted_slingshots_are_told():
    facts = told(planted())
    assert facts["kind"] == "slingshots (numerical)"
    assert (facts["slingshots"], facts["norm"], facts["period"], facts["settled_at"]) == (3, "feature_mean", 1000, 400)
    assert [spike["start"] for spike in facts["spikes"]] == list(SPIKES_AT)
    assert [spike["defect_before"] for spike in facts["spikes"]] == [0.4] * 3
    rates = [spike["rate"]["feature_mean"] for spike in facts["spikes"]]
    assert rates == pytest.approx([2e-3] * 3, rel=0.01)
    assert not any(spike["is_slingshot"]["last_layer"] for spike in facts["spikes"])


def test_the_cause_is_told_by_the_precision_that_was_trained_in():
    assert told(planted(precision="float64"))["kind"] == "slingshots (optimizer)"
    assert told(planted(defect=0.05))["kind"] == "slingshots"
    kept = planted()
    kept.training = replace(kept.training, zero_sum=True)
    assert told(kept)["kind"] == "slingshots (optimizer)"  # what it was trained on sums to zero
    apart = planted()
    apart.result("softmax_collapse")["cosine"][:] = 0.0
    assert told(apart)["kind"] == "slingshots"  # a rounded gradient would have turned the two means against each other
    smoothed = planted()
    smoothed.training = replace(smoothed.training, label_smoothing=0.1)
    assert told(smoothed)["kind"] == "slingshots"  # its gradient is another one
    assert told(smoothed)["precision"] is None


def test_spikes_without_growth_are_spikes():
    facts = told(planted(grows=False))
    assert (facts["kind"], facts["slingshots"], facts["norm"], len(facts["spikes"])) == ("spikes", 0, None, 3)


def test_spikes_between_logged_steps_are_seen_where_the_highest_loss_was_kept():
    run = planted(between=True)
    facts = told(run)
    assert facts["kind"] == "slingshots (numerical)"
    assert [spike["at"] for spike in facts["spikes"]] == [step + 7 for step in SPIKES_AT]
    run.result("learning_curves")["highest_train_loss"][:] = np.nan
    facts = told(run)
    assert (facts["kind"], facts["spikes"], facts["has_highest"]) == ("none", [], False)


def test_one_that_did_not_memorize_has_none():
    run = planted()
    run.result("learning_curves")["accuracy"][:] = 0.9
    facts = told(run)
    assert (facts["kind"], facts["settled_at"], facts["period"]) == ("unknown", None, None)


def test_the_title_says_how_many():
    assert slingshots.plot(slingshots.compute(planted())).layout.title.text.startswith("<b>3 slingshots (numerical)")
    assert "Slingshots: spikes (3)" in slingshots.plot(slingshots.compute(planted(grows=False))).layout.title.text


def test_a_float32_loss_spikes_and_a_float64_loss_does_not(tmp_path: Path):
    """The network of `interp experiment slingshots`, up to its first spike: near step 970 with seed 0."""
    model = ModelConfig(
        family="mlp", inputs="concatenated", n_layers=3, d_mlp=128, biases=True, initialization="uniform"
    )
    training = TrainingConfig(
        steps=1100, optimizer="adam", lr=1e-3, betas=(0.9, 0.95), weight_decay=0.0, warmup=0, checkpoint_every=50
    )
    of = {}
    for precision in ("float32", "float64"):
        trained = replace(training, loss_precision=precision)
        run = run_experiment(Experiment(Task(31, "divide", 0.5), model, trained), tmp_path / precision)
        of[precision] = told(run)
    assert of["float64"]["spikes"] == []
    (spike,) = of["float32"]["spikes"]
    assert 800 < spike["at"] < 1100
    assert spike["highest"] > 0.05
    assert spike["defect_before"] > 0.1
    assert spike["growth"]["feature_mean"] > 2
    assert of["float32"]["cosine"] < -0.95 < -0.5 < of["float64"]["cosine"]
    assert of["float32"]["kind"] == "spikes"  # one is no cycle that repeats
