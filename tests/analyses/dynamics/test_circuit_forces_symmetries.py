"""What leaves the forces on circuits as they are, or only calls them by other names."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from interp.analyses import circuit_forces
from interp.experiment import ModelConfig, Task, TrainingConfig
from interp.mathematics import strengths
from interp.models import Weights
from interp.runs import Checkpoint

GENERALIZING, MEMORIZING, CIRCUIT = 0, 1, 2  # places among the strengths; behind them the frequencies
DECAY, LOSS, RESIDUAL = 0, 1, 2
TRAINING = TrainingConfig(steps=200, lr=0.01, weight_decay=1.0, warmup=0)
MLP = ModelConfig(family="mlp", embedding="untied", d_model=6, d_mlp=12)
TRANSFORMER = ModelConfig(d_model=8, n_heads=2, d_mlp=12)
ADD = Task(13, train_fraction=0.4)


def times(weights: Weights, factor: float) -> Weights:
    return {name: factor * weight for name, weight in weights.items()}


def test_generalizing_is_the_sum_of_all_frequencies(a_walk, neighbors) -> None:
    result = circuit_forces.compute(a_walk(ADD, TRANSFORMER, 3), frequencies=[1])
    residual = result.force.sel(cause="residual")
    found = circuit_forces.between(*neighbors(ADD, TRANSFORMER), TRAINING)
    told = (each.values for each in (result.value, result.scaling, residual))
    for values in (*told, found.change, found.decay, found.loss, found.residual):
        assert_allclose(values[:, 3:].sum(1), values[:, GENERALIZING], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("model", [TRANSFORMER, MLP], ids=["transformer", "mlp"])
def test_through_the_tensors_goes_all_of_the_force(a_walk, model: ModelConfig) -> None:
    """On M exactly; on C where its level has the same members at both ends of the interval."""
    run = a_walk(ADD, model, 6)
    result = circuit_forces.compute(run, frequencies=[2, 4])
    through = result.tensor_force.sum("tensor", skipna=False).values
    force = np.stack(
        [
            [each.decay[0], each.loss[0]]
            for each in (
                circuit_forces.between(run[a], run[b], TRAINING, frequencies=[2, 4]) for a, b in pairwise(run.steps)
            )
        ]
    )
    assert_allclose(through[:, 0, :2], force[:, :, MEMORIZING], rtol=1e-9, atol=1e-11)
    in_set = np.array([False, True, False, True, False, False])
    sums = strengths.circuit_weights(result.value.values[:, 3:], in_set)
    same = (sums[1:] == sums[:-1]).all(1)
    assert same.any()
    assert_allclose(through[same, 1, :2], force[same][:, :, CIRCUIT], rtol=1e-9, atol=1e-11)
    assert np.isnan(through[..., RESIDUAL]).all()


def renamed(checkpoint: Checkpoint, unit: int, task: Task) -> Checkpoint:
    """Every residue r is called unit·r."""
    p = task.p
    to = torch.arange(p) * unit % p
    weights = {name: weight.clone() for name, weight in checkpoint.weights.items()}
    weights["embed.W_E"][to] = checkpoint.weights["embed.W_E"][:p]
    weights["unembed.W_U"][:, to] = checkpoint.weights["unembed.W_U"]
    return Checkpoint.from_weights(weights, task, checkpoint.model, checkpoint.step)


@pytest.mark.parametrize("model", [TRANSFORMER, MLP], ids=["transformer", "mlp"])
@pytest.mark.parametrize("unit", [3, 12])
def test_other_names_for_the_residues(kept, a_walk, unit: int, model: ModelConfig) -> None:
    """a → u a: what was cos w_k d is cos w_k u⁻¹d. G, M and C are the same, with all their forces."""
    p, run = ADD.p, a_walk(ADD, model, 3)
    task = Task(p, split=tuple((ADD.pairs[ADD.train_indices] * unit % p @ [p, 1]).tolist()))
    inverse = pow(unit, -1, p)

    def called(k: int) -> int:
        return min(k * inverse % p, -k * inverse % p)

    before = circuit_forces.compute(run, frequencies=[1, 4])
    after = circuit_forces.compute(
        kept([renamed(each, unit, task) for each in run.kept.values()]), frequencies=[called(1), called(4)]
    )
    order = [0, 1, 2, *(2 + called(k) for k in range(1, 7))]
    for name in ("value", "scaling", "force", "standard_error"):
        assert_allclose(after[name].isel(strength=order), before[name], rtol=1e-8, atol=1e-9, err_msg=name)
    assert_allclose(after.loss_alone, before.loss_alone, rtol=1e-8)


def test_a_louder_network_is_pushed_and_pulled_harder(kept, a_walk) -> None:
    """S(λw) = λ^κ S(w), so ∇S·w and all forces are λ^κ times what they were; κ = 4."""
    run = a_walk(ADD, MLP, 4)
    louder = kept([Checkpoint.from_weights(times(c.weights, 1.5), ADD, MLP, c.step) for c in run.kept.values()])
    before, after = (circuit_forces.compute(each, frequencies=[2]) for each in (run, louder))
    for name in ("value", "scaling", "standard_error", "force", "force_error", "tensor_force", "force_without_fold"):
        assert_allclose(after[name], 1.5**4 * before[name], rtol=1e-8, atol=1e-9, err_msg=name)


def test_the_order_of_two_vocabularies(kept, a_walk) -> None:
    """Who trades a for b, in the tokens, the positions and the split, changes nothing: a + b = b + a."""
    model = replace(TRANSFORMER, vocabularies="two")
    p, run = ADD.p, a_walk(ADD, replace(TRANSFORMER, vocabularies="two"), 3)
    task = Task(p, split=tuple((ADD.pairs[ADD.train_indices][:, ::-1] @ [p, 1]).tolist()))

    def traded(checkpoint: Checkpoint) -> Checkpoint:
        weights = dict(checkpoint.weights)
        W_E, W_pos = weights["embed.W_E"], weights["pos_embed.W_pos"]
        weights["embed.W_E"] = torch.cat([W_E[p : 2 * p], W_E[:p], W_E[2 * p :]])
        weights["pos_embed.W_pos"] = W_pos[[1, 0, 2]]
        return Checkpoint.from_weights(weights, task, model, checkpoint.step)

    before = circuit_forces.compute(run, frequencies=[2])
    after = circuit_forces.compute(kept(map(traded, run.kept.values())), frequencies=[2])
    for name in ("value", "scaling", "standard_error", "force", "force_error", "force_without_fold", "loss_alone"):
        assert_allclose(after[name], before[name], rtol=1e-8, atol=1e-9, err_msg=name)
