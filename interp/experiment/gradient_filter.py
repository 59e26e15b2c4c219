"""What is done to the gradient before the optimizer sees it."""

from dataclasses import dataclass
from typing import Literal, get_args

from interp.errors import InputError, check_choice, check_integer, check_number

Filter = Literal["none", "ema", "unbiased-ema", "ma", "gain", "polar", "normalized"]
# The numbers that each kind has.
_NUMBERS: dict[str, tuple[str, ...]] = {
    "none": (),
    "ema": ("strength", "memory"),
    "unbiased-ema": ("strength", "memory"),
    "ma": ("strength", "window"),
    "gain": ("strength",),
    "polar": (),
    "normalized": (),
}


@dataclass(frozen=True)
class GradientFilter:
    """What is done to the gradient g before the optimizer: ĝ = g + λ·μ, with `strength` λ and μ by `kind`.

    "ema": μ is Grokfast's moving average, which starts as the first gradient and of which `memory` is kept at every
    step, the first too. "unbiased-ema": the same from zero, divided by 1 − memoryᵗ, so that the first gradient weighs
    no more than another. "ma": the mean of the last `window` gradients, this one among them, and nothing before there
    are so many; published with strength 5. "gain", a control: μ = g, so ĝ = (1+λ)g.

    Two kinds put another gradient in the place of g, and have no number: "polar" makes every singular value of each
    matrix 1 (egalitarian gradient descent), "normalized" the length of each of its columns. Heads are matrices one by
    one, and each bias and gain is brought to length 1.

    `orthogonal` then turns what came out at a right angle to each weight tensor (⊥Grad), at its length. With any kind
    an L2 term of the optimizer comes after, and is not filtered.

    >>> GradientFilter(kind="ema", strength=2.0).remembered, GradientFilter(kind="ma", window=50).remembered
    (1, 52)
    """

    kind: Filter = "none"
    strength: float = 2.0
    memory: float = 0.98
    window: int = 100
    orthogonal: bool = False

    def __post_init__(self) -> None:
        check_choice("training.filter.kind", self.kind, get_args(Filter))
        check_number("training.filter.strength", self.strength, 0, 1000)
        check_number("training.filter.memory", self.memory, 0, 1, below=True)
        check_integer("training.filter.window", self.window, 1, 10_000)
        # What does nothing would count as a difference between runs, and be taken for a filter.
        for name in ("strength", "memory", "window"):
            if name not in _NUMBERS[self.kind] and getattr(self, name) != type(self).__dataclass_fields__[name].default:
                kinds = " or ".join(kind for kind, numbers in _NUMBERS.items() if name in numbers)
                raise InputError(
                    f"training.filter.{name} does nothing where training.filter.kind is {self.kind}; give "
                    f"training.filter.kind {kinds}, or leave it out"
                )

    @property
    def is_used(self) -> bool:
        """Whether it does anything: without it the optimizer sees the gradient itself."""
        return self.orthogonal or self.kind != "none"

    @property
    def remembered(self) -> int:
        """How many times the weights, in float32, its memory takes: one for a moving average; for "ma" the gradients of
        the window, and their sum in float64."""
        return {"ema": 1, "unbiased-ema": 1, "ma": self.window + 2}.get(self.kind, 0)

    @property
    def in_words(self) -> str:
        """For a sentence.

        >>> GradientFilter(kind="ema", orthogonal=True).in_words
        'ema, strength 2, memory 0.98; orthogonal to the weights'
        """
        numbers = (f"{name} {getattr(self, name):g}" for name in _NUMBERS[self.kind])
        parts = [", ".join((self.kind, *numbers))] * (self.kind != "none")
        return "; ".join(parts + ["orthogonal to the weights"] * self.orthogonal)
