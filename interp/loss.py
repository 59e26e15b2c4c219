"""The loss: cross-entropy in float64, its gradient, and which answers are right.

The log-softmax is that of the logits in float64, whatever their type: float32 cannot resolve a loss below 1.2e-7 and makes spikes of
its own. Examples are the last axis of the logits, as `interp.factored` gives them.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

PAIRS_AT_ONCE = 1000  # so many examples stay in the processor's cache; a power of two would put a column's values into the same few lines


def cross_entropy(outputs: Float[Tensor, "classes n"], labels: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """The cross-entropy of every example in nats, −log softmax(outputs)[label], float64."""
    return -outputs.double().log_softmax(0).gather(0, labels[None])[0]


def mean_cross_entropy_and_gradient(
    outputs: Float[Tensor, "classes n"], labels: Int[Tensor, " n"]
) -> tuple[float, Float[Tensor, "classes n"]]:
    """The mean cross-entropy and its gradient with respect to the logits, (softmax − onehot)/n, in their own type.

    Gradients below 1e-30 are set to zero: late in training most are, and on them and on what they multiply a processor falls back to
    denormal arithmetic, which made a step up to five times slower.
    """
    examples = torch.arange(len(labels))
    log_probabilities = outputs.double().log_softmax(0)
    loss = -log_probabilities[labels, examples].mean().item()
    d_logits = log_probabilities.exp_()
    d_logits[labels, examples] -= 1
    return loss, torch.nn.functional.hardshrink(d_logits.div_(len(labels)).to(outputs.dtype), 1e-30)


def is_correct(outputs: Float[Tensor, "classes n"], labels: Int[Tensor, " n"]) -> Bool[Tensor, " n"]:
    """Whether the logit of the label is larger than every other; a tie is no answer, and neither is NaN."""
    others = outputs.scatter(0, labels[None], -torch.inf)
    return outputs.gather(0, labels[None])[0] > others.amax(0)


def judge_(outputs: Float[Tensor, "classes n"], labels: Int[Tensor, " n"]) -> tuple[Float[Tensor, " n"], Bool[Tensor, " n"]]:
    """`cross_entropy` and `is_correct` at once and several times as fast; it writes over the outputs."""
    losses, leads = losses_and_leads_(outputs, labels)
    return losses, leads > 0


def losses_and_leads_(outputs: Float[Tensor, "classes n"], labels: Int[Tensor, " n"]) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """`cross_entropy`, and by how much the logit of the label is above the highest other; it writes over the outputs.

        loss = log(1 + exp(x)),   x = log Σ_{c ≠ label} exp(logit_c) − logit_label

    Only the last step is in float64. A small loss is exp(x), and not a sum close to 1 from which that must be told: even from float32
    logits it has their own relative precision. Of many examples, give it `PAIRS_AT_ONCE`.
    """
    right = outputs.gather(0, labels[None])[0]
    outputs.scatter_(0, labels[None], -torch.inf)
    highest = outputs.amax(0)
    # Below -80 a term is nothing beside the highest one's 1, but float32 goes denormal there, ten times as slow.
    total = outputs.sub_(highest).clamp_(min=-80).exp_().sum(0)
    x = (highest - right) + total.log_()
    return torch.nn.functional.softplus(x.double(), threshold=40), right - highest
