"""Training: an experiment in, snapshots out. It touches no file."""

from interp.training.batches import Batch, unmirrored_of_test
from interp.training.loop import METRICS, Moment, check_device, measured, together, train
from interp.training.loss import evaluate, loss_and_gradient, mean, threads_of_torch, worker_threads
from interp.training.optimizers import WeightUpdater

__all__ = [
    "METRICS",
    "Batch",
    "Moment",
    "WeightUpdater",
    "check_device",
    "evaluate",
    "loss_and_gradient",
    "mean",
    "measured",
    "threads_of_torch",
    "together",
    "train",
    "unmirrored_of_test",
    "worker_threads",
]
