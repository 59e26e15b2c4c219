"""Token tables against the factored form and autograd, in float64, for every kind of network that is factored; which
bits they give, and where rounding puts them."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from interp.experiment import ModelConfig, Task
from interp.machine import one_thread
from interp.mathematics.cross_entropy import differentiable_cross_entropy
from interp.models import Weights, embed, factored_gradient, initial_weights, token_tables, transform
from interp.models.token_tables import Plan

P = 7
PLAIN = ModelConfig(d_model=8, n_heads=2, d_head=3, d_mlp=10)
MODELS = {
    "relu": PLAIN,
    "gelu": replace(PLAIN, activation="gelu"),
    "gelu-tanh": replace(PLAIN, activation="gelu-tanh"),
    "silu": replace(PLAIN, activation="silu"),
    "tanh": replace(PLAIN, activation="tanh"),
    "square": replace(PLAIN, activation="square"),
    "uniform attention": replace(PLAIN, attention_rate=0.0),
    "mixed attention": replace(PLAIN, attention_rate=0.3, activation="gelu"),
    "two vocabularies": replace(PLAIN, vocabularies="two"),
    "one head": replace(PLAIN, n_heads=1, d_head=5),
    "whole lines": replace(PLAIN, d_mlp=32),
}


@pytest.fixture(params=[5, 960], autouse=True)
def part(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """The examples in several parts, the last one smaller, and in one."""
    for module in (factored_gradient, token_tables):
        monkeypatch.setattr(module, "PART", request.param)
    return request.param


def weights_of(model: ModelConfig, dtype: torch.dtype = torch.float64, p: int = P) -> Weights:
    """No bias zero."""
    generator = torch.Generator().manual_seed(1)
    return {
        name: (weight + torch.randn(weight.shape, generator=generator) / 5).to(dtype)
        for name, weight in initial_weights(model, p).items()
    }


def examples(n: int = 33, p: int = P) -> tuple[Tensor, Tensor, Tensor]:
    """Some twice, some tokens in none, labels at random."""
    a, b, labels = torch.randint(p - 1, (3, n), generator=torch.Generator().manual_seed(2))
    return a, b, labels


def by_autograd(weights: Weights, model: ModelConfig, of: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Weights]:
    leaves = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
    a, b, labels = of
    outputs = transform(leaves, model, embed(leaves, model, torch.stack([a, b], 1))).logits
    losses, _ = differentiable_cross_entropy(outputs.T, labels)
    return losses.detach(), dict(zip(leaves, torch.autograd.grad(losses.mean(), list(leaves.values())), strict=True))


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_losses_and_gradient_are_those_of_autograd(model: ModelConfig) -> None:
    weights, some = weights_of(model), examples()
    plan = Plan.of(some, P, model.n_heads)
    losses, correct, gradient = token_tables.loss_and_gradient(weights, model, plan)
    expected, slopes = by_autograd(weights, model, some)
    assert_close(losses, expected, rtol=1e-11, atol=1e-11)
    assert gradient.keys() == weights.keys()
    for name, slope in slopes.items():
        assert_close(gradient[name], slope, rtol=1e-10, atol=1e-11)
    _, of_products, _ = factored_gradient.loss_and_gradient(weights, model, some)
    assert torch.equal(correct, of_products)
    evaluated, right = token_tables.evaluate(weights, model, plan)
    assert_close(evaluated, losses, rtol=1e-12, atol=1e-12)
    assert torch.equal(right, correct)


def test_in_float32_it_is_as_near_to_float64_as_the_factored_form() -> None:
    task, model = Task(23), ModelConfig(d_model=32, n_heads=1, d_mlp=64)
    mask = torch.from_numpy(task.train_mask)
    some = (*torch.from_numpy(task.pairs)[mask].T.contiguous(), torch.from_numpy(task.labels)[mask])
    weights = weights_of(model, torch.float32, 23)
    plan = Plan.of(some, 23, 1)
    _, _, exact = factored_gradient.loss_and_gradient({n: w.double() for n, w in weights.items()}, model, some)
    _, _, by_tables = token_tables.loss_and_gradient(weights, model, plan)
    for name, slope in exact.items():
        assert (by_tables[name].double() - slope).abs().max() < 3e-6 * slope.abs().max()


def test_the_bits_do_not_depend_on_who_works() -> None:
    model = MODELS["mixed attention"]
    weights, plan = weights_of(model, torch.float32), Plan.of(examples(200), P, 2)
    # As in training, every thread works alone.
    with one_thread(), ThreadPoolExecutor(3, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        alone = token_tables.loss_and_gradient(weights, model, plan)
        for _ in range(5):
            together = token_tables.loss_and_gradient(weights, model, plan, pool.map)
            assert torch.equal(alone[0], together[0])
            assert all(torch.equal(alone[2][name], together[2][name]) for name in weights)


def test_nothing_is_written_to_the_weights() -> None:
    weights = weights_of(PLAIN)
    before = {name: weight.clone() for name, weight in weights.items()}
    token_tables.loss_and_gradient(weights, PLAIN, Plan.of(examples(), P, 2))
    assert all(torch.equal(before[name], weight) for name, weight in weights.items())


def test_a_tie_is_no_answer() -> None:
    weights = {name: torch.zeros_like(weight) for name, weight in weights_of(PLAIN).items()}
    losses, correct, _ = token_tables.loss_and_gradient(weights, PLAIN, Plan.of(examples(), P, 2))
    assert_close(losses, torch.full_like(losses, P).log())
    assert not correct.any()


@pytest.mark.parametrize("name", ["embed.W_E", "blocks.0.mlp.b_in", "blocks.0.attn.W_Q", "unembed.W_U"])
def test_not_a_number_reaches_the_loss(name: str) -> None:
    weights = weights_of(PLAIN, torch.float32)
    weights[name].view(-1)[0] = torch.nan
    losses, _, _ = token_tables.loss_and_gradient(weights, PLAIN, Plan.of(examples(), P, 2))
    assert losses.isnan().any()


@pytest.mark.parametrize("n", [1, 2, 33])
def test_the_plan_reads_every_example_once(n: int) -> None:
    plan = Plan.of(examples(n), P, 2)
    assert torch.equal(torch.cat([share.places for share in plan.shares]).sort().values, torch.arange(4 * n))
    read = torch.empty(4 * n, dtype=torch.long)
    for share in plan.shares:
        rows = torch.arange(share.rows.start, share.rows.stop)
        counts = torch.diff(share.bags, append=torch.tensor([len(share.places)]))
        read[share.places] = rows.repeat_interleave(counts)
        assert torch.equal(share.readers, share.places // 4)
    assert torch.equal(read, torch.cat([part.rows.flatten() for part in plan.parts]))


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_the_forward_pass_is_the_textbooks(model: ModelConfig) -> None:
    weights, pairs = weights_of(model), torch.cartesian_prod(torch.arange(P), torch.arange(P))
    found = token_tables.forward(weights, model, pairs)
    expected = transform(weights, model, embed(weights, model, pairs))
    for name, values in expected._asdict().items():
        assert_close(getattr(found, name), values, rtol=1e-12, atol=1e-12)
