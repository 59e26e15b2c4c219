"""The MLP: its forward pass against one written pair by pair, its training, and what analyses make of it."""

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from interp.analyses import clock_pizza
from interp.analysis import analyze, discover, measure_checkpoint
from interp.errors import InputError
from interp.experiment import Experiment, ModelConfig, Task, TrainingConfig
from interp.explanation import explain
from interp.models import (
    Weights,
    bridge,
    forward_all,
    initial_weights,
    is_factored,
    logits,
    logits_with_vectors,
    matrices,
    weight_shapes,
)
from interp.models.forward import forward
from interp.pages import render
from interp.runs import Checkpoint, RunWriter, open_run
from interp.testing import circuit_checkpoint, circuit_neurons
from interp.training import Batch, loss_and_gradient, train

KINDS = list(itertools.product(("sum", "concatenated"), ("none", "untied", "tied")))


def mlp(inputs: str = "sum", embedding: str = "none", **options) -> ModelConfig:
    return ModelConfig(
        family="mlp",
        inputs=inputs,
        embedding=embedding,
        d_mlp=12,
        **({} if embedding == "none" else {"d_model": 6}),
        **options,
    )


def pair_by_pair(weights: Weights, model: ModelConfig, p: int) -> tuple[Tensor, Tensor]:
    """Logits and neurons, one pair and one neuron at a time."""
    W_in, W_out = weights["mlp.W_in"], weights["mlp.W_out"]
    vectors = weights.get("embed.W_E", torch.eye(p).double())
    to_classes = {"none": None, "untied": weights.get("unembed.W_U"), "tied": vectors.T}[model.embedding]
    outputs, activations = torch.zeros(p, p, p).double(), torch.zeros(p, p, model.d_mlp).double()
    for a, b in itertools.product(range(p), range(p)):
        read = vectors[a] + vectors[b] if model.inputs == "sum" else torch.cat([vectors[a], vectors[b]])
        for j in range(model.d_mlp):
            h = float(read @ W_in[:, j])
            gelu = h * (1 + math.erf(h / math.sqrt(2))) / 2
            activations[a, b, j] = {"relu": max(h, 0.0), "gelu": gelu, "square": h * h}[model.activation]
        said = activations[a, b] @ W_out
        outputs[a, b] = said if to_classes is None else said @ to_classes
    return outputs, activations


@pytest.mark.parametrize("activation", ["relu", "gelu", "square"])
@pytest.mark.parametrize(("inputs", "embedding"), KINDS)
def test_the_forward_pass_is_the_textbook_for_every_option(inputs: str, embedding: str, activation: str) -> None:
    for p in (5, 6):
        model = mlp(inputs, embedding, activation=activation)
        weights = {name: weight.double() for name, weight in initial_weights(model, p).items()}
        expected, neurons = pair_by_pair(weights, model, p)
        found = forward_all(weights, model, Task(p))
        assert_close(found.logits, expected, rtol=0, atol=1e-13)
        assert_close(found.neurons, neurons, rtol=0, atol=1e-13)
        pairs = torch.tensor([(3, 1), (0, 4), (3, 1)])
        assert_close(logits(weights, model, pairs), expected[pairs[:, 0], pairs[:, 1]], rtol=0, atol=1e-13)
        assert not is_factored(model)


@pytest.mark.parametrize(("inputs", "embedding"), KINDS)
def test_what_each_matrix_reads(inputs: str, embedding: str) -> None:
    model = mlp(inputs, embedding)
    checkpoint = Checkpoint.from_weights(initial_weights(model, 7), Task(7), model)
    at = forward(checkpoint.weights, model, torch.tensor([(2, 5)]))
    assert_close((at.residual_mid @ checkpoint.W_in).relu(), at.neurons)
    assert_close(at.residual_post @ checkpoint.W_U, at.logits)
    assert_close((at.neurons.double() @ checkpoint.W_L).float(), at.logits)
    assert checkpoint.W_E.shape == (7, {"none": 12 * (1 + (inputs == "concatenated"))}.get(embedding, 6))


@pytest.mark.parametrize(("inputs", "embedding"), KINDS)
def test_other_vectors_enter_and_a_tied_embedding_keeps_its_own_at_the_end(inputs: str, embedding: str) -> None:
    model, pairs = mlp(inputs, embedding), torch.tensor([(2, 5), (0, 1)])
    weights = initial_weights(model, 7)
    vectors = matrices(weights, model).W_E
    renamed = vectors[torch.tensor([1, 2, 3, 4, 5, 6, 0])]
    itself, shifted = logits_with_vectors(weights, model, torch.stack([vectors, renamed]), pairs)
    assert_close(itself, logits(weights, model, pairs))
    assert_close(shifted, logits(weights, model, (pairs + 1) % 7))


def test_initial_weights_have_the_variance_of_their_rows() -> None:
    model = ModelConfig(family="mlp", inputs="concatenated", embedding="untied", d_model=200, d_mlp=300)
    weights = initial_weights(model, 97)
    assert {name: tuple(weight.shape) for name, weight in weights.items()} == weight_shapes(model, 97)
    for name, variance_of in (("embed.W_E", 200), ("mlp.W_in", 400), ("mlp.W_out", 300), ("unembed.W_U", 200)):
        assert float(weights[name].square().mean() * variance_of) == pytest.approx(1, abs=0.05), name


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"family": "mlp", "n_heads": 2}, "model.family 'mlp' has no model.n-heads; leave it at 4"),
        ({"family": "mlp", "prompt": "ab"}, "has no model.prompt; leave it at 'ab='"),
        ({"inputs": "concatenated"}, "model.family 'transformer' has no model.inputs; leave it at 'sum'"),
        ({"embedding": "tied"}, "model.family 'transformer' has no model.embedding"),
        ({"family": "mpl"}, "unknown model.family 'mpl'; did you mean 'mlp'"),
        ({"family": "mlp", "embedding": "tide"}, "did you mean 'tied'"),
        ({"family": "mlp", "d_model": 64}, "model.d-model is the size of the embedding, and there is none"),
    ],
)
def test_a_field_of_another_family_is_refused(fields: dict, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        ModelConfig(**fields)


def test_an_mlp_has_no_bridge() -> None:
    with pytest.raises(InputError, match=r"TransformerLens cannot express model\.family 'mlp'"):
        bridge(initial_weights(mlp(), 5), mlp())


# ---- training --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("inputs", "embedding"), KINDS)
def test_the_gradient_is_that_of_finite_differences(inputs: str, embedding: str) -> None:
    model, batch = mlp(inputs, embedding, activation="gelu"), Batch.of(Task(5), "train")
    weights = {name: weight.double() for name, weight in initial_weights(model, 5).items()}
    _, _, gradient = loss_and_gradient(weights, model, batch)
    assert gradient.keys() == weights.keys()
    generator = torch.Generator().manual_seed(0)
    for name, weight in weights.items():
        direction = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        ahead, behind = (
            loss_and_gradient({**weights, name: weight + h * direction}, model, batch)[0] for h in (1e-5, -1e-5)
        )
        assert float((gradient[name] * direction).sum()) == pytest.approx((ahead - behind) / 2e-5, rel=1e-6, abs=1e-10)


def test_it_memorizes_and_a_run_of_it_can_be_analyzed(tmp_path) -> None:
    task = Task(7, train_fraction=0.6)
    model = mlp("concatenated", "tied", n_layers=2, activation="tanh", biases=True)
    experiment = Experiment(task, model, TrainingConfig(steps=200, checkpoint_every=100))
    with RunWriter.create(tmp_path / "run", task, model, experiment.training) as writer:
        for snapshot in train(experiment):
            writer.write(snapshot)
    run = open_run(tmp_path / "run")
    assert run.last.accuracy("train") == 1
    results = analyze(run, ["all"])
    on_request = {name for name, analysis in discover().items() if analysis.on_request}
    assert set(discover()) - set(results) == {"attention_structure", "gradient_spectrum", "operations"} | on_request
    assert "periodic neurons of the last hidden layer" in [fact.label for fact in explain(run).facts]
    assert "Periodic neurons of the last hidden layer" in render(run, results)
    with pytest.raises(
        InputError, match=r"attention_structure is about a model\.family of 'transformer', and this is 'mlp'"
    ):
        analyze(run, ["attention_structure"])
    with pytest.raises(InputError, match=r"attention_structure is about a model\.family of 'transformer'"):
        measure_checkpoint(run.last, "attention_structure")


# ---- the same circuit, whatever network it lives in ------------------------------------------------------------------


@pytest.mark.parametrize("circuit", ["pizza", "clock"])
@pytest.mark.parametrize(("embedding", "n_layers"), [("none", 1), ("untied", 1), ("tied", 1), ("none", 3), ("tied", 2)])
def test_a_circuit_is_measured_as_in_a_transformer(circuit: str, embedding: str, n_layers: int) -> None:
    """Logits and neurons are the same functions of (a, b), so every measure of them is the same number."""
    task, neurons = Task(13), circuit_neurons([2, 6], per_frequency=17, circuit=circuit)
    of_mlp = circuit_checkpoint(task, neurons, family="mlp", embedding=embedding, n_layers=n_layers)
    networks = [circuit_checkpoint(task, neurons), of_mlp]
    assert_close(networks[1].logits, networks[0].logits, rtol=0, atol=1e-11)
    assert [network.key_frequencies for network in networks] == [[2, 6], [2, 6]]
    for name in ("progress_measures", "logit_structure", "neuron_periodicity", "mlp_structure", "frequency_ablation"):
        in_transformer, in_mlp = (measure_checkpoint(network, name) for network in networks)
        # Accuracies are left out: where all is cut, rounding decides.
        for variable in set(in_transformer.data_vars) - {"accuracy", "accuracy_without"}:
            seen, expected = (
                torch.as_tensor(result[variable].values.astype(float)) for result in (in_mlp, in_transformer)
            )
            assert_close(
                seen, expected, rtol=1e-6, atol=1e-6, equal_nan=True, msg=lambda m, v=variable, n=name: f"{n}.{v}: {m}"
            )
    verdicts = [clock_pizza.summary(measure_checkpoint(network, "clock_pizza"))["verdict"] for network in networks]
    assert verdicts == [circuit, circuit]
