"""The gradients at the two inputs: written out beside autograd, in one piece and in many, and of a sum."""

import pytest
import torch
from torch.testing import assert_close

from interp.experiment import ModelConfig, Task
from interp.models import forward_all, initial_weights, input_gradients
from interp.models.gradients_of_inputs import by_autograd, written_out

P = 7
SMALL = {"d_model": 8, "n_heads": 2, "d_mlp": 12}


@pytest.mark.parametrize(
    "options",
    [{}, {"prompt": "ab"}, {"attention_rate": 0.0}, {"attention_rate": 0.4, "activation": "gelu", "prompt": "ab"}],
    ids=str,
)
@pytest.mark.parametrize("rows", [[0], [1, 2], [0, 3, 6]], ids=str)
def test_written_out_is_autograd(options: dict, rows: list[int]) -> None:
    model = ModelConfig(**(SMALL | options))
    weights = {name: weight.double() for name, weight in initial_weights(model, P).items()}
    activations = forward_all(weights, model, Task(P))
    some = torch.tensor(rows)
    classes = torch.randint(0, P, (len(rows), P), generator=torch.Generator().manual_seed(0))
    found = written_out(weights, model, activations)(some, classes)
    assert_close(found, by_autograd(weights, model, activations)(some, classes), rtol=0, atol=1e-12)


def test_more_pairs_than_before_are_given_more_room() -> None:
    model = ModelConfig(**SMALL)
    weights = initial_weights(model, P)
    gradients = input_gradients(weights, model, forward_all(weights, model, Task(P)))
    classes = torch.arange(3 * P).view(3, P) % P
    first = gradients(torch.tensor([1]), classes[1:2])
    together = gradients(torch.arange(3), classes)
    assert_close(together[P : 2 * P], first)


def test_two_layers_are_differentiated() -> None:
    """Their gradient is that of finite differences of the embedding of a."""
    model = ModelConfig(**(SMALL | {"n_layers": 2}))
    weights = {name: weight.double() for name, weight in initial_weights(model, P).items()}
    gradients = input_gradients(weights, model, forward_all(weights, model, Task(P)))
    classes = torch.full((1, P), 4)
    found = gradients(torch.tensor([2]), classes)[3, 0]  # of the pair (2, 3)
    step, differences = 1e-6, []
    for feature in range(model.d_model):
        ends = []
        for sign in (1, -1):
            moved = {name: weight.clone() for name, weight in weights.items()}
            moved["embed.W_E"][2, feature] += sign * step  # 3 and `=` keep their vectors
            ends.append(forward_all(moved, model, Task(P)).logits[2, 3, 4])
        differences.append((ends[0] - ends[1]) / (2 * step))
    assert_close(found, torch.stack(differences), rtol=0, atol=1e-7)
