"""Training: an experiment in, snapshots out. It touches no file."""

from interp.training.batches import Batch
from interp.training.loop import METRICS, check_device, together, train
from interp.training.loss import evaluate, loss_and_gradient, threads_of_torch, worker_threads
from interp.training.optimizers import WeightUpdater

__all__ = [
    "METRICS",
    "Batch",
    "WeightUpdater",
    "check_device",
    "evaluate",
    "loss_and_gradient",
    "threads_of_torch",
    "together",
    "train",
    "worker_threads",
]
