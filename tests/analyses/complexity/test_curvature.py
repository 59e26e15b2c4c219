"""Curvature of the training loss: symmetries that it has or has not, and the course of a run."""

import math

import numpy as np
import pytest
import torch
import xarray as xr
from numpy.testing import assert_allclose

import interp
from interp.analyses import curvature
from interp.analysis import find
from interp.experiment import ModelConfig, Task
from interp.models import initial_weights
from interp.runs import Checkpoint

FEW = {"products": 16, "probes": 4}
SMALL = ModelConfig(d_model=8, n_heads=2, d_mlp=12)


def at(step: int) -> Checkpoint:
    return interp.open_run(interp.reference_path())[step]


def rescaled(checkpoint: Checkpoint, factor: float) -> Checkpoint:
    """The same function: what the neurons read times a factor, what they write divided by it."""
    weights = dict(checkpoint.weights)
    for name in ("W_in", "b_in"):
        weights[f"blocks.0.mlp.{name}"] = weights[f"blocks.0.mlp.{name}"] * factor
    weights["blocks.0.mlp.W_out"] = weights["blocks.0.mlp.W_out"] / factor
    return Checkpoint(checkpoint.step, weights, checkpoint.task, checkpoint.model)


def highest(found, at: str) -> float:
    return found.eigenvalue.sel(at=at, end="highest", estimate="value").item()


def weighted(found):
    return found.trace.sel(weighting="weighted", estimate="value")


def test_sharpness_is_no_property_of_the_function_and_the_weighted_trace_is() -> None:
    one, other = (curvature.measure(each, **FEW) for each in (at(100), rescaled(at(100), 8.0)))
    assert_allclose(one.loss, other.loss, rtol=1e-5)
    assert highest(other, "own") > 3 * highest(one, "own")
    assert_allclose(weighted(one), weighted(other), rtol=1e-4)  # the same probes
    assert not np.allclose(*(each.trace.sel(weighting="plain", estimate="value") for each in (one, other)), rtol=0.1)


def test_at_equal_loss_all_are_at_that_loss_and_a_factor_of_all_logits_is_gone() -> None:
    found = curvature.measure(at(1000), **FEW)
    assert found.loss.sel(at="equal") == pytest.approx(0.1, abs=1e-6)
    assert found.loss.sel(at="own") == pytest.approx(at(1000).loss("train"), rel=1e-3)
    larger = at(1000)
    weights = larger.weights | {"unembed.W_U": 3 * larger.weights["unembed.W_U"]}
    other = curvature.measure(Checkpoint(1000, weights, larger.task, larger.model), **FEW)
    assert other.temperature.sel(at="equal") == pytest.approx(3 * found.temperature.sel(at="equal").item(), rel=1e-4)
    assert_allclose(weighted(other).sel(at="equal"), weighted(found).sel(at="equal"), rtol=1e-3)
    assert highest(other, "own") < highest(found, "own") / 100


def test_the_course_of_the_reference_run() -> None:
    """λ falls by a million with the loss, and at equal loss nine-fold; only at the start is any surely negative."""
    early, memorized, last = (curvature.measure(at(step), **FEW) for step in (46, 100, 3000))
    own = [highest(one, "own") for one in (early, memorized, last)]
    assert_allclose(own, [7.7, 23.6, 4.0e-5], rtol=0.05)
    assert math.isnan(highest(early, "equal"))  # it is wrong on training pairs, whatever the temperature
    ratio = highest(memorized, "equal") / highest(last, "equal")
    assert 6 < ratio < 12
    assert (early.negative_share.sel(bound="most") >= early.negative_share.sel(bound="least"))[0]
    assert max(one.negative_share.sel(at="own", bound="least") for one in (memorized, last)) == 0
    rows = {0: curvature.measure(at(0), **FEW), 46: early, 100: memorized, 3000: last}
    told_of: list[xr.Dataset] = [row.expand_dims(step=[step]) for step, row in rows.items()]
    table = xr.concat(told_of, "step")
    told = find("curvature").summary(table)
    assert told["negative_until"] == 0  # at 46 more products would be certain
    assert told["largest_negative_share"]["least"] < told["largest_negative_share"]["most"]
    assert told["least_gradient_over_most"]["until_then"] > 0.1
    lines = find("curvature").lines(table)
    assert "times less" in lines[1]
    assert "times less" not in lines[0]  # a factor that is mostly the loss
    assert "no saddle" in lines[-1]


def test_numbers_of_a_softmax_at_zero() -> None:
    """All weights 0: the gradient is that of b_out alone, the loss ln K, and H of b_out is I/K − 11ᵀ/K²."""
    weights = {name: torch.zeros_like(weight) for name, weight in initial_weights(SMALL, 7).items()}
    found = curvature.measure(Checkpoint(0, weights, Task(7), SMALL), **FEW)
    assert found.loss.sel(at="own") == pytest.approx(math.log(7))
    assert weighted(found).sel(at="own") == 0
    assert math.isnan(found.loss.sel(at="equal"))


@pytest.mark.parametrize("loss", [0.01, 0.5, 1.5])
def test_a_temperature_is_found_where_there_is_one(loss: float) -> None:
    drawn = torch.randn(50, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = drawn.argmax(1)
    temperature = curvature.temperature_of(drawn, labels, loss)
    assert torch.nn.functional.cross_entropy(drawn / temperature, labels).item() == pytest.approx(loss, rel=1e-6)
    wrong = labels.clone()
    wrong[0] = drawn[0].argmin()
    assert math.isnan(curvature.temperature_of(drawn, wrong, 1e-3))


def test_without_a_split_nothing_is_known() -> None:
    checkpoint = Checkpoint(0, initial_weights(SMALL, 7), Task(7, split="unknown"), SMALL)
    found = curvature.measure(checkpoint, **FEW)
    assert all(np.isnan(found[name]).all() for name in ("loss", "eigenvalue", "trace", "spectrum", "gradient_norm"))


@pytest.mark.parametrize("wrong", [{"products": 1}, {"probes": 0}, {"equal_loss": 0.0}, {"seed": -1}])
def test_numbers_that_cannot_be_are_refused(wrong) -> None:
    with pytest.raises(interp.InputError):
        curvature.measure(at(0), **wrong)
