"""Planted members: which lever is named, and which verdicts follow."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from interp.errors import InputError
from interp.studies import bias_variance as study
from interp.studies import conduct
from interp.studies.addition_networks import addition_run, fixed_test_pairs
from interp.studies.variance_levers import foretold, gains, named_lever, places, shares

WIDTHS, DRAWS, SEEDS = [4, 12, 48], 5, 3
AT_END = ((0.5, 0.1, 0.1), (0.2, 0.2, 0.3), (0.1, 0.12, 0.05))  # bias², data, initialization


def members(bias: float, data: float, within: float, rng: np.random.Generator) -> np.ndarray:
    """Parts [part, left_out] of planted predictions of 400 examples with two outputs, given the *squared* sizes; what
    the data adds is the same whenever it is asked, as it is for levers that are pulled on the same draws."""
    shape = 400, 2
    noise = np.random.default_rng(2).normal(size=(DRAWS, 1, *shape)) * np.sqrt(data / 2)
    noise = noise + rng.normal(size=(DRAWS, SEEDS, *shape)) * np.sqrt(within / 2)
    targets = np.eye(2)[np.zeros(400, dtype=int)]
    return study.parts_without(targets + np.sqrt(bias / 2) + noise, np.zeros(400, dtype=int))


def planted(at_end: Sequence[tuple[float, float, float]] = AT_END, *, grokked: bool = True) -> xr.Dataset:
    """Of three widths the parts at the end, and at a step of least risk before it a quarter of the variance."""
    rng = np.random.default_rng(1)
    digits = [
        [members(bias, data / 4, within / 4, rng), members(bias, data, within, rng)] for bias, data, within in at_end
    ]
    last = (0.0, 0.001, 0.001) if grokked else (0.9, 0.1, 0.1)
    addition = [[members(*parts, rng) for parts in ((1.0, 0.0, 0.1), (0.5, 0.3, 0.3), last)]]
    levers = []
    for bias, data, within in at_end:
        pulled = {
            "none": (bias, data, within),
            "wider": (bias / 2, data, within),
            "ensemble": (bias, data, within / SEEDS),
            "regularize": (bias * 1.5, data / 2, within / 2),
            "more data": (bias, data / 2, within),
        }
        levers.append([members(*pulled[name], rng) for name in study.LEVERS])
    axes = ("part", "left_out")
    return xr.Dataset(
        {
            "digits": (("width", "step", *axes), np.array(digits)),
            "addition": (("neurons", "addition_step", *axes), np.array(addition)),
            "levers": (("place", "lever", *axes), np.array(levers)),
            "training_error": ("width", np.array([0.2, 0.05, 0.0])),
            "digits_words": (("width", "word"), np.ones((3, len(study.WORDS)))),
        },
        coords={
            "width": WIDTHS,
            "step": [100, 2000],
            "neurons": [64],
            "addition_step": [0, 100, 2000],
            "part": list(study.PARTS),
            "left_out": range(-1, DRAWS),
            "place": ["narrow", "peak", "wide"],
            "lever": list(study.LEVERS),
            "word": list(study.WORDS),
        },
        attrs={"noise": 0.2, "n": 400, "seeds": SEEDS, "decay": 0.3, "p": 31},
    )


def verdicts(result: xr.Dataset) -> dict[str, str]:
    return {one.name: one.verdict for one in study.predictions(result)}


def test_all_that_was_planted_is_confirmed():
    assert verdicts(planted()) == dict.fromkeys(study.STATEMENTS, "confirmed")


def test_the_lever_is_named_by_the_parts_and_the_training_error():
    """Bias first; then the larger part of the variance; and of the data's, whether the wrong labels are fitted."""
    result = planted()
    assert places(result) == {"narrow": 4, "peak": 12, "wide": 48}
    assert [named_lever(result, width) for width in WIDTHS] == ["wider", "ensemble", "regularize"]
    fitted_not = result.assign(training_error=result.training_error + 0.1)
    assert named_lever(fitted_not, 48) == "more data"


def test_a_lever_that_does_harm_refutes_what_was_named():
    result = planted()
    worse = result.levers.copy(deep=True)
    worse.loc[{"place": "wide", "lever": "regularize"}] *= 2
    found = {one.name: one for one in study.predictions(result.assign(levers=worse))}["lever-wide"]
    assert found.verdict == "not confirmed"
    assert found.numbers["best"] == "more data"
    assert gains(result.assign(levers=worse), "wide")["regularize"].value < 0


def test_an_ensemble_removes_what_was_foretold_and_no_other_number():
    """V_s·(1 − 1/3) = .2 of the planted .3."""
    said, more = foretold(planted(), "peak")
    assert said.value == pytest.approx(0.2, abs=0.02)
    assert more.low < 0 < more.high
    result = planted()
    wrong = result.levers.copy(deep=True)
    wrong.loc[{"place": "peak", "lever": "ensemble"}] = result.levers.sel(place="peak", lever="none").values
    assert verdicts(result.assign(levers=wrong))["ensemble"] == "not confirmed"


def test_variance_that_only_falls_has_no_peak():
    found = verdicts(planted([(0.5, 0.4, 0.4), (0.3, 0.2, 0.2), (0.1, 0.1, 0.1)]))
    assert found["variance-peak"] == "not confirmed"
    turned = verdicts(planted([(0.1, 0.1, 0.1), (0.2, 0.2, 0.3), (0.5, 0.05, 0.1)]))
    assert (turned["bias-falls"], turned["seed-part"]) == ("not confirmed", "not confirmed")


def test_networks_that_have_not_grokked_show_nothing_of_grokking():
    assert verdicts(planted(grokked=False))["grokking"] == "not shown"


def test_what_the_risk_is_made_of_in_words():
    """Of .7 are .5 variance, of that .2 the data's; averaging removes two thirds of .3."""
    found = shares(planted(), 12)
    numbers = [float(number) for number in re.findall(r"\d+\.?\d*", found)]
    np.testing.assert_allclose(numbers, [12, 71, 40, 3, 0.2, 0.7], rtol=0.12)


def test_a_single_seed_says_nothing_of_the_parts():
    result = planted().assign_attrs(seeds=1)
    assert study.failed_precondition(result) == "there are 5 draws of 1 seeds; three of two are needed"
    assert set(verdicts(result).values()) == {"not shown"}


def test_the_figure_shows_the_identity():
    """The top of the stacked areas is the line of the risk."""
    figure = study.plot(planted())
    first = [trace for trace in figure.data if trace.xaxis in (None, "x")]
    assert [trace.name for trace in first] == [
        "bias²",
        "variance by the draw of the data",
        "variance by the initial weights",
        "risk",
    ]
    np.testing.assert_allclose(first[2].y[: len(WIDTHS)], first[3].y, rtol=1e-12)
    assert json.dumps(study.numbers(planted()))
    assert [row["lever"] for row in study.table(planted())] == ["wider", "ensemble", "regularize"]


def test_levers_are_pulled_on_the_same_draws(tmp_path: Path):
    """From runs to what each lever did; the parts add up to the risk everywhere."""
    design = study.BiasVarianceDesign(
        p=5, draws=3, seeds=2, widths=(2, 4), n=20, steps=5, addition_steps=5, neurons=(4,), noise=0.2
    )
    outcome = conduct("bias-variance", tmp_path, design, processes=1)
    assert outcome.failed_precondition is None
    for table in (outcome.result.digits, outcome.result.addition):
        parts = table.transpose("part", ...).values
        np.testing.assert_allclose(parts[1:].sum(0), parts[0], rtol=1e-10)
    levers = outcome.result.levers.sel(part="risk", left_out=-1)
    assert np.isfinite(levers).all()
    base = outcome.result.digits.isel(step=-1).sel(part="risk", left_out=-1)
    assert levers.sel(lever="none", place="narrow") == base.sel(width=2)
    assert (levers.sel(lever="regularize") != levers.sel(lever="none")).all()
    trained = {path.name for path in (tmp_path / "levers").glob("h*")}
    assert {"h4-n40-noise0.2-draw0-seed0-steps5", "h8-n20-noise0.2-draw2-seed1-steps5"} <= trained
    assert {name.split("-draw")[1][0] for name in trained} == set("012")
    assert len(outcome.files) == 5  # the table of levers too


@pytest.mark.parametrize("p", [3, 11, 31])
def test_the_fixed_test_set_has_the_mirrors_and_no_draw_trains_on_it(p: int):
    pairs = fixed_test_pairs(p)
    a, b = np.divmod(pairs, p)
    assert set(b * p + a) == set(pairs)
    assert len(pairs) == pytest.approx(0.2 * p**2, abs=2)
    drawn = [
        set(addition_run(p, 8, 0.7, draw, 0, steps=5, checkpoint_log=2).experiment.task.train_indices)
        for draw in range(3)
    ]
    assert not any(one & set(pairs) for one in drawn)
    assert len({len(one) for one in drawn}) == 1
    if p > 3:
        assert drawn[0] != drawn[1]
        assert len(drawn[0] & drawn[1]) / len(drawn[0]) == pytest.approx(0.7, abs=0.1)


def test_the_seed_moves_the_weights_and_the_draw_the_pairs():
    one, other, drawn = (
        addition_run(11, 8, 0.7, draw, seed, steps=5, checkpoint_log=2).experiment
        for draw, seed in ((0, 0), (0, 1), (1, 0))
    )
    assert one.task == other.task != drawn.task
    assert one.model == drawn.model != other.model


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"widths": (4,)}, "widths needs 2 or more, each once; got 4"),
        ({"n": 501}, "n must be at most 500, got 501"),
        ({"p": 2}, "p must be at least 3, got 2"),
        ({"decay": 0.0}, "decay must be greater than 0, got 0"),
        ({"draws": 0}, "draws must be at least 1, got 0"),
    ],
)
def test_designs_that_cannot_be(options: dict, said: str):
    with pytest.raises(InputError, match=said):
        study.BiasVarianceDesign(**options)
