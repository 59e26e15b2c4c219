"""Planted training and test errors: which verdicts follow."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from interp.errors import InputError
from interp.studies import conduct
from interp.studies import effective_model_complexity as study
from interp.studies.complexity_sentences import complexities, parameters, peaks

WIDTHS, SIZES, NOISES, DRAWS = [4, 6, 8, 12, 16, 24, 40], [200, 300, 450, 640, 900], [0.2, 0.5], 5


def planted(*, per_neuron: float = 50.0, peak_at: float = 1.0, scatter: float = 0.01) -> xr.Dataset:
    """A width h fits `per_neuron`·h·(1 − noise) samples, to ε = .1 and .01 alike; test error peaks at that many times
    `peak_at`, in log n, if it peaks at all (`peak_at` 0: it falls)."""
    rng = np.random.default_rng(0)
    shape = len(NOISES), len(WIDTHS), len(SIZES), DRAWS
    noise, width, n, _ = np.meshgrid(NOISES, WIDTHS, SIZES, range(DRAWS), indexing="ij")
    capacity = per_neuron * width * (1 - noise) * np.exp(rng.normal(size=shape) * scatter)
    training = np.clip(1 - capacity / n, 0, 1)
    ratio = np.log(capacity / n / peak_at) if peak_at else None
    test = 0.3 - 0.05 * np.log(width) + (0 if ratio is None else 0.3 * np.exp(-(ratio**2) / 0.3))
    errors = {
        "training_error": training,
        "test_error": test + rng.normal(size=shape) * 0.002,
        "brier": test,
        "rademacher": np.where(noise == 0.5, 0.48, np.nan),
    }
    return xr.Dataset(
        {name: (study.AXES, values) for name, values in errors.items()},
        coords={"noise": NOISES, "width": WIDTHS, "n": SIZES, "draw": range(DRAWS)},
        attrs={"epsilons": np.array([0.1, 0.01])} | study._not_bisected(),
    )


def told(result: xr.Dataset) -> dict:
    return {one.name: one for one in study.predictions(result)}


def test_what_was_planted_is_found():
    result = planted()
    for (noise, width, epsilon), found in complexities(result).items():
        truth = 50 * width * (1 - noise) / (1 - epsilon)
        if truth < 210:  # the grid begins at 200
            assert found.low < 215, (noise, width)
        elif truth > 880:
            assert found.high > 880, (noise, width)
        else:  # between the sizes that it is told between, which are up to 1.5 apart
            assert found.low / 1.02 < truth < found.high * 1.5, (noise, width)
    verdicts = {name: one.verdict for name, one in told(result).items()}
    expected = {"rises": "confirmed", "noise": "confirmed", "peaks-0.1": "confirmed", "peaks-0.01": "confirmed"}
    assert verdicts == expected | {"bisection": "not shown", "promise": "confirmed"}


def test_peaks_at_a_fifth_of_the_complexity_refute_that_they_line_up():
    result = planted(per_neuron=100, peak_at=5)
    assert len(peaks(result)) >= 2
    found = told(result)["peaks-0.01"]
    assert found.verdict == "not confirmed"
    assert found.numbers["outside"] > 0


def test_without_peaks_nothing_is_said_of_where_they_lie():
    result = planted(peak_at=0)
    assert peaks(result) == []
    found = told(result)["peaks-0.1"]
    assert found.verdict == "not shown"
    assert found.because == "the test error has a double descent at 0 of 10 noises and n; two are needed"


def test_a_complexity_without_a_number_bounds_the_ratio_from_one_side():
    result = planted(per_neuron=150)
    found = complexities(result)[0.2, 40, 0.1]
    assert (str(found), found.ratio(450)) == ("≥ 900 samples", (2.0, math.inf))


def test_the_widths_turned_around_are_refuted():
    result = planted()
    turned = result.assign(training_error=(study.AXES, result.training_error.values[:, ::-1]))
    assert told(turned)["rises"].verdict == "not confirmed"
    turned = result.assign(training_error=(study.AXES, result.training_error.values[::-1]))
    assert told(turned)["noise"].verdict == "not confirmed"


@pytest.mark.parametrize(
    ("low", "high", "probability", "verdict"),
    [(450, 550, 0.9, "confirmed"), (450, 550, 0.3, "not shown"), (700, 800, 0.9, "not confirmed")],
)
def test_a_bracket_of_other_draws(low: float, high: float, probability: float, verdict: str):
    values = (0.2, 12, 0.1, low, high, probability, 6)  # 50·12·.8/.9 = 533
    attrs = {f"bisected_{name}": float(value) for name, value in zip(study.BISECTED, values, strict=True)}
    assert told(planted().assign_attrs(attrs))["bisection"].verdict == verdict


def test_networks_that_do_not_fit_noise_are_promised_something():
    result = planted()
    low = result.assign(rademacher=result.rademacher * 0.2)
    assert told(low)["promise"].verdict == "not confirmed"
    no_half = result.sel(noise=[0.2])
    assert told(no_half)["promise"].because.startswith("no noise is one half")


def test_why_nothing_can_be_shown():
    result = planted()
    few = result.isel(draw=slice(2))
    assert study.failed_precondition(few) == "there are 2 draws; three are needed for an interval"
    nothing = result.assign(training_error=result.training_error * 0 + 0.5)
    assert "no width fits 200 samples" in str(study.failed_precondition(nothing))
    everything = result.assign(training_error=result.training_error * 0)
    assert "every width fits all 900 samples" in str(study.failed_precondition(everything))
    for one in (few, nothing, everything):
        assert {found.verdict for found in study.predictions(one)} == {"not shown"}


def test_the_table_and_the_figure_have_every_width():
    result = planted()
    rows = study.table(result)
    assert len(rows) == 2 * 2 * len(WIDTHS)
    assert rows[0]["regimes"] == "n = 200 … 300 not known; n = 450 … 900 under-parameterized"
    assert json.dumps(study.numbers(result))
    figure = study.plot(result)
    assert len(figure.data) == 2 * 2 * 2 * (1 + len(SIZES))
    line, marks = figure.data[:2]  # no line leads to what is off the grid
    assert [symbol == "circle" for symbol in marks.marker.symbol] == np.isfinite(line.y).tolist()
    assert {"circle", "triangle-up-open", "triangle-down-open"} == set(marks.marker.symbol)
    assert parameters(8) == 64 * 8 + 8 + 8 * 10 + 10


def test_a_crossing_is_bisected_with_draws_of_its_own(tmp_path: Path):
    """From runs to the bracket; ten steps fit 10 digits to a half, and not 40."""
    design = study.ComplexityDesign(seeds=3, widths=(8, 16), sizes=(2, 40), noises=(0.5,), epsilons=(0.6,), steps=20)
    outcome = conduct("effective-model-complexity", tmp_path, design, processes=1)
    assert outcome.failed_precondition is None
    bracket = [outcome.result.attrs[f"bisected_{name}"] for name in ("low", "high", "sizes")]
    assert 0 < bracket[0] < bracket[1]
    names = [path.name for path in (tmp_path / "bisection").glob("h*")]
    assert {name.split("-draw")[1][0] for name in names} <= set("345678")  # draws 0 … 2 are those of the grid
    assert len({name.split("-")[1] for name in names}) == bracket[2]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"widths": (4,)}, "widths needs 2 or more, each once; got 4"),
        ({"sizes": (100, 100)}, "sizes needs 2 or more, each once; got 100 100"),
        ({"sizes": (100, 1001)}, "sizes must be at most 1000, got 1001"),
        ({"noises": (1.5,)}, "noises must be at most 1, got 1.5"),
        ({"epsilons": ()}, "epsilons needs 1 or more, each once; got none"),
    ],
)
def test_designs_that_cannot_be(options: dict, said: str):
    with pytest.raises(InputError, match=said):
        study.ComplexityDesign(**options)
