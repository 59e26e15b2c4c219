"""Networks in which b is token p + b: the model, training, the analyses and the report."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor
from torch.testing import assert_close

import interp
from interp.analyses import circuit_efficiency
from interp.analysis import discover, measure_checkpoint
from interp.errors import InputError
from interp.experiment import Experiment, ModelConfig, Task, TrainingConfig, experiment_from_dict, preset
from interp.explanation import explain
from interp.models import Weights, bridge, embed, forward_all, initial_weights, logits_with_vectors, transform
from interp.models.forward import forward
from interp.models.gradients_of_inputs import by_autograd, written_out
from interp.pages import render
from interp.pages.frames import head_drive
from interp.runs import Checkpoint
from interp.sweeps import run_experiment
from interp.testing import circuit_neurons, circuit_weights
from interp.training import Batch, loss_and_gradient, train

P = 7
LARGER = 13  # where enough pairs can be held out
PROMPTS = ["ab", "ab="]
PAIRS = torch.cartesian_prod(torch.arange(P), torch.arange(P))


def two(prompt: str = "ab", **options) -> ModelConfig:
    return ModelConfig(**{"d_model": 8, "n_heads": 2, "d_mlp": 12, "prompt": prompt, "vocabularies": "two"} | options)


def drawn(model: ModelConfig, p: int = P) -> Weights:
    """Initial weights in float64, and biases that are not zero."""
    generator = torch.Generator().manual_seed(1)
    weights = {name: weight.double() for name, weight in initial_weights(model, p).items()}
    biases = [name for name in weights if name.endswith(("b_in", "b_out"))]
    return weights | {name: torch.randn(weights[name].shape, generator=generator).double() for name in biases}


def split_in_two(weights: Weights, p: int) -> Weights:
    """The same network with a copy of the residues' rows for b."""
    W_E = weights["embed.W_E"]
    return weights | {"embed.W_E": torch.cat([W_E[:p], W_E])}


def textbook(weights: Weights, model: ModelConfig, a: int, b: int) -> Tensor:
    """The logits of one pair of a one-layer network without a mask, from the rows a, p + b and the last."""
    w = {name.rpartition(".")[2]: weight for name, weight in weights.items()}
    rows = [w["W_E"][a], w["W_E"][P + b]] + ([w["W_E"][2 * P]] if model.prompt == "ab=" else [])
    x = torch.stack(rows) + w["W_pos"]
    mid = x[-1].clone()
    for h in range(model.n_heads):
        scores = (x @ w["W_K"][h]) @ (x[-1] @ w["W_Q"][h]) / math.sqrt(model.head_size)
        mid += (model.attention_rate * scores.softmax(0) + 1 - model.attention_rate) @ x @ w["W_V"][h] @ w["W_O"][h]
    return (mid + (mid @ w["W_in"] + w["b_in"]).relu() @ w["W_out"] + w["b_out"]) @ w["W_U"]


# ---- the model -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.4, 1.0])
@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_forward_pass_is_the_textbooks(prompt: str, rate: float) -> None:
    model = two(prompt, attention_rate=rate)
    weights = drawn(model)
    assert len(weights["embed.W_E"]) == 2 * P + (prompt == "ab=")
    expected = torch.stack([textbook(weights, model, a, b) for a, b in PAIRS.tolist()])
    assert_close(forward(weights, model, PAIRS).logits, expected, rtol=0, atol=1e-12)
    assert_close(forward_all(weights, model, Task(P)).logits.flatten(0, 1), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_equal_vocabularies_are_one(prompt: str) -> None:
    one = two(prompt, vocabularies="one")
    weights = drawn(one)
    for ours, theirs in zip(
        forward_all(split_in_two(weights, P), two(prompt), Task(P)), forward_all(weights, one, Task(P)), strict=True
    ):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_gradient_is_that_of_automatic_differentiation(prompt: str) -> None:
    model, task = two(prompt), Task(P)
    weights, batch = drawn(model), Batch.of(task, "train")
    loss, _, gradient = loss_and_gradient(weights, model, batch)
    leaves = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
    expected = torch.nn.functional.cross_entropy(
        transform(leaves, model, embed(leaves, model, batch.inputs)).logits, batch.labels
    )
    assert_allclose(loss, expected.item(), rtol=1e-12)
    found = torch.autograd.grad(expected, list(leaves.values()))
    for name, theirs in zip(leaves, found, strict=True):
        assert_close(gradient[name], theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_shared_start_parts_in_training(prompt: str) -> None:
    """What b reads moves differently from what a reads, and the loss falls."""
    experiment = Experiment(Task(P, train_fraction=0.8), two(prompt), TrainingConfig(steps=200, checkpoint_every=200))
    start = split_in_two(initial_weights(two(prompt, vocabularies="one"), P), P)
    first, *_, last = train(experiment, start)
    a, b = last.weights["embed.W_E"][:P], last.weights["embed.W_E"][P : 2 * P]
    assert (a - b).abs().max() > 0.01
    assert last.metrics["train_loss"] < first.metrics["train_loss"] / 2


@pytest.mark.parametrize("prompt", PROMPTS)
def test_transformer_lens_computes_the_same(prompt: str) -> None:
    model = two(prompt)
    weights = drawn(model)
    tokens = PAIRS + torch.tensor([0, P])
    if prompt == "ab=":
        tokens = torch.cat([tokens, torch.full((len(PAIRS), 1), 2 * P)], 1)
    with torch.no_grad():
        assert_close(bridge(weights, model)(tokens)[:, -1], forward(weights, model, PAIRS).logits, rtol=0, atol=1e-11)


def test_an_mlp_has_no_such_thing() -> None:
    with pytest.raises(InputError, match=r"model.family 'mlp' has no model.vocabularies; leave it at 'one'"):
        ModelConfig(family="mlp", vocabularies="two")
    with pytest.raises(InputError, match=r"unknown model.vocabularies 'tow'; did you mean 'two'"):
        ModelConfig(vocabularies="tow")


def test_experiments_from_before_keep_their_hash() -> None:
    assert "vocabularies" not in Experiment().to_dict()["model"]
    assert preset("reference").hash == interp.open_run(interp.reference_path()).hash == "01ec037565cf10de"
    separate = Experiment(model=two())
    assert separate.to_dict()["model"]["vocabularies"] == "two"
    assert separate.hash != Experiment(model=two(vocabularies="one")).hash
    assert experiment_from_dict(json.loads(json.dumps(separate.to_dict()))) == separate


# ---- the analyses ----------------------------------------------------------------------------------------------------


def planted(operation: str, circuit: str, *, turned: bool) -> Checkpoint:
    """A circuit in a network with two vocabularies; `turned` writes what b says in residual directions of its own, and
    reads it there."""
    neurons = circuit_neurons([1, 2], per_frequency=9 if circuit == "pizza" else 16, circuit=circuit)
    model = ModelConfig(d_model=24, n_heads=2, d_head=8, d_mlp=len(neurons), vocabularies="two")
    task = Task(LARGER, operation, train_fraction=0.5)
    weights = circuit_weights(task, model, neurons)
    if turned:
        rotation = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)).Q
        weights["embed.W_E"][LARGER : 2 * LARGER, :4] @= rotation
        weights["blocks.0.attn.W_V"][1, :4, :4] = rotation.T @ weights["blocks.0.attn.W_V"][1, :4, :4]
    return Checkpoint(-1, weights, task, model)


CASES = [("add", "pizza", False), ("subtract", "pizza", False), ("add", "clock", True), ("divide", "clock", True)]


@pytest.mark.parametrize(("operation", "circuit", "turned"), CASES)
def test_a_planted_circuit_is_found(operation: str, circuit: str, turned: bool) -> None:
    checkpoint = planted(operation, circuit, turned=turned)
    # A taste for the answer 1, far below every margin and far above rounding, in a direction that nobody else uses.
    assert not checkpoint.weights["unembed.W_U"][-1].any()
    checkpoint.weights["unembed.W_U"][-1, 1] = taste = 1e-3
    checkpoint.weights["blocks.0.mlp.b_out"][-1] = 1
    n = checkpoint.task.phase.order
    assert checkpoint.correct.sum() == n**2  # all that have phases
    assert checkpoint.key_frequencies == [1, 2]
    assert checkpoint.W_E.shape == (LARGER, 2 * checkpoint.model.d_model)
    spectrum = measure_checkpoint(checkpoint, "embedding_spectrum").isel(step=0).embedding_norm.values
    # Each vocabulary has waves of squared norm n/2: cosine and sine, twice.
    assert_allclose(spectrum, [math.sqrt(2 * n)] * 2 + [0] * (n // 2 - 2), atol=1e-6)
    parts, _ = circuit_efficiency.split_weights(checkpoint, [1, 2], 0.85)
    for part, share in zip(parts, (1.0, 0.0), strict=False):
        residues = torch.cat(checkpoint.token_rows)
        whole = checkpoint.weights["embed.W_E"][residues]
        assert_allclose(part["embed.W_E"][residues].square().sum() / whole.square().sum(), share, atol=1e-9)
    cut = measure_checkpoint(checkpoint, "frequency_ablation").isel(step=0)
    assert float(cut.accuracy.sel(target="embedding", mode="keep_key", split="all")) == 1
    # The planted embedding is nothing but its key frequencies: without them every pair gets the logits of the taste
    # alone, and 1 is the answer of one pair in n.
    removed = cut.sel(target="embedding", mode="remove_key", split="all")
    assert_allclose(removed.loss, math.log(math.exp(taste) + LARGER - 1) - taste / n, rtol=1e-9)
    assert_allclose(removed.accuracy, 1 / n, rtol=1e-12)
    assert_allclose(head_drive(checkpoint, [1, 2]).sum(0), 1)


def test_the_embedding_is_cut_in_both_halves() -> None:
    """A frequency cut by projections written out, half by half."""
    checkpoint = Checkpoint(-1, drawn(two("ab=")), Task(P), two("ab="))
    t = torch.arange(P).double()
    found = measure_checkpoint(checkpoint, "frequency_ablation", key_frequencies=[2]).isel(step=0)
    W_E = checkpoint.weights["embed.W_E"].clone()
    for half in (slice(0, P), slice(P, 2 * P)):
        for wave in ((4 * math.pi * t / P).cos(), (4 * math.pi * t / P).sin()):
            W_E[half] -= 2 / P * wave[:, None] * (wave @ W_E[half])
    (logits,) = logits_with_vectors(checkpoint.weights, checkpoint.model, W_E[None, : 2 * P], PAIRS)
    expected = torch.nn.functional.cross_entropy(logits, torch.from_numpy(checkpoint.task.labels)).item()
    assert_allclose(float(found.loss_without.sel(target="embedding", frequency=2, split="all")), expected, rtol=1e-9)


@pytest.mark.parametrize("operation", ["add", "divide"])
@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_weights_are_taken_apart_exactly(prompt: str, operation: str) -> None:
    model, task = two(prompt), Task(P, operation)
    checkpoint = Checkpoint(0, drawn(model), task, model)
    parts, _ = circuit_efficiency.split_weights(checkpoint, [1], 0.0)
    phase = task.phase
    waves = np.stack(
        [
            np.cos(2 * np.pi * np.arange(phase.order) / phase.order),
            np.sin(2 * np.pi * np.arange(phase.order) / phase.order),
        ]
    )
    key = 0.0
    for rows in (phase.rows, P + phase.columns):
        whole = checkpoint.weights["embed.W_E"].numpy()[rows]
        projected = 2 / phase.order * waves.T @ (waves @ whole)
        assert_allclose(parts[0]["embed.W_E"].numpy()[rows], projected, atol=1e-12)
        assert_allclose(parts[2]["embed.W_E"].numpy()[rows], np.broadcast_to(whole.mean(0), whole.shape), atol=1e-12)
        key += (projected**2).sum()
    account = norm_account_of(checkpoint, key=[1])
    assert_allclose(account["W_E key"], key, rtol=1e-9)
    assert_allclose(
        sum(account.values()), sum(float(weight.square().sum()) for weight in checkpoint.weights.values()), rtol=1e-12
    )


def norm_account_of(checkpoint: Checkpoint, key: list[int]) -> dict[str, float]:
    from interp.analyses import norm_account

    account = norm_account._Account(checkpoint, key)
    return dict(zip(account.names, account.of(checkpoint.weights)[0], strict=True))


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_written_out_gradients_are_those_of_autograd(prompt: str) -> None:
    checkpoint = Checkpoint(0, drawn(two(prompt)), Task(P), two(prompt))
    rows, classes = torch.tensor([0, 3]), torch.randint(0, P, (2, P), generator=torch.Generator().manual_seed(2))
    one, other = (
        way(checkpoint.weights, checkpoint.model, checkpoint.activations) for way in (written_out, by_autograd)
    )
    with torch.no_grad():
        found = one(rows, classes)
    assert_close(found, other(rows, classes), rtol=0, atol=1e-12)


# A second copy of W_E has a norm, and lengthens the vector of every residue; and other networks are drawn for chance.
DIFFERENT = {
    "random_network_threshold",
    "norm",
    "tensor_norm",
    "efficiency",
    "l1",
    "l2",
    "rms",
    "total_l1",
    "total_l2",
    "embedding_l2",
    "embedding_norm",
    "coordinate",
    # what the weights cost, and how the loss bends in them
    "bits",
    "two_part_bits",
    "symmetry_bits",
    "reference_bits",
    "tau",
    "quantization_step",
    "coarse_train_loss",
    "coarse_accuracy",
    "negative_share",
    "eigenvalue",
    "trace",
    "spectrum",
    "gradient_norm",
}
# Of the tensor with both copies, which is another matrix.
OF_TENSORS = {"effective_rank": {"effective_rank", "random_rank", "largest_rank", "total_entropy"}}


@pytest.mark.parametrize("name", sorted(name for name, analysis in discover().items() if not analysis.of_run))
def test_an_analysis_finds_in_equal_vocabularies_what_it_finds_in_one(name: str) -> None:
    one = two("ab", vocabularies="one")
    weights = initial_weights(one, P)
    single = measure_checkpoint(Checkpoint(0, weights, Task(P), one), name)
    double = measure_checkpoint(Checkpoint(0, split_in_two(weights, P), Task(P), two("ab")), name)
    assert double.sizes == single.sizes
    for key in set(single.data_vars) - DIFFERENT - OF_TENSORS.get(name, set()):
        assert_allclose(double[key].values, single[key].values, rtol=1e-5, atol=1e-6)
    analysis = discover()[name]
    assert analysis.module.plot(double).data
    assert json.loads(json.dumps(analysis.summary(double), allow_nan=False)) == analysis.summary(double)


def test_a_run_is_trained_analyzed_explained_and_drawn(tmp_path: Path) -> None:
    experiment = Experiment(Task(P, train_fraction=0.8), two("ab"), TrainingConfig(steps=60, checkpoint_every=20))
    run = run_experiment(experiment, tmp_path / "run")
    assert run.info["experiment"]["model"]["vocabularies"] == "two"
    assert run.hash == experiment.hash
    results = interp.analyze(run, ["all"])
    others = {name for name, one in discover().items() if one.observes or one.on_request or one.asks == "operations"}
    assert set(results) == discover().keys() - others
    assert str(explain(run))
    assert "vocabularies" in render(run, results)
