"""How many networks train at once: as many as the memory of the device holds, and no more than it is faster for."""

import math
import os

import torch

from interp.experiment import Experiment
from interp.models import is_factored, many_networks, weight_shapes

# With 128 a GPU is full (the products of each network are some hundred tiles of work, and it has about as many
# processors); more gain nothing, and every run that is being written keeps files open.
MOST_AT_ONCE = 256
SHARE_OF_MEMORY = 0.8  # of what is free on a GPU; blocks that are freed leave gaps


def networks_at_once(experiment: Experiment, device: str = "cpu") -> int:
    """How many networks like that of an experiment are trained side by side, if nothing else is said.

    >>> networks_at_once(Experiment()) in range(1, MOST_AT_ONCE + 1)
    True
    """
    if device == "cpu":
        free = _host_bytes()
        each = bytes_on_cores(experiment)
    else:
        kept = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()  # by torch, of what was trained before
        free = int(SHARE_OF_MEMORY * (torch.cuda.mem_get_info()[0] + kept))
        each = bytes_on_gpu(experiment)
    most = min(MOST_AT_ONCE, free // each)
    if queued := _filter_bytes(experiment):  # of which the CPU's memory has copies too, for the states
        most = min(most, _host_bytes() // (2 * queued))
    return max(1, most)


def bytes_on_cores(experiment: Experiment) -> int:
    """About how many bytes of a CPU's memory each network holds: weights, gradient, two moments, and copies of the
    weights and moments of three moments of training, which are made, waiting and being written; and what a gradient
    filter remembers, which these share or hold once more, and which a state that is written holds as bytes.

    >>> bytes_on_cores(Experiment()) // 10**6  # the canonical network has 227,000 weights
    13
    """
    n_examples = math.prod(experiment.task.shape)
    return 13 * _weight_bytes(experiment) + 3 * _filter_bytes(experiment) + 100 * n_examples


def bytes_on_gpu(experiment: Experiment) -> int:
    """About how many bytes of a GPU's memory each network takes while it is trained.

    >>> from interp.experiment import ModelConfig
    >>> bytes_on_gpu(Experiment()) // 10**6, bytes_on_gpu(Experiment(model=ModelConfig(n_layers=2))) // 10**6
    (42, 833)
    """
    task, model = experiment.task, experiment.model
    n_train, n_test = (
        experiment.training.batch_size or len(task.train_indices),
        int((task.mask("test") | task.mask("validation")).sum()),
    )
    if is_factored(model):
        return many_networks.bytes_for_each(model, task.n_classes, n_train, n_test) + _filter_bytes(experiment)
    # Counted generously: values that autograd keeps of every position and layer, and as many gradients.
    if model.family == "mlp":
        kept = 4 * model.n_layers * model.d_mlp + 4 * max(model.d_model, *task.sizes)
    else:
        positions = len(model.positions)
        kept = model.n_layers * positions * (12 * model.d_model + 4 * model.d_mlp + 4 * model.n_heads * positions)
    weights = 8 * _weight_bytes(experiment) + _filter_bytes(experiment)
    return weights + 4 * max(n_train, n_test) * (kept + 10 * task.n_classes)


def _filter_bytes(experiment: Experiment) -> int:
    """What the gradient filter remembers, and what it works on: filtered gradients, and in float64 the mean of the
    window."""
    remembered = experiment.training.filter.remembered
    return (remembered + 4) * _weight_bytes(experiment) if experiment.training.filter.is_used else 0


def _host_bytes() -> int:
    """Half of the memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _weight_bytes(experiment: Experiment) -> int:
    return 4 * sum(map(math.prod, weight_shapes(experiment.model, experiment.task.sizes).values()))
