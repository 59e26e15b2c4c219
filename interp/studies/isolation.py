"""A circuit isolated out of a checkpoint: the least weight norm that holds it alone, at a given strength.

A checkpoint has two circuits (`interp.mathematics.circuits`). As functions of d, what class u is off by from the sum of
the pair, they are

    g(d)   the mean of the centred logits over held-out pairs: the generalizing circuit
    m(d)   the mean over training pairs of what is left, L_c − g, and over d and −d, which the task does not tell apart:
           the memorizing one

and each separates the label from the class that is off by d by Δ(d) = g(0) − g(d) (or of m). Scaled to the strength s,
a network is trained, with weight decay, until on each of its pairs the label is ahead of every class at least as far:

    loss = mean over pairs of  Σ_d max(0, s·Δ(d)/g(0) − (L(label) − L(label + d)))²  /  Σ_d (s·Δ(d)/g(0))²

which is 1 for a network that says nothing. At rest AdamW is at a minimum of loss + ½ eps·wd·‖w‖² (`DecayDesign`), and
where eps·wd is small that is the least norm nearby at which every pair is answered so clearly: a margin, as of a
support vector machine. It holds a strength, as cross-entropy does not, and asks for no more. Squared error on the
logits themselves would ask that each of them is exact: also that a memory gives other classes, below the label, no more
and no less than it is told, which no answer needs.


The circuit is held on all pairs of the table and begins from the weights of the checkpoint; memory is held on D of its
training pairs, and begins from the weights that the run began with, in which there is no circuit.

It does not hold all that it is told: eps·wd > 0 pulls against the loss, of which the lead over the class next to the
label (`least_separation`) is a small part. Modulo 43 isolated circuits have less than half of the lead that g has, and
what is compared at one logit of the label is then less clear than it was.

It cannot tell a memory from a circuit that it grows on the way: a network counts as one circuit where the other
has at most a tenth of the label's logit (`memory_share`), which pairs show that could not have been memorized.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from interp.experiment import ModelConfig, Task, TrainingConfig
from interp.machine import one_thread
from interp.mathematics import circuits
from interp.mathematics.losses import Loss
from interp.models import Weights
from interp.runs import Checkpoint, Run, centred_logits, phase_pairs
from interp.training import Batch, WeightUpdater, loss_and_gradient

# Of the label's logit: a network is one circuit where the other has no more.
LARGEST_OTHER = 0.1
# A network is at rest where its norm has no larger range over this last part of its training: of one that a slingshot
# threw about, the norms at any two steps may happen to agree.
LATE, LARGEST_RANGE = 0.25, 0.03


class Parts(NamedTuple):
    """The two circuits of a checkpoint as functions of d: g and m."""

    circuit: Float[Tensor, " p"]
    memory: Float[Tensor, " p"]

    def clearness(self) -> float:
        """By how much the label is ahead of every other class in both of them; NaN where one is unknown.

        >>> Parts(torch.tensor([4.0, 1.0, 0.0]), torch.tensor([2.0, -1.0, 0.5])).clearness()
        1.5
        """
        return min(float((part[0] - part[1:]).min()) for part in self)


def parts_of(checkpoint: Checkpoint) -> Parts:
    """g and m of a checkpoint of a task that has phases; NaN where there are too few held-out pairs.

    >>> import interp
    >>> parts = parts_of(interp.open_run(interp.reference_path())[0])
    >>> parts.circuit.shape, parts.clearness() > 0
    (torch.Size([43]), False)
    """
    pairs = phase_pairs(checkpoint.task)
    logits = centred_logits(checkpoint, pairs)
    circuit = circuits.profiles(logits, pairs).held_out[0]
    n = len(circuit)
    off = (pairs.sums[:, None] - torch.arange(n)) % n
    on_training = pairs.is_train
    left = logits[on_training].double() - circuit[off[on_training]]
    memory = torch.zeros(n, dtype=torch.float64).index_add_(0, off[on_training].flatten(), left.flatten())
    memory /= max(1, int(on_training.sum()))
    return Parts(circuit, (memory + memory[-torch.arange(n) % n]) / 2)


def with_both_circuits(run: Run) -> tuple[Checkpoint, Parts] | None:
    """The checkpoint of a run in which both circuits answer most clearly (`Parts.clearness`); None where in none of
    them both do."""
    best, found = 0.0, None
    for step in run.steps:
        parts = parts_of(checkpoint := run[step])
        if parts.clearness() > best:
            best, found = parts.clearness(), (checkpoint, parts)
    return found


def memory_share(checkpoint: Checkpoint) -> float:
    """M/(C + M), the share of memory in the mean logit of the label on training pairs, held out
    (`interp.mathematics.circuits.strengths`); NaN where too few pairs are held out.

    >>> import interp
    >>> memory_share(interp.open_run(interp.reference_path()).last) < LARGEST_OTHER
    True
    """
    pairs = phase_pairs(checkpoint.task)
    circuit, memory = circuits.strengths(centred_logits(checkpoint, pairs), pairs)
    return memory / (circuit + memory)


def separations(part: Float[Tensor, " p"], strength: float) -> Float[Tensor, " p"]:
    """Δ(d), how far the label of a circuit is ahead of the class that is off by d, when its logit is `strength`.

    >>> separations(torch.tensor([1.0, 0.0, -1.0]), 4.0).tolist()
    [0.0, 4.0, 8.0]
    """
    return (part[0] - part) * (strength / part[0])


def least_separation(part: Float[Tensor, " p"]) -> float:
    """How far the label of a circuit is ahead of the class next to it, over the label's logit.

    >>> least_separation(torch.tensor([4.0, 1.0, -5.0]))
    0.75
    """
    return float((part[0] - part[1:].max()) / part[0])


def held_profile(checkpoint: Checkpoint) -> Float[Tensor, " p"]:
    """The mean of the centred logits over training pairs, as a function of d: all that a network of one circuit says.

    >>> import interp
    >>> held_profile(interp.open_run(interp.reference_path()).last).argmax().item()
    0
    """
    pairs = phase_pairs(checkpoint.task)
    logits = centred_logits(checkpoint, pairs)[pairs.is_train].double()
    of_class = (pairs.sums[pairs.is_train][:, None] - torch.arange(logits.shape[1])) % logits.shape[1]
    total = torch.zeros(logits.shape[1], dtype=torch.float64)
    return total.index_add_(0, of_class.flatten(), logits.flatten()) / len(logits)


def separation_loss(wanted: Float[Tensor, " p"]) -> Loss:
    """The loss: how far the labels fall short of being ahead as far as `wanted` [d], squared, over the sum of its
    squares. Labels and classes are residues; "correct" is ahead of all others.

    >>> loss = separation_loss(torch.tensor([0.0, 2.0, 2.0]))
    >>> logits = torch.tensor([[0.0, 3.0, 1.0], [0.0, 0.0, 0.0], [0.0, 0.0, 3.0]])  # [class, pair]
    >>> losses, correct = loss.judge(logits, torch.tensor([0, 0, 0]))
    >>> losses.tolist(), correct.tolist()
    ([1.0, 0.0, 2.125], [False, True, False])
    """
    n, wanted = len(wanted), wanted.double()
    residue = torch.arange(n)
    table = wanted[(residue - residue[:, None]) % n]  # [class, label]: Δ(label − class)
    scale = wanted.square().sum()

    def falls_short(outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        logits = outputs.double()
        ahead = logits.gather(0, labels[None]) - logits
        return (table[:, labels] - ahead).clamp_(min=0), (ahead > 0).sum(0) == n - 1

    def judge(outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        short, correct = falls_short(outputs, labels)
        return short.square().sum(0) / scale, correct

    def judge_with_gradient_(outputs: Tensor, labels: Tensor, n_mean: int) -> tuple[Tensor, Tensor]:
        short, correct = falls_short(outputs, labels)
        losses = short.square().sum(0) / scale
        d_outputs = short.mul_(2 / (scale * n_mean))
        outputs.copy_(d_outputs.scatter_add_(0, labels[None], -d_outputs.sum(0, keepdim=True)))
        return losses, correct

    return Loss(judge, judge_with_gradient_, judge)


Gradient = Callable[[Weights], tuple[float, Weights]]


def until_rest(weights: Weights, gradient: Gradient, config: TrainingConfig) -> tuple[Weights, float, float]:
    """A copy of the weights after `config.steps` full-batch updates, the last loss, and the range of their norm over
    the last quarter of them (highest over lowest, less one).

    >>> def pull(weights):  # (1 − 100·a·b)²: of all with 100·a·b = 1 the shortest has a = b = 0.1
    ...     a, b = weights["a"], weights["b"]
    ...     short = 1 - 100 * a * b
    ...     return float(short**2), {"a": -200 * short * b, "b": -200 * short * a}
    >>> start = {"a": torch.tensor(0.3), "b": torch.tensor(0.01)}
    >>> config = TrainingConfig(steps=4000, lr=0.005, eps=0.01, weight_decay=1, warmup=0)
    >>> rested, loss, norm_range = until_rest(start, pull, config)
    >>> [round(value.item(), 3) for value in rested.values()], norm_range < 0.01
    ([0.1, 0.1], True)
    """
    weights = {name: weight.clone() for name, weight in weights.items()}
    updater, loss, late = WeightUpdater([weights], config), float("nan"), list[float]()
    for step in range(config.steps):
        loss, slopes = gradient(weights)
        updater.update(step, [slopes])
        if step + 1 >= (1 - LATE) * config.steps:
            late.append(norm(weights))
    return weights, loss, max(late) / min(late) - 1


def norm(weights: Weights) -> float:
    """The L2 norm of all weights.

    >>> norm({"a": torch.tensor([3.0]), "b": torch.tensor([[4.0]])})
    5.0
    """
    return sum(float(weight.double().square().sum()) for weight in weights.values()) ** 0.5


def isolate(
    start: Weights, model: ModelConfig, task: Task, wanted: Float[Tensor, " p"], config: TrainingConfig
) -> tuple[Weights, float, float]:
    """`until_rest`, of a network whose labels, on the training pairs of an addition table, are to be ahead as far as
    `wanted` [d]."""
    batch, loss = Batch.of(task, "train"), separation_loss(wanted)

    def gradient(weights: Weights) -> tuple[float, Weights]:
        value, _, slopes = loss_and_gradient(weights, model, batch, loss=loss)
        return value, slopes

    with one_thread():
        return until_rest(start, gradient, config)
