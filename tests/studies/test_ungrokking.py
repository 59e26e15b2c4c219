"""Ungrokking on planted transitions: D_crit and width are recovered, and the verdicts are what the numbers say."""

import math

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from interp.studies import DecayDesign, ungrokking
from interp.studies.ungrokking import DESIGN, FULL, critical_size, critical_sizes, grid, predictions

SIZES = (200, 280, 390, 488, 610, 763, 955, 1194, 1494)
DECAYS = (0.3, 1.0, 3.0)


def planted(
    d_crit: tuple[float, ...] = (600.0,) * 3,
    *,
    factor: float = 2.0,
    noise: float = 0.0,
    start: float = 1.0,
    off: np.ndarray | None = None,
) -> xr.Dataset:
    """Final accuracies that are logistic in log D, from 10 % to 90 % within a factor, with every seed's D_crit off by
    its own noise."""
    x, steepness = np.log(SIZES)[:, None, None], 2 * math.log(9) / math.log(factor)
    off = noise * np.random.RandomState(0).normal(size=(1, 1, 5)) if off is None else off
    accuracy = 1 / (1 + np.exp(-steepness * (x - np.log(d_crit)[None, :, None] - off)))
    axes = ("size", "weight_decay", "seed")
    flat = np.zeros(accuracy.shape)
    return xr.Dataset(
        {
            "test_accuracy": (axes, accuracy),
            "unmirrored_test_accuracy": (axes, accuracy),
            "held_out_accuracy": (axes, accuracy),
            "train_accuracy": (axes, flat + 1),
            "weight_norm": (axes, flat + 30),
            "settling": (axes, flat - 0.01),
            "start_accuracy": ("seed", np.full(5, start)),
        },
        coords={"size": list(SIZES), "weight_decay": list(DECAYS), "seed": np.arange(5)},
    )


def verdicts(result: xr.Dataset) -> dict[str, str]:
    return {prediction.name: prediction.verdict for prediction in predictions(result)}


@pytest.mark.parametrize("d_crit", [450.0, 600.0, 1000.0])
def test_a_planted_transition_is_found(d_crit: float):
    result = planted((d_crit,) * 3)
    # A straight line between sizes a quarter apart.
    assert critical_size(result, 1.0) == pytest.approx(d_crit, rel=0.02)


def test_sharp_and_the_same():
    result = planted(noise=0.01)
    assert verdicts(result) == {"P2": "confirmed", "P3": "confirmed"}
    sharp, same = predictions(result)
    for factor in sharp.numbers["factor_from_10_to_90_percent"].values():
        assert factor == pytest.approx(2.0, rel=0.1)  # straight lines between sizes a quarter apart
    low, high = same.numbers["d_crit_intervals_95"]["1"]
    assert low < 600 < high or (low, high) == pytest.approx((600, 600), rel=0.03)
    for ratio in same.numbers["ratios"].values():
        assert ratio == pytest.approx(1.0)


def test_a_wide_transition_is_not_sharp():
    assert verdicts(planted(factor=5.0))["P2"] == "not confirmed"


def test_weight_decays_that_differ_are_told_apart():
    result = planted((500.0, 600.0, 800.0), noise=0.02)
    assert verdicts(result)["P3"] == "not confirmed"
    ratios = predictions(result)[1].numbers["ratios"]
    assert [*ratios] == ["1 over 0.3", "3 over 0.3", "3 over 1"]
    assert [*ratios.values()] == pytest.approx([1.2, 1.6, 4 / 3], rel=0.05)


def test_intervals_are_students_over_the_seeds():
    result = planted((500.0, 600.0, 800.0), noise=0.1)
    shuffled = result.test_accuracy.values.copy()
    shuffled[:, 2] = shuffled[:, 2][:, ::-1]
    result["test_accuracy"] = (("size", "weight_decay", "seed"), shuffled)
    logs = [np.log(critical_sizes(result, decay)) for decay in DECAYS]
    numbers = predictions(result)[1].numbers
    for found, values in (
        (numbers["d_crit_intervals_95"]["1"], logs[1]),
        (numbers["ratio_intervals_95"]["3 over 1"], logs[2] - logs[1]),
    ):
        theirs = stats.ttest_1samp(values, 0.0).confidence_interval()
        assert found == pytest.approx(np.exp([theirs.low, theirs.high]))


def seeds_apart(noise: float) -> xr.Dataset:
    """D_crit 600 on the mean, of seeds that lie apart, in another order at each weight decay."""
    off = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
    orders = [off, off[::-1], np.roll(off, 2)]
    result = planted()
    accuracy = np.stack([planted(off=noise * order).test_accuracy.values[:, 0] for order in orders], 1)
    result["test_accuracy"] = (("size", "weight_decay", "seed"), accuracy)
    return result


def test_more_noise_never_confirms_that_they_are_the_same():
    found = [verdicts(seeds_apart(noise))["P3"] for noise in (0.0, 0.01, 0.03, 0.05, 0.1, 0.2)]
    assert found[0] == "confirmed"
    assert found[-1] == "not shown"
    assert found == sorted(found)  # alphabetically: once not shown, not confirmed any more


def test_seeds_that_leave_the_factor_open_show_nothing():
    """Factors of 2 to 4.5 in D′ over seeds, 2.8 on the mean: below 3, but not surely."""
    result = planted()
    accuracy = np.stack(
        [planted(factor=factor).test_accuracy.values[..., 0] for factor in (2.0, 2.2, 2.8, 3.4, 4.0)], -1
    )
    result["test_accuracy"] = (("size", "weight_decay", "seed"), accuracy)
    sharp = predictions(result)[0]
    assert sharp.verdict == "not shown"
    assert max(sharp.numbers["factor_from_10_to_90_percent"].values()) < 3


def test_one_seed_shows_nothing():
    assert verdicts(planted().isel(seed=[0])) == {"P2": "not shown", "P3": "not shown"}


def test_seeds_that_differ_leave_it_open():
    result = planted()
    result["test_accuracy"] = planted(noise=0.3).test_accuracy
    shuffled = result.test_accuracy.values.copy()
    # One weight decay has its seeds in another order: pairs of seeds tell nothing.
    shuffled[:, 0] = shuffled[:, 0][:, ::-1]
    result["test_accuracy"] = (("size", "weight_decay", "seed"), shuffled)
    assert verdicts(result)["P3"] == "not shown"


def test_a_transition_beyond_the_sizes_is_not_shown():
    result = planted((50.0,) * 3)
    assert math.isnan(critical_size(result, 1.0))
    assert verdicts(result) == {"P2": "not shown", "P3": "not shown"}


def test_networks_that_had_not_grokked_show_nothing():
    result = planted(start=0.9)
    assert verdicts(result) == {"P2": "not shown", "P3": "not shown"}
    assert "had not grokked" in predictions(result)[0].because


def test_runs_that_are_not_there_are_left_out():
    result = planted()
    result["test_accuracy"][-1, 1:, 1:] = np.nan
    result["test_accuracy"][-1, 0, :] = np.nan
    assert critical_size(result, 1.0) == pytest.approx(600, rel=0.02)


def test_the_figure_shows_every_run():
    figure = ungrokking.plot(planted(noise=0.02))
    points = [trace for trace in figure.data if trace.mode == "markers" and trace.xaxis == "x"]
    assert sum(len(trace.x) for trace in points) == len(SIZES) * len(DECAYS) * 5


def test_the_grid_is_that_of_the_paper_and_beyond():
    assert {390, 488, 610, 763, 955, 1194, 1494} <= set(DESIGN.sizes)
    assert FULL.sizes == (390, 488, 610, 763, 955, 1194, 1494)
    runs = {run.name: run for run in grid(DESIGN)}
    assert len(runs) == len(grid(DESIGN))
    few, start = runs["D390-wd1-seed2"], runs["start-seed2"]
    assert few.start == start.name
    assert set(few.experiment.task.train_indices) <= set(start.experiment.task.train_indices)
    assert len(few.experiment.task.train_indices) == 390
    assert "D2000-wd1-seed0" in runs
    assert "D2000-wd1-seed1" not in runs
    full = {run.name: run for run in grid(FULL, full=True)}
    assert len(full["start-seed0"].experiment.task.train_indices) == 113**2
    assert "D1494-wd3-seed9" in full


def test_all_weight_decays_have_one_pace():
    design = DecayDesign(sizes=(10,), weight_decays=DECAYS, duration=8)
    assert {design.steps(decay) for decay in DECAYS} == {800}
    assert {design.rate(decay) * decay for decay in DECAYS} == {0.01}
    fixed = DecayDesign(sizes=(10,), weight_decays=DECAYS, duration=8, rescale_lr=False)
    assert [fixed.steps(decay) for decay in DECAYS] == [2667, 800, 267]
