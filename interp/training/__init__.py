"""Training: an experiment in, snapshots out. It touches no file."""

from interp.training.at_once import MOST_AT_ONCE, networks_at_once
from interp.training.batches import Batch
from interp.training.groups import check_together, group_of, groups
from interp.training.loop import HIGHEST, Moment, check_device, check_observable, check_regularizable, together, train
from interp.training.loss import (
    evaluate,
    loss_and_gradient,
    tables_are_faster,
    threads_of_torch,
    worker_threads,
)
from interp.training.metrics import METRICS
from interp.training.observers import GRADIENTS, MOST_STEPS, OBSERVERS, GradientSketch, Observer, observed_bytes
from interp.training.optimizers import WeightUpdater
from interp.training.prequential import ONLINE

__all__ = [
    "GRADIENTS",
    "HIGHEST",
    "METRICS",
    "MOST_AT_ONCE",
    "MOST_STEPS",
    "OBSERVERS",
    "ONLINE",
    "Batch",
    "GradientSketch",
    "Moment",
    "Observer",
    "WeightUpdater",
    "check_device",
    "check_observable",
    "check_regularizable",
    "check_together",
    "evaluate",
    "group_of",
    "groups",
    "loss_and_gradient",
    "networks_at_once",
    "observed_bytes",
    "tables_are_faster",
    "threads_of_torch",
    "together",
    "train",
    "worker_threads",
]
