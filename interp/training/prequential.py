"""Training that sees every example once: each batch is judged before the update that is made from it.

Until then the network has not seen its examples, so that its loss L_s(w_s) is an estimate of the test loss at w_s
without a bias, where examples and test examples are drawn alike (progressive validation: Blum et al. 1999, COLT; the
ideal world of Nakkiran et al. 2021, arXiv:2010.08127). Summed up, in bits,

    bits(s) = (1/ln 2) Σ_{r ≤ s} L_r(w_r)·n,    n examples in a batch,

is the length of a prequential code of the labels (Dawid 1984; Blier & Ollivier 2018, arXiv:1802.07044): whoever has the
inputs, and trains in the same way, decodes one batch after another. Where examples come again it is none.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from interp.errors import InputError

# What a line of a run of one pass adds to METRICS: the mean loss of the batches of the steps after the line before it
# up to its own, each before its update; and bits(s) a label, of all batches up to its own.
ONLINE = ("online_loss", "prequential_bits")
_SUM = "prequential|nats"


class Prequential:
    """The losses of batches before their updates, of each of several networks; without `is_used` it keeps nothing.

    >>> kept = Prequential(1, is_used=True)
    >>> kept.see(0, [0.5])
    >>> kept.see(1, [1.5])
    >>> {name: round(value, 4) for name, value in kept.metrics(0).items()}
    {'online_loss': 1.0, 'prequential_bits': 1.4427}
    >>> kept.begin()
    >>> kept.see(2, [0.4])
    >>> {name: round(value, 4) for name, value in kept.metrics(0).items()}
    {'online_loss': 0.4, 'prequential_bits': 1.1542}
    """

    def __init__(self, n_networks: int, *, is_used: bool) -> None:
        self._is_used, self._n_batches = is_used, 0
        self._sums, self._of_line = [0.0] * n_networks, list[Sequence[float]]()

    def begin(self) -> None:
        """A line is written."""
        self._of_line = []

    def see(self, step: int, losses: Sequence[float]) -> None:
        """The losses of the batches of a step, one for each network."""
        if self._is_used:
            self._n_batches = step + 1
            self._of_line.append(losses)
            self._sums = [total + loss for total, loss in zip(self._sums, losses, strict=True)]

    def metrics(self, place: int) -> dict[str, float]:
        """ONLINE of a network."""
        if not self._is_used:
            return {}
        mean = math.fsum(losses[place] for losses in self._of_line) / len(self._of_line)
        bits = self._sums[place] / self._n_batches / math.log(2)
        return dict(zip(ONLINE, (mean, bits), strict=True))

    def state(self, place: int) -> dict[str, Tensor]:
        """The sum of a network, in nats a label of a batch."""
        return {_SUM: torch.tensor([self._sums[place]], dtype=torch.float64)} if self._is_used else {}

    def restore(self, states: Sequence[Mapping[str, Tensor]]) -> list[dict[str, Tensor]]:
        """Go on from what `state` gave; returns the rest of each state. Raises InputError where it is not there."""
        if self._is_used:
            if any(_SUM not in state for state in states):
                raise InputError(
                    "the state that training resumes from has no sum of the losses before it, which training.one-pass "
                    "goes on with; start anew"
                )
            self._sums = [float(state[_SUM]) for state in states]
        return [{name: value for name, value in state.items() if name != _SUM} for state in states]
