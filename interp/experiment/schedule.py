"""Which steps of a training are kept and logged, asked one at a time: there can be more than a memory holds."""

import bisect

from interp.experiment.training import TrainingConfig


class Schedule:
    """The steps that a training keeps and those that it logs.

    >>> schedule = Schedule(TrainingConfig(steps=10**9 - 1, checkpoint_every=3, log_every=10))
    >>> schedule.keeps(6), schedule.keeps(7), schedule.logged_after(7), schedule.logged_after(9)
    (True, False, 9, 10)
    """

    def __init__(self, training: TrainingConfig) -> None:
        self._training = training
        self._listed = training.listed_steps()
        self._in_order = sorted(self._listed)

    def keeps(self, step: int) -> bool:
        """Whether a checkpoint of this step is kept."""
        every = self._training.checkpoint_every
        return step in self._listed or (every is not None and step % every == 0 and 0 <= step <= self._training.steps)

    def logged_after(self, step: int) -> int:
        """The first step after this one that has a line."""
        periods = (self._training.log_every, self._training.checkpoint_every or self._training.log_every)
        place = bisect.bisect_right(self._in_order, step)
        return min(*(every * (step // every + 1) for every in periods), *self._in_order[place : place + 1])
