"""Many networks at once against float64 automatic differentiation of each, and against the closed form for one."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from torch.testing import assert_close

from interp.experiment import ModelConfig
from interp.mathematics.losses import CROSS_ENTROPY
from interp.models import Weights, embed, factored_gradient, initial_weights, many_networks, transform
from interp.models.many_networks import ManyExamples, bytes_for_each, evaluate, losses_and_gradients

P, N_NETWORKS, N_EXAMPLES = 7, 3, 30


def networks(dtype: torch.dtype, **fields: object) -> tuple[ModelConfig, Weights, ManyExamples]:
    """Three networks with an odd head size and biases that are not zero, each with examples of its own; some occur
    twice."""
    model = ModelConfig(**{"d_model": 8, "n_heads": 2, "d_head": 3, "d_mlp": 10} | fields)
    generator = torch.Generator().manual_seed(4)
    stacked = {
        name: torch.randn(N_NETWORKS, *weight.shape, generator=generator, dtype=torch.float64).mul_(0.5).to(dtype)
        for name, weight in initial_weights(model, P).items()
    }
    drawn = (torch.randint(0, P, (N_NETWORKS, N_EXAMPLES), generator=generator) for _ in range(3))
    return model, stacked, ManyExamples(*drawn)


def of_one(stacked: Weights, examples: ManyExamples, place: int) -> tuple[Weights, ManyExamples]:
    return {name: weight[place] for name, weight in stacked.items()}, ManyExamples(*(one[place] for one in examples))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"activation": "gelu", "vocabularies": "two"},
        {"activation": "square", "attention_rate": 0.3},
        {"attention_rate": 0.0, "vocabularies": "two", "activation": "tanh"},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    ("dtype", "loss_tolerance", "gradient_tolerance"), [(torch.float64, 1e-12, 1e-10), (torch.float32, 1e-6, 1e-5)]
)
def test_losses_and_gradients_are_those_of_each_by_automatic_differentiation_in_float64(
    fields: dict[str, object], dtype: torch.dtype, loss_tolerance: float, gradient_tolerance: float
) -> None:
    """Losses relative to the largest, gradients to the largest entry of their tensor."""
    model, stacked, examples = networks(dtype, **fields)
    losses, correct, gradients = losses_and_gradients(stacked, model, examples)
    assert (losses.dtype, list(gradients)) == (torch.float64, list(stacked))
    for place in range(N_NETWORKS):
        weights, (a, b, labels) = of_one(stacked, examples, place)
        leaves = {name: weight.double().requires_grad_() for name, weight in weights.items()}
        outputs = transform(leaves, model, embed(leaves, model, torch.stack([a, b], 1))).logits
        expected = torch.nn.functional.cross_entropy(outputs, labels, reduction="none")
        of_leaves = torch.autograd.grad(
            expected.mean(), list(leaves.values()), allow_unused=True, materialize_grads=True
        )
        assert_close(losses[place], expected.detach(), rtol=0, atol=loss_tolerance * expected.max().item())
        assert torch.equal(correct[place], outputs.argmax(1) == labels)
        for (name, found), value in zip(gradients.items(), of_leaves, strict=True):
            assert (found.dtype, found[place].shape) == (dtype, value.shape)
            tolerance = gradient_tolerance * value.abs().max().item() + 1e-15
            assert_close(found[place].double(), value, rtol=0, atol=tolerance, msg=lambda text, name=name: name + text)


def test_each_is_what_the_form_for_one_gives() -> None:
    model, stacked, examples = networks(torch.float64)
    one_hot = examples.one_hot(P, torch.float64)
    losses, correct, gradients = losses_and_gradients(stacked, model, examples, one_hot)
    for place in range(N_NETWORKS):
        weights, own = of_one(stacked, examples, place)
        expected = factored_gradient.loss_and_gradient(weights, model, tuple(own))
        assert_close(losses[place], expected[0], rtol=1e-13, atol=1e-14)
        assert torch.equal(correct[place], expected[1])
        for name, value in expected[2].items():
            assert_close(gradients[name][place], value, rtol=0, atol=1e-13 * value.abs().max().item() + 1e-15)


@pytest.mark.parametrize("at_once", [7, 4096])
def test_evaluation_in_parts_and_whole(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many_networks, "EXAMPLES_AT_ONCE", at_once)
    model, stacked, examples = networks(torch.float64, activation="gelu")
    losses, correct = evaluate(stacked, model, examples)
    expected, known, _ = losses_and_gradients(stacked, model, examples)
    assert_close(losses, expected, rtol=1e-13, atol=1e-14)
    assert torch.equal(correct, known)
    nothing = ManyExamples(*(values[:, :0] for values in examples))
    assert [tuple(found.shape) for found in evaluate(stacked, model, nothing)] == [(N_NETWORKS, 0)] * 2


def test_one_that_is_not_finite_leaves_the_others_alone() -> None:
    model, stacked, examples = networks(torch.float32)
    sound, _, of_sound = losses_and_gradients(stacked, model, examples)
    stacked["blocks.0.mlp.W_in"][1, 0, 0] = torch.nan
    losses, correct, gradients = losses_and_gradients(stacked, model, examples)
    assert losses[1].isnan().all()
    assert not correct[1].any()
    for place in (0, 2):
        assert torch.equal(losses[place], sound[place])
        assert all(torch.equal(gradients[name][place], of_sound[name][place]) for name in gradients)


def test_the_estimate_of_memory_holds_what_is_allocated() -> None:
    """At sizes where no array is negligible; not less, and not more than a third above."""
    p, n, model = 59, 1000, ModelConfig(d_model=64, n_heads=4, d_mlp=256)
    stacked = {name: torch.stack([weight] * 2) for name, weight in initial_weights(model, p).items()}
    a = torch.arange(n).remainder(p).repeat(2, 1)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        examples = ManyExamples(a, a.clone(), a.clone())
        one_hot = examples.one_hot(p, torch.float32)
        copies = {name: weight.clone() for name, weight in stacked.items()}
        moments = [{name: torch.zeros_like(weight) for name, weight in stacked.items()} for _ in range(2)]
        losses_and_gradients(copies, model, examples, one_hot, loss=CROSS_ENTROPY)
    held = highest = 0
    for event in profiled.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            highest = max(highest, held)
    assert moments
    estimate = 2 * bytes_for_each(model, p, n, 0)
    assert highest <= estimate <= 4 / 3 * highest, (highest, estimate)
