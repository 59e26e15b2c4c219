"""Gradient filters: what the gradient goes through between the loss and the optimizer (Lee et al. 2024,
arXiv:2405.20233, Grokfast; Pasand and Dohmatob 2025, arXiv:2510.04930, EGD; Prieto et al. 2025, arXiv:2501.04697,
⊥Grad).

    ema            μ ← αμ + (1 − α)g, where μ begins as the first gradient           ĝ = g + λμ
    unbiased-ema   m ← αm + (1 − α)g from m = 0, μ = m/(1 − αᵗ) at the t-th call      ĝ = g + λμ
    ma             μ the mean of the last w gradients, of call t ≥ w                  ĝ = g + λμ, before that ĝ = g
    gain           a control without a filter                                         ĝ = (1 + λ)g
    polar          G = UΣVᵀ of each matrix (`interp.mathematics.orthogonalization`)      Ĝ = UVᵀ
    normalized     each column j of each matrix                                       Ĝ_ij = G_ij/‖G_·j‖
    orthogonal     g⊥ = ĝ − (⟨w, ĝ⟩/⟨w, w⟩)w for each weight tensor, at the length of ĝ

"ema" and "ma" are as published: as the first gradient is the whole of the first average, it weighs λ/(1 − α) beyond
1 in the sum of all that follows, where every other weighs λ. "unbiased-ema" is ours. What a filter does to an
oscillation is `interp.mathematics.frequency_response`; "polar" and "normalized" are not linear, and have no response.

Heads are matrices one by one. Networks read rows, x ↦ xW, so a column is all that one output is made with, of W_in a
neuron's own weights: the axis of the published code (github.com/asahebpa/Egalitarian-Gradient-Descent, c8d5bd4,
`col_norm_update`). Vectors, biases and gains, come out with length 1, and what is 0 stays 0. Published, both are of the
first matrix alone, columns shorter than 0.01 are divided by 0.01 and singular values below 1e-6 by 1e-6, the L2 term is
in g, and training goes on without either once 95 % of the *test* pairs are right. None of that is done here.

An optimizer's own L2 term is added after, so beside a gradient that hardly changes it weighs 1/(1 + λ) of what it
weighs without a filter.

What a filter remembers is training state; its names begin with `filter|`.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import InputError
from interp.experiment import GradientFilter
from interp.machine import one_thread
from interp.mathematics.orthogonalization import polar_factor
from interp.models import Weights, is_vector

PREFIX = "filter|"  # of the names of what a filter remembers
# Of what is left of a gradient along its weights, in units of its length: rounding, which must not be scaled up.
ROUNDING = 4 * torch.finfo(torch.float32).eps

Number = float | Float[Tensor, " S"]


class FilteredGradients:
    """The filter of one network, or of networks that are stacked along a first axis, each with numbers of its own; it
    gives the filtered gradients of named weights and keeps what it remembers.

    >>> gradient = {"layer": torch.tensor([1.0])}
    >>> filtered = FilteredGradients([GradientFilter(kind="ema", strength=2.0)], {"layer": torch.tensor([0.5])})
    >>> [filtered.of(step, gradient)["layer"].item() for step in range(2)]  # that of a constant: (1 + λ)g
    [3.0, 3.0]
    """

    def __init__(self, filters: Sequence[GradientFilter], weights: Weights, *, stacked: bool = False) -> None:
        self._filters, self._weights, self._stacked = filters, weights, stacked
        self._kind, self._window = filters[0].kind, filters[0].window
        like = next(iter(weights.values()))
        self._strength = self._number([one.strength for one in filters], like)
        self._memory = self._number([one.memory for one in filters], like)
        self._new = self._number([1 - one.memory for one in filters], like)
        self._means: Weights = {}  # of "ema" and "unbiased-ema"
        self._past: list[_Gradients] = []  # of "ma", the oldest first; none of it is changed any more
        self._sums: Weights = {}  # of these, in float64

    @property
    def is_used(self) -> bool:
        """Whether it does anything."""
        return self._filters[0].is_used

    @torch.no_grad()
    def of(self, step: int, gradients: Weights) -> Weights:
        """What the optimizer is to see at update number `step` (from 0), in place of these gradients, which are left
        as they are."""
        given = {name: gradients[name].contiguous() for name in self._weights}
        found = {
            "none": self._unchanged,
            "gain": self._raised,
            "ema": self._with_average,
            "unbiased-ema": self._with_unbiased_average,
            "ma": self._with_mean_of_window,
            "polar": self._with_equal_singular_values,
            "normalized": self._with_columns_of_one_length,
        }[self._kind](step, given)
        if self._filters[0].orthogonal:
            found = {
                name: orthogonal(gradient, self._weights[name], stacked=self._stacked)
                for name, gradient in found.items()
            }
        return found

    # ---- the kinds ---------------------------------------------------------------------------------------------------

    def _unchanged(self, step: int, gradients: Weights) -> Weights:
        return gradients

    def _raised(self, step: int, gradients: Weights) -> Weights:
        return self._with(gradients, gradients)

    def _with_average(self, step: int, gradients: Weights) -> Weights:
        if not self._means:
            self._means = {name: gradient.clone() for name, gradient in gradients.items()}
        else:
            self._take_in(gradients)
        return self._with(gradients, self._means)

    def _with_unbiased_average(self, step: int, gradients: Weights) -> Weights:
        if not self._means:
            self._means = {name: torch.zeros_like(gradient) for name, gradient in gradients.items()}
        self._take_in(gradients)
        n_calls = step + 1
        factors = [one.strength / (1 - one.memory**n_calls) for one in self._filters]
        return self._with(gradients, self._means, self._number(factors, next(iter(gradients.values()))))

    def _with_mean_of_window(self, step: int, gradients: Weights) -> Weights:
        if not self._sums:
            self._sums = {name: torch.zeros_like(one, dtype=torch.float64) for name, one in gradients.items()}
        newest = _Gradients({name: gradient.clone() for name, gradient in gradients.items()})
        left = self._past.pop(0) if len(self._past) == self._window else None
        self._past.append(newest)
        if (step + 1) % self._window == 0:
            # Anew: what rounding left of large gradients of long ago would outweigh the small ones of now.
            for name, total in self._sums.items():
                total.zero_()
                for one in self._past:
                    total.add_(one.values[name])
        else:
            for name, total in self._sums.items():
                total.add_(newest.values[name])
                if left is not None:
                    total.sub_(left.values[name])
        if len(self._past) < self._window:
            return gradients
        means = {name: (total / self._window).to(gradients[name].dtype) for name, total in self._sums.items()}
        return self._with(gradients, means)

    def _with_equal_singular_values(self, step: int, gradients: Weights) -> Weights:
        with one_thread():  # by how many a product of matrices is shared out decides its last bits
            return {
                name: of_one_length(gradient, -1) if self._is_vector(name) else polar_factor(gradient)
                for name, gradient in gradients.items()
            }

    def _with_columns_of_one_length(self, step: int, gradients: Weights) -> Weights:
        return {
            name: of_one_length(gradient, -1 if self._is_vector(name) else -2) for name, gradient in gradients.items()
        }

    def _is_vector(self, name: str) -> bool:
        return is_vector(name, self._weights[name].ndim - self._stacked)

    def _take_in(self, gradients: Weights) -> None:
        for name, mean in self._means.items():
            mean.lerp_(gradients[name], _along(self._new, mean))

    def _with(self, gradients: Weights, slow: Weights, strength: Number | None = None) -> Weights:
        """g + λμ."""
        factor = self._strength if strength is None else strength
        if isinstance(factor, float):
            if factor == 0:
                return gradients  # to the last bit, the sign of a zero too
            return {name: torch.add(gradient, slow[name], alpha=factor) for name, gradient in gradients.items()}
        return {name: gradient + slow[name] * _along(factor, gradient) for name, gradient in gradients.items()}

    def _number(self, values: Sequence[float], like: Tensor) -> Number:
        """One number of one network; of stacked ones a tensor [S]."""
        if not self._stacked:
            return float(values[0])
        return torch.tensor(values, dtype=torch.float64).to(like.device, like.dtype)

    # ---- what it remembers -------------------------------------------------------------------------------------------

    def states(self) -> list[dict[str, Tensor]]:
        """What it remembers of every network, in the CPU's memory: "filter|<weight>|mean" of the averages, and of "ma"
        "filter|<weight>|sum" and "filter|<weight>|0", "…|1", …: the gradients of the window, the oldest first. Empty
        before the first update. A CPU's gradients are shared with the filter, which does not change them."""
        copied = {f"{name}|mean": mean.to("cpu", copy=True) for name, mean in self._means.items()}
        copied |= {f"{name}|sum": total.to("cpu", copy=True) for name, total in self._sums.items()}
        for age, one in enumerate(self._past):
            copied |= {f"{name}|{age}": gradient for name, gradient in one.on_cpu().items()}
        if not self._stacked:
            return [{PREFIX + name: tensor for name, tensor in copied.items()}]
        return [
            {PREFIX + name: of_all[place] for name, of_all in copied.items()} for place in range(len(self._filters))
        ]

    def restore(self, states: Sequence[Mapping[str, Tensor]], step: int) -> None:
        """Continue at update number `step` from what `states` gave of every network. Raises InputError for a state of
        another filter, of other weights, or of a part of them."""
        expected = self._expected(step)
        for state in states:
            _check(state, expected, self._filters[0])
        if not expected:
            return
        like = next(iter(self._weights.values()))

        def of_all(name: str) -> Tensor:
            every = [state[PREFIX + name] for state in states]
            return (torch.stack(every) if self._stacked else every[0]).to(like.device, copy=True)

        if self._kind == "ma":
            self._sums = {name: of_all(f"{name}|sum") for name in self._weights}
            ages = range(min(step, self._window))
            self._past = [_Gradients({name: of_all(f"{name}|{age}") for name in self._weights}) for age in ages]
        else:
            self._means = {name: of_all(f"{name}|mean") for name in self._weights}

    def _expected(self, step: int) -> dict[str, tuple[torch.Size, torch.dtype]]:
        """Shape and type of all that is remembered of one network before update number `step`."""
        if step == 0 or self._filters[0].remembered == 0:
            return {}
        buffers = {"mean": torch.float32}
        if self._kind == "ma":
            buffers = {"sum": torch.float64} | {str(age): torch.float32 for age in range(min(step, self._window))}
        shapes = {name: weight.shape[1 if self._stacked else 0 :] for name, weight in self._weights.items()}
        return {
            f"{PREFIX}{name}|{buffer}": (shape, dtype)
            for name, shape in shapes.items()
            for buffer, dtype in buffers.items()
        }


class _Gradients:
    """The gradients of one update, which are fetched from a device once, however many snapshots hold them."""

    def __init__(self, values: Weights) -> None:
        self.values = values
        self._fetched: Weights | None = None

    def on_cpu(self) -> Weights:
        if self._fetched is None:
            self._fetched = {name: value.to("cpu") for name, value in self.values.items()}
        return self._fetched


def orthogonal(gradient: Tensor, weight: Tensor, *, stacked: bool = False) -> Tensor:
    """g⊥ = g − (⟨w, g⟩/⟨w, w⟩)w, scaled to the length of g; of stacked tensors [S, …] for each. g itself where w is
    0, and 0 where g lies along w, to rounding.

    >>> orthogonal(torch.tensor([3.0, 4.0]), torch.tensor([1.0, 0.0]))  # 0, 4 at the length 5
    tensor([0., 5.])
    >>> orthogonal(torch.tensor([3.0, 0.0]), torch.tensor([1.0, 0.0]))
    tensor([0., 0.])
    """
    g, w = (tensor.double().reshape(tensor.shape[0] if stacked else 1, -1) for tensor in (gradient, weight))
    # In float64: of late gradients the squares are below the smallest float32.
    along = torch.linalg.vecdot(w, g) / torch.linalg.vecdot(w, w).add(1e-30)
    across = torch.addcmul(g, w, along.unsqueeze(1), value=-1)
    length, left = (torch.linalg.vector_norm(tensor, dim=1) for tensor in (g, across))
    scale = torch.where(left <= ROUNDING * length, 0.0, length / left)
    return across.mul_(scale.unsqueeze(1)).to(gradient.dtype).view(gradient.shape)


def of_one_length(gradient: Tensor, axis: int) -> Tensor:
    """Each vector along an axis, divided by its length; 0 where it is 0.

    >>> of_one_length(torch.tensor([[3.0, 0.0], [4.0, 0.0]]), -2)
    tensor([[0.6000, 0.0000],
            [0.8000, 0.0000]])
    """
    # In float64: of late gradients the squares are below the smallest float32.
    length = torch.linalg.vector_norm(gradient, dim=axis, keepdim=True, dtype=torch.float64)
    return torch.where(length == 0, 0.0, gradient / length).to(gradient.dtype)


def split_state(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What the optimizer, and what the filter remembers, of the state of a snapshot.

    >>> split_state({"layer|exp_avg": torch.ones(1), "filter|layer|mean": torch.ones(1)})
    ({'layer|exp_avg': tensor([1.])}, {'filter|layer|mean': tensor([1.])})
    """
    of_optimizer = {name: value for name, value in state.items() if not name.startswith(PREFIX)}
    return of_optimizer, {name: value for name, value in state.items() if name.startswith(PREFIX)}


def _check(
    state: Mapping[str, Tensor], expected: Mapping[str, tuple[torch.Size, torch.dtype]], of: GradientFilter
) -> None:
    """Raises InputError unless the state is what is expected of this filter."""
    for name, value in state.items():
        if name not in expected:
            raise InputError(
                f"the state of the gradient filter {name!r:.100} does not belong to {of.in_words or 'none'}"
            )
        if (value.shape, value.dtype) != expected[name]:
            shape, dtype = expected[name]
            raise InputError(
                f"the state of the gradient filter {name!r:.100} is {value.dtype} {list(value.shape)}, expected "
                f"{dtype} {list(shape)}"
            )
    if missing := [name for name in expected if name not in state]:
        raise InputError(f"the state of the gradient filter has no {missing[0]!r:.100}; it is needed to go on exactly")


def _along(number: Number, tensor: Tensor) -> float | Tensor:
    """So shaped that it multiplies along the first axis."""
    return number.view(-1, *[1] * (tensor.ndim - 1)) if isinstance(number, Tensor) else number
