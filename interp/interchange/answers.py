"""A few logits of the last checkpoint, in the configuration that is written beside exported weights: whether they were
read right can then be seen by running them, however poor the network answers.

Of 16 pairs evenly over the table one logit each, less the mean over the classes, which no softmax sees:

    L[a, b, c] − mean_c' L[a, b, c'],   c = 7·(a·p + b) mod p

Answers that are all equal, as those of weights that are zero, tell nothing.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from interp.runs import Checkpoint

N_PAIRS = 16
TOLERANCE = 1e-3  # of the largest; another reading of a network differs in the first digit
MOST_TOLD = 1000


@dataclass(frozen=True)
class Answers:
    """What the checkpoint of a step answered: (a, b, c, centered logit), each."""

    step: int
    told: tuple[tuple[int, int, int, float], ...]

    def agreeing(self, checkpoint: Checkpoint) -> int | None:
        """How many of them another network gives too; None where they tell nothing.

        >>> from interp.experiment import Task
        >>> from interp.testing import circuit_checkpoint, circuit_neurons
        >>> one, other = (circuit_checkpoint(Task(7), circuit_neurons([k])) for k in (1, 2))
        >>> told = answers_of(one)
        >>> told.agreeing(one), told.agreeing(other) < N_PAIRS
        (16, True)
        """
        largest = max(abs(logit) for *_, logit in self.told)
        if largest == 0:
            return None
        found = [_centered(checkpoint, *place) for *place, _ in self.told]
        return sum(abs(one - logit) <= TOLERANCE * largest for one, (*_, logit) in zip(found, self.told, strict=True))

    def to_dict(self) -> dict[str, Any]:
        """As a configuration has it; `read_answers` is the way back."""
        return {"step": self.step, "logits": [list(one) for one in self.told]}


def answers_of(checkpoint: Checkpoint) -> Answers:
    """Those of a checkpoint over pairs."""
    p = checkpoint.task.p
    places = np.unique(np.linspace(0, p * p - 1, N_PAIRS).astype(int)).tolist()
    at = [(*divmod(place, p), 7 * place % p) for place in places]
    return Answers(checkpoint.step, tuple((a, b, c, _centered(checkpoint, a, b, c)) for a, b, c in at))


def read_answers(configuration: object) -> Answers | None:
    """The answers that a configuration has; None for anything else, which one of somebody else's may call so.

    >>> read_answers({"answers": {"step": 5, "logits": [[0, 1, 2, 0.5]]}})
    Answers(step=5, told=((0, 1, 2, 0.5),))
    >>> read_answers({"answers": 42}), read_answers({"answers": {"step": 5, "logits": [[0, 1, 2]]}}), read_answers([])
    (None, None, None)
    """
    content = configuration.get("answers") if isinstance(configuration, Mapping) else None
    if not isinstance(content, Mapping) or type(step := content.get("step")) is not int:
        return None
    try:
        told = tuple((a, b, c, float(logit)) for a, b, c, logit in content["logits"])
    except (KeyError, ValueError, TypeError, OverflowError):
        return None
    is_whole = all(type(place) is int and place >= 0 for *places, _ in told for place in places)
    is_finite = all(math.isfinite(logit) for *_, logit in told)
    return Answers(step, told) if 0 < len(told) <= MOST_TOLD and is_whole and is_finite else None


def _centered(checkpoint: Checkpoint, a: int, b: int, c: int) -> float:
    """A logit less the mean over the classes; NaN, which agrees with nothing, for a place outside the table."""
    p = checkpoint.task.p
    if max(a, b, c) >= p:
        return math.nan
    logits = checkpoint.logits[a, b].double()
    return float(logits[c] - logits.mean())
