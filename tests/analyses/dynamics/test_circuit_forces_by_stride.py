"""The forces on the circuits of a real run: from every step and from fewer checkpoints, what is refused, and what the
summary makes of it."""

from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal

from interp.analyses import circuit_forces
from interp.experiment import ModelConfig, Task, TrainingConfig
from interp.mathematics import forces as mechanics

GENERALIZING, MEMORIZING, CIRCUIT = 0, 1, 2  # places among the strengths; behind them the frequencies
DECAY, LOSS, RESIDUAL = 0, 1, 2
MLP = ModelConfig(family="mlp", embedding="untied", d_model=6, d_mlp=12)
ADD = Task(13, train_fraction=0.4)


@pytest.fixture(scope="module")
def smooth(trained_run) -> SimpleNamespace:
    """An MLP with a smooth activation that learns its training pairs in a hundred updates: the run, and what is found
    of it at each stride, with nothing refused."""
    model = ModelConfig(family="mlp", embedding="untied", activation="gelu", d_model=16, d_mlp=32)
    training = TrainingConfig(steps=100, lr=6e-3, weight_decay=1.0, checkpoint_every=1)
    assert ADD.n_held_out >= 20
    run = trained_run(ADD, model, training)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mechanics, "refused", lambda found: found)
        of = {stride: circuit_forces.compute(run.every(stride), frequencies=[3]) for stride in (1, 5, 10, 20, 50)}
    return SimpleNamespace(run=run, of=of)


def forces_of(result: xr.Dataset) -> np.ndarray:
    return result.force.values


def summed(result: xr.Dataset, stride: int) -> np.ndarray:
    """The forces on G and M over each interval of so many updates, of a result of every step."""
    fine = forces_of(result)[:, :2]
    return fine.reshape(-1, stride, *fine.shape[1:]).sum(1)


def test_the_forces_and_the_residual_are_the_change(smooth: SimpleNamespace) -> None:
    """Over each interval of every stride; with every step kept, next to nothing is left to the residual."""
    for result in smooth.of.values():
        change = np.diff(result.value, axis=0)
        told = np.delete(forces_of(result).sum(2) - change, CIRCUIT, axis=1)  # whose level may have other members
        assert_allclose(told, 0, atol=1e-9)
    every = forces_of(smooth.of[1])[:, :2]
    flow = abs(every[..., :2]).sum((0, 2))
    assert (abs(every[..., RESIDUAL]).sum(0) < 5e-5 * flow).all()
    change = np.diff(smooth.of[1].value.values[[0, -1], :2], axis=0)[0]
    assert (abs(every[..., :2].sum((0, 2)) - change) < 2e-5 * flow).all()


def test_from_coarser_checkpoints_it_comes_out_the_same(smooth: SimpleNamespace) -> None:
    """Decay and loss at each stride against their sums over every step: what they are off by, and the residuals, grow
    as the square of the stride, where the activation is smooth; at 5 they are off by a thousandth."""
    errors, residuals = {}, {}
    for stride in (5, 10, 20, 50):
        truth, found = summed(smooth.of[1], stride), forces_of(smooth.of[stride])[:, :2]
        errors[stride] = (abs(found - truth).sum(0) / abs(truth).sum(0))[:, :2]
        residuals[stride] = abs(found[..., RESIDUAL]).sum(0)
    for one, other in ((5, 10), (10, 20)):
        for of in (errors, residuals):
            assert_allclose(of[other] / of[one], 4, rtol=0.2)
    for of in (errors, residuals):
        assert_allclose(of[50] / of[10], 25, rtol=0.4)
    assert (errors[5] < 2e-3).all()
    assert (errors[20] < 2e-2).all()


@pytest.mark.parametrize("stride", [5, 10, 20])
def test_the_error_told_is_the_error(smooth: SimpleNamespace, stride: int) -> None:
    """Richardson: summed with its sign from step 40 on it is that of decay and that of loss, on G and on M, to two
    fifths; and for nearly all pairs of intervals within a factor of five."""
    result = smooth.of[stride]
    error = (forces_of(result)[:, :2] - summed(smooth.of[1], stride))[..., :2]
    told = result.force_error.values[:, :2, :2]
    late = result.start.values >= 40
    assert_allclose(told[late].sum(0) / error[late].sum(0), 1, atol=0.4)
    n = len(error) // 2 * 2
    factor = abs(told[:n:2] + told[1:n:2]) / abs(error[:n:2] + error[1:n:2])
    assert np.mean((factor > 1 / 5) & (factor < 5)) > 0.85


def test_the_frequencies_come_out_the_same_too(smooth: SimpleNamespace) -> None:
    fine, coarse = (forces_of(smooth.of[stride])[:, 3:, :2] for stride in (1, 10))
    truth = fine.reshape(-1, 10, *fine.shape[1:]).sum(1)
    assert (abs(coarse - truth).sum((0, 2)) < 0.02 * abs(truth).sum((0, 2))).all()


def test_what_the_summary_makes_of_the_forces(smooth: SimpleNamespace) -> None:
    """As if the pairs had been known from step 40 on, so that the plateau begins at 80, where C is clear: growth ratios
    are sums of pushes over sums of pulls, and the shares of the tensors are those of what went through them."""
    result = smooth.of[5].assign_attrs(known_from=40)
    facts, late = circuit_forces.summary(result), result.start.values >= 80
    assert facts["carried_from"] is facts["rest"] is None
    assert facts["plateau"] == {"from": 80, "to": 100}
    assert facts["has_decay"] is True
    for name, place in (("memorizing", MEMORIZING), ("circuit", CIRCUIT)):
        force, told = forces_of(result)[late, place], circuit_forces.pushed(result, name)
        assert np.isfinite(told.ratio[late]).all()
        expected = force[:, LOSS].sum() / -force[:, DECAY].sum()
        assert_allclose(facts["growth_ratio"][name], expected, rtol=1e-12)
        low, high = facts["growth_ratio_interval_95"][name]
        assert low < expected < high
        grown = np.log(told.value[-1] / told.value[result.step.values == 80][0])
        assert_allclose(facts["net_rate"][name], grown / result.exposure.values[late].sum(), rtol=1e-12)
        kappa = (result.scaling / result.value).sel(step=80).values[place]
        assert_allclose(facts["degree"][name], kappa, rtol=1e-12)
    since_known = (result.start.values >= 40) & np.isfinite(forces_of(result)[:, CIRCUIT, LOSS])
    through = result.tensor_force.sel(on="circuit", cause="loss").values[since_known].sum(0)
    shares = facts["pushed_through"]
    assert_allclose([shares[name] for name in result.tensor.values], through / through.sum(), rtol=1e-12)
    assert list(shares.values()) == sorted(shares.values(), reverse=True)


def test_a_network_of_kinks_is_told_less_exactly_and_still_well(trained_run) -> None:
    """relu bends at once: the residual falls with the stride, and the forces of every tenth step are those of every
    step, to two hundredths."""
    model = ModelConfig(family="mlp", embedding="untied", d_model=16, d_mlp=32)
    training = TrainingConfig(steps=40, lr=6e-3, weight_decay=1.0, checkpoint_every=1)
    run = trained_run(ADD, model, training)
    fine, coarse, rough = (circuit_forces.compute(run.every(stride)) for stride in (1, 5, 10))
    truth, found = (values[..., :2] for values in (summed(fine, 10), forces_of(rough)[:, :2]))
    used = np.isfinite(found)
    assert used.mean() > 0.7
    assert abs(found - truth)[used].sum() < 0.02 * abs(truth[used]).sum()
    sizes = [abs(forces_of(result)[:, :2, RESIDUAL]).sum(0) for result in (fine, coarse, rough)]
    assert (sizes[0] < sizes[1]).all()
    assert (sizes[1] < sizes[2]).all()


def test_too_far_apart_is_refused(smooth: SimpleNamespace) -> None:
    """The first fifty updates in one: decay and loss, their errors and what folds make of them are unknown; the
    residual and what goes through single tensors are there, and the next fifty are told."""
    result = circuit_forces.compute(smooth.run.every(50), frequencies=[3])
    raw, first = smooth.of[50], result.isel(interval=0)
    share = abs(raw.force.sel(cause="residual")) / abs(raw.force.sel(cause=["decay", "loss"])).sum("cause")
    assert (share[0, :2] > mechanics.MOST_RESIDUAL).all()
    assert np.isnan(first.force.sel(cause=["decay", "loss"])[:2]).all()
    assert np.isnan(first.force_error[:2]).all()
    assert np.isnan(first.force_without_fold.sel(on="memorizing")).all()
    assert_array_equal(result.force.sel(cause="residual"), raw.force.sel(cause="residual"))
    for name in ("value", "scaling", "tensor_force"):
        assert_array_equal(result[name], raw[name])
    assert np.isfinite(first.tensor_force.sel(on="memorizing", cause="loss")).all()
    assert (share[1, :2] < mechanics.MOST_RESIDUAL).all()
    assert_array_equal(result.force[1, :2], raw.force[1, :2])


@pytest.mark.parametrize("stride", [10, 20, 50])
def test_what_is_above_a_fiftieth_is_refused_and_nothing_else(smooth: SimpleNamespace, stride: int) -> None:
    raw = forces_of(smooth.of[stride])
    found = forces_of(circuit_forces.compute(smooth.run.every(stride), frequencies=[3]))
    above = abs(raw[..., RESIDUAL]) > mechanics.MOST_RESIDUAL * (abs(raw[..., DECAY]) + abs(raw[..., LOSS]))
    assert above.any()
    assert_array_equal(found, np.where(above[..., None] & [True, True, False], np.nan, raw))


@pytest.mark.parametrize("window", [(0, 50), (10, 60), (0, 40)], ids=str)
def test_a_third_of_the_spacing_told_would_do(smooth: SimpleNamespace, window: tuple[int, int]) -> None:
    """What is told is where the residual of the whole interval would be small enough; it is not spread evenly over it,
    and a third of that is enough everywhere. Half as much again is not enough."""
    (first, last), run = window, smooth.run
    whole = circuit_forces.between(run[first], run[last], run.training)
    told = mechanics.spacing_that_would_do(whole, np.array([float(last - first)]))[0]
    for place in (GENERALIZING, MEMORIZING):
        assert not whole.used[0, place]
        assert 9 < told[place] < last - first
        used = {}
        for n in (int(told[place] / 3), int(told[place] * 1.5)):
            spans = [(a, a + n) for a in range(first, max(first + 1, last - n + 1), n)]
            used[n] = [circuit_forces.between(run[a], run[b], run.training).used[0, place] for a, b in spans]
        enough, too_much = used.values()
        assert all(enough)
        assert not all(too_much)


def test_the_summary_counts_refusals_and_tells_a_spacing(smooth: SimpleNamespace) -> None:
    """As if the pairs were known from the start: only where M or C is clear at both ends is a refusal one, and at the
    spacing told nothing is refused."""
    counted = {}
    for stride in (50, 40, 30, 25, 20):
        facts = circuit_forces.summary(circuit_forces.compute(smooth.run.every(stride)).assign_attrs(known_from=0))
        counted[stride] = facts["refused_intervals"]
        if counted[stride]:
            told = facts["spacing_that_would_do"]
            assert 1 <= told < stride
            finer = circuit_forces.summary(circuit_forces.compute(smooth.run.every(told)).assign_attrs(known_from=0))
            assert finer["refused_intervals"] == 0
        else:
            assert facts["spacing_that_would_do"] is None
    assert any(counted.values())
