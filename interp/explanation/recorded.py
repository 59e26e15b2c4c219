"""Learning curves that somebody recorded, without the network: what is known of them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

NAMES = {
    "train_loss": "train loss",
    "test_loss": "test loss",
    "train_accuracy": "train accuracy",
    "test_accuracy": "test accuracy",
    "weight_norm": "norm of the weights",
}


@dataclass(frozen=True)
class RecordedCurves:
    """Curves over ascending `steps` [step], NaN where nothing was logged: `values` by the names in NAMES, accuracies as
    shares; where they are from (`source`, and `columns`: the name that each had there); what steps are counted in
    (`unit`), and whether these are updates (`counts_updates`) or calls of a logger; what was done to read them
    (`notes`), and what the way they were logged gives against what is told from them (`doubts`); the last step of the
    log, where it goes on without a finite value of any curve (`log_ends`); how many classes there are, where somebody
    said so; and whether the losses are cross-entropies in nats (`is_cross_entropy`), which alone can stand for
    accuracies.

    >>> steps = np.array([0, 10, 20])
    >>> recorded = RecordedCurves(steps, {"test_accuracy": np.array([0.1, np.nan, 1.0])})
    >>> recorded.value("test_accuracy").tolist(), recorded.has("train_loss"), recorded.points("test_accuracy")
    ([0.1, nan, 1.0], False, 2)
    """

    steps: np.ndarray
    values: Mapping[str, np.ndarray]
    source: str = "curves"
    columns: Mapping[str, str] = field(default_factory=dict)
    unit: str = "step"
    notes: tuple[str, ...] = ()
    classes: int | None = None
    is_cross_entropy: bool = True
    counts_updates: bool = True
    doubts: tuple[str, ...] = ()
    log_ends: int | None = None

    def value(self, name: str) -> np.ndarray:
        """A curve [step]; all NaN where it was not recorded."""
        return self.values.get(name, np.full(len(self.steps), np.nan))

    def has(self, name: str) -> bool:
        """Whether a curve was recorded."""
        return bool(np.isfinite(self.value(name)).any())

    def points(self, name: str) -> int:
        """At how many steps a curve was recorded."""
        return int(np.isfinite(self.value(name)).sum())

    @property
    def guessing(self) -> float:
        """The loss of a uniform guess, in nats; NaN where nobody said how many classes there are.

        >>> round(RecordedCurves(np.array([0]), {}, classes=113).guessing, 2)
        4.73
        """
        return math.log(self.classes) if self.classes else math.nan
