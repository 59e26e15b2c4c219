"""What is logged of one network at one step."""

import math
from collections.abc import Mapping

from jaxtyping import Bool, Float
from torch import Tensor

from interp.models import Weights
from interp.training.loss import mean

# Of every run, beside HIGHEST of the loop; of one pass with ONLINE (`interp.training.prequential`); where fewer pairs
# are held out than are unmirrored, with `held_out_loss` and `held_out_accuracy`; where some are chosen on, with
# `validation_loss` and `validation_accuracy`; of several operations with loss and accuracy of the parts of each, such
# as `add.train_loss`.
METRICS = (
    "train_loss",
    "test_loss",
    "unmirrored_test_loss",
    "train_accuracy",
    "test_accuracy",
    "unmirrored_test_accuracy",
    "gradient_norm",
    "weight_norm",
)


def measured(
    train: tuple[float, Bool[Tensor, " n"]],
    test: tuple[Float[Tensor, " m"], Bool[Tensor, " m"], Mapping[str, Bool[Tensor, " m"]]],
    gradient: Weights,
    weights: Weights,
) -> dict[str, float]:
    """METRICS of one step, from the training loss and answers, and the test losses, answers, and which of them belong
    to each part (`parts_of_test`); of held-out pairs too, where they are a part of their own.

    >>> import torch
    >>> right, weights = torch.tensor([True, False]), {"layer": torch.tensor([3.0, 4.0])}
    >>> of_test = torch.tensor([2.0, 4.0]), right, {"unmirrored_test": torch.tensor([True, False])}
    >>> found = measured((1.5, right), of_test, weights, weights)
    >>> found["test_loss"], found["unmirrored_test_loss"], found["train_accuracy"], found["weight_norm"]
    (3.0, 2.0, 0.5, 5.0)
    """
    (loss, correct), (test_losses, test_correct, parts) = train, test
    values = {"train_loss": loss, "train_accuracy": mean(correct)}
    values |= {"test_loss": mean(test_losses), "test_accuracy": mean(test_correct)}
    values |= of_parts(test_losses, test_correct, parts)
    values |= {"gradient_norm": _norm(gradient), "weight_norm": _norm(weights)}
    return {name: values.pop(name) for name in METRICS} | values


def of_parts(
    losses: Float[Tensor, " n"], correct: Bool[Tensor, " n"], parts: Mapping[str, Bool[Tensor, " n"]]
) -> dict[str, float]:
    """Mean loss and accuracy of each part."""
    of_parts = {f"{part}_loss": mean(losses[which]) for part, which in parts.items()}
    return of_parts | {f"{part}_accuracy": mean(correct[which]) for part, which in parts.items()}


def _norm(weights: Weights) -> float:
    return math.sqrt(sum(weight.double().square().sum().item() for weight in weights.values()))
