"""The linear mapping number of networks: linear ones, symmetries, and a run with its controls."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

import interp
from interp.analyses import linear_mapping_number
from interp.experiment import ModelConfig, Samples, Task
from interp.models import initial_weights
from interp.runs import Checkpoint

MLP = ModelConfig(family="mlp", d_mlp=24, biases=True)


def checkpoint(**changed: torch.Tensor) -> Checkpoint:
    return Checkpoint(0, initial_weights(MLP, 11) | changed, Task(11, train_fraction=0.5), MLP)


def number(of: Checkpoint, **parameters) -> np.ndarray:
    return linear_mapping_number.measure(of, **parameters).linear_mapping_number.values


def test_a_network_whose_neurons_are_all_on_is_linear() -> None:
    """A bias that no input outweighs: ReLU does nothing."""
    assert_allclose(number(checkpoint(**{"mlp.b_in": torch.full((24,), 50.0)})), 1, atol=1e-3)
    assert (number(checkpoint()) > 1.3).all()


def test_a_network_without_answers_is_linear() -> None:
    weights = {name: torch.zeros_like(weight) for name, weight in initial_weights(MLP, 11).items()}
    found = linear_mapping_number.measure(checkpoint(**weights))
    assert found.linear_mapping_number.values.tolist() == [1, 1]
    assert found.mean_r_squared.values.tolist() == [1, 1]


def test_neither_loudness_nor_the_order_of_neurons_matters() -> None:
    at = checkpoint()
    order, weights = torch.randperm(24, generator=torch.Generator().manual_seed(0)), at.weights
    mixed = {"mlp.W_in": weights["mlp.W_in"][:, order], "mlp.W_out": 7 * weights["mlp.W_out"][order]}
    assert_allclose(number(checkpoint(**mixed)), number(at), rtol=1e-4)


def test_a_slow_second_way() -> None:
    """By the definition, path by path, through the whole forward pass of vectors."""
    model = ModelConfig(family="mlp", d_mlp=16, embedding="none", inputs="sum")
    task = Samples("gaussian", n_train=40, n_test=10, n_features=6, classes=3)
    at = Checkpoint(0, initial_weights(model, task.sizes), task, model)
    chosen = np.array([3, 1, 8, 5])
    found = linear_mapping_number.linearity_of(at, chosen, 7).numpy()
    W_in, W_out = (at.weights[name].double().numpy() for name in ("mlp.W_in", "mlp.W_out"))
    expected = np.eye(4)
    for i, one in enumerate(task.inputs[chosen]):
        for j, other in enumerate(task.inputs[chosen]):
            if i != j:
                t = np.linspace(0, 1, 7)[:, None]
                logits = np.maximum((one + t * (other - one)) @ W_in, 0) @ W_out
                r = [np.corrcoef(t[:, 0], logits[:, k])[0, 1] for k in range(3)]
                expected[i, j] = np.mean(np.square(r))
    assert_allclose(found, expected, atol=1e-5)


def test_a_run_and_its_controls() -> None:
    """Training makes more pieces than an untrained network has; memorizing alone makes as many as generalizing."""
    run = interp.open_run(interp.reference_path())
    untrained, memorized, last = (number(run[step]) for step in (0, 100, 3000))
    assert (untrained < 2.5).all()
    assert (memorized > 1.8 * untrained).all()
    assert (last > 1.8 * untrained).all()


def test_what_is_not_there_is_unknown() -> None:
    at = Checkpoint(0, initial_weights(MLP, 11), Task(11, split="unknown"), MLP)
    found = linear_mapping_number.measure(at)
    assert np.isnan(found.linear_mapping_number).all()
    assert found.n_examples.values.tolist() == [0, 0]


@pytest.mark.parametrize("wrong", [{"examples": 1}, {"points": 2}, {"seed": -1}])
def test_numbers_that_cannot_be_are_refused(wrong) -> None:
    with pytest.raises(interp.InputError):
        number(checkpoint(), **wrong)
