"""Transformers on modular addition for a study of bias and variance: draws of training pairs beside one test set.

Of the p² pairs all are known, and a pair that one draw tests another may train on: a mean over such draws mixes what
was seen with what was not. So one test set is drawn once, closed under the mirror (a, b) ↔ (b, a) that addition cannot
tell apart, and every draw takes its training pairs from the rest.

What it cannot tell: draws of a share f of the rest have a share f of theirs in common. What varies is the choice of
pairs, not the table.
"""

import numpy as np
import torch
from jaxtyping import Float, Int

from interp.errors import check_integer, check_number
from interp.experiment import Experiment, ModelConfig, Task, TrainingConfig
from interp.runs import Run
from interp.sweeps import GridRun

TEST_SHARE, TEST_SEED = 0.2, 0
D_MODEL, LR = 32, 1e-2


def fixed_test_pairs(p: int, share: float = TEST_SHARE, seed: int = TEST_SEED) -> Int[np.ndarray, " pairs"]:
    """Indices a·p + b, ascending, of about that share of the pairs, with (b, a) for every (a, b); at least one.

    >>> fixed_test_pairs(4).tolist()
    [3, 11, 12, 14]
    """
    check_number("share", share, 0, 1, above=True, below=True)
    rng = np.random.RandomState([seed, p])
    a, b = np.divmod(np.arange(p**2), p)
    unordered = np.flatnonzero(a <= b)
    chosen = set[int]()
    for index in rng.permutation(unordered).tolist():
        chosen |= {index, int(b[index] * p + a[index])}
        if len(chosen) >= share * p**2:
            break
    return np.array(sorted(chosen))


def addition_run(
    p: int, neurons: int, fraction: float, draw: int, seed: int, *, steps: int, checkpoint_log: int
) -> GridRun:
    """A run of a grid: a one-layer transformer trained on a share of the pairs that are not in the fixed test set.
    `draw` names which, `seed` the first weights. Beside its first and last weights it keeps `checkpoint_log`
    checkpoints whose steps are evenly spaced in their logarithm. Raises InputError for sizes that cannot be.

    >>> run = addition_run(7, 16, 0.5, draw=1, seed=0, steps=20, checkpoint_log=3)
    >>> trained = run.experiment.task.train_indices
    >>> run.name, len(trained), set(trained) & set(fixed_test_pairs(7))
    ('addition-h16-draw1-seed0', 19, set())
    """
    check_integer("p", p, 3, 4096)
    check_number("fraction", fraction, 0, 1, above=True)
    rest = np.setdiff1d(np.arange(p**2), fixed_test_pairs(p))
    drawn = np.random.RandomState([draw, p]).permutation(rest)[: max(1, int(fraction * len(rest)))]
    training = TrainingConfig(
        steps=steps,
        lr=LR,
        log_every=max(1, steps // 20),
        checkpoint_every=None,
        checkpoint_log=checkpoint_log,
    )
    model = ModelConfig(d_model=D_MODEL, d_mlp=neurons, seed=seed)
    task = Task(p, split=tuple(sorted(drawn.tolist())), seed=draw)
    return GridRun(f"addition-h{neurons}-draw{draw}-seed{seed}", Experiment(task, model, training))


def answers(run: Run, step: int) -> tuple[Float[np.ndarray, "pair p"], Int[np.ndarray, " pair"]]:
    """The log-probabilities that the network of a checkpoint gives the sums of the fixed test pairs, and the sums."""
    p = run.task.p
    pairs = fixed_test_pairs(p)
    logits = run[step].logits.reshape(-1, p)[torch.from_numpy(pairs)].double()
    return logits.log_softmax(-1).numpy(), run.task.true_labels[pairs]
