"""Times to generalize on planted curves: exponents are recovered, what never happened is not counted."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from scipy import stats
from scipy.optimize import minimize

from interp.experiment import ModelConfig, Task, TrainingConfig
from interp.runs import Run, RunWriter, open_run
from interp.studies import data_fraction, semi_grokking, weight_decay
from interp.studies.generalization_times import (
    EVENTS,
    censored_mean,
    censored_median,
    event_steps,
    log_time_interval,
    mean_log_time,
    measure_times,
    median_time,
)
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
            "censored_at": ((axis, "seed"), np.full((len(values), seeds), 5000.0)),
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


def test_the_interval_of_the_exponent_is_students_over_the_seeds():
    result = times("weight_decay", DECAYS, {"generalized": 400 / DECAYS}, noise=0.3)
    by_seed = np.log(result.time.sel(event="generalized").values)
    exponents = [np.polyfit(np.log(DECAYS), of_seed, 1)[0] for of_seed in by_seed.T]
    theirs = stats.ttest_1samp(exponents, 0.0).confidence_interval()
    found = predictions(result)[0].numbers["exponent_intervals_95"]["generalized"]
    assert_allclose(found, [theirs.low, theirs.high], rtol=1e-9)


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_more_noise_never_confirms_what_less_did_not(seeds: int):
    """The same seeds, further and further apart around one exponent: once lost, a verdict does not come back."""
    for exponent in (-1.0, -1.15, -0.4):
        found = []
        for noise in (0.0, 0.02, 0.1, 0.3, 1.0, 3.0):
            result = times("weight_decay", DECAYS, {"generalized": 400 * DECAYS**exponent}, noise=noise, seeds=seeds)
            logs = np.log(result.time)
            # The exponent of the mean stays what it is: only the seeds' own exponents move apart.
            center = np.log(400 * DECAYS**exponent)[:, None]
            generalized = logs.sel(event="generalized")
            spread = generalized - generalized.mean("seed")
            result["time"].loc[{"event": "generalized"}] = np.exp(center + spread.values)
            found.append(predictions(result)[0].verdict)
        decided = "confirmed" if exponent < -0.8 else "not confirmed"
        assert found[0] == decided
        assert found[-1] == "not shown"
        assert found == sorted(found, key=[decided, "not shown"].index)


def test_runs_that_never_generalize_are_told():
    result = times("weight_decay", DECAYS, {"generalized": 400 / DECAYS})
    result["time"][0, :, :] = np.nan
    result["time"][1, :2, :] = np.nan
    [found] = predictions(result)
    assert found.numbers["runs_that_arrived"]["generalized"] == [0, 3, 5, 5]
    result["time"][1, :, :] = np.nan
    [found] = predictions(result)
    assert found.verdict == "not shown"
    assert found.because.startswith("2 of 4 weight decays generalized in at least half of the runs in the time given")
    [one] = predictions(times("weight_decay", DECAYS, {"generalized": 400 / DECAYS}, seeds=1))
    assert one.because == "there is one seed, which says nothing of others; two are needed"


# ---- censored times --------------------------------------------------------------------------------------------------


def censored_times(n: int, share: float, generator: np.random.Generator, spread: float = 0.5) -> xr.Dataset:
    """Log-normal times around 400 steps of runs that end when all but this share have generalized."""
    every = np.exp(np.log(400) + spread * generator.normal(size=(1, n)))
    end = np.exp(np.log(400) + spread * stats.norm.ppf(1 - share))
    known = np.where(every < end, every, np.nan)[..., None] * np.ones(len(EVENTS))
    return xr.Dataset(
        {"time": (("size", "seed", "event"), known), "censored_at": (("size", "seed"), np.full((1, n), end))},
        coords={"size": [1.0], "seed": np.arange(n), "event": list(EVENTS)},
    )


@pytest.mark.parametrize("share", [0.15, 0.3])
def test_censored_runs_do_not_make_times_shorter(share: float):
    """Of log-normal times, cut off where training ends, the mean of log time is found, where the mean of those that
    arrived is too low by a quarter of the spread and more."""
    generator = np.random.default_rng(0)
    of_all, of_arrived = [], []
    for _ in range(30):
        result = censored_times(40, share, generator)
        [estimate] = mean_log_time(result, "generalized")
        of_all.append((estimate - np.log(400)) / 0.5)
        of_arrived.append((np.nanmean(np.log(result.time.sel(event="generalized").values)) - np.log(400)) / 0.5)
    error = np.std(of_all) / math.sqrt(30)
    assert abs(np.mean(of_all)) < 3 * error
    assert error < 0.04
    assert np.mean(of_arrived) == pytest.approx(-stats.norm.pdf(stats.norm.ppf(1 - share)) / (1 - share), abs=0.07)


def test_the_censored_mean_is_the_most_likely_one():
    """Against a search for the maximum that is written another way."""
    generator = np.random.default_rng(1)
    for _ in range(10):
        values, limits = generator.normal(6, 0.4, size=6), generator.uniform(5.8, 6.4, size=6)
        known = values < limits

        def unlikeliness(at: np.ndarray, values=values, limits=limits, known=known) -> float:
            normal = stats.norm(at[0], math.exp(at[1]))
            return -normal.logpdf(values[known]).sum() - normal.logsf(limits[~known]).sum()

        if not known.any():
            continue
        found = censored_mean(np.where(known, values, np.nan), limits)
        if known.all():
            assert found == values.mean()
            continue
        sought = minimize(unlikeliness, [6, -1], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12})
        assert found == pytest.approx(sought.x[0], abs=1e-5)


def test_what_cannot_be_estimated_is_not_known():
    none = np.full(3, math.nan)
    assert math.isnan(censored_mean(none, np.full(3, 9.0)))
    assert math.isnan(censored_median(none, np.full(3, 9.0)))
    assert math.isnan(censored_mean(np.array([1.0, math.nan]), np.array([9.0, math.nan])))  # of a run that is not there


def test_the_median_is_that_of_kaplan_and_meier():
    late = np.full(5, 1000.0)
    assert censored_median(np.array([300.0, 100, 200, 500, 400]), late) == 300
    assert censored_median(np.array([300.0, 100, 200, math.nan, math.nan]), late) == 300
    assert math.isnan(censored_median(np.array([300.0, 100, math.nan, math.nan, math.nan]), late))
    # One that ended early says nothing of what came after: 1/4 by 100, then 1/4 + 3/4 · 1/2 by 300.
    assert censored_median(np.array([100.0, math.nan, 300, 400]), np.array([1000.0, 150, 1000, 1000])) == 300


def test_settings_of_which_fewer_than_half_arrived_have_no_time():
    result = times("weight_decay", DECAYS, {"generalized": 400 / DECAYS}, seeds=4)
    result["time"][0, :3] = np.nan
    result["time"][1, :2] = np.nan
    found, low = mean_log_time(result, "generalized"), log_time_interval(result, "generalized")[0]
    assert np.isfinite(found).tolist() == np.isfinite(low).tolist() == [False, True, True, True]
    assert np.isfinite(median_time(result, "generalized")).tolist() == [False, True, True, True]
    # Of some of the seeds the same settings are asked about: without one that arrived they are 1 of 3.
    assert np.isfinite(mean_log_time(result, "generalized", [0, 1, 2])).tolist() == [False, True, True, True]


def test_a_run_is_censored_at_its_last_logged_step(tmp_path: Path):
    curves = dict.fromkeys(("train_accuracy", "train_loss", "test_loss", "test_accuracy"), [0.5] * 5)
    run = planted_run(tmp_path / "run", curves)
    result = measure_times({"1-0": run}, lambda x, s: f"{x:g}-{s}", axis="size", long_name="D", values=[1], seeds=1)
    assert result.censored_at.values.tolist() == [[40.0]]


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


def test_a_delay_that_seeds_leave_open_is_not_shown():
    """Near three times the steps, seeds that differ say neither: a verdict on the point estimate would."""
    result = of_sizes(np.array([900.0, 500, 200, 120]))
    off = np.array([0.5, 0.9, 1.0, 1.1, 2.0])
    result["time"].loc[{"event": "generalized", "size": 2784.0}] = 120 * off
    found = {one.name: one for one in data_fraction.predictions(result)}["delay"]
    assert found.numbers["delay_factor"][-1] < 3
    assert found.verdict == "not shown"


def test_too_few_sizes_that_generalize_show_nothing():
    found = data_fraction.predictions(of_sizes(np.array([math.nan, math.nan, 200, 60])))
    assert {one.verdict for one in found} == {"not shown"}


def test_a_setting_that_hangs_on_one_seed_shows_nothing():
    result = of_sizes(np.array([900.0, 500, 200, 60])).isel(seed=[0, 1])
    result["time"][0, 1, -1] = np.nan
    found = data_fraction.predictions(result)
    assert {(one.verdict, one.because) for one in found} == {
        ("not shown", "without one of the seeds, at some fraction no network came so far")
    }
    decays = times("weight_decay", DECAYS, {"generalized": 400 / DECAYS}, seeds=2)
    decays["time"][0, 1, -1] = np.nan
    [found] = predictions(decays)
    assert found.because == "without one of the seeds, at some weight decay no network generalized"


def semi(accuracy: float, change: float) -> xr.Dataset:
    axes, shape = ("size", "weight_decay", "seed"), (2, 1, 2)
    values, flat = np.array([[[0.02, 0.02]], [[0.99, accuracy]]]), np.zeros(shape)
    between = (values > 0.1) & (values < 0.9) & (change < 0.02)
    return xr.Dataset(
        {
            "unmirrored_test_accuracy": (axes, values),
            "change": (axes, flat + change),
            "semi_grokked": (axes, between),
            "train_accuracy": (axes, flat + 1),
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
    unlearned = semi(0.5, 0.01)
    unlearned["train_accuracy"] = unlearned.train_accuracy - 0.5
    assert "none had memorized" in semi_grokking.predictions(unlearned)[0].because
    semi_grokking.plot(semi(0.5, 0.01))


def planted_run(path: Path, curves: dict[str, list[float]]) -> Run:
    rows = len(curves["train_loss"])
    training = TrainingConfig(steps=10 * (rows - 1), log_every=10)
    with RunWriter.create(path, Task(p=13), ModelConfig(d_model=8, n_heads=2, d_mlp=8), training) as writer:
        for row in range(rows):
            writer.log(10 * row, {name: values[row] for name, values in curves.items()})
    return open_run(path)


def test_the_steps_of_events(tmp_path: Path):
    """Of accuracies what holds, of losses the first logged step; and of test pairs those that could not have been
    memorized."""
    curves = {
        "train_accuracy": [0.1, 0.99, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0],
        "train_loss": [4.0, 0.1, 1.0, 0.005, 0.001, 0.001, 0.001, 0.001],
        "test_loss": [4.0, 5.0, 0.9, 2.0, 0.5, 0.5, 0.5, 0.5],
        "test_accuracy": [0.0, 0.0, 0.995, 1.0, 1.0, 1.0, 1.0, 1.0],
        "unmirrored_test_accuracy": [0.0, 0.0, 0.995, 0.5, 0.99, 1.0, 1.0, 1.0],
    }
    steps = event_steps(planted_run(tmp_path / "run", curves))
    assert steps["memorized"] == 10  # at 20 it fell, once
    assert steps["train_loss_1e-2"] == 30
    assert steps["test_loss_1"] == 20
    assert math.isnan(steps["test_loss_1e-2"])
    assert steps["generalized"] == 20
    falling = {"unmirrored_test_accuracy": [0.0, 0.0, 0.0, 0.0, 1.0, 0.9, 0.9, 0.9]}
    assert math.isnan(event_steps(planted_run(tmp_path / "never", curves | falling))["generalized"])
