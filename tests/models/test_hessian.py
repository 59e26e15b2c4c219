"""Products with the Hessian: closed forms, finite differences, directions in which nothing bends."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from interp.experiment import ModelConfig, Operations, Task
from interp.models import Hessian, initial_weights, logits

MODELS = {
    "one layer": ModelConfig(d_model=8, n_heads=2, d_mlp=12),
    "two layers, tied": ModelConfig(n_layers=2, d_model=8, n_heads=2, d_mlp=12, tied=True),
    "MLP": ModelConfig(family="mlp", embedding="untied", d_model=8, d_mlp=12, activation="tanh"),
}


def of(model: ModelConfig, p: int = 7, temperature: float = 1.0, **changed: torch.Tensor) -> Hessian:
    weights = initial_weights(model, p)
    task = Task(p)
    inputs, labels = torch.from_numpy(task.inputs), torch.from_numpy(task.labels)
    return Hessian(weights | changed, model, inputs, labels, temperature)


@pytest.mark.parametrize("name", MODELS)
def test_it_is_the_change_of_the_gradient(name: str) -> None:
    """Central differences of the gradient, in float64; of a smooth activation exactly, of ReLU away from its edge."""
    model, p = MODELS[name], 7
    task = Task(p)
    inputs, labels = torch.from_numpy(task.inputs), torch.from_numpy(task.labels)
    weights = {one: weight.double() for one, weight in initial_weights(model, p).items()}
    hessian = Hessian(weights, model, inputs, labels)
    vector = np.random.default_rng(0).normal(size=hessian.size)

    def gradient(step: float) -> np.ndarray:
        moved, place = {}, 0
        for one, weight in weights.items():
            part = torch.from_numpy(vector[place : place + weight.numel()]).view(weight.shape)
            moved[one], place = weight + step * part, place + weight.numel()
        return Hessian(moved, model, inputs, labels).gradient

    step = 1e-6
    expected = (gradient(step) - gradient(-step)) / (2 * step)
    assert_allclose(hessian.times(vector), expected, atol=1e-5 * np.abs(expected).max())


def test_it_is_symmetric_and_linear() -> None:
    hessian, random = of(MODELS["one layer"]), np.random.default_rng(1)
    one, other = random.normal(size=(2, hessian.size))
    assert other @ hessian.times(one) == pytest.approx(one @ hessian.times(other))
    assert_allclose(hessian.times(2 * one - other), 2 * hessian.times(one) - hessian.times(other), atol=1e-12)


def test_the_same_to_every_class_changes_nothing() -> None:
    """H(v⊗1) = 0 of the unembedding, at any weights: a softmax does not see it."""
    model = MODELS["one layer"]
    hessian, random = of(model), np.random.default_rng(2)
    parts = [
        (random.normal(size=(8, 1)) * np.ones((8, 7)) if name == "unembed.W_U" else np.zeros(weight.shape)).ravel()
        for name, weight in initial_weights(model, 7).items()
    ]
    vector = np.concatenate(parts)
    assert np.linalg.norm(hessian.times(vector)) < 1e-14 * np.linalg.norm(vector)


def test_softmax_regression_at_zero_is_known() -> None:
    """W_out at 0 behind fixed neurons X: the Hessian of W_out is XᵀX/n ⊗ (I/K − 11ᵀ/K²)."""
    model, p = MODELS["MLP"], 7
    weights = {name: weight.double() for name, weight in initial_weights(model, p).items()}
    weights["unembed.W_U"] = torch.zeros(8, p, dtype=torch.float64)
    task = Task(p)
    inputs, labels = torch.from_numpy(task.inputs), torch.from_numpy(task.labels)
    hessian = Hessian(weights, model, inputs, labels)
    before = torch.eye(8, dtype=torch.float64)
    X = logits(weights | {"unembed.W_U": before}, model, inputs)
    expected = torch.kron(X.T @ X / len(X), torch.eye(p) / p - torch.ones(p, p) / p**2).numpy()
    sizes = {name: weight.numel() for name, weight in weights.items()}
    start = sum(size for name, size in sizes.items() if list(sizes).index(name) < list(sizes).index("unembed.W_U"))
    found = np.array([hessian.times(unit) for unit in np.eye(hessian.size)[start : start + 8 * p]])
    assert_allclose(found[:, start : start + 8 * p], expected, atol=1e-12)


def test_a_temperature_divides_the_logits() -> None:
    model = MODELS["one layer"]
    cooler = of(model, **{"unembed.W_U": initial_weights(model, 7)["unembed.W_U"] / 2})
    assert of(model, temperature=2.0).loss == pytest.approx(cooler.loss)


def test_several_operations_have_one_too() -> None:
    model = ModelConfig(d_model=8, n_heads=2, d_mlp=12, prompt="aob=")
    task = Operations(7, ("add", "random"))
    inputs, labels = torch.from_numpy(task.inputs), torch.from_numpy(task.labels)
    hessian = Hessian(initial_weights(model, task.sizes), model, inputs, labels)
    assert hessian.times(np.ones(hessian.size)).shape == (hessian.size,)
