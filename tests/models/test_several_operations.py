"""Networks that are told which operation is asked: by the textbook and by tables, and as the network of one of them."""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

import interp
from interp.errors import InputError
from interp.experiment import Attention, Mlp, ModelConfig, Norm, Operations
from interp.models import forward_all, initial_weights, logits, of_operation, weight_shapes
from interp.models.transformer import first_rows
from interp.runs import Checkpoint

TASK = Operations(7, ("add", "random", "divide"), (0.4, 0.5, 0.6), seed=3)
SIZES = {"d_model": 8, "n_heads": 2, "d_mlp": 12}
TRANSFORMERS = [
    ModelConfig(**SIZES, prompt="aob="),
    ModelConfig(**SIZES, prompt="^a=ob=", causal=False),
    ModelConfig(**SIZES, prompt="abo", n_layers=2),
    ModelConfig(**SIZES, prompt="abo", vocabularies="two"),
    ModelConfig(**SIZES, prompt="aob=", vocabularies="two", attention=Attention(rotary_base=50.0)),
    ModelConfig(**SIZES, prompt="aob=", norm=Norm(kind="layer"), biases=True, mlp=Mlp(gated=True), activation="silu"),
]
MLPS = [
    ModelConfig(family="mlp", d_mlp=12, inputs=inputs, biases=biases, n_layers=n_layers, **embedding)
    for inputs in ("sum", "concatenated")
    for biases, n_layers in ((False, 1), (True, 2), (False, 2))
    for embedding in ({"embedding": "none"}, {"embedding": "untied", "d_model": 8})
]


def drawn(model: ModelConfig) -> interp.models.Weights:
    """Weights in float64, of which none is zero."""
    generator = torch.Generator().manual_seed(1)
    shapes = weight_shapes(model, TASK.sizes)
    return {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}


@pytest.mark.parametrize("model", TRANSFORMERS + MLPS, ids=repr)
def test_the_textbook_and_the_fast_way_are_one_network(model: ModelConfig) -> None:
    weights, inputs = drawn(model), torch.from_numpy(TASK.inputs)
    watched = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
    textbook = logits(watched, model, inputs)  # what autograd watches goes no other way
    assert_close(textbook.detach(), forward_all(weights, model, TASK).logits.flatten(0, 2), rtol=1e-9, atol=1e-9)
    assert_close(textbook.detach(), logits(weights, model, inputs), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("model", TRANSFORMERS + MLPS, ids=repr)
def test_the_network_of_one_operation_answers_as_all_of_it_does(model: ModelConfig) -> None:
    whole = Checkpoint(5, drawn(model), TASK, model)
    for place, operation in enumerate(TASK.operations):
        one = whole.of_operation(operation)
        assert one.step == 5
        assert one.task == TASK.task_of(operation)
        assert_close(one.logits, whole.logits[place], rtol=1e-9, atol=1e-9)
        assert_close(one.neurons, whole.neurons[place], rtol=1e-9, atol=1e-9)
        if model.family == "transformer":
            assert one.model == model
            assert_close(one.attention, whole.attention[place], rtol=1e-9, atol=1e-9)
        for split in ("train", "test", "held_out"):
            assert math.isclose(one.loss(split), whole.loss(f"{operation}.{split}"), rel_tol=1e-9)
            assert one.accuracy(split) == whole.accuracy(f"{operation}.{split}")


@pytest.mark.parametrize("model", [TRANSFORMERS[0], MLPS[0], MLPS[1]], ids=repr)
def test_the_tokens_of_the_other_operations_play_no_part(model: ModelConfig) -> None:
    """What one operation is answered does not change with them, and changes with its own."""
    weights = drawn(model)
    name, first = ("mlp.W_in", 7) if model.embedding == "none" and model.family == "mlp" else ("embed.W_E", 7)
    changed = dict(weights)
    changed[name] = weights[name].clone()
    changed[name][first + 1] += 1
    before, after = (forward_all(each, model, TASK).logits for each in (weights, changed))
    assert torch.equal(before[[0, 2]], after[[0, 2]])
    assert not torch.allclose(before[1], after[1])
    same, other = (of_operation(each, model, 0, TASK.sizes)[0] for each in (weights, changed))
    assert all(torch.equal(same[one], other[one]) for one in same)


def test_the_vocabulary_is_residues_then_operations_then_the_other_tokens() -> None:
    model = ModelConfig(**SIZES, prompt="aob=")
    shapes = weight_shapes(model, (7, 7, 3))
    assert shapes["embed.W_E"] == (7 + 3 + 1, 8)
    assert shapes["unembed.W_U"] == (8, 7)
    assert shapes["pos_embed.W_pos"] == (4, 8)
    assert first_rows(initial_weights(model, (7, 7, 3)), model) == {"o": 7, "=": 10}
    # Of one task o is a token as any other.
    assert weight_shapes(model, 7)["embed.W_E"] == (7 + 2, 8)


def test_a_checkpoint_of_one_task_has_no_several_operations() -> None:
    model = ModelConfig(**SIZES)
    checkpoint = Checkpoint(0, initial_weights(model, 7), interp.Task(7), model)
    with pytest.raises(InputError, match="is of one task, add modulo 7, and of no several operations"):
        checkpoint.of_operation("add")
    whole = Checkpoint(0, initial_weights(TRANSFORMERS[0], TASK.sizes), TASK, TRANSFORMERS[0])
    with pytest.raises(InputError, match="has the operations add, random, divide, and not 'subtract'"):
        whole.of_operation("subtract")
    with pytest.raises(InputError, match="frequencies are those of one operation"):
        _ = whole.spectrum
    assert repr(whole) == "Checkpoint(step=0, add, random, divide modulo 7)"
    assert np.isnan(whole.losses[~TASK.defined]).all()


def test_weights_of_a_model_that_reads_no_operation_are_refused() -> None:
    with pytest.raises(InputError, match="of several operations the prompt has to name one"):
        weight_shapes(ModelConfig(**SIZES), TASK.sizes)
