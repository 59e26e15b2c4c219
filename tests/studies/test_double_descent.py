"""The study of double descent on planted curves: what it calls what, and what it reads of a network."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from interp.errors import InputError
from interp.experiment import Samples
from interp.mathematics.double_descent import CLEAR
from interp.studies import conduct, double_descent, random_features
from interp.studies.double_descent_curves import over_samples, over_steps, over_widths
from interp.studies.double_descent_design import ADDITION, DoubleDescentDesign
from interp.studies.double_descent_scores import SCORES, curves, stopped_error
from interp.sweeps import run_grid

WIDTHS = np.array([4, 8, 16, 32, 64])
PEAK, LATER = np.array([0.24, 0.30, 0.35, 0.28, 0.21]), np.array([0.40, 0.36, 0.45, 0.52, 0.42])
EARLIER = np.array([0.30, 0.40, 0.33, 0.28, 0.22])
FALLING, STOPPED = np.array([0.13, 0.06, 0.05, 0.04, 0.03]), np.array([0.11, 0.08, 0.07, 0.06, 0.05])
ARMS = {  # n, noise, decay, test error, and where the training error passes 1 %
    "n 800, noise 0.2, decay 0": (800, 0.2, 0.0, PEAK, 14.0),
    "n 400, noise 0.2, decay 0": (400, 0.2, 0.0, EARLIER, 7.0),
    "n 800, noise 0, decay 0": (800, 0.0, 0.0, FALLING, 6.0),
    "n 800, noise 0.4, decay 0": (800, 0.4, 0.0, LATER, 28.0),
    "n 800, noise 0.2, decay 0.3": (800, 0.2, 0.3, 0.5 * PEAK, 100.0),
}
STEPS = np.array([0, 1, 10, 100, 1000])
SAMPLES = np.array([100, 200, 400, 800, 1000])
BY_SAMPLES = np.array([0.5, 0.4, 0.32, 0.36, 0.33])


def planted(noise: float = 0.005, draws: int = 5, **changed: np.ndarray) -> xr.Dataset:
    """A result whose mean curves are known, with so much noise on every network."""
    generator = np.random.default_rng(0)
    shape = len(ARMS), len(WIDTHS), draws, 1, len(STEPS)
    test, training = np.empty(shape), np.empty(shape)
    for row, (name, (*_, errors, threshold)) in enumerate(ARMS.items()):
        last = changed.get(name, errors)
        for place, share in enumerate((1.0, 0.8, 0.3, 0.1, 0.0)):
            test[row, ..., place] = (0.9 * share + last * (1 - share))[:, None, None]
            training[row, ..., place] = np.maximum(share, 0.3 * np.log(threshold / WIDTHS))[:, None, None]
    test += noise * generator.normal(size=shape)
    dims = "arm", "width", "draw", "seed", "step"
    stopped = changed.get("stopped", STOPPED)[None, :, None, None] + noise * generator.normal(size=shape[:-1])
    by_samples = changed.get("samples", BY_SAMPLES)[:, None, None] + noise * generator.normal(
        size=(len(SAMPLES), draws, 1)
    )
    of_samples = {f"samples_{name}": (("n", "draw", "seed"), by_samples) for name in SCORES}
    of_samples["samples_training_error"] = ("n", "draw", "seed"), 0 * by_samples
    arms = list(ARMS.values())
    return xr.Dataset(
        {
            "test_error": (dims, test),
            "training_error": (dims, training),
            "brier": (dims, 2 * test),
            "cross_entropy": (dims, 5 * test),
            "stopped_error": (dims[:-1], stopped),
            **of_samples,
        },
        {
            "arm": list(ARMS),
            "arm_n": ("arm", [arm[0] for arm in arms]),
            "arm_noise": ("arm", [arm[1] for arm in arms]),
            "arm_decay": ("arm", [arm[2] for arm in arms]),
            "width": WIDTHS,
            "draw": np.arange(draws),
            "seed": [0],
            "step": STEPS,
            "n": SAMPLES,
        },
        {"task": "digits", "samples_width": 16},
    )


def verdicts(result: xr.Dataset) -> dict[str, str]:
    return {one.name: one.verdict for one in double_descent.predictions(result)}


def test_planted_curves_are_called_what_they_are():
    assert verdicts(planted()) == {
        "peak": "confirmed",
        "threshold": "confirmed",
        "no-noise": "confirmed",
        "more-data": "confirmed",
        "more-noise": "confirmed",
        "samples": "confirmed",
        "steps": "not confirmed",
        "early-stopping": "confirmed",
        "decay-0.3": "not confirmed",  # half as high is still there
    }


def test_the_same_curves_with_their_opposites_are_not_confirmed():
    base = "n 800, noise 0.2, decay 0"
    assert verdicts(planted(**{base: FALLING}))["peak"] == "not confirmed"
    assert verdicts(planted(**{base: FALLING}))["early-stopping"] == "not shown"  # there is nothing to remove
    assert verdicts(planted(**{"n 800, noise 0, decay 0": PEAK}))["no-noise"] == "not confirmed"
    assert verdicts(planted(stopped=PEAK))["early-stopping"] == "not confirmed"
    assert verdicts(planted(samples=np.sort(BY_SAMPLES)[::-1]))["samples"] == "not confirmed"
    assert verdicts(planted(**{"n 800, noise 0.4, decay 0": EARLIER}))["more-noise"] == "not confirmed"
    assert verdicts(planted(**{base: LATER}))["threshold"] == "not confirmed"  # peak 32, threshold 14


def test_what_noise_hides_is_not_shown():
    """Differences of .1, noise of .3 a network: five draws tell none of it."""
    found = verdicts(planted(noise=0.3))
    assert {found[name] for name in ("peak", "threshold", "no-noise", "more-data", "more-noise")} == {"not shown"}
    one = double_descent.predictions(planted(draws=1))
    assert {prediction.verdict for prediction in one} == {"not shown"}
    assert "there is one draw" in one[0].because


def test_a_curve_that_rises_to_the_end_of_training_may_yet_fall():
    """Over steps: down to .1 at step 10, up to the end."""
    result = planted()
    curve = np.array([0.9, 0.5, 0.1, 0.2, 0.3])
    result["test_error"][0, -1] = curve + 0.005 * np.random.default_rng(1).normal(size=(5, 1, 5))
    assert over_steps(result, str(result.arm.values[0]), 64).shape.kind == "U-shaped"
    assert verdicts(result)["steps"] == "not shown"
    curve = np.array([0.9, 0.1, 0.4, 0.5, 0.3])
    result["test_error"][0, -1] = curve + 0.005 * np.random.default_rng(1).normal(size=(5, 1, 5))
    assert verdicts(result)["steps"] == "confirmed"


def test_a_grid_that_does_not_interpolate_shows_nothing_but_what_is_held_back():
    result = planted()
    result["training_error"] += 0.05
    assert over_widths(result, str(result.arm.values[0])).shape.kind == "not shown"
    assert over_widths(result, str(result.arm.values[0]), held_back=True).shape.kind == "double descent"
    assert verdicts(result)["peak"] == "not shown"


def test_stopping_early_reports_on_what_it_was_not_chosen_on():
    """Errors that are noise around one half, at 1,000 steps: the least is far below, and what is reported is not."""
    errors = 0.5 + 0.05 * np.random.default_rng(0).normal(size=(1000, 2, 50))
    least = errors.min(0).mean()
    reported = np.mean([stopped_error(errors[:, :, run]) for run in range(50)])
    assert least < 0.36
    assert abs(reported - 0.5) < 4 * 0.05 / math.sqrt(100)


def test_what_is_read_of_a_network_is_what_its_answers_say(tmp_path: Path):
    """Against its logits, one example after the other."""
    design = DoubleDescentDesign(draws=1, sizes=(30,), samples=(), steps=40, checkpoints=4, widths=(2, 4, 8))
    order = design.run(8, design.base, 0, 0)
    run = run_grid(tmp_path, [order], processes=1)[order.name]
    found = curves(run)
    assert found.steps.tolist() == run.steps
    task = run.task
    assert isinstance(task, Samples)
    for place, step in enumerate(run.steps):
        logits = run[step].logits.double()
        train = [int(logits[i].argmax()) != task.labels[i] for i in np.flatnonzero(task.mask("train"))]
        test = np.flatnonzero(task.mask("test"))
        probabilities = torch.softmax(logits, 1).numpy()
        right = [probabilities[i, task.true_labels[i]] for i in test]
        squares = [np.square(probabilities[i] - np.eye(10)[task.true_labels[i]]).sum() for i in test]
        wrong = [int(logits[i].argmax()) != task.true_labels[i] for i in test]
        expected = np.mean(train), np.mean(wrong), np.mean(squares), -np.mean(np.log(right))
        assert [found.scores[name][place] for name in SCORES] == pytest.approx(list(expected), rel=1e-6)


def test_draws_have_weights_of_their_own_and_share_them_along_the_grid():
    design = DoubleDescentDesign(draws=3, seeds=2)
    runs = [design.run(width, design.base, draw, seed) for width in (4, 8) for draw, seed in design.networks()]
    seeds = [run.experiment.model.seed for run in runs]
    assert len(set(seeds)) == 6
    assert seeds[:6] == seeds[6:]
    assert len({run.name for run in design.grid()}) == len(design.grid())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"widths": (4, 8)}, "widths has 2 values, and 3 are needed at least"),
        ({"sizes": ()}, "sizes has 0 values, and 1 are needed at least"),
        ({"noises": (0.2, 0.2)}, "noises names a value twice: 0.2 0.2"),
        ({"noises": (1.5,)}, "noises"),
        ({"checkpoints": 1}, "checkpoints"),
        ({"p": 7}, "--p 7 is the modulus of addition, and digits have none: add --task addition"),
    ],
)
def test_a_design_that_cannot_be_is_refused(changed: dict, message: str):
    with pytest.raises(InputError, match=message):
        replace(double_descent.DESIGN, **changed)


def test_too_many_digits_are_refused_before_anything_is_trained(tmp_path: Path):
    design = replace(double_descent.DESIGN, sizes=(1001,))
    with pytest.raises(InputError, match="1,797 digits that there are"):
        conduct("double-descent", tmp_path, design, processes=1)
    assert not list(tmp_path.glob("runs/*"))


def test_addition_has_its_own_defaults_and_takes_what_is_given():
    """Even where that is the default of digits."""
    design = DoubleDescentDesign(task="addition")
    assert {run.experiment.model.d_mlp for run in design.grid()} == {4 * width for width in ADDITION["widths"]}
    given = DoubleDescentDesign(task="addition", lr=float("3e-3"), sizes=(800, 400))
    assert (given.lr, given.sizes, given.weight_decays) == (DoubleDescentDesign().lr, (800, 400), (1.0,))


def test_addition_is_studied_the_same_way(tmp_path: Path):
    design = DoubleDescentDesign(
        task="addition",
        p=7,
        draws=2,
        widths=(4, 8, 12),
        sizes=(20, 30),
        noises=(0.0,),
        weight_decays=(0.0,),
        samples=(),
        steps=5,
        checkpoints=3,
    )
    found = conduct("double-descent", tmp_path, design, processes=1)
    assert [one.name for one in found.predictions] == ["peak", "threshold", "more-data", "steps", "early-stopping"]
    assert found.result.test_error.shape == (2, 3, 2, 1, found.result.sizes["step"])


def test_random_features_peak_where_they_interpolate(monkeypatch: pytest.MonkeyPatch):
    """d = n, whatever the noise; ridge has no such peak; at one d the peak over n is at n = d."""
    monkeypatch.setattr(random_features, "SIZES", (40,))
    monkeypatch.setattr(random_features, "WIDTHS", (10, 20, 30, 40, 60, 100, 300))
    monkeypatch.setattr(random_features, "SLICE_WIDTH", 40)
    monkeypatch.setattr(random_features, "SLICE_SIZES", (20, 30, 40, 60, 100, 300))
    result = xr.merge(
        [random_features.random_features(6), random_features.linear_descent()], combine_attrs="no_conflicts"
    )
    told = {one.name: one for one in double_descent.of_linear_models(result)}
    assert {name: one.verdict for name, one in told.items()} == dict.fromkeys(told, "confirmed")
    assert told["features"].numbers["first_without_training_error"] == {"40": 40}
    assert told["ridge"].numbers["peak_left_at_most"] < 0.5 * told["ridge"].numbers["peak_at_least"]
    assert told["linear-steps"].numbers["rise"] > CLEAR * told["linear-steps"].numbers["rise_standard_error"]


def test_an_error_that_rises_with_examples_by_too_little_is_not_shown():
    """Its ends are 3 standard errors apart, and a rise has to be 4: no verdict, least of all that it falls."""
    result = planted(samples=np.linspace(0.30, 0.321, len(SAMPLES)))
    assert over_samples(result).shape.descent.by < -3 * over_samples(result).shape.descent.error
    assert verdicts(result)["samples"] == "not shown"
    assert verdicts(planted(samples=np.linspace(0.321, 0.30, len(SAMPLES))))["samples"] == "not confirmed"


def test_the_table_and_the_numbers_agree():
    """Networks that decay holds back do not interpolate, and are judged all the same, in both."""
    result = planted()
    told = double_descent.numbers(result)
    rows = double_descent.table(result)
    assert [row["shape"] for row in rows] == [
        told[row["curve"]][loss]["shape"]
        for row, loss in zip(rows, 5 * ["test_error", "brier", "cross_entropy"], strict=True)
    ]
    assert told["n 800, noise 0.2, decay 0.3"]["threshold"] == math.inf
    assert told["n 800, noise 0.2, decay 0.3"]["test_error"]["shape"] == "double descent"
    assert {row["peak"] == "" for row in rows if row["shape"] != "double descent"} == {True}


def test_the_threshold_is_in_the_figure():
    """A band and a line in each panel over the widths of the base; of draws that agree the band has no width."""
    result = planted()
    threshold = double_descent.numbers(result)["n 800, noise 0.2, decay 0"]["threshold"]
    at = {
        (shape.type, shape.xref)
        for shape in double_descent.plot(result).layout.shapes
        if (shape.x0, shape.x1) == pytest.approx((threshold, threshold))
    }
    assert at == {("line", "x"), ("rect", "x"), ("line", "x3"), ("rect", "x3")}
