"""Training: an experiment in, snapshots out. It touches no file."""

from interp.training.batches import Batch, unmirrored_of_test
from interp.training.loop import (
    METRICS,
    check_device,
    evaluate,
    loss_and_gradient,
    mean,
    measured,
    threads_of_torch,
    train,
    train_stepwise,
    worker_threads,
)
from interp.training.optimizers import WeightUpdater

__all__ = [
    "METRICS",
    "Batch",
    "WeightUpdater",
    "check_device",
    "evaluate",
    "loss_and_gradient",
    "mean",
    "measured",
    "threads_of_torch",
    "train",
    "train_stepwise",
    "unmirrored_of_test",
    "worker_threads",
]
