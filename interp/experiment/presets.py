"""The experiments with a name."""

from interp.errors import unknown_name
from interp.experiment.experiment import Experiment
from interp.experiment.model import ModelConfig
from interp.experiment.task import Task
from interp.experiment.training import TrainingConfig

# How they were found, and on how many seeds and moduli: docs/time-to-grok.md.
PRESETS: dict[str, tuple[str, Experiment]] = {
    "quick": (
        "the whole story without loss spikes: lr 8e-3, 36 % of the pairs, grokking within 700 of 1,000 steps",
        Experiment(
            Task(train_fraction=0.36),
            training=TrainingConfig(steps=1000, lr=8e-3, betas=(0.95, 0.95), checkpoint_every=20),
        ),
    ),
    "spiky": (
        "`quick` until 2026-11-27: lr 2e-2, often sooner, with loss spikes within the transition, in 1,000 steps",
        Experiment(training=TrainingConfig(steps=1000, lr=2e-2, betas=(0.9, 0.95), checkpoint_every=20)),
    ),
    "fastest": (
        "99 % test accuracy in the fewest seconds, in 120 to 160 steps: hardly a delay, and little to watch",
        Experiment(
            training=TrainingConfig(
                steps=180, lr=2e-2, weight_decay=2.0, betas=(0.9, 0.95), checkpoint_every=5, log_every=5
            )
        ),
    ),
    "nanda": (
        "the published setup: lr 1e-3, 40,000 steps (Nanda et al. 2023, §3)",
        Experiment(training=TrainingConfig(steps=40_000, lr=1e-3, checkpoint_every=100)),
    ),
    "reference": (
        "the small run that ships with the package: p = 43, 45 % of the pairs",
        Experiment(
            Task(p=43, train_fraction=0.45),
            ModelConfig(d_model=32, d_mlp=128, seed=2),
            TrainingConfig(steps=3000, lr=5e-3, checkpoint_every=100, checkpoint_log=24, log_every=25),
        ),
    ),
}


def preset(name: str) -> Experiment:
    """The experiment of a preset, by name.

    >>> preset("nanda").training.steps, preset("reference").hash
    (40000, '01ec037565cf10de')
    """
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    return PRESETS[name][1]
