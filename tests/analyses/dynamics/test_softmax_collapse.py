"""Softmax collapse: at margins where it must be, and where it must not."""

import math

import numpy as np
import pytest
import torch
import xarray as xr
from numpy.testing import assert_allclose
from torch import Tensor

from interp.analyses import softmax_collapse
from interp.analysis import measure_checkpoint
from interp.experiment import ModelConfig, Task
from interp.mathematics.softmax_collapse import PRECISIONS, collapsed, zero_sum_defect
from interp.models import initial_weights
from interp.runs import Checkpoint

K = 113


def leading_by(*margins: float, classes: int = K) -> tuple[Tensor, Tensor]:
    """Samples whose label leads by m over classes that are all zero."""
    logits = torch.zeros(len(margins), classes, dtype=torch.float64)
    logits[:, 3] = torch.tensor(margins, dtype=torch.float64)
    return logits, torch.full((len(margins),), 3)


# ---- mathematics -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("precision", "digits"), [("bfloat16", 8), ("float32", 24), ("float64", 53)]
)  # of the significand
def test_a_loss_is_exactly_zero_where_the_others_are_below_the_last_digit(precision: str, digits: int) -> None:
    """(K − 1)e^{−m} against 2^{−digits}: the order of summation decides within a factor of eight or so."""
    middle = math.log((K - 1) * 2.0**digits)
    lower, higher = middle - math.log(16), middle + 0.6
    assert collapsed(*leading_by(0.0, lower / 2, lower, higher, 2 * higher), precision).tolist() == [
        False,
        False,
        False,
        True,
        True,
    ]


def test_the_margins_that_were_measured() -> None:
    """Logits (m, 0, …, 0) of 113 classes in float32: a loss at m = 20, none from 22 on; its gradient is off before."""
    assert collapsed(*leading_by(16.0, 20.0, 22.0, 30.0)).tolist() == [False, False, True, True]
    for margin, low, high in ((5.0, 0.0, 1e-6), (16.0, 3e-4, 3e-3), (20.0, 0.2, 0.5), (22.0, 1.0, 1.0)):
        assert low <= zero_sum_defect(*leading_by(margin)) <= high, margin
    # float64 has no defect that matters up to 25, and only postpones it.
    assert max(zero_sum_defect(*leading_by(margin), "float64") for margin in (5.0, 16.0, 20.0, 25.0)) < 1e-6
    assert zero_sum_defect(*leading_by(45.0), "float64") == 1
    assert collapsed(*leading_by(45.0), "float64").all()


def test_the_defect_is_of_all_samples_together() -> None:
    """One sample that has collapsed is nothing beside one that is not known: its gradient is small."""
    known, unknown = leading_by(30.0), leading_by(0.0)
    both = torch.cat([known[0], unknown[0]]), torch.cat([known[1], unknown[1]])
    assert zero_sum_defect(*known) == 1
    assert zero_sum_defect(*both) < 1e-6
    assert collapsed(*both).tolist() == [True, False]
    assert math.isnan(zero_sum_defect(*leading_by(500.0)))  # no gradient at all


# ---- the analysis ----------------------------------------------------------------------------------------------------

MODEL = ModelConfig(family="mlp", inputs="concatenated", embedding="none", d_mlp=7)
TASK = Task(7, split=tuple(8 * a for a in range(7)))  # the pairs (a, a)


def table(strength: float, offset: float = 0.0) -> Checkpoint:
    """A network whose only trained pairs are (a, a), a neuron for each: the label 2a leads by `strength`. `offset` is
    added to every class."""
    tokens = torch.arange(7)
    W_out = torch.full((7, 7), offset)
    W_out[tokens, 2 * tokens % 7] += strength / 2
    return Checkpoint(0, {"mlp.W_in": torch.eye(7).repeat(2, 1), "mlp.W_out": W_out}, TASK, MODEL)


def test_an_untrained_network_has_not_collapsed() -> None:
    model = ModelConfig(d_model=16, n_heads=2, d_mlp=24)
    found = softmax_collapse.measure(Checkpoint(0, initial_weights(model, 7), Task(7, train_fraction=0.5), model))
    assert (found.collapsed_share == 0).all()
    assert (found.zero_sum_defect.sel(precision=["float32", "float64"]) < 1e-6).all()
    assert abs(found.cosine) <= 1
    assert np.isfinite(found.feature_mean_norm)


def test_a_network_that_is_loud_enough_has_collapsed_in_float32_and_not_in_float64() -> None:
    quiet, loud = softmax_collapse.measure(table(5.0)), softmax_collapse.measure(table(25.0))
    assert loud.collapsed_share.sel(precision=["float32", "float64"]).values.tolist() == [1, 0]
    assert loud.zero_sum_defect.sel(precision="float32").item() == 1
    assert loud.zero_sum_defect.sel(precision="float64").item() < 1e-5
    assert quiet.collapsed_share.values.tolist() == [0, 0, 0]
    assert quiet.zero_sum_defect.sel(precision="float32").item() < 1e-5


@pytest.mark.parametrize("offset", [0.5, -0.5])
def test_mean_row_and_mean_feature(offset: float) -> None:
    """By a slow second way; what is added to every class turns W_G and changes no loss."""
    checkpoint = table(1.0, offset=3 * offset)
    found = softmax_collapse.measure(checkpoint)
    W, features = checkpoint.W_U.double().numpy(), checkpoint.residual_post.flatten(0, -2).double().numpy()
    rows, mean = W.mean(1), features[TASK.train_indices].mean(0)
    assert_allclose(found.classifier_mean_norm, np.linalg.norm(rows), rtol=1e-12)
    assert_allclose(found.feature_mean_norm, np.linalg.norm(mean), rtol=1e-12)
    assert_allclose(found.cosine, rows @ mean / np.linalg.norm(rows) / np.linalg.norm(mean), rtol=1e-12)
    assert_allclose(found.last_layer_norm, np.linalg.norm(W), rtol=1e-12)
    assert np.sign(found.cosine) == np.sign(offset)
    assert_allclose(found.zero_sum_defect, softmax_collapse.measure(table(1.0)).zero_sum_defect, rtol=1e-3, atol=1e-2)


def test_what_is_of_training_samples_is_unknown_without_a_split() -> None:
    model = ModelConfig(d_model=16, n_heads=2, d_mlp=24)
    found = softmax_collapse.measure(Checkpoint(0, initial_weights(model, 7), Task(7, split="unknown"), model))
    assert np.isnan(found.collapsed_share).all()
    assert np.isnan(found.cosine)
    assert np.isfinite(found.last_layer_norm)
    told = softmax_collapse.summary(found.expand_dims(step=[0]))
    assert told["highest_collapsed_share"]["float32"] is None
    assert told["lowest_cosine"] is None


def test_the_summary_says_from_when_on() -> None:
    found = [measure_checkpoint(table(strength), "softmax_collapse").isel(step=0) for strength in (5.0, 25.0)]
    told = softmax_collapse.summary(xr.concat(found, "step").assign_coords(step=[0, 100]))
    assert told["collapsed_share_from"]["float32"] == 100
    assert told["collapsed_share_from"]["float64"] is None
    assert told["highest_collapsed_share"]["float32"] == 1
    assert list(told["collapsed_share"]) == list(PRECISIONS)
