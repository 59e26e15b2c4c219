"""Circuit efficiency on planted curves: f = (w / c(D))^h, whose crossing is known."""

import math

import numpy as np
import pytest
import torch
import xarray as xr

from interp.experiment import Task
from interp.runs import Checkpoint
from interp.studies import circuit_efficiency
from interp.studies.circuit_efficiency import DESIGN, KINDS, correct_logit, grid, predictions, trigonometric_fraction
from interp.studies.efficiency_curves import EfficiencyCurves
from interp.testing import circuit_checkpoint, circuit_neurons

SIZES = np.array([100, 200, 400, 800, 1600, 3000])
MEMORIZING = SIZES < 1044
DEGREE = 6.0


def planted(
    d_crit: float = 300.0, *, exponent: float = 0.25, of_generalizing: float = 0.0, noise: float = 0.01, seeds: int = 5
) -> xr.Dataset:
    """Norms w = c·f^(1/6), with c = 12 (D/d_crit)^exponent for C_mem and 12 (D/2000)^of_generalizing for C_gen; f is
    15, 18 and 21."""
    generator = np.random.RandomState(0)
    shape = (2, len(SIZES), 3, seeds)
    logit = np.broadcast_to(np.array([21.0, 18.0, 15.0])[:, None], shape) * np.exp(0.02 * generator.normal(size=shape))
    scale = np.stack([12 * (SIZES / d_crit) ** exponent, 12 * (SIZES / 2000) ** of_generalizing])[:, :, None, None]
    norm = scale * logit ** (1 / DEGREE) * np.exp(noise * generator.normal(size=(2, len(SIZES), 1, seeds)))
    there = np.broadcast_to(np.stack([MEMORIZING, ~MEMORIZING])[:, :, None, None], shape)
    axes = ("kind", "size", "weight_decay", "seed")
    data = {
        "correct_logit": logit,
        "weight_norm": norm,
        "norm_change": np.full(shape, 0.001),
        "train_accuracy": np.ones(shape),
    }
    masked = {name: (axes, np.where(there, values, np.nan)) for name, values in data.items()}
    coords = {"kind": list(KINDS), "size": SIZES, "weight_decay": [0.3, 1.0, 3.0], "seed": np.arange(seeds)}
    return xr.Dataset(masked | {"kept": (axes, there.copy())}, coords=coords)


def verdicts(result: xr.Dataset) -> dict[str, str]:
    return {prediction.name: prediction.verdict for prediction in predictions(result)}


@pytest.mark.parametrize("d_crit", [150.0, 300.0, 600.0])
def test_a_planted_crossing_is_found_and_its_interval_covers_it(d_crit: float):
    result = planted(d_crit)
    assert EfficiencyCurves(result).critical_size() == pytest.approx(d_crit, rel=0.05)
    found = predictions(result)[1]
    low, high = found.numbers["d_crit_interval_95"]
    assert found.verdict == "confirmed"
    assert 0.95 * low <= d_crit <= 1.05 * high
    assert high / low < 1.3


def test_without_noise_the_crossing_is_exact():
    result = planted(300.0, noise=0.0)
    result["correct_logit"] = result.correct_logit * 0 + xr.DataArray([21.0, 18.0, 15.0], dims="weight_decay")
    scale = result.weight_norm * 0 + 12 * (result["size"] / 300) ** 0.25
    scale[1] = scale[1] * 0 + 12
    result["weight_norm"] = scale * result.correct_logit ** (1 / DEGREE)
    curves = EfficiencyCurves(result)
    assert math.exp(curves.at) == pytest.approx(math.sqrt(21 * 15))
    assert curves.critical_size() == pytest.approx(300, rel=1e-9)  # log w is linear in log D and in log f
    assert curves.slope(0) == pytest.approx(0.25)
    assert curves.slope(1) == pytest.approx(0.0, abs=1e-12)


def test_read_at_one_norm_the_curves_cross_at_the_same_place():
    result = planted(300.0, exponent=0.02, noise=0.0)
    at_one_logit, at_one_norm = EfficiencyCurves(result), EfficiencyCurves(result, transposed=True)
    assert at_one_norm.critical_size(rising=False) == pytest.approx(at_one_logit.critical_size(), rel=0.15)
    far = EfficiencyCurves(planted(300.0, exponent=0.25), transposed=True)
    assert math.isnan(far.critical_size(rising=False))  # norms of no overlap


def test_the_verdicts():
    assert verdicts(planted(noise=0.003)) == {"P1": "confirmed", "D_crit": "confirmed"}
    assert verdicts(planted(noise=0.03))["P1"] == "not shown"
    assert verdicts(planted(of_generalizing=0.25))["P1"] == "not confirmed"
    assert verdicts(planted(exponent=-0.25))["P1"] == "not confirmed"
    disagreeing = planted(exponent=0.0, noise=0.0)
    disagreeing["weight_norm"] = disagreeing.weight_norm * (disagreeing["size"] / 300) ** xr.DataArray(
        [-0.1, -0.05, 0, 0.05, 0.1], dims="seed"
    )
    assert verdicts(disagreeing)["P1"] == "not shown"


@pytest.mark.parametrize("d_crit", [20.0, 5000.0])
def test_no_crossing_is_not_shown(d_crit: float):
    found = predictions(planted(d_crit))[1]
    assert found.verdict == "not shown"
    assert math.isnan(found.numbers["d_crit"])


def test_a_crossing_that_hangs_on_one_seed_is_not_shown():
    result = planted(700.0, noise=0.0)
    of_seed = xr.DataArray([0.5, 0.7, 1.0, 1.4, 2.0], dims="seed")
    result["weight_norm"] = result.weight_norm * xr.where(result.kind == "memorizing", of_seed, 1.0)
    found = predictions(result)[1]
    assert found.verdict == "not shown"
    assert math.isnan(found.numbers["d_crit_interval_95"][0])
    assert "or not without one of the seeds" in found.because


def test_an_interval_that_is_wide_does_not_make_a_slope_flat():
    """C_gen rises as C_mem does; when its seeds disagree, its interval has 0 in it, and that is no sign of flatness."""
    found = [verdicts(planted(of_generalizing=0.25, noise=noise))["P1"] for noise in (0.001, 0.03, 0.1)]
    assert found[0] == "not confirmed"
    assert "confirmed" not in found
    apart = planted(of_generalizing=0.25, noise=0.0)
    of_seed = xr.DataArray([-0.6, -0.3, 0.0, 0.3, 0.6], dims="seed")
    tilt = (apart["size"] / 2000) ** xr.where(apart.kind == "generalizing", of_seed, 0.0)
    apart["weight_norm"] = apart.weight_norm * tilt.transpose("kind", "size", "seed").expand_dims(
        weight_decay=3, axis=2
    )
    [slopes, _] = predictions(apart)
    low, high = slopes.numbers["slope_intervals_95"]["generalizing"]
    assert low < 0 < high
    assert slopes.verdict == "not shown"


def test_a_size_that_one_seed_alone_has_is_not_dropped_quietly():
    """Without that seed the slope would be that of other sizes: there is no interval."""
    result = planted(noise=0.003)
    result["kept"][0, 0, :, 1:] = False
    found = predictions(result)
    assert math.isfinite(found[0].numbers["slope_of_log_norm_against_log_D"]["memorizing"])
    assert math.isnan(found[0].numbers["slope_intervals_95"]["memorizing"][0])
    assert math.isnan(found[1].numbers["d_crit_interval_95"][0])
    assert {one.verdict for one in found} == {"not shown"}


def test_one_seed_is_no_interval():
    assert verdicts(planted(seeds=1)) == {"P1": "not shown", "D_crit": "not shown"}


def test_what_was_not_kept_has_no_say():
    result = planted()
    result["weight_norm"][:, :, :, 0] = 1e6
    result["kept"][:, :, :, 0] = False
    assert EfficiencyCurves(result).critical_size() == pytest.approx(300, rel=0.05)


def test_nothing_kept_is_not_shown():
    result = planted()
    result["kept"][:] = False
    assert verdicts(result) == {"P1": "not shown", "D_crit": "not shown"}
    assert predictions(result)[0].because.startswith("none of 60 memorizing networks is at rest and of its kind")
    circuit_efficiency.plot(result)


def test_ungrokking_stands_beside():
    assert "ungrokking has D_crit 280" in predictions(planted(), ungrokking=280.0)[1].because


def test_the_grid_has_each_kind_where_it_belongs():
    runs = grid(DESIGN)
    assert len({run.name for run in runs}) == len(runs) == len(DESIGN.sizes) * 15
    for run in runs:
        task, training = run.experiment.task, run.experiment.training
        assert (task.operation, task.symmetric) == (("random", True) if run.name.startswith("mem") else ("add", False))
        assert (len(task.train_indices) < 0.3 * 59**2) == run.name.startswith("mem")
        assert (training.weight_decay, training.lr) == (1.0, 0.01)
    assert sorted({run.experiment.training.eps for run in runs}) == pytest.approx([1e-5, 3e-5, 1e-4])


# ---- what is read from a network -------------------------------------------------------------------------------------


def test_a_planted_circuit_lies_in_the_trigonometric_subspace():
    task = Task(p=17, train_fraction=0.6)
    planted_network = circuit_checkpoint(task, circuit_neurons([3], per_frequency=32, circuit="clock"), strength=1.0)
    assert trigonometric_fraction(planted_network) > 0.95
    scaled = Checkpoint(0, dict(planted_network.weights), task, planted_network.model)
    assert trigonometric_fraction(scaled) == pytest.approx(trigonometric_fraction(planted_network))


def test_the_trigonometric_fraction_is_that_of_the_projection():
    task = Task(p=11, train_fraction=0.5)
    checkpoint = circuit_checkpoint(task, circuit_neurons([2, 5], per_frequency=6, circuit="pizza"), strength=1.0)
    centred = checkpoint.logits.double() - checkpoint.logits.double().mean(-1, keepdim=True)
    residue = torch.arange(11)
    d = (residue[:, None, None] + residue[None, :, None] - residue[None, None, :]) % 11
    projection = sum(
        (centred * wave).sum() * wave / wave.square().sum()
        for wave in (torch.cos(2 * math.pi * k * d / 11) for k in range(1, 6))
    )
    assert isinstance(projection, torch.Tensor)
    assert trigonometric_fraction(checkpoint) == pytest.approx(float(projection.norm() / centred.norm()), rel=1e-6)


def test_the_correct_logit_is_that_of_the_trained_label_without_the_mean():
    task = Task(p=11, train_fraction=0.5, operation="random", symmetric=True)
    checkpoint = circuit_checkpoint(Task(p=11, train_fraction=0.5), circuit_neurons([2], per_frequency=6), strength=1.0)
    checkpoint = Checkpoint(0, dict(checkpoint.weights), task, checkpoint.model)
    logits = checkpoint.logits.double()
    values = [
        logits[a, b, task.labels[a * 11 + b]] - logits[a, b].mean()
        for a in range(11)
        for b in range(11)
        if task.train_mask[a * 11 + b]
    ]
    assert correct_logit(checkpoint) == pytest.approx(float(torch.stack(values).mean()), rel=1e-9)
