"""What a source says of its own losses and accuracies, and of the step that it is of."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from interp.interchange.importing.source import Claim
from interp.runs import LAST_STEP

UPDATES = ("step", "steps", "global_step", "iteration", "iter", "completed_steps", "num_updates")
STEPS = (*UPDATES, "epoch", "epochs")
# Names of what a source says of itself → the split and the kind it speaks of; a loss of no split is that of training.
CLAIMS = {
    f"{prefix}{kind}": (split, measure)
    for prefix, split in {"train_": "train", "test_": "test", "val_": "test", "valid_": "test", "": "train"}.items()
    for kind, measure in {
        "loss": "loss",
        "acc": "accuracy",
        "accuracy": "accuracy",
        "losses": "loss",
        "accs": "accuracy",
    }.items()
}
CLAIMS |= {
    "accuracies": ("train", "accuracy"),
    "train_accuracies": ("train", "accuracy"),
    "test_accuracies": ("test", "accuracy"),
}


def claims_in(content: Mapping[Any, Any]) -> tuple[Claim, ...]:
    """The numbers in a dictionary that have such a name.

    >>> claims_in({"val_acc": 1.0, "lr": 0.1})
    (Claim(name='val_acc', split='test', measure='accuracy', value=1.0),)
    """
    return tuple(
        Claim(key, *CLAIMS[key], number) for key in CLAIMS if (number := number_of(content.get(key))) is not None
    )


def claims_of_series(content: Mapping[Any, Any], place: int, n: int, step: int | None) -> Iterator[Claim]:
    """Those of one of n checkpoints, out of lists with one entry per checkpoint, or one per epoch."""
    for series, (split, measure) in CLAIMS.items():
        values = content.get(series)
        if isinstance(values, list) and values:
            entry = place if len(values) == n else min(step or 0, len(values) - 1)
            if (number := number_of(values[entry])) is not None:
                yield Claim(series, split, measure, number)


def step_inside(content: Mapping[Any, Any]) -> int | None:
    """The step that a dictionary tells; updates come before epochs."""
    return next((number for key in STEPS if (number := integer_of(content.get(key))) is not None), None)


def updates_inside(content: Mapping[Any, Any]) -> int | None:
    """How many updates a dictionary tells of, whatever it says of epochs.

    >>> updates_inside({"epoch": 10, "step": 1000}), updates_inside({"epoch": 10})
    (1000, None)
    """
    return next((number for key in UPDATES if (number := integer_of(content.get(key))) is not None), None)


def integer_of(value: Any) -> int | None:
    """A whole number, also in a tensor or as a float, that can be a step."""
    value = _alone(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and abs(value) <= LAST_STEP else None


def number_of(value: Any) -> float | None:
    """A finite number, also in a tensor."""
    value = _alone(value)
    if type(value) not in (int, float):
        return None
    return float(value) if abs(value) < 1e300 and math.isfinite(value) else None


def _alone(value: Any) -> Any:
    plain = isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex()
    return value.item() if plain and value.layout == torch.strided else value
