"""The networks on handwritten digits that double descent, effective model complexity and bias and variance are studied
on: one run of a grid, and what is read of it.

An MLP of 64 gray values (centered, of mean square 1), `n_layers` hidden layers of `width` ReLUs with biases, and ten
classes, drawn as torch.nn.Linear draws its weights, is trained on all of its n digits at every step, by AdamW (without
weight decay that is Adam: lr 3e-3, β = (0.9, 0.999)) on the cross-entropy of labels of which a share is wrong. Tested
are always the same 797 digits, with their own labels. `draw` names which n of the other 1,000 are trained on and which
labels are wrong, `seed` the first weights.

What it cannot tell: two draws of n of the 1,000 digits share n/1000 of theirs on average, so that what varies between
draws is less than between independent ones, and at n = 1000 it is the wrong labels alone.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.experiment import Experiment, ModelConfig, Samples, TrainingConfig
from interp.runs import Checkpoint, Run
from interp.sweeps import GridRun

N_TEST = 797
N_OTHERS = 1000  # digits that are not tested on: the most that can be trained on
TEST_SEED = 0
STEPS, LR = 2000, 3e-3


def digit_run(
    width: int,
    n: int,
    noise: float,
    draw: int,
    seed: int,
    *,
    steps: int = STEPS,
    weight_decay: float = 0.0,
    lr: float = LR,
    n_layers: int = 1,
    checkpoint_log: int | None = None,
) -> GridRun:
    """A run of a grid. Beside its first and last weights it keeps `checkpoint_log` checkpoints whose steps are evenly
    spaced in their logarithm, and logs losses and accuracies at these and at 20 evenly spaced steps. Its name says in
    what it differs from the defaults. Raises InputError for sizes that cannot be.

    >>> run = digit_run(16, 800, 0.2, draw=1, seed=0)
    >>> run.name, run.experiment.task.title, len(run.experiment.task.noisy_indices)
    ('h16-n800-noise0.2-draw1-seed0', '1,597 digits', 160)
    >>> digit_run(16, 800, 0.2, draw=1, seed=0, steps=6000, weight_decay=0.3).name
    'h16-n800-noise0.2-draw1-seed0-steps6000-wd0.3'
    """
    task = Samples(
        "digits", n_train=n, n_test=N_TEST, seed=draw, label_noise=noise, test_seed=TEST_SEED, scaling="centered"
    )
    model = ModelConfig(family="mlp", n_layers=n_layers, d_mlp=width, biases=True, initialization="uniform", seed=seed)
    training = TrainingConfig(
        steps=steps,
        lr=lr,
        weight_decay=weight_decay,
        betas=(0.9, 0.999),
        warmup=0,
        checkpoint_every=None,
        checkpoint_log=checkpoint_log,
        log_every=max(1, steps // 20),
    )
    beyond = {
        "layers": (n_layers, 1),
        "steps": (steps, STEPS),
        "lr": (lr, LR),
        "wd": (weight_decay, 0.0),
        "kept": (checkpoint_log, None),
    }
    parts = [f"h{width}", f"n{n}", f"noise{noise:g}", f"draw{draw}", f"seed{seed}"]
    parts += [f"{word}{value:g}" for word, (value, usual) in beyond.items() if value != usual]
    return GridRun("-".join(parts), Experiment(task, model, training))


class DigitScores(NamedTuple):
    """Of one network at one step: the share of the training digits that it does not give the label trained on, which
    may be wrong; and of the test digits, by their own labels, the share that it gets wrong, the mean squared error of
    its probabilities summed over the classes (Brier score, from 0 to 2), and the mean cross-entropy in nats."""

    training_error: float
    test_error: float
    brier: float
    cross_entropy: float


def digit_scores(run: Run, step: int | None = None) -> DigitScores:
    """The scores of a run at a step of which there is a checkpoint, by default the last. Raises InputError for another
    step.

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from interp.sweeps import run_grid
    >>> with TemporaryDirectory() as folder:
    ...     one = digit_run(4, 50, 0.2, draw=0, seed=0, steps=20)
    ...     scores = digit_scores(run_grid(Path(folder), [one], processes=1)[one.name])
    >>> scores._fields, 0.5 < scores.test_error < 1
    (('training_error', 'test_error', 'brier', 'cross_entropy'), True)
    """
    checkpoint = _checkpoint(run, step)
    return DigitScores(
        training_error=1 - checkpoint.accuracy("train"),
        test_error=1 - checkpoint.accuracy("test"),
        brier=brier(_probabilities(checkpoint), digit_labels(run)),
        cross_entropy=checkpoint.loss("test"),
    )


def digit_probabilities(run: Run, step: int | None = None) -> Float[Tensor, "test classes"]:
    """What the network gives every class of every test digit, softmax of its logits in float64, at a step of which
    there is a checkpoint, by default the last. The test digits of all runs of `digit_run` are the same, in one
    order."""
    return _probabilities(_checkpoint(run, step))


def digit_labels(run: Run) -> Int[Tensor, " test"]:
    """The labels of the test digits, none of which is wrong."""
    return torch.from_numpy(run.task.labels[run.task.mask("test")])


def brier(probabilities: Float[Tensor, "n classes"], labels: Int[Tensor, " n"]) -> float:
    """The mean of Σ_c (p_c − 1[c is the label])²: 0 for who is sure and right, 2 for who is sure and wrong, and
    1 − 1/K for who gives all K classes the same (Brier 1950).

    >>> brier(torch.tensor([[0.5, 0.5], [1.0, 0.0]]), torch.tensor([0, 1]))
    1.25
    """
    right = torch.nn.functional.one_hot(labels, probabilities.shape[1])
    return (probabilities - right).square().sum(1).mean().item()


def _checkpoint(run: Run, step: int | None) -> Checkpoint:
    return run.last if step is None else run[step]


def _probabilities(checkpoint: Checkpoint) -> Float[Tensor, "test classes"]:
    test = torch.from_numpy(checkpoint.task.mask("test"))
    return checkpoint.logits[test].double().softmax(1)
