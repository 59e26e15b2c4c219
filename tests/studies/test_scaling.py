"""Planted curves of losses, and what the study of scaling says of them; and that its runs are what it says they are."""

import numpy as np
import pytest
import xarray as xr

from interp.errors import InputError
from interp.mathematics.power_law import PowerLaw
from interp.runs import open_run
from interp.studies import scaling
from interp.studies.scaling import ScalingDesign
from interp.sweeps import run_grid

SIZES, WIDTHS = np.array(ScalingDesign().sizes), np.array(ScalingDesign().widths)
LAW = PowerLaw(0.05, 8.0, 0.7)


def planted(n_stopped, n_end=None, *, width=None, draws: int = 5, spread: float = 0.05) -> xr.Dataset:
    """Losses with normal errors that are a share of these means; where nothing is given it is LAW."""

    def drawn(means, seed: int) -> np.ndarray:
        errors = np.random.RandomState(seed).standard_normal((len(means), draws))
        return np.asarray(means, dtype=float)[:, None] * (1 + spread * errors)

    of_n = np.stack([drawn(n_stopped, 0), drawn(LAW(SIZES) if n_end is None else n_end, 1)])
    of_width = np.stack([drawn(LAW(WIDTHS) if width is None else width, seed) for seed in (2, 3)])
    variables = {}
    for axis, losses in {"n": of_n, "width": of_width}.items():
        variables[f"test_loss_of_{axis}"] = (("taken", axis, "seed"), losses)
        variables[f"train_error_of_{axis}"] = (("taken", axis, "seed"), losses * 0)
        variables[f"stopped_at_{axis}"] = ((axis, "seed"), losses[0] * 0)
    coords = {"taken": ["stopped", "end"], "n": SIZES, "width": WIDTHS, "seed": np.arange(draws)}
    return xr.Dataset(variables, coords=coords)


def told(result: xr.Dataset) -> dict:
    return {one.name: one for one in scaling.predictions(result)}


def test_a_planted_law_is_confirmed_with_its_exponent_and_window() -> None:
    found = told(planted(LAW(SIZES)))
    assert [(name, one.verdict) for name, one in found.items()] == [
        *(("n", "confirmed"), ("n-end", "confirmed"), ("width", "confirmed"), ("width-end", "confirmed"))
    ]
    numbers = found["n"].numbers
    low, high = numbers["exponent_interval_95"]
    assert low < 0.7 < high < low + 0.5
    assert numbers["window"] == [15, 960]
    assert found["n"].because.startswith("from 15 to 960 (7 of 7 sizes): α = 0.7")


def test_the_window_ends_where_the_law_does() -> None:
    """Two small sizes at which nothing is learned: ln 10 nats."""
    means = np.minimum(PowerLaw(0.0, 20.0, 0.6)(SIZES), np.log(10))
    found = told(planted(means, spread=0.02))["n"]
    assert (found.verdict, found.numbers["window"]) == ("confirmed", [60, 960])
    assert found.numbers["lack_of_fit_of_all_sizes"] < 1e-6


def test_a_peak_in_every_window_is_not_confirmed_and_a_level_curve_not_shown() -> None:
    peaked = LAW(SIZES) * (1 + 3 * np.exp(-2 * np.log(SIZES / 120) ** 2))
    found = told(planted(np.full(7, 0.7), peaked))
    assert found["n-end"].verdict == "not confirmed"
    assert "every window of a decade is refused" in found["n-end"].because
    assert found["n"].verdict == "not shown"
    assert "falls, for a decade, by more than the draws scatter" in found["n"].because


def test_what_levels_off_before_a_decade_is_not_shown() -> None:
    found = told(planted(LAW(SIZES), width=PowerLaw(0.1, 9.0, 2.2)(WIDTHS)))["width"]
    assert found.verdict == "not shown"
    assert found.because.endswith("from 8 on the floor is more than half of the loss")


def test_one_draw_shows_nothing() -> None:
    result = planted(LAW(SIZES), draws=1)
    assert {one.verdict for one in scaling.predictions(result)} == {"not shown"}
    assert {one.because for one in scaling.predictions(result)} == {scaling.failed_precondition(result)}
    assert len(scaling.plot(result).data) == 4  # no laws


@pytest.mark.parametrize("bad", [np.inf, np.nan, 0.0])
def test_a_loss_that_is_none_shows_nothing(bad: float) -> None:
    result = planted(LAW(SIZES))
    result.test_loss_of_n.values[1, 3, 2] = bad
    assert {one.verdict for one in scaling.predictions(result)} == {"not shown"}
    because = {one.because for one in scaling.predictions(result)}
    assert because == {"1 of 130 test losses are not finite and greater than 0; give a lower --lr"}
    assert len(scaling.plot(result).data) == 4  # no laws


def test_a_law_is_drawn_solid_in_its_window_alone() -> None:
    figure = scaling.plot(planted(np.minimum(PowerLaw(0.0, 20.0, 0.6)(SIZES), np.log(10)), spread=0.02))
    dots, dotted, solid, *_ = figure.data
    assert (dots.mode, dotted.line.dash, solid.line.dash) == ("markers", "dot", None)
    assert (min(dotted.x), max(dotted.x)) == pytest.approx((15, 960))
    assert 60 <= min(solid.x) < 66


def test_draws_of_different_sizes_are_independent_and_nothing_else_differs() -> None:
    design = ScalingDesign(sizes=(20, 40, 80, 200), widths=(2, 4, 8, 48), seeds=3)
    runs = scaling.grid(design)
    assert len(runs) == 3 * (4 + 4 - 1)  # that of 200 and 48 lies on both axes
    seeds = [run.experiment.task.seed for run in runs]
    assert len(set(seeds)) == len(runs)
    assert seeds == [run.experiment.model.seed for run in runs]
    assert {run.experiment.training for run in runs} == {runs[0].experiment.training}
    assert {(run.experiment.task.n_test, run.experiment.task.n_validation) for run in runs} == {(600, 200)}


def test_what_is_taken_of_a_run_is_at_the_step_of_the_least_validation_loss(tmp_path) -> None:
    design = ScalingDesign(sizes=(20, 40, 80, 200), widths=(2, 4, 8, 16), d_mlp=16, seeds=1, steps=40, lr=0.3)
    runs = run_grid(tmp_path, scaling.grid(design), processes=1)
    result = scaling.measure(runs, design)
    assert result.test_loss_of_n.dims == ("taken", "n", "seed")
    chosen = set()
    for axis, at, name in (("n", {"n": 20}, "n20-h16-seed0"), ("width", {"width": 16}, "n200-h16-seed0")):
        rows = open_run(tmp_path / name).rows
        best = min(rows, key=lambda row: row["validation_loss"])
        chosen.add(best["step"])
        one = result.sel({"seed": 0} | at)
        assert float(one[f"stopped_at_{axis}"]) == best["step"]
        assert one[f"test_loss_of_{axis}"].values.tolist() == [best["test_loss"], rows[-1]["test_loss"]]
        assert one[f"train_error_of_{axis}"].values.tolist() == [
            1 - best["train_accuracy"],
            1 - rows[-1]["train_accuracy"],
        ]
    assert chosen - {0, 40}  # not what the end gives


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"sizes": (20, 40, 80)}, "a power law needs 4 sizes or more, and sizes has 3; give more"),
        ({"widths": (2, 2, 4, 8)}, "widths names a value twice: 2 2 4 8"),
        ({"sizes": (0, 40, 80, 100)}, "sizes must be at least 1, got 0"),
        ({"label_noise": 1.5}, "label-noise must be at most 1"),
        ({"lr": 0}, "lr must be greater than 0"),
    ],
)
def test_designs_that_cannot_be_are_refused(fields: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        ScalingDesign(**fields)
