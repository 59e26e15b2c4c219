"""Every loss that can be trained on: its gradient against finite differences, its three forms against each other, and
what each is by its definition."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.testing import assert_close

from interp.experiment import ModelConfig, TrainingConfig
from interp.mathematics.losses import CROSS_ENTROPY, LOSSES, chosen_loss, loss_of
from interp.mathematics.stablemax import log_scale
from interp.models import factored_gradient, initial_weights, many_networks, token_tables
from interp.models.token_tables import Plan

P, N = 7, 40
EXACT = {
    "cross-entropy": loss_of(),
    "cross-entropy, smoothed": loss_of(label_smoothing=0.2),
    "cross-entropy, zero-sum": loss_of(zero_sum=True),
    "stablemax": loss_of("stablemax"),
    "stablemax, smoothed": loss_of("stablemax", label_smoothing=0.2),
    "squared-error": loss_of("squared-error"),
}
ROUNDED = {
    "float32": loss_of(precision="float32"),
    "float32, smoothed": loss_of(precision="float32", label_smoothing=0.2),
    "float32, zero-sum": loss_of(precision="float32", zero_sum=True),
    "stablemax in float32": loss_of("stablemax", "float32"),
}
LABELS = torch.arange(N) % P


def outputs_of(scale: float = 3.0, dtype: torch.dtype = torch.float64, several: tuple[int, ...] = ()) -> Tensor:
    drawn = torch.randn(P, *several, N, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (scale * drawn).to(dtype)


def gradient_of(loss, outputs: Tensor, labels: Tensor, n_mean: int = N) -> tuple[Tensor, Tensor, Tensor]:
    d_outputs = outputs.clone()
    losses, correct = loss.judge_with_gradient_(d_outputs, labels, n_mean)
    return losses, correct, d_outputs


@pytest.mark.parametrize("loss", EXACT.values(), ids=EXACT)
def test_the_gradient_is_that_of_finite_differences(loss) -> None:
    """Central differences of the sum of the losses, in float64: right to the square of their width."""
    outputs, width = outputs_of(), 1e-5
    _, _, d_outputs = gradient_of(loss, outputs, LABELS, n_mean=5)
    for label in range(P):
        ends = []
        for sign in (1, -1):
            moved = outputs.clone()
            moved[label] += sign * width
            ends.append(loss.judge(moved, LABELS)[0])
        assert_close(d_outputs[label], (ends[0] - ends[1]) / (2 * width) / 5, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("scale", [1.0, 30.0])
@pytest.mark.parametrize("loss", (EXACT | ROUNDED).values(), ids=EXACT | ROUNDED)
def test_the_three_forms_are_one_and_stacked_networks_are_each_alone(loss, scale: float) -> None:
    several = outputs_of(scale, torch.float32, (3,))
    labels = torch.stack([LABELS, LABELS.flip(0), LABELS])
    losses, correct, d_outputs = gradient_of(loss, several, labels)
    assert losses.dtype == torch.float64
    kept = several.clone()
    for one, other in zip(loss.judge(kept, labels), (losses, correct), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(kept, several)

    def mean(outputs: Tensor, labels: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        judged = loss.differentiable(outputs, labels)
        return judged[0].mean(), judged

    vectorized = torch.func.vmap(torch.func.grad(mean, has_aux=True))
    slopes, (told, answered) = vectorized(several.transpose(0, 1).contiguous(), labels)
    for place in range(3):
        alone = gradient_of(loss, several[:, place].contiguous(), labels[place])
        for one, other in zip(alone, (losses[place], correct[place], d_outputs[:, place]), strict=True):
            assert_close(one, other, rtol=1e-6, atol=1e-9)
        assert torch.equal(correct[place], several[:, place].argmax(0) == labels[place])
    assert torch.equal(answered, correct)
    assert_close(told, losses, rtol=1e-6, atol=1e-9)
    assert_close(slopes.transpose(0, 1), d_outputs, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("scale", [1.0, 10.0, 100.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_in_float32_it_is_torchs_to_the_bit(scale: float, smoothing: float) -> None:
    outputs = outputs_of(scale, torch.float32)
    rows = outputs.T.contiguous().requires_grad_()
    expected = functional.cross_entropy(rows, LABELS, reduction="none", label_smoothing=smoothing)
    (slopes,) = torch.autograd.grad(
        functional.cross_entropy(rows, LABELS, label_smoothing=smoothing), rows, retain_graph=True
    )
    losses, _, d_outputs = gradient_of(loss_of(precision="float32", label_smoothing=smoothing), outputs, LABELS)
    assert torch.equal(losses.float(), expected.detach())
    assert torch.equal(d_outputs, slopes.T.where(slopes.T.abs() > 1e-30, 0))


@pytest.mark.parametrize("smoothing", [0.1, 0.9])
def test_smoothed_labels_are_torchs(smoothing: float) -> None:
    outputs = outputs_of()
    expected = functional.cross_entropy(outputs.T, LABELS, reduction="none", label_smoothing=smoothing)
    assert_close(loss_of(label_smoothing=smoothing).judge(outputs, LABELS)[0], expected, rtol=1e-12, atol=0)


def test_stablemax_is_what_the_paper_defines_and_the_cross_entropy_of_g() -> None:
    outputs = outputs_of()
    outputs[0, 0] = 0.0
    s = torch.where(outputs >= 0, outputs + 1, 1 / (1 - outputs))
    expected = -(s / s.sum(0)).gather(0, LABELS[None])[0].log()
    assert_close(LOSSES["stablemax"].judge(outputs, LABELS)[0], expected, rtol=1e-12, atol=0)
    assert_close(
        LOSSES["stablemax"].judge(outputs, LABELS)[0],
        CROSS_ENTROPY.judge(log_scale(outputs), LABELS)[0],
        rtol=0,
        atol=0,
    )
    uniform, _ = LOSSES["stablemax"].judge(torch.full((P, 1), 5.0), torch.tensor([0]))
    assert uniform.item() == pytest.approx(math.log(P), rel=1e-15)
    margin, _ = LOSSES["stablemax"].judge(torch.tensor([[1e6], [0.0], [0.0]]), torch.tensor([0]))
    assert margin.item() == pytest.approx(math.log1p(2 / (1 + 1e6)), rel=1e-9)  # a power of the margin


def test_g_is_odd_and_rises_and_so_keeps_the_order_of_the_answers() -> None:
    x = torch.cat([-torch.logspace(8, -8, 60, dtype=torch.float64), torch.logspace(-8, 8, 60, dtype=torch.float64)])
    assert torch.equal(log_scale(-x), -log_scale(x))
    assert (log_scale(x).diff() > 0).all()
    assert torch.autograd.gradcheck(log_scale, x.clamp(-1e3, 1e3).requires_grad_())
    # At zero too, where |x| has no derivative: g′(0) = 1.
    _, _, analytic = gradient_of(LOSSES["stablemax"], torch.zeros(2, 1, dtype=torch.float64), torch.tensor([0]), 1)
    assert analytic[:, 0].tolist() == [-0.5, 0.5]
    slope = torch.func.grad(lambda z: LOSSES["stablemax"].differentiable(z, torch.tensor([0]))[0].sum())
    assert slope(torch.zeros(2, 1, dtype=torch.float64))[:, 0].tolist() == [-0.5, 0.5]


def test_the_squared_error_is_torchs_mean_over_classes() -> None:
    outputs = outputs_of()
    one_hot = functional.one_hot(LABELS, P).double().T
    expected = functional.mse_loss(outputs, one_hot, reduction="none").mean(0)
    losses, _, d_outputs = gradient_of(LOSSES["squared-error"], outputs, LABELS)
    assert_close(losses, expected, rtol=1e-14, atol=0)
    assert losses.mean().item() == pytest.approx(functional.mse_loss(outputs, one_hot).item(), rel=1e-14)
    assert_close(d_outputs, 2 * (outputs - one_hot) / (P * N), rtol=1e-13, atol=0)
    exact, correct = LOSSES["squared-error"].judge(one_hot, LABELS)
    assert (exact == 0).all()
    assert correct.all()


@pytest.mark.parametrize("margin", [5.0, 20.0, 30.0])
def test_a_zero_sum_gradient_sums_to_zero_where_float32_does_not(margin: float) -> None:
    """And where it did to begin with, it is the same."""
    outputs = torch.zeros(113, 3)
    outputs[5] = margin
    labels = torch.full((3,), 5)
    _, _, rounded = gradient_of(loss_of(precision="float32"), outputs, labels, 3)
    _, _, mended = gradient_of(loss_of(precision="float32", zero_sum=True), outputs, labels, 3)
    size = rounded.abs().sum()
    assert mended.sum(0).abs().max() < 1e-6 * size
    assert (rounded.sum(0).abs().max() > 0.1 * size / 3) == (margin > 15)
    assert_close(mended, rounded - rounded.mean(0), rtol=1e-6, atol=0)
    _, _, exact = gradient_of(loss_of(zero_sum=True), outputs.double(), labels, 3)
    _, _, plain = gradient_of(loss_of(), outputs.double(), labels, 3)
    assert_close(exact, plain, rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_has_no_finite_loss(name: str, value: float) -> None:
    outputs = torch.zeros(3, 1)
    outputs[1] = value
    losses, correct = LOSSES[name].judge(outputs, torch.tensor([0]))
    assert not losses.isfinite().any()
    assert not correct.any()
    # A tie is no answer.
    assert not LOSSES[name].judge(torch.zeros(3, 1), torch.tensor([0]))[1].any()


@pytest.mark.parametrize("loss", EXACT.values(), ids=EXACT)
def test_tables_products_and_stacked_products_train_on_the_same_loss(loss) -> None:
    """Of one network the three closed forms, against autograd."""
    model = ModelConfig(d_model=8, n_heads=2, d_mlp=12)
    weights = {name: weight.double() for name, weight in initial_weights(model, P).items()}
    a, b, labels = torch.randint(P, (3, 33), generator=torch.Generator().manual_seed(2))
    products = factored_gradient.loss_and_gradient(weights, model, (a, b, labels), loss=loss)
    tables = token_tables.loss_and_gradient(weights, model, Plan.of((a, b, labels), P, 2), loss=loss)
    stacked = {name: torch.stack([weight, weight]) for name, weight in weights.items()}
    examples = many_networks.ManyExamples(*(torch.stack([values, values]) for values in (a, b, labels)))
    many = many_networks.losses_and_gradients(stacked, model, examples, loss=loss)
    for losses, correct, gradient in (tables, (many[0][1], many[1][1], {n: v[1] for n, v in many[2].items()})):
        assert_close(losses, products[0], rtol=1e-11, atol=1e-12)
        assert torch.equal(correct, products[1])
        for name, slope in products[2].items():
            assert_close(gradient[name], slope, rtol=1e-9, atol=1e-11)


def test_the_configuration_chooses_it() -> None:
    assert chosen_loss(TrainingConfig()) is CROSS_ENTROPY
    assert chosen_loss(TrainingConfig(loss="squared-error")) is LOSSES["squared-error"]
    outputs = outputs_of(10.0, torch.float32)
    for training in (
        TrainingConfig(loss_precision="float32"),
        TrainingConfig(label_smoothing=0.1),
        TrainingConfig(loss="stablemax"),
        TrainingConfig(zero_sum=True),
    ):
        losses, _, d_outputs = gradient_of(chosen_loss(training), outputs, LABELS)
        plain, _, d_plain = gradient_of(CROSS_ENTROPY, outputs, LABELS)
        assert torch.equal(losses, plain) == training.zero_sum
        assert not torch.equal(d_outputs, d_plain)
