"""Times to generalize on planted curves: exponents are recovered, what never happened is not counted."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from interp.experiment import ModelConfig, Task, TrainingConfig
from interp.runs import Run, RunWriter, open_run
from interp.studies import data_fraction, semi_grokking, weight_decay
from interp.studies.generalization_times import EVENTS, event_steps
from interp.studies.weight_decay import predictions

DECAYS = np.array([0.25, 0.5, 1.0, 2.0])


def times(
    axis: str, values: np.ndarray, by_event: dict[str, np.ndarray], *, noise: float = 0.02, seeds: int = 5
) -> xr.Dataset:
    """Planted times [axis, seed, event] with a spread over seeds."""
    spread = np.exp(noise * np.random.RandomState(0).normal(size=(len(values), seeds)))
    columns = [by_event.get(event, 10 + 0 * values)[:, None] * spread for event in EVENTS]
    one = np.ones(len(values))
    return xr.Dataset(
        {
            "time": ((axis, "seed", "event"), np.stack(columns, -1)),
            "logging_interval": (axis, 5 * one),
            "learning_rate": (axis, 0.01 * one),
            "decay": (axis, values if axis == "weight_decay" else one),
        },
        coords={axis: (axis, values, {"long_name": axis}), "seed": np.arange(seeds), "event": list(EVENTS)},
    )


@pytest.mark.parametrize(
    ("exponent", "verdict"), [(-1.0, "confirmed"), (-0.5, "not confirmed"), (-1.5, "not confirmed")]
)
def test_a_planted_exponent_is_found(exponent: float, verdict: str):
    [found] = predictions(times("weight_decay", DECAYS, {"generalized": 400 * DECAYS**exponent}))
    assert found.numbers["exponents"]["generalized"] == pytest.approx(exponent, abs=0.03)
    assert found.verdict == verdict
    if exponent == -1:
        assert found.numbers["time_times_lr_times_wd"]["generalized"] == pytest.approx([4.0] * 4, rel=0.05)
        assert found.numbers["spread_of_time_times_lr_times_wd"] == pytest.approx(1.0, abs=0.1)
    weight_decay.plot(times("weight_decay", DECAYS, {"generalized": 400 * DECAYS**exponent}))


def test_an_exponent_that_seeds_leave_open_is_not_shown():
    result = times("weight_decay", DECAYS, {"generalized": 400 / DECAYS}, noise=0.0)
    result["time"] = result.time * result.weight_decay ** xr.DataArray([-0.8, -0.4, 0.0, 0.4, 0.8], dims="seed")
    assert predictions(result)[0].verdict == "not shown"


def test_runs_that_never_generalize_are_not_counted():
    result = times("weight_decay", DECAYS, {"generalized": 400 / DECAYS})
    result["time"][0, :, :] = np.nan
    result["time"][1, :2, :] = np.nan
    [found] = predictions(result)
    assert found.verdict == "confirmed"
    assert found.numbers["runs_that_generalized"] == 13
    result["time"][1, :, :] = np.nan
    assert predictions(result)[0].verdict == "not shown"


SIZES = np.array([870.0, 1044, 1392, 2784])


def of_sizes(generalized: np.ndarray) -> xr.Dataset:
    return times("size", SIZES, {"generalized": generalized, "memorized": 50 + 0 * SIZES}).assign(
        fraction=("size", SIZES / 3481)
    )


def test_more_data_sooner_and_without_delay():
    found = {one.name: one for one in data_fraction.predictions(of_sizes(np.array([900.0, 500, 200, 60])))}
    assert {name: one.verdict for name, one in found.items()} == {"time": "confirmed", "delay": "confirmed"}
    assert found["delay"].numbers["delay_factor"] == pytest.approx([18, 10, 4, 1.2], rel=0.1)


def test_a_delay_that_stays_is_not_confirmed():
    found = {one.name: one.verdict for one in data_fraction.predictions(of_sizes(np.array([900.0, 800, 700, 600])))}
    assert found == {"time": "confirmed", "delay": "not confirmed"}
    found = {one.name: one.verdict for one in data_fraction.predictions(of_sizes(np.array([60.0, 200, 500, 900])))}
    assert found == {"time": "not confirmed", "delay": "not confirmed"}


def test_too_few_sizes_that_generalize_show_nothing():
    found = data_fraction.predictions(of_sizes(np.array([math.nan, math.nan, 200, 60])))
    assert {one.verdict for one in found} == {"not shown"}


def semi(accuracy: float, change: float) -> xr.Dataset:
    axes, shape = ("size", "weight_decay", "seed"), (2, 1, 2)
    values, flat = np.array([[[0.02, 0.02]], [[0.99, accuracy]]]), np.zeros(shape)
    between = (values > 0.1) & (values < 0.9) & (change < 0.02)
    return xr.Dataset(
        {
            "unmirrored_test_accuracy": (axes, values),
            "change": (axes, flat + change),
            "semi_grokked": (axes, between),
            "steps": ("weight_decay", [4000]),
        },
        coords={"size": [350, 450], "weight_decay": [1.0], "seed": [0, 1]},
    )


def test_semi_grokking_is_confirmed_by_one_run_and_never_refuted():
    assert semi_grokking.predictions(semi(0.5, 0.01))[0].verdict == "confirmed"
    assert semi_grokking.predictions(semi(0.5, 0.1))[0].verdict == "not shown"
    [none] = semi_grokking.predictions(semi(1.0, 0.0))
    assert none.verdict == "not shown"
    assert "after 4,000 steps" in none.because
    json.dumps(none.to_dict(), allow_nan=False)
    semi_grokking.plot(semi(0.5, 0.01))


def planted_run(path: Path, curves: dict[str, list[float]]) -> Run:
    training = TrainingConfig(steps=40, log_every=10)
    with RunWriter.create(path, Task(p=7), ModelConfig(d_model=8, n_heads=2, d_mlp=8), training) as writer:
        for row in range(5):
            writer.log(10 * row, {name: values[row] for name, values in curves.items()})
    return open_run(path)


def test_the_steps_of_events(tmp_path: Path):
    curves = {
        "train_accuracy": [0.1, 0.99, 0.5, 1.0, 1.0],
        "train_loss": [4.0, 0.1, 1.0, 0.005, 0.001],
        "test_loss": [4.0, 5.0, 0.9, 2.0, 0.5],
        "test_accuracy": [0.0, 0.0, 0.995, 0.5, 0.99],
    }
    steps = event_steps(planted_run(tmp_path / "run", curves))
    assert steps["memorized"] == 10
    assert steps["train_loss_1e-2"] == 30
    assert steps["test_loss_1"] == 20
    assert math.isnan(steps["test_loss_1e-2"])
    assert steps["generalized"] == 40
    never = event_steps(planted_run(tmp_path / "never", curves | {"test_accuracy": [0.0, 1.0, 1.0, 1.0, 0.98]}))
    assert math.isnan(never["generalized"])
