"""The loss of one network on a batch and its gradient; of several, `interp.training.side_by_side`.

The loss (`interp.mathematics.losses`) is a mean over a batch. The plain one-layer transformer has the factored form and
its closed-form gradient (`interp.models.factored_gradient`), or token tables (`interp.models.token_tables`) where these
are faster; every other model is differentiated by torch.
"""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.experiment import Experiment, ModelConfig
from interp.machine import one_thread
from interp.mathematics.losses import CROSS_ENTROPY, Loss
from interp.models import Drop, Weights, factored_gradient, is_factored, logits, token_tables
from interp.training.batches import Batch


def tables_are_faster(experiment: Experiment, device: str = "cpu") -> bool:
    """Whether an experiment is trained by token tables (`interp.models.token_tables`), if nothing else is said.

    >>> tables_are_faster(Experiment()), tables_are_faster(Experiment(model=ModelConfig(n_layers=2)))
    (True, False)
    """
    if device != "cpu" or not is_factored(experiment.model):
        return False
    n_examples = experiment.training.batch_size or len(experiment.task.train_indices)
    return token_tables.is_faster(experiment.model, experiment.task.n_classes, n_examples)


def loss_and_gradient(
    weights: Weights,
    model: ModelConfig,
    batch: Batch,
    each: factored_gradient.Each = map,
    *,
    loss: Loss = CROSS_ENTROPY,
    by_tables: bool = False,
    drop: Drop | None = None,
) -> tuple[float, Bool[Tensor, " n"], Weights]:
    """The mean loss of a batch, which of its answers are correct, and the gradient of the loss; of the factored network
    also `by_tables`, the same but for rounding. With `drop`, which the neurons of each layer in turn go through, all
    three are of the network with it, differentiated by torch.

    >>> from interp.experiment import Task
    >>> from interp.models import initial_weights
    >>> weights = initial_weights(model := ModelConfig(d_model=128), 7)
    >>> loss, correct, gradient = loss_and_gradient(weights, model, Batch.of(Task(7), "train"))
    >>> abs(loss - math.log(7)) < 1, len(correct), gradient.keys() == weights.keys()
    (True, 14, True)
    """
    if is_factored(model) and drop is None:
        with one_thread():
            if by_tables:
                plan = _plan(weights, model, batch)
                losses, correct, gradient = token_tables.loss_and_gradient(weights, model, plan, each, loss=loss)
            else:
                losses, correct, gradient = factored_gradient.loss_and_gradient(
                    weights, model, batch.examples, each, loss=loss
                )
            return mean(losses), correct, gradient
    leaves = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
    outputs = logits(leaves, model, batch.inputs, drop)
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
    by_tables: bool = False,
) -> tuple[Float[Tensor, " n"], Bool[Tensor, " n"]]:
    """The loss of every example of a batch, and which of its answers are correct; see `loss_and_gradient`.

    >>> import interp
    >>> last = interp.open_run(interp.reference_path()).last
    >>> losses, correct = evaluate(last.weights, last.model, Batch.of(last.task, "test"))
    >>> len(losses), bool(correct.all())
    (1017, True)
    """
    if is_factored(model):
        with one_thread():
            if by_tables and len(batch):
                return token_tables.evaluate(weights, model, _plan(weights, model, batch), each, loss=loss)
            return factored_gradient.evaluate(weights, model, batch.examples, each, loss=loss)
    return loss.judge(logits(weights, model, batch.inputs).T, batch.labels)


def _plan(weights: Weights, model: ModelConfig, batch: Batch) -> token_tables.Plan:
    return batch.plan(weights["unembed.W_U"].shape[1], model.n_heads)


def mean(values: Tensor) -> float:
    """The mean, in float64; NaN where there are no values.

    >>> mean(torch.tensor([1.0, 2.0])), mean(torch.tensor([]))
    (1.5, nan)
    """
    return values.double().mean().item() if len(values) else math.nan


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
