"""MLPs with several hidden layers, against torch.nn.Sequential: answers, gradients, trajectories, initial weights."""

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from interp.errors import InputError
from interp.experiment import Experiment, ModelConfig, Task, TrainingConfig
from interp.models import Weights, forward_all, initial_weights, logits, matrices, neuron_axes, weight_shapes
from interp.models.forward import forward
from interp.models.mlp import linear_maps
from interp.runs import Checkpoint
from interp.training import Batch, loss_and_gradient, train

P = 7
TASK = Task(P, train_fraction=0.6)
ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh}
KINDS = list(itertools.product(("sum", "concatenated"), ("none", "untied", "tied"), (False, True)))


def deep(inputs: str = "concatenated", embedding: str = "none", biases: bool = True, **options) -> ModelConfig:
    sizes: dict[str, Any] = {"n_layers": 3, "d_mlp": 12} | ({} if embedding == "none" else {"d_model": 6})
    named: dict[str, Any] = {"family": "mlp", "inputs": inputs, "embedding": embedding, "biases": biases}
    return ModelConfig(**named | sizes | options)


def drawn(model: ModelConfig, seed: int = 1) -> Weights:
    """Weights in float64 of which no bias is zero."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: 0.5 * torch.randn(shape, generator=generator, dtype=torch.float64)
        for name, shape in weight_shapes(model, P).items()
    }


class Theirs(nn.Module):
    """The same network out of nn.Linear and nonlinearities in an nn.Sequential, behind one-hot vectors or an
    embedding; written for up to three hidden layers, by the weights' names."""

    def __init__(self, model: ModelConfig, weights: Weights) -> None:
        super().__init__()
        self.model = model
        self.embedding = nn.Parameter(weights["embed.W_E"].clone()) if "embed.W_E" in weights else None
        layers: list[nn.Module] = []
        for part in ("in", "1", "2")[: model.n_layers]:
            layers += [linear(weights, f"mlp.W_{part}", f"mlp.b_{part}"), ACTIVATIONS[model.activation]()]
        layers.append(linear(weights, "mlp.W_out", "mlp.b_out"))
        if model.embedding == "untied":
            layers.append(linear(weights, "unembed.W_U", "unembed.b_U"))
        self.layers = nn.Sequential(*layers)
        self.b_U = None
        if model.embedding == "tied" and model.biases:
            self.b_U = nn.Parameter(weights["unembed.b_U"].clone())

    def forward(self, pairs: Tensor) -> Tensor:
        one_hot = torch.eye(P, dtype=next(self.parameters()).dtype)[pairs]
        x = one_hot if self.embedding is None else one_hot @ self.embedding
        said = self.layers(x.sum(1) if self.model.inputs == "sum" else x.flatten(1))
        if self.model.embedding != "tied":
            return said
        assert self.embedding is not None
        return nn.functional.linear(said, self.embedding, self.b_U)


def linear(weights: Weights, matrix: str, bias: str) -> nn.Linear:
    rows, columns = weights[matrix].shape
    layer = nn.Linear(rows, columns, bias=bias in weights, dtype=weights[matrix].dtype)
    layer.weight.data = weights[matrix].T.clone()
    if bias in weights:
        layer.bias.data = weights[bias].clone()
    return layer


def parameters_by_our_names(theirs: Theirs, model: ModelConfig, of: str = "data") -> Weights:
    """Their weights, or with `of` "grad" their gradients, under our names."""
    found = {} if theirs.embedding is None else {"embed.W_E": getattr(theirs.embedding, of)}
    linears = [layer for layer in theirs.layers if isinstance(layer, nn.Linear)]
    for (matrix, bias), layer in zip(linear_maps(model), linears, strict=False):
        found[matrix] = getattr(layer.weight, of).T
        if layer.bias is not None:
            found[bias] = getattr(layer.bias, of)
    return found if theirs.b_U is None else found | {"unembed.b_U": getattr(theirs.b_U, of)}


@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_answers_and_gradients_are_those_of_a_sequential_of_torch(n_layers: int) -> None:
    batch = Batch.of(TASK, "train")
    for (inputs, embedding, biases), activation in itertools.product(KINDS, ACTIVATIONS):
        model = deep(inputs, embedding, biases, activation=activation, n_layers=n_layers)
        weights = drawn(model)
        theirs = Theirs(model, weights)
        answers = theirs(batch.inputs)
        assert_close(logits(weights, model, batch.inputs), answers, rtol=0, atol=1e-13)
        expected = nn.functional.cross_entropy(answers, batch.labels)
        expected.backward()
        loss, correct, gradient = loss_and_gradient(weights, model, batch)
        assert loss == pytest.approx(expected.item(), rel=1e-13)
        assert torch.equal(correct, answers.argmax(1) == batch.labels)
        of_theirs = parameters_by_our_names(theirs, model, "grad")
        assert of_theirs.keys() == gradient.keys() == weights.keys()
        for name, values in gradient.items():
            assert_close(values, of_theirs[name], rtol=1e-9, atol=1e-13, msg=lambda m, n=name: f"{n}: {m}")


def test_the_gradient_is_that_of_finite_differences() -> None:
    model, batch = deep(activation="tanh"), Batch.of(TASK, "train")
    weights, generator = drawn(model), torch.Generator().manual_seed(0)
    _, _, gradient = loss_and_gradient(weights, model, batch)
    for name, weight in weights.items():
        along = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        ahead, behind = (
            loss_and_gradient({**weights, name: weight + h * along}, model, batch)[0] for h in (1e-5, -1e-5)
        )
        assert float((gradient[name] * along).sum()) == pytest.approx((ahead - behind) / 2e-5, rel=1e-6, abs=1e-10)


@pytest.mark.parametrize("initialization", ["normal", "uniform"])
def test_it_trains_as_torch_trains_its_twin(initialization: str) -> None:
    """Fifty updates by AdamW, in float32: the losses, and the weights at the end."""
    training = TrainingConfig(
        steps=50, optimizer="adamw", lr=5e-3, weight_decay=0.1, warmup=0, log_every=1, checkpoint_every=50
    )
    model = deep(initialization=initialization)
    snapshots = list(train(Experiment(TASK, model, training)))
    theirs, batch = Theirs(model, initial_weights(model, P)), Batch.of(TASK, "train")
    optimizer = torch.optim.AdamW(
        theirs.parameters(), lr=5e-3, betas=training.betas, eps=training.eps, weight_decay=0.1
    )
    for snapshot in snapshots:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(theirs(batch.inputs).double(), batch.labels)
        assert snapshot.metrics["train_loss"] == pytest.approx(loss.item(), rel=1e-5)
        loss.backward()
        if snapshot.step < 50:
            optimizer.step()
    assert snapshots[-1].metrics["train_loss"] < 0.9 * snapshots[0].metrics["train_loss"]
    for name, weight in parameters_by_our_names(theirs, model).items():
        assert_close(snapshots[-1].weights[name], weight, rtol=0, atol=1e-5)


def test_resumed_it_goes_on_to_the_last_bit() -> None:
    experiment = Experiment(TASK, deep(), TrainingConfig(steps=20, checkpoint_every=10, log_every=5))
    whole = list(train(experiment))
    middle = next(one for one in whole if one.step == 10)
    last = list(train(experiment, resume=middle))[-1]
    assert last.step == whole[-1].step == 20
    assert last.metrics == whole[-1].metrics
    assert all(torch.equal(last.weights[name], weight) for name, weight in whole[-1].weights.items())


# ---- initial weights -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("biases", [True, False])
def test_uniform_initial_weights_are_those_that_torch_draws(biases: bool) -> None:
    model = deep(biases=biases, initialization="uniform", seed=5)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        layers = [nn.Linear(*sizes, bias=biases) for sizes in ((2 * P, 12), (12, 12), (12, 12), (12, P))]
    weights = initial_weights(model, P)
    assert list(weights) == list(weight_shapes(model, P))
    for (matrix, bias), layer in zip(linear_maps(model), layers, strict=True):
        assert torch.equal(weights[matrix], layer.weight.T)
        assert weights[matrix].is_contiguous()
        if biases:
            assert torch.equal(weights[bias], layer.bias)


@pytest.mark.parametrize("embedding", ["untied", "tied"])
def test_with_an_embedding_what_is_no_linear_layer_stays_normal(embedding: str) -> None:
    model = deep("sum", embedding, d_model=64, d_mlp=100, initialization="uniform")
    weights = initial_weights(model, 97)
    assert float(weights["embed.W_E"].var() * 64) == pytest.approx(1, abs=0.05)
    assert float(weights["embed.W_E"].abs().max()) > 0.3
    for matrix, bias in linear_maps(model):
        bound = (64 if bias == "unembed.b_U" or matrix == "mlp.W_in" else 100) ** -0.5
        assert 0.85 * bound < float(weights[bias].abs().max()) <= bound
        if matrix != "embed.W_E":
            assert 0.98 * bound < float(weights[matrix].abs().max()) <= bound


def test_normal_initial_weights_have_the_variance_of_their_rows() -> None:
    weights = initial_weights(deep(d_mlp=300), 97)
    for name, rows in {"mlp.W_in": 194, "mlp.W_1": 300, "mlp.W_2": 300, "mlp.W_out": 300}.items():
        assert float(weights[name].var() * rows) == pytest.approx(1, abs=0.05), name
    assert not any(weights[name].any() for name in ("mlp.b_in", "mlp.b_1", "mlp.b_2", "mlp.b_out"))


def test_one_hidden_layer_is_what_it_was() -> None:
    """The hash of a run, the names of its weights and their first values do not know of the new fields."""
    model = ModelConfig(family="mlp", d_mlp=24)
    assert Experiment(Task(P), model).hash == "f1ebb6ee06acb1b1"
    assert "initialization" not in Experiment(Task(P), model).to_dict()["model"]
    assert weight_shapes(model, P) == {"mlp.W_in": (7, 24), "mlp.W_out": (24, 7)}
    generator = torch.Generator().manual_seed(0)
    for name, rows in {"mlp.W_in": 7, "mlp.W_out": 24}.items():
        expected = torch.randn(weight_shapes(model, P)[name], generator=generator) / rows**0.5
        assert torch.equal(initial_weights(model, P)[name], expected)


def test_a_transformer_has_one_way_to_begin() -> None:
    with pytest.raises(InputError, match=r"model\.family 'transformer' has no model\.initialization; leave it at"):
        ModelConfig(initialization="uniform")
    with pytest.raises(InputError, match=r"unknown model\.initialization 'uniforn'; did you mean 'uniform'"):
        ModelConfig(family="mlp", initialization="uniforn")  # pyright: ignore[reportArgumentType]


# ---- what is read of it ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("embedding", ["none", "untied", "tied"])
def test_the_neurons_and_the_matrices_around_them_are_those_of_the_last_hidden_layer(embedding: str) -> None:
    model = deep("sum", embedding, activation="tanh")
    weights = drawn(model)
    checkpoint = Checkpoint.from_weights(weights, TASK, model)
    at = forward(weights, model, torch.tensor([(2, 5), (0, 1)]))
    assert_close((at.residual_mid @ checkpoint.W_in + weights["mlp.b_2"]).tanh(), at.neurons)
    assert at.residual_mid.shape == (2, 12)
    b = {"none": "mlp.b_out"}.get(embedding, "unembed.b_U")
    said = at.residual_post @ checkpoint.W_U + weights[b]
    assert_close(said, at.logits)
    constant = said - at.neurons @ checkpoint.W_L
    assert_close(constant[0], constant[1])
    assert neuron_axes(model) == {"mlp.W_2": 1, "mlp.b_2": 0, "mlp.W_out": 0}
    assert all(weights[name].shape[axis] == model.d_mlp for name, axis in neuron_axes(model).items())


def test_a_layer_that_passes_everything_on_changes_nothing() -> None:
    """Behind relu the identity is exact: a network with two such layers more answers as without."""
    shallow = ModelConfig(family="mlp", d_mlp=12, inputs="concatenated")
    weights = initial_weights(shallow, P)
    passed = weights | {name: torch.eye(12) for name in ("mlp.W_1", "mlp.W_2")}
    found = forward_all(passed, replace(shallow, n_layers=3), TASK)
    expected = forward_all(weights, shallow, TASK)
    assert torch.equal(found.logits, expected.logits)
    assert torch.equal(found.neurons, expected.neurons)
    assert torch.equal(matrices(passed, replace(shallow, n_layers=3)).W_in, torch.eye(12))
