"""The forces on circuits by optimizer; planted circuits and tables; controls with nothing to find; what cannot be
known."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal

from interp.analyses import circuit_forces
from interp.analysis import find
from interp.errors import InputError
from interp.experiment import ModelConfig, Task, TrainingConfig
from interp.mathematics import forces as mechanics
from interp.models import Weights, initial_weights
from interp.runs import Checkpoint
from interp.testing import LookupTable, circuit_checkpoint, circuit_neurons, circuit_weights

GENERALIZING, MEMORIZING, CIRCUIT = 0, 1, 2  # places among the strengths; behind them the frequencies
DECAY, LOSS, RESIDUAL = 0, 1, 2
TRAINING = TrainingConfig(steps=200, lr=0.01, weight_decay=1.0, warmup=0)
MLP = ModelConfig(family="mlp", embedding="untied", d_model=6, d_mlp=12)
TRANSFORMER = ModelConfig(d_model=8, n_heads=2, d_mlp=12)
ADD = Task(13, train_fraction=0.4)


def forces_of(result: xr.Dataset) -> np.ndarray:
    return result.force.values


def times(weights: Weights, factor: float) -> Weights:
    return {name: factor * weight for name, weight in weights.items()}


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_without_weight_decay_all_is_the_loss(a_walk, optimizer) -> None:
    """Also of "adam": there is nothing that it could have mixed."""
    run = a_walk(ADD, MLP)
    run.training = replace(TRAINING, weight_decay=0.0, optimizer=optimizer)
    result = circuit_forces.compute(run, frequencies=[2])
    force = forces_of(result)
    used = np.isfinite(force[..., LOSS])
    assert used.mean() > 0.9
    assert (force[used][:, DECAY] == 0).all()
    assert_array_equal(result.exposure, 0)
    assert_array_equal(result.tensor_force.sel(cause="decay", on="memorizing"), 0)
    change = np.diff(result.value, axis=0)
    assert_allclose(force[used][:, [LOSS, RESIDUAL]].sum(1), change[used], rtol=1e-9, atol=1e-10)
    for name in circuit_forces.CIRCUITS:
        assert np.isnan(circuit_forces.pushed(result, name).ratio).all()
    facts = circuit_forces.summary(result.assign_attrs(known_from=0))
    assert facts["has_decay"] is False
    assert facts["rest"] is facts["worn_from"] is None
    assert np.isnan(list(facts["growth_ratio"].values())).all()
    circuit_forces.plot(result)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_half_of_the_decay_is_half_of_the_force(neighbors, optimizer) -> None:
    """Of one pair of weights, to the bit: only lr·wd is asked, and what is not decay is the loss'."""
    ends = neighbors(ADD, TRANSFORMER)
    whole, half, other = (
        circuit_forces.between(*ends, replace(TRAINING, optimizer=optimizer, lr=lr, weight_decay=wd))
        for lr, wd in ((0.5, 0.25), (0.25, 0.25), (0.5, 0.125))
    )
    assert_array_equal(half.decay, whole.decay / 2)
    assert_array_equal(other.decay, half.decay)
    assert_allclose(half.loss + half.decay, whole.loss + whole.decay, rtol=1e-10, atol=1e-13)
    assert_array_equal(half.residual, whole.residual)


def test_plain_gradient_descent_is_decoupled(neighbors) -> None:
    ends = neighbors(ADD, MLP)
    sgd = circuit_forces.between(*ends, replace(TRAINING, optimizer="sgd", momentum=0.0))
    for found, expected in zip(sgd, circuit_forces.between(*ends, TRAINING), strict=True):
        assert_array_equal(found, expected)


def test_momentum_goes_on_with_the_decay_of_earlier_steps(random_weights) -> None:
    """A weight at rest, from step to step: 1 + μ + … + μ^s times the decay of one step, in the end ten times it."""
    weights = random_weights(MLP, 13)
    training = replace(TRAINING, optimizer="sgd", momentum=0.9, steps=2000)
    for step, factor in ((0, 1.0), (1, 1.9), (2, 2.71), (1500, 10.0)):
        ends = [Checkpoint.from_weights(weights, ADD, MLP, at) for at in (step, step + 1)]
        found, plain = (circuit_forces.between(*ends, each) for each in (training, TRAINING))
        assert_allclose(found.decay, factor * plain.decay, rtol=1e-9)


@pytest.mark.parametrize("training", [None, replace(TRAINING, optimizer="adam")], ids=["imported", "adam"])
def test_where_decay_is_not_known_neither_is_the_loss(a_walk, training: TrainingConfig | None) -> None:
    run = a_walk(ADD, MLP)
    known = circuit_forces.compute(run, frequencies=[2])
    run.training = training
    result = circuit_forces.compute(run, frequencies=[2])
    for name in ("value", "standard_error", "scaling", "loss_alone"):
        assert_array_equal(result[name], known[name])
        assert np.isfinite(result[name]).all()
    assert_array_equal(result.force.sel(cause="residual"), known.force.sel(cause="residual"))
    for name in ("force", "force_error", "tensor_force", "force_without_fold"):
        assert np.isnan(result[name].sel(cause=["decay", "loss"])).all()
        assert result[name].shape == known[name].shape
    assert np.isnan(result.exposure).all()
    facts = circuit_forces.summary(result.assign_attrs(known_from=0))
    assert facts["has_decay"] is None
    assert (facts["refused_intervals"], facts["spacing_that_would_do"]) == (0, None)
    circuit_forces.plot(result)


def test_random_labels_have_no_circuit(trained_run) -> None:
    """Learned by heart: a memory that loss and decay push and pull, and nothing that generalizes, no frequency named,
    none born."""
    task = Task(9, "random", train_fraction=0.5)
    model = ModelConfig(family="mlp", embedding="untied", inputs="concatenated", d_model=16, d_mlp=48)
    training = TrainingConfig(steps=160, lr=0.01, weight_decay=0.5, checkpoint_every=8)
    result = circuit_forces.compute(trained_run(task, model, training))
    assert result.attrs["known_from"] > 0
    facts = circuit_forces.summary(result)
    assert (facts["named"], facts["frequencies"], facts["carried_from"]) == ([], [], None)
    assert np.isnan(result.value[:, CIRCUIT:]).all()
    assert np.isnan(result.force[:, CIRCUIT:]).all()
    at_end = mechanics.is_clear(result.value.values[-1], result.standard_error.values[-1])
    assert at_end[[GENERALIZING, MEMORIZING]].tolist() == [False, True]
    assert np.isfinite(facts["growth_ratio"]["memorizing"])
    assert np.isnan(facts["growth_ratio"]["circuit"])
    circuit_forces.plot(result)


@pytest.mark.parametrize("leakage", [0.0, 0.2, -0.3])
def test_a_table_is_no_circuit(kept, leakage: float) -> None:
    """What it says of held-out pairs is a spike at d = 0, the same in every frequency: 2 · leakage · s/p."""
    table = circuit_checkpoint(ADD, [], family="mlp", lookup=LookupTable(6.0, leakage), step=0)
    for frequencies in ([2], [1, 4]):
        at = circuit_forces.compute(kept([table]), frequencies=frequencies).value.values[0]
        assert_allclose(at[3:], 2 * leakage * 6 / 13, atol=1e-12)
        assert_allclose(at[CIRCUIT], 0, atol=1e-12)
        assert_allclose(at[GENERALIZING], leakage * 6 * 12 / 13, atol=1e-12)
        assert_allclose(at[MEMORIZING], (1 - leakage) * 6 * 12 / 13, rtol=1e-12)


@pytest.mark.parametrize("spike", [0.0, -0.5, 0.4])
def test_a_planted_circuit_behind_a_spike(kept, spike: float) -> None:
    """Two clocks of real neurons and a table that leaks: C is that of the clocks alone, whatever held-out labels are
    pushed by; G is not. The neurons bend, so that the clocks have overtones: told of the clocks alone."""
    neurons = circuit_neurons([2, 5], per_frequency=32, circuit="clock")

    def told(lookup: LookupTable | None) -> np.ndarray:
        planted = circuit_checkpoint(ADD, neurons, family="mlp", strength=1.0, lookup=lookup, step=0)
        return circuit_forces.compute(kept([planted]), frequencies=[2, 5]).value.values[0]

    alone, both = told(None), told(LookupTable(4.0, spike))
    assert_allclose(both[CIRCUIT], alone[CIRCUIT], rtol=1e-9)
    assert_allclose(alone[CIRCUIT], alone[[3 + 1, 3 + 4]].sum(), rtol=0.02)
    assert_allclose(both[GENERALIZING] - alone[GENERALIZING], 4 * spike * 12 / 13, atol=1e-9)
    assert_allclose(both[3:] - alone[3:], 2 * 4 * spike / 13, atol=1e-9)


def test_an_exact_clock_is_the_sum_of_its_frequencies(kept) -> None:
    """N square neurons make N/2 cos w_k(a + b − c): α_k is N/2, C and G are the sum, and nothing is memorized."""
    clock = circuit_checkpoint(
        ADD, circuit_neurons([2, 5], per_frequency=8, circuit="clock"), activation="square", strength=1.0, step=0
    )
    at = circuit_forces.compute(kept([clock]), frequencies=[2, 5]).value.values[0]
    assert_allclose(at[3:], [0, 4, 0, 0, 4, 0], atol=1e-9)
    assert_allclose(at[:3], [8, 0, 8], atol=1e-9)


def test_the_clock_is_named_when_the_pairs_are_known_and_not_before(kept) -> None:
    """A table turns into a table and a clock; C is told from the first checkpoint that answers, of what stands out
    there, though another frequency stands out later."""
    model = ModelConfig(family="mlp", inputs="concatenated", d_mlp=32 + len(ADD.train_indices))
    clocks = [circuit_neurons([k], per_frequency=32, circuit="clock") for k in (2, 5)]

    def planted(step: int, neurons, strength: float) -> Checkpoint:
        weights = circuit_weights(ADD, model, neurons, strength=strength, lookup=LookupTable(9.0))
        return Checkpoint(step, weights, ADD, model)

    nothing = Checkpoint(0, times(initial_weights(model, 13), 0.01), ADD, model)
    nothing.weights = {name: weight.double() for name, weight in nothing.weights.items()}
    run = kept([nothing, planted(10, clocks[0], 0.5), planted(20, clocks[1], 1.0), planted(30, clocks[1], 1.0)])
    result = circuit_forces.compute(run)
    assert result.attrs["known_from"] == 10
    named = json.loads(result.attrs["named"])
    assert len(named) == 2
    assert 2 in named
    assert_array_equal(np.isnan(result.value[:, CIRCUIT]), [True, False, False, False])
    assert_array_equal(np.isnan(result.standard_error[:, CIRCUIT]), [True, False, False, False])
    assert_array_equal(np.isnan(result.force.sel(strength="circuit", cause="residual")), [True, False, False])
    one = circuit_forces.compute(run, n_named=1)
    assert json.loads(one.attrs["named"]) == [2]
    assert float(one.value[1, CIRCUIT]) > 1
    assert abs(float(one.value[3, CIRCUIT])) < 0.5


@pytest.mark.parametrize("frequencies", [[0], [7], [2, -1]])
def test_a_frequency_that_there_is_not(a_walk, frequencies: list[int]) -> None:
    run = a_walk(ADD, MLP, 2)
    with pytest.raises(InputError, match="frequencies"):
        circuit_forces.compute(run, frequencies=frequencies)
    with pytest.raises(InputError, match="frequencies"):
        circuit_forces.between(run[0], run[10], TRAINING, frequencies=frequencies)


@pytest.mark.parametrize("task", [Task(9, split="unknown"), Task(7, train_fraction=0.5), Task(9, train_fraction=1.0)])
def test_without_held_out_pairs_nothing_is_known(a_walk, task: Task) -> None:
    """The shapes are those of a run that has them."""
    result, known = (
        circuit_forces.compute(a_walk(each, MLP, 3)) for each in (task, Task(task.p, "subtract", train_fraction=0.4))
    )
    assert {name: values.shape for name, values in result.items()} == {n: v.shape for n, v in known.items()}
    for name, values in result.items():
        assert np.isnan(values).all(), name
    assert np.isfinite(result.exposure).all()
    facts = circuit_forces.summary(result)
    assert (facts["named"], facts["frequencies"], facts["plateau"]) == ([], [], None)
    assert find("circuit_forces").summary(result) is not None
    circuit_forces.plot(result)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_checkpoints(a_walk, n: int) -> None:
    """From one no force is told, from two no error."""
    result = circuit_forces.compute(a_walk(ADD, TRANSFORMER, n), frequencies=[1])
    assert result.force.shape == (n - 1, 3 + 6, 3)
    assert result.tensor_force.shape == (n - 1, 2, 3, 11)
    assert result.force_without_fold.shape == (n - 1, 2, 3, 5)
    assert np.isfinite(result.value).all()
    assert np.isfinite(result.force[:, GENERALIZING]).all()
    assert np.isnan(result.force_error).all() == (n < 3)
    for known_from in (-1, 0):
        facts = find("circuit_forces").summary(result.assign_attrs(known_from=known_from))
        assert facts["intervals"] == (n - 1 if known_from == 0 else 0)
        json.dumps(facts, allow_nan=False)
    circuit_forces.plot(result)


def test_a_run_that_diverged_is_told_until_it_did(kept, a_walk) -> None:
    run = a_walk(ADD, MLP, 4)
    expected = circuit_forces.compute(run, frequencies=[1])
    lost = {name: weight * torch.nan for name, weight in run[0].weights.items()}
    for step in (40, 50):
        run.kept[step] = Checkpoint(step, lost, ADD, MLP)
    assert circuit_forces.compute(run, frequencies=[1]).identical(expected)
    with pytest.raises(InputError, match="diverged at once"):
        circuit_forces.compute(kept([Checkpoint(0, lost, ADD, MLP)]))


def test_a_run_on_disk_without_a_training(tmp_path, written_run) -> None:
    run = written_run(tmp_path / "mine", ADD, MLP, (0, 10, 20))
    result = run.result("circuit_forces")
    assert np.isnan(result.force.sel(cause=["decay", "loss"])).all()
    assert np.isfinite(result.value[:, :2]).all()
    assert find("circuit_forces").summary(result)["has_decay"] is None


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ({"n_named": 0}, "n_named must be at least 1"),
        ({"n_named": -1}, "n_named must be at least 1"),
        ({"frequencies": []}, "must be a list of some"),
        ({"frequencies": [0]}, "frequencies must be at least 1"),
        ({"frequencies": [1, 2, 3]}, "leave 3 others"),
    ],
)
def test_what_cannot_be_named_is_refused(a_walk, asked: dict, complaint: str) -> None:
    run = a_walk(Task(13, train_fraction=0.4), ModelConfig(family="mlp", d_mlp=8), n=2)
    with pytest.raises(InputError, match=complaint):
        circuit_forces.compute(run, **asked)


def test_two_checkpoints_in_memory_are_of_one_run_and_in_their_order(a_walk) -> None:
    task, model = Task(13, train_fraction=0.4), ModelConfig(family="mlp", d_mlp=8)
    run = a_walk(task, model, n=2)
    with pytest.raises(InputError, match="the step after must be at least 11"):
        circuit_forces.between(run[10], run[0], run.training)
    other = a_walk(Task(17, train_fraction=0.4), model, n=2)
    with pytest.raises(InputError, match="of different runs"):
        circuit_forces.between(run[0], other[10], run.training)
