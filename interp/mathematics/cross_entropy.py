"""The loss: cross-entropy in float64, its gradient, and which answers are right.

The log-softmax is that of the logits in float64, whatever their type: float32 cannot resolve a loss below 1.2e-7 and
makes spikes of its own. Examples are the last axes of the logits, as `interp.models.factored_gradient` gives them.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

# so many examples stay in the processor's cache; a power of two would put a column's values into the same few lines
PAIRS_AT_ONCE = 1000


def cross_entropy_and_gradient_(
    outputs: Float[Tensor, "classes *n"], labels: Int[Tensor, "*n"], n_mean: int
) -> tuple[Float[Tensor, "*n"], Bool[Tensor, "*n"]]:
    """The cross-entropy of every example in nats, −log softmax(outputs)[label], float64, and which are answered
    correctly: those whose label has a larger logit than every other class; a tie is no answer, and neither is NaN. Over
    the outputs it writes the gradient with respect to them of the sum of the losses divided by `n_mean`,
    (softmax − onehot)/n_mean.

    Gradients below 1e-30 are set to zero: late in training most are, and on them and on what they multiply a processor
    falls back to denormal arithmetic, which made a step up to five times slower.

    >>> outputs = torch.zeros(4, 1)  # four classes, one example: every answer is as likely
    >>> losses, correct = cross_entropy_and_gradient_(outputs, torch.tensor([2]), n_mean=1)
    >>> round(losses.item(), 4), correct.tolist(), outputs[:, 0].tolist()
    (1.3863, [False], [0.25, 0.25, -0.75, 0.25])
    """
    label = labels[None]
    exponentials, wrong, gap, correct = _shifted(outputs, label)
    total = (wrong + gap.exp()).mul_(n_mean)
    d_outputs = torch.threshold_(exponentials.div_(total), 1e-30, 0)
    outputs.copy_(d_outputs.scatter_(0, label, functional.hardshrink(-wrong / total, 1e-30)))
    return _losses(wrong, gap), correct


def cross_entropy_and_correctness(
    outputs: Float[Tensor, "classes *n"], labels: Int[Tensor, "*n"]
) -> tuple[Float[Tensor, "*n"], Bool[Tensor, "*n"]]:
    """The losses and correct answers of `cross_entropy_and_gradient_`, without the gradient; `outputs` are not written
    to.

    >>> losses, correct = cross_entropy_and_correctness(torch.tensor([[0.0], [30.0]]), torch.tensor([1]))
    >>> f"{losses.item():.3e}", correct.tolist()  # e⁻³⁰: a sum close to 1 would have no digit of it
    ('9.358e-14', [True])
    """
    _, wrong, gap, correct = _shifted(outputs, labels[None])
    return _losses(wrong, gap), correct


def differentiable_cross_entropy(
    outputs: Float[Tensor, "classes n"], labels: Int[Tensor, " n"]
) -> tuple[Float[Tensor, " n"], Bool[Tensor, " n"]]:
    """The losses and correct answers once more, up to rounding, by operations that torch.func can differentiate and
    vectorize: log(1 + exp x) in float64 with x = log Σ_{c ≠ label} exp(logit_c) − logit_label.

    >>> outputs = torch.tensor([[5.0, 0.0], [2.0, 0.0]])
    >>> losses, correct = differentiable_cross_entropy(outputs, torch.tensor([0, 0]))
    >>> losses.numpy().round(4).tolist(), correct.tolist()  # a tie is no answer
    ([0.0486, 0.6931], [True, False])
    """
    logits, label = outputs.double().T, labels[:, None]
    right = logits.gather(1, label)[:, 0]
    others = logits.scatter(1, label, -torch.inf)
    return functional.softplus(others.logsumexp(1) - right, threshold=40), right > others.amax(1)


def _shifted(outputs: Tensor, label: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """With the highest logit M: exp(logit − M) with zeros at the labels, its sums, logit_label − M, and which are
    answered correctly."""
    logits = outputs.to(torch.float64, copy=True)
    right = logits.gather(0, label)
    others = logits.scatter_(0, label, -torch.inf).amax(0, keepdim=True)
    highest = torch.maximum(right, others)
    exponentials = logits.sub_(highest).exp_()
    return exponentials, exponentials.sum(0, keepdim=True), right - highest, (right > others)[0]


def _losses(wrong: Tensor, gap: Tensor) -> Tensor:
    """log(wrong + exp(gap)) − gap. A small loss has the relative precision of float64: it is never told from a sum
    close to 1."""
    return torch.log1p(wrong + torch.expm1(gap)).sub_(gap)[0]


def judge_(
    outputs: Float[Tensor, "classes n"], labels: Int[Tensor, " n"]
) -> tuple[Float[Tensor, " n"], Bool[Tensor, " n"]]:
    """The losses and correct answers in the type of the outputs, several times as fast as
    `cross_entropy_and_correctness`; it writes over the outputs.

    >>> losses, correct = judge_(torch.tensor([[0.0, 1.0], [0.0, 0.0]]), torch.tensor([0, 0]))
    >>> losses.numpy().round(4).tolist(), correct.tolist()  # a tie is no answer
    ([0.6931, 0.3133], [False, True])
    """
    losses, leads = losses_and_leads_(outputs, labels)
    return losses, leads > 0


def losses_and_leads_(
    outputs: Float[Tensor, "classes n"], labels: Int[Tensor, " n"]
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """The cross-entropy, and by how much the logit of the label is above the highest other; it writes over the outputs.

        loss = log(1 + exp(x)),   x = log Σ_{c ≠ label} exp(logit_c) − logit_label

    Only the last step is in float64. A small loss is exp(x), and not a sum close to 1 from which that must be told:
    even from float32 logits it has their own relative precision. Of many examples, give it `PAIRS_AT_ONCE`.

    >>> losses, leads = losses_and_leads_(torch.tensor([[5.0], [2.0]]), torch.tensor([0]))
    >>> round(losses.item(), 4), leads.item()
    (0.0486, 3.0)
    """
    leads, totals = leads_and_totals_(outputs, labels)
    return losses_from(leads, totals), leads


def leads_and_totals_(
    outputs: Float[Tensor, "classes n"], labels: Int[Tensor, " n"]
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """By how much the logit of the label is above the highest other, and Σ_{c ≠ label} exp(logit_c − highest other):
    all that the loss needs of the classes.

    >>> leads, totals = leads_and_totals_(torch.tensor([[5.0], [2.0], [2.0]]), torch.tensor([0]))
    >>> leads.item(), totals.item()
    (3.0, 2.0)
    """
    right = outputs.gather(0, labels[None])[0]
    outputs.scatter_(0, labels[None], -torch.inf)
    highest = outputs.amax(0)
    # Below -80 a term is nothing beside the highest one's 1, but float32 goes denormal there, ten times as slow.
    return right - highest, outputs.sub_(highest).clamp_(min=-80).exp_().sum(0)


def losses_from(leads: Float[Tensor, "*n"], totals: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """The losses, from what `leads_and_totals_` gives.

    >>> round(losses_from(torch.tensor([0.0]), torch.tensor([3.0])).item(), 4)  # three others as high: ln 4
    1.3863
    """
    return functional.softplus((totals.log() - leads).double(), threshold=40)
