"""The loss, against closed forms and torch's own."""

import math

import pytest
import torch
from torch.testing import assert_close

from interp.mathematics.cross_entropy import (
    cross_entropy_and_correctness,
    cross_entropy_and_gradient_,
    differentiable_cross_entropy,
    judge_,
    losses_and_leads_,
)


def cross_entropy(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The cross-entropy of every example in nats, −log softmax(outputs)[label], float64."""
    return -outputs.double().log_softmax(0).gather(0, labels[None])[0]


def is_correct(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Whether the logit of the label is larger than every other; a tie is no answer, and neither is NaN."""
    others = outputs.scatter(0, labels[None], -torch.inf)
    return outputs.gather(0, labels[None])[0] > others.amax(0)


@pytest.mark.parametrize("margin", [0.0, 10.0, 20.0, 25.0])
def test_losses_far_below_the_rounding_of_float32_are_resolved(margin: float) -> None:
    """A logit that leads by m over p − 1 equal ones costs log(1 + (p − 1)e^{−m}): 1.6e-9 at m = 25 and p = 113."""
    p, labels = 113, torch.full((5,), 3)
    outputs = torch.zeros(p, 5)
    outputs[3] = margin
    expected = math.log1p((p - 1) * math.exp(-margin))
    assert cross_entropy_and_correctness(outputs, labels)[0].tolist() == pytest.approx([expected] * 5, rel=1e-15)
    assert cross_entropy(outputs, labels).tolist() == pytest.approx([expected] * 5, rel=1e-6)


@pytest.mark.parametrize("scale", [1.0, 30.0, 1000.0])
def test_losses_and_their_gradient(scale: float) -> None:
    """Against torch's, in float64. At the largest scale most of the softmax is below 1e-30, and what is there is
    zero."""
    outputs = scale * torch.randn(7, 200, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    outputs.requires_grad_()
    labels = torch.arange(200) % 7
    expected = torch.nn.functional.cross_entropy(outputs.T, labels, reduction="none")
    (gradient,) = torch.autograd.grad(expected.sum() / 50, outputs)
    d_outputs = outputs.detach().clone()
    losses, correct = cross_entropy_and_gradient_(d_outputs, labels, 50)
    assert_close(losses, expected.detach(), rtol=1e-13, atol=1e-15 * scale)
    assert_close(d_outputs, gradient, rtol=1e-12, atol=1e-16)
    assert ((d_outputs == 0) | (d_outputs.abs() > 1e-30)).all()
    assert torch.equal(correct, is_correct(outputs.detach(), labels))
    kept = outputs.detach().clone()
    for one, other in zip(cross_entropy_and_correctness(kept, labels), (losses, correct), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(kept, outputs.detach())
    assert_close(cross_entropy(kept, labels), losses, rtol=1e-13, atol=1e-15 * scale)


@pytest.mark.parametrize("scale", [1.0, 30.0, 1000.0])
def test_the_form_that_can_be_differentiated_is_the_same(scale: float) -> None:
    """Of three batches at once, by torch.func."""
    outputs = scale * torch.randn(3, 7, 200, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = (torch.arange(200) % 7).expand(3, 200)

    def loss(outputs: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        losses, correct = differentiable_cross_entropy(outputs, labels)
        return losses.mean(), (losses, correct)

    gradients, (losses, correct) = torch.func.vmap(torch.func.grad(loss, has_aux=True))(outputs, labels)
    for i in range(3):
        expected = outputs[i].clone()
        expected_losses, expected_correct = cross_entropy_and_gradient_(expected, labels[i], 200)
        assert_close(losses[i], expected_losses, rtol=1e-12, atol=0)
        assert torch.equal(correct[i], expected_correct)
        assert_close(gradients[i], expected, rtol=1e-11, atol=1e-16)


@pytest.mark.parametrize("margin", [20.0, 60.0, 500.0])
def test_the_gradient_at_the_label_of_a_confident_answer_is_not_told_from_one(margin: float) -> None:
    """−Σ of the others' softmax, which 1 − softmax cannot resolve; zero where it is below 1e-30."""
    outputs = torch.zeros(113, 3, dtype=torch.float64)
    outputs[5] = margin
    cross_entropy_and_gradient_(outputs, torch.full((3,), 5), 1)
    expected = 112 * math.exp(-margin) / (1 + 112 * math.exp(-margin))
    assert outputs[5].tolist() == pytest.approx([-expected if expected > 1e-30 else 0] * 3, rel=1e-14)
    assert_close(outputs.sum(0), torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-14 * expected)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_has_no_finite_loss(value: float) -> None:
    for at in (0, 1):
        outputs = torch.zeros(3, 1)
        outputs[at] = value
        losses, correct = cross_entropy_and_correctness(outputs, torch.tensor([0]))
        assert not losses.isfinite().any()
        assert not correct.any() or (value, at) == (math.inf, 0)


def test_an_answer_is_correct_where_its_logit_is_the_largest() -> None:
    outputs = torch.randn(7, 200, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(200) % 7
    assert torch.equal(is_correct(outputs, labels), outputs.argmax(0) == labels)


def test_neither_a_tie_nor_nan_is_an_answer() -> None:
    outputs = torch.tensor([[1.0, 1.0, torch.nan, 2.0], [1.0, 0.0, 0.0, torch.nan], [0.0, 1.0, 0.0, 0.0]])
    labels = torch.zeros(4, dtype=torch.int64)
    assert is_correct(outputs, labels).tolist() == [False] * 4
    assert cross_entropy_and_correctness(outputs, labels)[1].tolist() == [False] * 4


@pytest.mark.parametrize("scale", [1.0, 30.0, 1000.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_judging_is_cross_entropy_and_correctness_at_once(dtype: torch.dtype, scale: float) -> None:
    outputs = scale * torch.randn(7, 200, generator=torch.Generator().manual_seed(0), dtype=dtype)
    labels = torch.arange(200) % 7
    losses, correct = judge_(outputs.clone(), labels)
    # The definition written out, without the cancellation of log-softmax; a loss is as precise as the logits, relative
    # to 1.
    gaps = outputs.double() - outputs.double().gather(0, labels[None])
    expected = torch.log1p(gaps.exp().scatter(0, labels[None], 0).sum(0))
    expected = expected.where(expected.isfinite(), gaps.logsumexp(0))
    assert_close(losses, expected, rtol=max(1e-5, 1e-7 * scale) if dtype == torch.float32 else 1e-13, atol=0)
    assert_close(losses, cross_entropy(outputs, labels), rtol=1e-5, atol=1e-12)
    assert torch.equal(correct, is_correct(outputs, labels))
    assert losses.dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("margin", [-40.0, 0.0, 10.0, 30.0, 80.0])
def test_judging_resolves_losses_far_below_the_rounding_of_float32_and_float64(
    margin: float, dtype: torch.dtype
) -> None:
    p, labels = 113, torch.full((5,), 3)
    outputs = torch.zeros(p, 5, dtype=dtype)
    outputs[3] = margin
    losses, correct = judge_(outputs, labels)
    assert losses.tolist() == pytest.approx([math.log1p((p - 1) * math.exp(-margin))] * 5, rel=1e-6, abs=0)
    assert correct.tolist() == [margin > 0] * 5


def test_neither_a_tie_nor_nan_is_judged_an_answer() -> None:
    outputs = torch.tensor([[1.0, 1.0, torch.nan, 2.0], [1.0, 0.0, 0.0, torch.nan], [0.0, 1.0, 0.0, 0.0]])
    assert judge_(outputs, torch.zeros(4, dtype=torch.int64))[1].tolist() == [False] * 4


def test_the_lead_is_that_over_the_best_other_class() -> None:
    outputs, labels = torch.randn(5, 40, generator=torch.Generator().manual_seed(3)), torch.arange(40) % 5
    losses, leads = losses_and_leads_(outputs.clone(), labels)
    others = [max(float(outputs[c, i]) for c in range(5) if c != labels[i]) for i in range(40)]
    assert_close(leads, outputs[labels, torch.arange(40)] - torch.tensor(others))
    assert_close(losses, cross_entropy(outputs, labels), rtol=1e-6, atol=0)
