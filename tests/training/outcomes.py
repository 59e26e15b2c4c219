"""How 64 small networks end: trained each as it is alone, as one batch, and as one batch at half the learning rate.

python tests/training/outcomes.py

For each of the three, as JSON: the steps until 99 % of the training pairs, and the test accuracies at the end. It is
run in a process of its own, where nobody checks the types of every call.
"""

import json
import sys
from dataclasses import replace

from interp.experiment import Experiment, ModelConfig, Task, TrainingConfig
from interp.models import Snapshot
from interp.training import side_by_side, together

TASK, MODEL = Task(11, train_fraction=0.6), ModelConfig(d_model=16, n_heads=2, d_mlp=32)
TRAINING = TrainingConfig(steps=60, lr=2e-2, betas=(0.9, 0.95), warmup=0, checkpoint_every=None, log_every=4)


def outcomes(training: TrainingConfig) -> tuple[list[int], list[float]]:
    """Of 64 seeds."""
    seeds = [Experiment(replace(TASK, seed=seed), replace(MODEL, seed=seed), training) for seed in range(64)]
    found: list[list[Snapshot]] = [[] for _ in seeds]
    for moment in together(seeds):
        for place, snapshot in (moment or {}).items():
            assert isinstance(snapshot, Snapshot)
            found[place].append(snapshot)
    known = [
        next((one.step for one in own if one.metrics["train_accuracy"] >= 0.99), training.steps + 1) for own in found
    ]
    return known, [own[-1].metrics["test_accuracy"] for own in found]


if __name__ == "__main__":
    alone = outcomes(TRAINING)
    side_by_side._has_cores = lambda device: False
    sys.stdout.write(json.dumps([alone, outcomes(TRAINING), outcomes(replace(TRAINING, lr=1e-2))]))
