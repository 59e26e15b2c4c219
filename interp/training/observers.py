"""Observers: what is shown the gradient of every step and keeps something of it. They change no bit of training, and
are no part of the experiment: who watches is not what is run.

    see(step, gradient, weights)     of every step 0 … last, before the update; the gradient is that of the loss of the
                                     batch, as it is before anything is done to it
    state(), restore(state)          what exact resume needs; it is in `Snapshot.state`, under `observer|`
    finished()                       what is complete since it was last asked, in blocks by their first step
"""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from interp.errors import InputError
from interp.mathematics.sketch import COMBINATIONS, Sketch
from interp.models import BLOCK, Weights

OBSERVED = "observer|"
GRADIENTS = "gradients"
OBSERVERS = (GRADIENTS,)
MOST_STEPS = 100_000  # of a training that is observed: 282 MB of the canonical network


@runtime_checkable
class Observer(Protocol):
    """See the module.

    >>> [name for name in vars(Observer) if not name.startswith("_") and hasattr(GradientSketch, name)]
    ['see', 'state', 'restore', 'finished']
    """

    name: str

    def see(self, step: int, gradient: Weights, weights: Weights) -> None: ...
    def state(self) -> dict[str, Tensor]: ...
    def restore(self, state: Mapping[str, Tensor]) -> None: ...
    def finished(self) -> dict[int, Tensor]: ...


class GradientSketch:
    """Keeps a sketch (`interp.mathematics.sketch`) of the gradient of every step from 0 to `last`: float32
    [tensor, 64], which for the canonical network with its 11 tensors is 2.8 kB a step, 5.6 MB for 2,000 steps. They are
    handed over in blocks [n ≤ 256, tensor, 64], which begin at multiples of 256.

    Raises InputError for a training of more than MOST_STEPS.

    >>> seen = GradientSketch({"layer": (20, 30)}, last=1)
    >>> for step in (0, 1):
    ...     seen.see(step, {"layer": torch.ones(20, 30)}, {})
    >>> [(first, list(rows.shape)) for first, rows in seen.finished().items()], seen.state(), seen.finished()
    ([(0, [2, 1, 64])], {}, {})
    """

    name = GRADIENTS

    def __init__(self, shapes: Mapping[str, Sequence[int]], last: int) -> None:
        if last > MOST_STEPS:
            raise InputError(
                f"gradients are observed over at most {MOST_STEPS:,} steps "
                f"({observed_bytes(len(shapes), MOST_STEPS) / 1e6:,.0f} MB), and this training has {last:,}; leave out "
                "--observe, or lower training.steps"
            )
        self._sketch, self._last, self._shape = Sketch(shapes), last, (len(shapes), COMBINATIONS)
        self._rows: list[Tensor] = []  # of the block that is not complete yet
        self._finished: dict[int, Tensor] = {}

    def see(self, step: int, gradient: Weights, weights: Weights) -> None:
        """Keep the sketch of the gradient at the weights after `step` updates. Raises InputError where that is not the
        step after the last one seen."""
        if len(self._rows) != step % BLOCK:
            raise InputError(
                f"the observer of gradients has {len(self._rows)} steps since step {step - step % BLOCK}, and needs "
                f"{step % BLOCK} to go on from: the state that training resumes from was saved without it"
            )
        told = self._sketch({name: values.detach().cpu().numpy() for name, values in gradient.items()})
        self._rows.append(torch.from_numpy(told))
        if len(self._rows) == BLOCK or step == self._last:
            self._finished[step - step % BLOCK] = torch.stack(self._rows)
            self._rows = []

    def state(self) -> dict[str, Tensor]:
        """The sketches of the block that is not complete yet, a copy [n < 256, tensor, 64]; empty where there are
        none."""
        return {self.name: torch.stack(self._rows)} if self._rows else {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave. Raises InputError for one of other tensors."""
        rows = state.get(self.name, torch.empty(0, *self._shape))
        if rows.ndim != 3 or tuple(rows.shape[1:]) != self._shape or rows.dtype != torch.float32 or len(rows) >= BLOCK:
            raise InputError(
                f"the state has {rows.dtype} {list(rows.shape)} of observed gradients, expected torch.float32 "
                f"[fewer than {BLOCK}, {self._shape[0]}, {self._shape[1]}]"
            )
        self._rows = list(rows.clone())

    def finished(self) -> dict[int, Tensor]:
        """The blocks that are complete since it was last asked, by their first step."""
        finished, self._finished = self._finished, {}
        return finished


def observed_bytes(n_tensors: int, last: int) -> int:
    """What the sketches of the steps 0 … last take.

    >>> observed_bytes(11, 1999)
    5632000
    """
    return (last + 1) * n_tensors * COMBINATIONS * np.dtype(np.float32).itemsize


def states_of(observers: Sequence[Observer]) -> dict[str, Tensor]:
    """What `Snapshot.state` has of observers.

    >>> states_of([])
    {}
    """
    return {f"{OBSERVED}{name}": value for one in observers for name, value in one.state().items()}


def restore_observers(observers: Sequence[Observer], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give observers their parts of a state; returns the rest, which is the optimizer's. Without observers theirs is
    passed over.

    >>> restore_observers([], {"observer|gradients": torch.zeros(1, 1, 64), "layer|exp_avg": torch.ones(1)})
    {'layer|exp_avg': tensor([1.])}
    """
    theirs = {name.removeprefix(OBSERVED): value for name, value in state.items() if name.startswith(OBSERVED)}
    for one in observers:
        one.restore(theirs)
    return {name: value for name, value in state.items() if not name.startswith(OBSERVED)}
