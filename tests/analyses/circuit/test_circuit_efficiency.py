"""Circuit efficiency on planted circuits and lookup tables, where the parts and their norms are known; symmetries;
negative controls."""

import json

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

import interp
from interp.analyses import circuit_efficiency
from interp.analysis import find, measure_checkpoint
from interp.experiment import Activation, Embedding, Experiment, Family, ModelConfig, Task, TrainingConfig
from interp.models import initial_weights
from interp.runs import Checkpoint
from interp.testing import LookupTable, circuit_checkpoint, circuit_neurons
from interp.training import train

MODELS = {
    "transformer": ModelConfig(d_model=12, n_heads=2, d_head=5, d_mlp=20),
    "two layers": ModelConfig(n_layers=2, d_model=12, n_heads=2, d_mlp=20),
    "one-hot": ModelConfig(family="mlp", d_mlp=20),
    "two one-hots": ModelConfig(family="mlp", inputs="concatenated", d_mlp=20),
    "tied": ModelConfig(family="mlp", embedding="tied", d_model=12, d_mlp=20),
    "untied": ModelConfig(family="mlp", embedding="untied", d_model=12, d_mlp=20, activation="square"),
}
TASKS = [Task(11), Task(12), Task(11, "subtract"), Task(11, "multiply"), Task(7, "divide")]


@pytest.fixture(scope="module")
def reference() -> interp.Run:
    return interp.open_run(interp.reference_path())


def double(checkpoint: Checkpoint, change=lambda name, weight: weight) -> Checkpoint:
    """The checkpoint in float64, with its weights changed."""
    weights = {name: change(name, weight.double()) for name, weight in checkpoint.weights.items()}
    return Checkpoint(checkpoint.step, weights, checkpoint.task, checkpoint.model)


def untrained(model: ModelConfig, task: Task) -> Checkpoint:
    return double(Checkpoint(0, initial_weights(model, task.p), task, model))


@pytest.mark.parametrize("task", TASKS, ids=lambda task: f"{task.operation}{task.p}")
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("key", [[], [1, 3]], ids=str)
def test_the_parts_add_up_and_are_orthogonal(model: ModelConfig, task: Task, key: list[int]) -> None:
    checkpoint = untrained(model, task)
    parts, n_neurons = circuit_efficiency.split_weights(checkpoint, key, 0.05)
    for name, weight in checkpoint.weights.items():
        assert_allclose(sum(part[name] for part in parts), weight, rtol=0, atol=1e-12, err_msg=name)
        for i in range(3):
            for j in range(i):
                assert abs((parts[i][name] * parts[j][name]).sum()) < 1e-10, name
    assert sum(n_neurons) == model.d_mlp
    result = circuit_efficiency.measure(checkpoint, key_frequencies=key)
    whole = sum(float(w.square().sum()) for w in checkpoint.weights.values())
    assert_allclose(np.square(result.norm).sum(), whole, rtol=1e-12)
    assert_allclose(np.square(result.tensor_norm).sum("tensor"), np.square(result.norm), rtol=1e-12, atol=1e-20)
    if not key:
        assert float(result.norm.sel(part="generalizing")) == 0


def test_each_matrix_by_explicit_projections() -> None:
    """The transformer's parts from least squares on explicit waves and spaces."""
    task, model, key = Task(11), MODELS["transformer"], [2, 5]
    checkpoint = untrained(model, task)
    (generalizing, memorizing, shared), _ = circuit_efficiency.split_weights(checkpoint, key, 0.05)
    t = np.arange(11)
    waves = np.stack([f(2 * np.pi * k * t / 11) for k in key for f in (np.cos, np.sin)], axis=1)

    def onto(columns: np.ndarray, values: np.ndarray) -> np.ndarray:
        return columns @ np.linalg.lstsq(columns, values, rcond=None)[0]

    weights = {name: weight.numpy() for name, weight in checkpoint.weights.items()}
    W_E = onto(waves, weights["embed.W_E"][:11])
    assert_allclose(generalizing["embed.W_E"][:11], W_E, atol=1e-12)
    assert_allclose(shared["embed.W_E"][:11], np.broadcast_to(weights["embed.W_E"][:11].mean(0), (11, 12)), atol=1e-12)
    assert_allclose(shared["embed.W_E"][11], weights["embed.W_E"][11])
    assert_allclose(generalizing["unembed.W_U"].T, onto(waves, weights["unembed.W_U"].T), atol=1e-12)
    for head in range(2):
        W_V = onto(W_E.T, weights["blocks.0.attn.W_V"][head])
        assert_allclose(generalizing["blocks.0.attn.W_V"][head], W_V, atol=1e-10)
        W_O = onto((W_E @ W_V).T, weights["blocks.0.attn.W_O"][head])
        assert_allclose(generalizing["blocks.0.attn.W_O"][head], W_O, atol=1e-10)
    shares, frequencies = checkpoint.spectrum.neuron_shares.numpy(), checkpoint.spectrum.neuron_frequencies.numpy()
    living = frequencies > 0
    own = living & np.isin(frequencies, key) & (shares.max(0) >= 0.05)
    assert own.any()
    assert (living & ~own).any()
    assert_allclose(generalizing["blocks.0.mlp.W_in"], weights["blocks.0.mlp.W_in"] * own)
    assert_allclose(memorizing["blocks.0.mlp.W_out"], weights["blocks.0.mlp.W_out"] * (living & ~own)[:, None])
    for name in ("blocks.0.attn.W_Q", "blocks.0.attn.W_K", "pos_embed.W_pos", "blocks.0.mlp.b_out"):
        assert_allclose(shared[name], weights[name])


@pytest.mark.parametrize("family", ["transformer", "mlp"])
def test_a_planted_circuit_is_all_there_is(family: Family) -> None:
    """An isolated circuit: its own part with the shared one is the network, and the published efficiency follows from
    ours."""
    checkpoint = circuit_checkpoint(Task(23, train_fraction=0.4), circuit_neurons([2, 7, 9]), family=family)
    result = circuit_efficiency.measure(checkpoint)
    norm = result.norm
    assert float(norm.sel(part="memorizing")) < 1e-9 * float(norm.sel(part="generalizing"))
    assert_allclose(result.accuracy.sel(network="generalizing"), 1)
    assert (result.accuracy.sel(network="memorizing") < 0.1).all()
    strength = result.strength.sel(circuit="generalizing")
    assert_allclose(strength.sel(network="generalizing"), strength.sel(network="whole"), rtol=0.05)
    whole = float(np.sqrt(np.square(norm).sum()))
    published = float(strength.sel(network="whole")) / whole
    own = float(norm.sel(part="generalizing"))
    assert_allclose(float(result.efficiency.sel(circuit="generalizing")) * own / whole, published, rtol=1e-12)
    assert np.isnan(result.scale_free_efficiency.sel(circuit="memorizing"))


def test_a_planted_table_is_all_there_is() -> None:
    task = Task(11, train_fraction=0.3)
    checkpoint = circuit_checkpoint(task, circuit_neurons([]), lookup=LookupTable(6))
    result = circuit_efficiency.measure(checkpoint, key_frequencies=[])
    assert float(result.norm.sel(part="generalizing")) == 0
    assert np.isnan(result.efficiency.sel(circuit="generalizing"))
    assert_allclose(result.strength.sel(network="whole"), [0, 6 * 10 / 11], rtol=1e-9, atol=1e-9)
    assert_allclose(result.strength.sel(network="memorizing"), [0, 6 * 10 / 11], rtol=1e-9, atol=1e-9)
    assert_allclose(result.accuracy.sel(network="memorizing", split=["train", "test"]), [1, 0])
    assert int(result.n_neurons.sel(part="memorizing")) == len(task.train_indices)


def test_both_are_told_apart() -> None:
    """The circuit's part answers every pair, the table's part the training pairs and no others."""
    task = Task(23, train_fraction=0.3)
    clock = circuit_neurons([2, 7, 9], per_frequency=32, circuit="clock")
    checkpoint = circuit_checkpoint(task, clock, lookup=LookupTable(8), strength=1.0)
    result = circuit_efficiency.measure(checkpoint, key_frequencies=[2, 7, 9])
    assert [int(n) for n in result.n_neurons] == [len(clock), len(task.train_indices), 0]
    accuracy = result.accuracy
    assert_allclose(accuracy.sel(network="generalizing", split="test"), 1)
    assert float(accuracy.sel(network="memorizing", split="train")) > 0.95
    assert float(accuracy.sel(network="memorizing", split="test")) < 0.3
    both = result.strength.sel(network="whole")
    assert_allclose(both.sel(circuit="memorizing"), 8 * 22 / 23, rtol=0.05)
    assert (result.efficiency > 0).all()


@pytest.mark.parametrize(
    ("family", "embedding", "activation", "kappa"),
    [
        ("mlp", "none", "relu", 2),
        ("mlp", "tied", "relu", 4),
        ("mlp", "none", "square", 3),
        ("transformer", "none", "square", 10),
    ],
)
def test_scaling_the_weights(family: Family, embedding: Embedding, activation: Activation, kappa: int) -> None:
    """Norms grow by λ, strengths by λ^κ, and the scale-free efficiency stays."""
    neurons = circuit_neurons([1, 2, 3], per_frequency=9)
    checkpoint = circuit_checkpoint(Task(11), neurons, family=family, embedding=embedding, activation=activation)
    before = circuit_efficiency.measure(checkpoint, key_frequencies=[1, 2, 3])
    after = circuit_efficiency.measure(double(checkpoint, lambda _, weight: 1.5 * weight), key_frequencies=[1, 2, 3])
    assert_allclose(after.norm, 1.5 * before.norm, rtol=1e-9, atol=1e-9)
    own, whole = {"circuit": "generalizing"}, {"network": "whole"}
    assert_allclose(after.strength.sel(own | whole), 1.5**kappa * before.strength.sel(own | whole), rtol=1e-9)
    assert_allclose(after.efficiency.sel(own), 1.5 ** (kappa - 1) * before.efficiency.sel(own), rtol=1e-9)
    assert_allclose(after.scale_free_efficiency.sel(own), before.scale_free_efficiency.sel(own), rtol=1e-9)


def test_symmetries() -> None:
    """Renaming neurons and rotating the residual stream change nothing. (A neuron that fires for one pair only has
    every frequency alike, and rounding would choose: hence the threshold.)"""
    checkpoint = untrained(MODELS["transformer"], Task(11, train_fraction=0.5))
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    R = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(1)).double()).Q

    def renamed(name: str, weight: torch.Tensor) -> torch.Tensor:
        if name.endswith(("W_in", "b_in")):
            return weight[..., order]
        return weight[order] if name.endswith("W_out") else weight

    def rotated(name: str, weight: torch.Tensor) -> torch.Tensor:
        if name.endswith(("W_E", "W_pos", "W_O", "W_out", "b_out")):
            return weight @ R
        return R.T @ weight if not name.endswith("b_in") else weight

    before = circuit_efficiency.measure(checkpoint, key_frequencies=[2, 5], threshold=0.25)
    for change in (renamed, rotated):
        after = circuit_efficiency.measure(double(checkpoint, change), key_frequencies=[2, 5], threshold=0.25)
        for name in before.data_vars:
            assert_allclose(after[name], before[name], rtol=1e-8, atol=1e-9, err_msg=f"{change.__name__} {name}")


def test_by_chance_a_part_has_its_share_of_directions() -> None:
    """Untrained: 2·2 of the 58 waves of W_E over tokens; the key space of 4 of 64 directions in W_V."""
    task = Task(59)
    checkpoint = untrained(ModelConfig(d_model=64, n_heads=4, d_mlp=64), task)
    tensors = np.square(circuit_efficiency.measure(checkpoint, key_frequencies=[3, 20]).tensor_norm)
    share = tensors.sel(part="generalizing") / tensors.sum("part")
    assert_allclose(share.sel(tensor="embed.W_E"), 4 / 60, rtol=0.2)
    assert_allclose(share.sel(tensor="blocks.0.attn.W_V"), 4 / 64, rtol=0.2)
    assert float(share.sel(tensor="blocks.0.mlp.W_in")) == 0


def test_isolated_networks(reference: interp.Run) -> None:
    """Where everything belongs to one circuit: a network that generalized, and one that learned random labels by
    heart."""
    grokked = find("circuit_efficiency").summary(reference.result("circuit_efficiency").isel(step=[-1]))
    assert grokked["share_of_squared_norm"]["generalizing"] > 0.8
    assert grokked["strength"]["generalizing"] > 10 * grokked["strength"]["memorizing"]
    assert grokked["accuracy_alone"]["generalizing"]["test"] > 0.95
    assert grokked["accuracy_alone"]["memorizing"]["train"] < 0.2

    task = Task(23, "random", train_fraction=0.5, symmetric=True)
    by_heart = Experiment(
        task,
        ModelConfig(d_model=32, n_heads=2, d_mlp=64),
        TrainingConfig(steps=300, checkpoint_every=None, log_every=300),
    )
    *_, last = train(by_heart)
    assert last.metrics["train_accuracy"] > 0.99
    checkpoint = Checkpoint(300, last.weights, task, by_heart.model)
    assert checkpoint.key_frequencies == []
    result = find("circuit_efficiency").summary(measure_checkpoint(checkpoint, "circuit_efficiency"))
    assert result["norm"]["generalizing"] == 0
    assert result["share_of_squared_norm"]["memorizing"] > 0.6
    assert result["strength"]["memorizing"] > 20 * abs(result["strength"]["generalizing"])
    assert result["accuracy_alone"]["memorizing"]["train"] > 0.9


def test_at_equal_strength_the_circuit_is_the_more_efficient_one(reference: interp.Run) -> None:
    """The claim itself, on the run that ships: when it takes the lead, generalizing has the smaller norm, scale for
    scale."""
    facts = find("circuit_efficiency").summary(reference.result("circuit_efficiency"))
    assert 100 < facts["generalizing_leads_from"] < 800
    assert 1.1 < facts["efficiency_ratio_at_lead"] < 2


def test_what_is_not_known_is_null() -> None:
    checkpoint = circuit_checkpoint(Task(11, split="unknown"), circuit_neurons([2, 3]))
    result = measure_checkpoint(checkpoint, "circuit_efficiency")
    facts = find("circuit_efficiency").summary(result)
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert facts["efficiency"] == facts["strength"] == {"generalizing": None, "memorizing": None}
    assert facts["accuracy_alone"]["generalizing"] == {"all": 1.0, "train": None, "test": None}
    assert facts["norm"]["generalizing"] > 0
