"""The engine against the general forward pass and automatic differentiation of it, alone and over whole
trajectories."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from interp.experiment import Experiment, ModelConfig, Task, TrainingConfig
from interp.models import (
    Weights,
    embed,
    factored_gradient,
    initial_weights,
    is_factored,
    matrices,
    transform,
    weight_shapes,
)
from interp.training import Batch, WeightUpdater, loss, loss_and_gradient, train

ACTIVATIONS = ["relu", "gelu", "square", "tanh"]
RATES = [0.0, 0.3, 1.0]
P = 7


@pytest.fixture(params=[7, 640])
def part(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Batches in several parts, the last one smaller, and in one."""
    monkeypatch.setattr(factored_gradient, "PART", request.param)
    return request.param


def network(activation: str, rate: float, vocabularies: str = "one") -> tuple[ModelConfig, Weights]:
    """A model with an odd head size, and weights in float64 with biases that are not zero."""
    model = ModelConfig(
        d_model=8, n_heads=2, d_head=3, d_mlp=10, activation=activation, attention_rate=rate, vocabularies=vocabularies
    )
    generator = torch.Generator().manual_seed(4)
    weights = {name: weight.double() for name, weight in initial_weights(model, P).items()}
    return model, weights | {
        name: noise(generator, *weights[name].shape) for name in weights if name.endswith(("b_in", "b_out"))
    }


def noise(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def some_examples() -> Batch:
    """Thirty pairs, some of them twice: gathered columns must sum their gradients."""
    generator = torch.Generator().manual_seed(5)
    return Batch(torch.randint(0, P, (30, 2), generator=generator), torch.randint(0, P, (30,), generator=generator))


@pytest.mark.parametrize("vocabularies", ["one", "two"])
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_loss_and_gradient_are_those_of_the_general_forward_pass(
    activation: str, rate: float, vocabularies: str, part: int
) -> None:
    """The gradient to 1e-10 of each tensor's largest entry."""
    model, weights = network(activation, rate, vocabularies)
    batch = some_examples()
    leaves = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
    outputs = transform(leaves, model, embed(leaves, model, batch.inputs)).logits
    expected_losses = torch.nn.functional.cross_entropy(outputs, batch.labels, reduction="none")
    gradients = torch.autograd.grad(
        expected_losses.mean(), list(leaves.values()), allow_unused=True, materialize_grads=True
    )
    losses, correct, found = factored_gradient.loss_and_gradient(weights, model, batch.examples)
    assert_close(losses, expected_losses.detach(), rtol=1e-12, atol=1e-13)
    assert torch.equal(correct, outputs.argmax(1) == batch.labels)
    assert list(found) == list(weights)
    for name, value in zip(leaves, gradients, strict=True):
        assert found[name].shape == weights[name].shape
        assert_close(
            found[name],
            value,
            rtol=0,
            atol=1e-10 * value.abs().max().item() + 1e-15,
            msg=lambda text, name=name: f"{name}: {text}",
        )
    for name in ("W_Q", "W_K"):
        # With uniform attention the scores do not matter, and with any softmax they do.
        assert found[f"blocks.0.attn.{name}"].any() == (rate > 0)


def test_evaluation_is_that_of_the_general_forward_pass(part: int) -> None:
    model, weights = network("gelu", 0.3)
    batch = some_examples()
    outputs = transform(weights, model, embed(weights, model, batch.inputs)).logits.T
    losses, correct = factored_gradient.evaluate(weights, model, batch.examples)
    assert_close(
        losses,
        torch.nn.functional.cross_entropy(outputs.T.double(), batch.labels, reduction="none"),
        rtol=1e-12,
        atol=1e-13,
    )
    assert torch.equal(correct, outputs.argmax(0) == batch.labels)
    assert 0 < correct.sum() < len(batch)


def test_no_examples_have_no_losses() -> None:
    model, weights = network("relu", 1.0)
    nothing = Batch(torch.empty(0, 2, dtype=torch.int64), torch.empty(0, dtype=torch.int64))
    assert [len(value) for value in factored_gradient.evaluate(weights, model, nothing.examples)] == [0, 0]


# ---- threads ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
def test_the_number_of_threads_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor the order in which parts are finished."""
    monkeypatch.setattr(factored_gradient, "PART", 100)
    experiment = Experiment(
        Task(p=23), ModelConfig(d_model=16, n_heads=2, d_mlp=32), TrainingConfig(steps=12, log_every=4)
    )
    ends = []
    for n_threads in (1, 2, 5):
        torch.set_num_threads(n_threads)
        ends.append(list(train(experiment))[-1])
        assert torch.get_num_threads() == n_threads
    for end in ends[1:]:
        assert end.metrics == ends[0].metrics
        assert all(torch.equal(end.weights[name], ends[0].weights[name]) for name in end.weights)
    batch = Batch.of(experiment.task, "train")
    weights = initial_weights(experiment.model, 23)
    expected = factored_gradient.loss_and_gradient(weights, experiment.model, batch.examples)[2]

    def backwards(function, *arguments):
        return reversed([function(*values) for values in reversed(list(zip(*arguments, strict=True)))])

    with ThreadPoolExecutor(3) as executor:
        for each in (executor.map, backwards):
            found = factored_gradient.loss_and_gradient(weights, experiment.model, batch.examples, each)[2]
            assert all(torch.equal(found[name], expected[name]) for name in expected)


# ---- devices ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_nothing_leaves_the_device_of_the_weights(activation: str) -> None:
    """torch's device without memory stands for one that is not here: an operation on it and on the CPU at once is an
    error."""
    model, weights = network(activation, 0.3)
    weights = {name: weight.to("meta") for name, weight in weights.items()}
    batch = some_examples()
    batch = Batch(batch.inputs.to("meta"), batch.labels.to("meta"))
    losses, correct, gradient = factored_gradient.loss_and_gradient(weights, model, batch.examples)
    assert {
        value.device.type
        for value in (losses, correct, *gradient.values(), *factored_gradient.evaluate(weights, model, batch.examples))
    } == {"meta"}


@pytest.mark.parametrize(
    "model", [ModelConfig(n_layers=2, d_model=8, n_heads=2, d_mlp=12), ModelConfig(family="mlp", d_mlp=12)]
)
def test_the_general_forward_pass_stays_on_the_device_of_the_weights(model: ModelConfig) -> None:
    weights = {name: torch.empty(shape, device="meta") for name, shape in weight_shapes(model, P).items()}
    assert (
        transform(weights, model, embed(weights, model, some_examples().inputs.to("meta"))).logits.device.type == "meta"
    )
    if model.family == "mlp":
        assert matrices(weights, model).W_E.device.type == "meta"


# ---- trajectories ----------------------------------------------------------------------------------------------------


def steps_of(model: ModelConfig, weights: Weights, training_config: TrainingConfig) -> Weights:
    batch = Batch.of(Task(p=P, train_fraction=0.5), "train")
    weights = {name: weight.clone() for name, weight in weights.items()}
    updater = WeightUpdater([weights], training_config)
    for step in range(training_config.steps):
        updater.update(step, [loss_and_gradient(weights, model, batch)[2]])
    return weights


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_two_hundred_steps_in_float64_take_both_forms_to_the_same_place(
    activation: str, optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, weights = network(activation, 1.0)
    config = TrainingConfig(steps=200, optimizer=optimizer, lr=1e-2, weight_decay=0.1)
    by_engine = steps_of(model, weights, config)
    monkeypatch.setattr(loss, "is_factored", lambda model: False)
    by_autograd = steps_of(model, weights, config)
    for name, start in weights.items():
        assert_close(by_engine[name], by_autograd[name], rtol=0, atol=1e-8)
        assert (by_engine[name] - start).abs().max() > 1e-4


def test_training_in_float32_follows_the_general_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounding differs and grows from step to step: over 50 steps the losses agree to a thousandth."""
    experiment = Experiment(Task(p=P), ModelConfig(d_model=8, n_heads=2, d_mlp=16), TrainingConfig(steps=50, lr=3e-3))
    assert is_factored(experiment.model)
    assert not is_factored(replace(experiment.model, n_layers=2))
    by_engine = list(train(experiment))
    monkeypatch.setattr(loss, "is_factored", lambda model: False)
    for one, other in zip(by_engine, train(experiment), strict=True):
        for name in ("train_loss", "test_loss", "weight_norm", "gradient_norm"):
            assert one.metrics[name] == pytest.approx(other.metrics[name], rel=1e-3)
