"""The loss of networks on batches and its gradient: of one, and of several that are trained side by side.

The loss (`interp.mathematics.losses`) is a mean over a batch. Of several networks on a CPU each has a core to
itself, with the factored form and its closed-form gradient (`interp.models.factored_gradient`), and is the same to the
last bit as alone. On a GPU, which one small network does not fill, and for every other model, the weights of all are
one batch: the general model (`interp.models.forward`), vectorized and differentiated by torch.func; each is the same up
to rounding.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.experiment import ModelConfig
from interp.machine import one_thread
from interp.mathematics.losses import CROSS_ENTROPY, Loss
from interp.models import Weights, embed, factored_gradient, is_factored, logits, transform
from interp.training.batches import Batch

Judged = tuple[Float[Tensor, " n"], Bool[Tensor, " n"]]  # the losses of examples, and which are answered correctly


def loss_and_gradient(
    weights: Weights,
    model: ModelConfig,
    batch: Batch,
    each: factored_gradient.Each = map,
    *,
    loss: Loss = CROSS_ENTROPY,
) -> tuple[float, Bool[Tensor, " n"], Weights]:
    """The mean loss of a batch, which of its answers are correct, and the gradient of the loss.

    >>> from interp.experiment import Task
    >>> from interp.models import initial_weights
    >>> weights = initial_weights(model := ModelConfig(d_model=128), 7)
    >>> loss, correct, gradient = loss_and_gradient(weights, model, Batch.of(Task(7), "train"))
    >>> abs(loss - math.log(7)) < 1, len(correct), gradient.keys() == weights.keys()
    (True, 14, True)
    """
    if is_factored(model):
        with one_thread():
            losses, correct, gradient = factored_gradient.loss_and_gradient(
                weights, model, batch.examples, each, loss=loss
            )
            return mean(losses), correct, gradient
    leaves = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
    outputs = transform(leaves, model, embed(leaves, model, batch.inputs)).logits
    d_outputs = outputs.detach().T.clone()
    losses, correct = loss.judge_with_gradient_(d_outputs, batch.labels, len(batch))
    gradients = torch.autograd.grad(outputs, list(leaves.values()), d_outputs.T)
    return mean(losses), correct, dict(zip(leaves, gradients, strict=True))


@torch.no_grad()
def evaluate(
    weights: Weights,
    model: ModelConfig,
    batch: Batch,
    each: factored_gradient.Each = map,
    *,
    loss: Loss = CROSS_ENTROPY,
) -> tuple[Float[Tensor, " n"], Bool[Tensor, " n"]]:
    """The loss of every example of a batch, and which of its answers are correct.

    >>> import interp
    >>> last = interp.open_run(interp.reference_path()).last
    >>> losses, correct = evaluate(last.weights, last.model, Batch.of(last.task, "test"))
    >>> len(losses), bool(correct.all())
    (1017, True)
    """
    if is_factored(model):
        with one_thread():
            return factored_gradient.evaluate(weights, model, batch.examples, each, loss=loss)
    return loss.judge(logits(weights, model, batch.inputs).T, batch.labels)


def mean(values: Tensor) -> float:
    """The mean, in float64; NaN where there are no values.

    >>> mean(torch.tensor([1.0, 2.0])), mean(torch.tensor([]))
    (1.5, nan)
    """
    return values.double().mean().item() if len(values) else math.nan


# ---- several networks ------------------------------------------------------------------------------------------------


def losses_and_gradients(
    stacked: Weights, model: ModelConfig, batches: Sequence[Batch], each: factored_gradient.Each, loss: Loss
) -> tuple[list[float], list[Bool[Tensor, " n"]], list[Weights]]:
    """What `loss_and_gradient` gives, of every network on its batch; `stacked` has their weights along a first axis."""
    if _are_one_batch(stacked, model):
        gradient_of_one = torch.func.grad(_mean_loss(model, loss), has_aux=True)
        gradients, (losses, correct) = torch.func.vmap(gradient_of_one)(stacked, *_of_all(batches))
        return [mean(own) for own in losses], list(correct), unstacked(gradients)
    # The parts of one network's batch are shared out, or the networks.
    over, within = (map, each) if len(batches) == 1 else (each, map)
    found = over(
        lambda own, batch: loss_and_gradient(own, model, batch, within, loss=loss), unstacked(stacked), batches
    )
    losses, correct, gradients = zip(*found, strict=True)
    return list(losses), list(correct), list(gradients)


@torch.no_grad()
def evaluate_each(
    stacked: Weights, model: ModelConfig, batches: Sequence[Batch], each: factored_gradient.Each, loss: Loss
) -> list[Judged]:
    """What `evaluate` gives, of every network on its batch."""
    if _are_one_batch(stacked, model) and len(batches[0]):
        _, judged = torch.func.vmap(_mean_loss(model, loss))(stacked, *_of_all(batches))
        return list(zip(*judged, strict=True))
    over, within = (map, each) if len(batches) == 1 else (each, map)
    return list(over(lambda own, batch: evaluate(own, model, batch, within, loss=loss), unstacked(stacked), batches))


def _are_one_batch(stacked: Weights, model: ModelConfig) -> bool:
    n_networks = len(next(iter(stacked.values())))
    return n_networks > 1 and not _has_cores(stacked, model)


def _has_cores(stacked: Weights, model: ModelConfig) -> bool:
    """Whether every network is worked on by a thread of its own."""
    return is_factored(model) and next(iter(stacked.values())).device.type == "cpu"


def _mean_loss(model: ModelConfig, loss: Loss) -> Callable[[Weights, Tensor, Tensor], tuple[Tensor, Judged]]:
    """The mean loss of one network, with what it is the mean of, as a function that torch.func can differentiate."""

    def of_one(weights: Weights, inputs: Tensor, labels: Int[Tensor, " n"]) -> tuple[Tensor, Judged]:
        outputs = transform(weights, model, embed(weights, model, inputs)).logits.T
        losses, correct = loss.differentiable(outputs, labels)
        return losses.mean(), (losses, correct)

    return of_one


def _of_all(batches: Sequence[Batch]) -> tuple[Tensor, Int[Tensor, "networks n"]]:
    return torch.stack([batch.inputs for batch in batches]), torch.stack([batch.labels for batch in batches])


def unstacked(stacked: Weights) -> list[Weights]:
    """The weights of every network, as views."""
    every = zip(*(values.unbind() for values in stacked.values()), strict=True)
    return [dict(zip(stacked, own, strict=True)) for own in every]


# ---- threads ---------------------------------------------------------------------------------------------------------


@contextmanager
def worker_threads() -> Iterator[factored_gradient.Each]:
    """A `map` for as many threads as torch has, each of which works alone.

    >>> with worker_threads() as each:
    ...     list(each(math.sqrt, [1, 4, 9]))
    [1.0, 2.0, 3.0]
    """
    n_threads = torch.get_num_threads()
    if n_threads == 1:
        yield map
        return
    with ThreadPoolExecutor(n_threads, initializer=_begin_thread) as executor:
        yield executor.map


def threads_of_torch(model: ModelConfig) -> AbstractContextManager[None]:
    """One, where the parts of a batch have threads of their own (`worker_threads`): after whatever torch does with
    several, those that are done wait for more in a loop, for milliseconds, and keep a core from the parts of the next
    batch.

    >>> with threads_of_torch(ModelConfig()):
    ...     torch.get_num_threads()
    1
    """
    return one_thread() if is_factored(model) else nullcontext()


def _begin_thread() -> None:
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)  # a thread has a switch of its own
