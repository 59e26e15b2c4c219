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
from interp.mathematics import circuits
from interp.mathematics.random_sets import random_sets
from interp.models import initial_weights
from interp.runs import Checkpoint, centred_logits, phase_pairs
from interp.testing import LookupTable, circuit_checkpoint, circuit_neurons
from interp.training import train

MODELS = {
    "transformer": ModelConfig(d_model=12, n_heads=2, d_head=5, d_mlp=20),
    "two layers": ModelConfig(n_layers=2, d_model=12, n_heads=2, d_mlp=20),
    "one-hot": ModelConfig(family="mlp", d_mlp=20),
    "two one-hots": ModelConfig(family="mlp", inputs="concatenated", d_mlp=20),
    "three hidden layers": ModelConfig(family="mlp", n_layers=3, inputs="concatenated", d_mlp=20, biases=True),
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
    norm = result.norm.sel(set="key")
    whole = sum(float(w.square().sum()) for w in checkpoint.weights.values())
    sets = random_sets(task.coordinates.order // 2, key, 19)
    assert_allclose(np.square(result.norm[: 1 + len(sets)]).sum("part"), whole, rtol=1e-12)
    assert result.norm[1 + len(sets) :].isnull().all()
    assert_allclose(np.square(result.tensor_norm).sum("tensor"), np.square(norm), rtol=1e-12, atol=1e-20)
    if not key:
        assert float(norm.sel(part="generalizing")) == 0
        assert result.efficiency.isnull().all()


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
    """An isolated circuit: its own part with the shared one is the network, the published efficiency follows from ours,
    and no other set has anything."""
    checkpoint = circuit_checkpoint(Task(23, train_fraction=0.4), circuit_neurons([2, 7, 9]), family=family)
    result = circuit_efficiency.measure(checkpoint)
    key, random = result.sel(set="key"), result.sel(set=list(circuit_efficiency.RANDOM))
    own, whole = float(key.norm.sel(part="generalizing")), float(np.sqrt(np.square(key.norm).sum()))
    assert float(key.norm.sel(part="memorizing")) < 1e-9 * own
    assert_allclose(key.accuracy, 1)
    pairs = phase_pairs(checkpoint.task)
    strength, _ = circuits.strengths(centred_logits(checkpoint, pairs), pairs)
    assert_allclose(key.strength, strength, rtol=0.05)
    assert_allclose(float(key.efficiency) * own / whole, float(key.strength) / whole, rtol=1e-12)
    # The other frequencies are rounding: neither a norm nor a space that W_V could read.
    assert (random.norm.sel(part="generalizing") < 1e-6 * whole).all()
    assert random.efficiency.isnull().all()
    assert_allclose(random.strength, 0, atol=1e-6 * strength)
    assert (random.accuracy < 0.2).all()


def test_a_planted_table_is_all_there_is() -> None:
    """No frequency is key, and a set that is called key for the sake of it gives no more than others."""
    task = Task(23, train_fraction=0.3)
    checkpoint = circuit_checkpoint(task, circuit_neurons([]), lookup=LookupTable(6))
    result = circuit_efficiency.measure(checkpoint)
    assert float(result.norm.sel(set="key", part="generalizing")) == 0
    assert result.efficiency.isnull().all()
    assert int(result.n_neurons.sel(set="key", part="memorizing")) == len(task.train_indices)
    forced = circuit_efficiency.measure(checkpoint, key_frequencies=[2, 7, 9])
    assert (forced.strength < 0.5).all()
    assert (forced.accuracy.sel(split="held_out") < 0.2).all()


def test_both_are_told_apart() -> None:
    """The circuit's part answers every pair alone, and no random set's does."""
    task = Task(23, train_fraction=0.3)
    clock = circuit_neurons([2, 7, 9], per_frequency=32, circuit="clock")
    checkpoint = circuit_checkpoint(task, clock, lookup=LookupTable(8), strength=1.0)
    result = circuit_efficiency.measure(checkpoint, key_frequencies=[2, 7, 9])
    key, random = result.sel(set="key"), result.sel(set=list(circuit_efficiency.RANDOM))
    assert [int(n) for n in key.n_neurons] == [len(clock), len(task.train_indices), 0]
    assert_allclose(key.accuracy.sel(split="held_out"), 1)
    assert (random.accuracy < 0.3).all()
    assert float(key.strength) > 10 * abs(random.strength).max()
    facts = find("circuit_efficiency").summary(result.expand_dims(step=[7]))
    assert facts["strength_alone_above_random_sets_from"] == facts["accuracy_alone_above_random_sets_from"] == 7
    assert facts["random_sets"]["sets"] == 19
    assert facts["random_sets"]["strength_alone"] == [float(random.strength.min()), float(random.strength.max())]


def test_what_the_memorizing_part_says_is_not_in_the_generalizing_one() -> None:
    """The table beside the circuit changes the other part, and nothing of the one."""
    task, clock = Task(23, train_fraction=0.3), circuit_neurons([2, 7, 9], per_frequency=32, circuit="clock")
    key = {"key_frequencies": [2, 7, 9]}
    alone, both = (
        circuit_efficiency.measure(circuit_checkpoint(task, clock, lookup=table, strength=1.0), **key).sel(set="key")
        for table in (LookupTable(1), LookupTable(8))
    )
    assert_allclose(both.strength, alone.strength, rtol=1e-6)
    assert_allclose(both.norm.sel(part="generalizing"), alone.norm.sel(part="generalizing"), rtol=1e-6)
    assert float(both.norm.sel(part="memorizing")) > float(alone.norm.sel(part="memorizing"))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_before_training_the_key_set_is_one_of_many(seed: int) -> None:
    model = ModelConfig(d_model=32, n_heads=2, d_mlp=64, seed=seed)
    result = circuit_efficiency.measure(untrained(model, Task(31, train_fraction=0.4)), key_frequencies=[2, 9, 13])
    random = result.sel(set=list(circuit_efficiency.RANDOM))
    assert abs(result.strength).max() < circuits.LEAST_STRENGTH
    spread = float(random.efficiency.std())
    assert abs(float(result.efficiency.sel(set="key")) - float(random.efficiency.mean())) < 5 * spread


def test_renamed_phases_change_nothing() -> None:
    """a·b modulo 17 is addition modulo 16 of the logarithms, and a − b is a + (−b): one exact clock, one null, whatever
    pairs are held out."""
    clock = circuit_neurons([1, 3], per_frequency=16, circuit="clock")
    tasks = [
        Task(16, train_fraction=0.15),
        Task(16, "subtract", train_fraction=0.4),
        Task(17, "multiply", train_fraction=0.1),
    ]
    networks = [circuit_checkpoint(task, clock, activation="square") for task in tasks]
    plus, *others = (circuit_efficiency.measure(network, key_frequencies=[1, 3]) for network in networks)
    assert plus.strength.notnull().sum() == 1 + 15  # of two among six
    for other in others:
        for name in ("n_neurons", "strength"):
            assert_allclose(other[name], plus[name], rtol=1e-9, atol=1e-9, err_msg=name)


def test_of_few_held_out_pairs_there_are_enough_in_the_sample() -> None:
    """About 6 of 100 drawn pairs are held out: too few for a strength, if no more were added."""
    task = Task(29, train_fraction=0.75)
    assert 20 < task.n_held_out < 40
    checkpoint = circuit_checkpoint(task, circuit_neurons([2, 7, 9]))
    few = circuit_efficiency.measure(checkpoint, n_pairs=100).sel(set="key")
    assert_allclose(few.strength, circuit_efficiency.measure(checkpoint).sel(set="key").strength, rtol=0.1)
    none = circuit_checkpoint(Task(29, train_fraction=0.95), circuit_neurons([2, 7, 9]))
    assert circuit_efficiency.measure(none).strength.isnull().all()


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
    """Norms grow by λ, and strengths by λ^κ, κ the number of weights multiplied on the way to a logit."""
    neurons = circuit_neurons([1, 2, 3], per_frequency=9)
    task = Task(17, train_fraction=0.4)
    checkpoint = circuit_checkpoint(task, neurons, family=family, embedding=embedding, activation=activation)
    before = circuit_efficiency.measure(checkpoint, key_frequencies=[1, 2, 3]).sel(set="key")
    scaled = double(checkpoint, lambda _, weight: 1.5 * weight)
    after = circuit_efficiency.measure(scaled, key_frequencies=[1, 2, 3]).sel(set="key")
    assert_allclose(after.norm, 1.5 * before.norm, rtol=1e-9, atol=1e-9)
    assert_allclose(after.strength, 1.5**kappa * before.strength, rtol=1e-9)
    assert_allclose(after.efficiency, 1.5 ** (kappa - 1) * before.efficiency, rtol=1e-9)


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
    random = grokked["random_sets"]
    assert grokked["share_of_squared_norm"]["generalizing"] > 0.8
    assert 0 < random["share_of_squared_norm"][0] < random["share_of_squared_norm"][1] < 0.3
    assert grokked["strength_alone"]["generalizing"] > 40
    assert random["strength_alone"][1] < 0.1
    assert grokked["accuracy_alone"]["generalizing"]["held_out"] > 0.95
    assert random["accuracy_alone"]["held_out"][1] < 0.1

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
    assert result["efficiency"]["generalizing"] is None
    assert result["random_sets"]["sets"] == 0
    forced = circuit_efficiency.measure(checkpoint, key_frequencies=[2, 7, 9])
    key, random = forced.sel(set="key"), forced.sel(set=list(circuit_efficiency.RANDOM))
    assert (key.accuracy < 0.2).all()
    assert float(key.strength) < float(random.strength.max())


def test_the_key_set_stands_apart_while_the_circuit_grows(reference: interp.Run) -> None:
    """On the run that ships: neither before training, nor only when it has generalized."""
    result = reference.result("circuit_efficiency")
    facts = find("circuit_efficiency").summary(result)
    assert 20 < facts["strength_alone_above_random_sets_from"] < 200
    assert facts["strength_alone_above_random_sets_from"] < facts["accuracy_alone_above_random_sets_from"] < 600
    again = circuit_efficiency.measure(reference[300], key_frequencies=reference.last.key_frequencies)
    assert_allclose(again.strength, result.strength.sel(step=300), rtol=1e-6, atol=1e-9)


def test_what_is_not_known_is_null() -> None:
    checkpoint = circuit_checkpoint(Task(11, split="unknown"), circuit_neurons([2, 3]))
    result = measure_checkpoint(checkpoint, "circuit_efficiency")
    facts = find("circuit_efficiency").summary(result)
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert facts["efficiency"] == facts["strength_alone"] == {"generalizing": None}
    unknown = {"train": None, "test": None, "held_out": None}
    assert facts["accuracy_alone"]["generalizing"] == {"all": 1.0} | unknown
    assert facts["random_sets"]["sets"] == 3  # of two among 1, 4, 5
    assert facts["strength_alone_above_random_sets_from"] is None
    assert facts["norm"]["generalizing"] > 0
