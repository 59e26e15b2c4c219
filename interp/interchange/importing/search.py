"""Which reading of a file is right: the questions that names and shapes leave open, answered by running the network.

Every guess makes a network, which is run on some hundred pairs; how many it answers says how good the guess is. First
one question after the other, from the defaults; where that leaves a network that does not answer, many at once. What
is *better* is said in `is_better`, and nothing less than that takes the place of a default.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product
from math import prod, sqrt
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.errors import InputError
from interp.experiment import Task
from interp.interchange.layouts.candidates import RARE, TWINS, Candidate, Guess
from interp.interchange.layouts.fitting import Fitted
from interp.models import logits

ANSWERS = 0.99  # of the pairs: the network answers
BETTER = 0.01  # of the pairs
LOSS_FACTOR = 1.25
STANDARD_ERRORS = 3.0
SOME_PAIRS = 400
PAIRS_AT_ONCE = 4000
MOST_RUNS = 700
MOST_WORK = 3e11  # multiplications and additions
# The questions that many guesses at once are made of, in the order in which they vary: a network that is read with one
# of these wrong answers nothing, so that no other question can be asked before.
_TOGETHER = (
    *("tokens", "n_heads", "norm_order", "causal", "positions", "cut", "attention [out, in]", "W_O [out, in]"),
    *("mlp [out, in]", "gate first", "norm_kind", "activation"),
)


@dataclass(frozen=True)
class Outcome:
    """What a network answered: to the operation that its answers fit best."""

    operation: str
    correct: Bool[np.ndarray, " pairs"]
    losses: Float[np.ndarray, " pairs"]
    p: int = 0

    @property
    def accuracy(self) -> float:
        return float(self.correct.mean())

    @property
    def loss(self) -> float:
        return float(self.losses.mean())


def is_better(one: Outcome, other: Outcome) -> bool:
    """Whether one network is better than another: by more than 0.01 of accuracy, or, where both answer all (0.99), by a
    loss lower by more than three standard errors of its differences over the pairs, and by a factor of 1.25: the
    slightest change of any network changes its loss by some per cent, up or down, and of 10,000 pairs that is sure.

    A reading modulo another p answers other pairs: it must answer half of them, and by a quarter more than the other.

    >>> right, wrong = np.array([True] * 8), np.array([False] + [True] * 7)
    >>> is_better(Outcome("add", right, np.zeros(8)), Outcome("add", wrong, np.zeros(8)))
    True
    """
    if one.p != other.p:
        chance = 1 / max(one.p, 2)
        sure = chance + 6 * sqrt(chance * (1 - chance) / max(len(one.correct), 1))
        return one.accuracy > max(0.5, sure, other.accuracy + 0.25)
    if abs(one.accuracy - other.accuracy) > BETTER:
        return one.accuracy > other.accuracy
    if min(one.accuracy, other.accuracy) < ANSWERS or len(one.losses) != len(other.losses):
        return False
    lower = other.losses - one.losses
    error = lower.std(ddof=1) / np.sqrt(len(lower)) if len(lower) > 1 else np.inf
    # Less than float32 resolves is no difference, however often it is seen.
    return bool(lower.mean() > STANDARD_ERRORS * error and other.loss > LOSS_FACTOR * one.loss + 1e-9)


def prefers(found: Outcome, best: Outcome, option: Any, current: Any) -> bool:
    """Whether an option takes the place of the current one. Where a loss says nothing, accuracy must: of two that are
    nearly one function either can have the lower loss, and squares make any network louder."""
    names = {option, current} if isinstance(option, str) and isinstance(current, str) else set()
    if "square" in names or any(names <= twins for twins in TWINS if names):
        return found.accuracy > best.accuracy + BETTER
    return is_better(found, best)


class Judge:
    """Runs networks over pairs, the same for all that have one p."""

    def __init__(self, operations: Sequence[str]) -> None:
        self.operations = operations
        self._tasks: dict[int, dict[str, Task]] = {}
        self._some: dict[int, Tensor] = {}

    def tasks(self, p: int) -> dict[str, Task]:
        """The tasks modulo p that come into question; an operation that is not defined there is none."""
        if p not in self._tasks:
            found = {}
            for operation in self.operations:
                try:
                    found[operation] = Task(p, operation, split="unknown")  # pyright: ignore[reportArgumentType]
                except InputError:
                    continue
            if not found:
                raise InputError(f"no operation is defined modulo {p}")
            self._tasks[p] = found
        return self._tasks[p]

    def judge(self, fitted: Fitted, every: bool = False) -> Outcome:
        """What a network answers on some pairs, or on every one."""
        p = fitted.p
        tasks = self.tasks(p)
        indices = self._indices(p, every)
        pairs = torch.stack([indices // p, indices % p], 1)
        with torch.no_grad():
            some = [logits(fitted.weights, fitted.model, part) for part in pairs.split(PAIRS_AT_ONCE)]
        found = torch.cat(some)
        found = torch.where(found.isfinite(), found, torch.zeros_like(found))
        answers = found.argmax(1)
        best: tuple[float, str, Tensor, Tensor] | None = None
        for operation, task in tasks.items():
            labels = torch.from_numpy(task.labels)[indices]
            defined = labels >= 0
            correct = (answers == labels)[defined]
            share = float(correct.double().mean()) if len(correct) else 0.0
            if best is None or share > best[0]:
                best = share, operation, correct, defined
        assert best is not None
        _, operation, correct, defined = best
        labels = torch.from_numpy(tasks[operation].labels)[indices][defined]
        losses = -found[defined].double().log_softmax(1).gather(1, labels[:, None])[:, 0]
        return Outcome(operation, correct.numpy(), losses.numpy(), p)

    def _indices(self, p: int, every: bool) -> Tensor:
        if every or p * p <= SOME_PAIRS:
            return torch.arange(p * p)
        if p not in self._some:
            order = torch.randperm(p * p, generator=torch.Generator().manual_seed(0))
            self._some[p] = order[:SOME_PAIRS].sort().values
        return self._some[p]


class Search:
    """The guesses of one candidate, each run once."""

    def __init__(
        self, candidate: Candidate, tensors: Mapping[str, Tensor], given: Mapping[str, Any], p: int | None, judge: Judge
    ) -> None:
        self.candidate, self.tensors, self.given, self.p, self.judge = candidate, tensors, given, p, judge
        # What somebody says is not searched; whether something else is better is asked in the end.
        self.fixed = {question for question in candidate.options if given.get(question) is not None}
        self._outcomes: dict[tuple[Any, ...], Outcome | None] = {}
        self.runs = 0

    def fitted(self, guess: Guess) -> Fitted:
        return self.candidate.fitted(self.tensors, guess, self.given, self.p)

    def outcome(self, guess: Guess, every: bool = False) -> Outcome | None:
        """What the network of a guess answers; None where the guess makes none."""
        key = (every, *sorted((question, repr(option)) for question, option in guess.items()))
        if key not in self._outcomes:
            self.runs += 1
            try:
                self._outcomes[key] = self.judge.judge(self.fitted(guess), every)
            except (InputError, RuntimeError, ValueError, IndexError):
                self._outcomes[key] = None  # shapes that this guess does not fit
        return self._outcomes[key]

    def best(self) -> Guess:
        """The best guess that is found, from the defaults. Raises InputError where the defaults make no network."""
        start = self.candidate.default
        first = self.outcome(start)
        asked = [one for one in self.candidate.options if one not in self.fixed and one != "epsilon"]
        guess = self._descended(start, [one for one in asked if one not in RARE])
        if first is None and self.outcome(guess) is None:
            self.fitted(start)  # says why
            raise InputError("no reading of the tensors makes a network that can be run")
        if self.answers(guess):
            return guess
        tried = [(self._accuracy(one), -place, one) for place, one in enumerate(self._many())]
        tops = [one for *_, one in sorted(tried, key=lambda entry: entry[:2], reverse=True)[:4]]
        for top in tops:
            found = self._descended(top, asked)
            guess = found if self._is_better(found, guess) else guess
            if self.answers(guess):
                break
        else:
            found = self._descended(guess, asked)
            guess = found if self._is_better(found, guess) else guess
        return self._back_to_defaults(guess) if self._is_found(guess, start) else start

    def _is_found(self, guess: Guess, start: Guess) -> bool:
        """Whether a guess that does not answer everything is more than the best of many that answer by chance."""
        found, first = self.outcome(guess), self.outcome(start)
        if found is None or first is None:
            return found is not None
        chance, n = 1 / max(found.p, 2), max(len(found.correct), 1)
        return found.accuracy > max(first.accuracy + 0.1, chance + 6 * sqrt(chance * (1 - chance) / n))

    def answers(self, guess: Guess) -> bool:
        """Whether the network of a guess answers."""
        return self._accuracy(guess) >= ANSWERS

    def _accuracy(self, guess: Guess) -> float:
        outcome = self.outcome(guess)
        return outcome.accuracy if outcome is not None else -1.0

    def _is_better(self, one: Guess, other: Guess) -> bool:
        found, best = self.outcome(one), self.outcome(other)
        return found is not None and (best is None or is_better(found, best))

    def _rank(self, guess: Guess, best: Guess) -> float:
        """The accuracy, or that of guessing for another p that is not better than the best."""
        found, first = self.outcome(guess), self.outcome(best)
        if found is None:
            return -1.0
        if first is not None and found.p != first.p and not is_better(found, first):
            return 0.0
        return found.accuracy

    def _descended(self, guess: Guess, questions: Sequence[str]) -> Guess:
        """One question after the other, as long as an option is better."""
        for _ in range(3):
            before = guess
            for question in questions:
                for option in self.candidate.options[question]:
                    guess = self._better_of(guess, question, option)
            if guess == before or self._accuracy(guess) >= 1:
                break
        return guess

    def _better_of(self, guess: Guess, question: str, option: Any) -> Guess:
        other = {**guess, question: option}
        if other == guess or (found := self.outcome(other)) is None:
            return guess
        best = self.outcome(guess)
        return other if best is None or prefers(found, best, option, guess[question]) else guess

    def _back_to_defaults(self, guess: Guess) -> Guess:
        """A default in place of every option that is not better than it: what was tried at once was not tried apart."""
        for question, default in self.candidate.default.items():
            other = {**guess, question: default}
            found, best = self.outcome(other), self.outcome(guess)
            if other != guess and found is not None and best is not None and not is_better(best, found):
                guess = other
        return guess

    def _many(self) -> Iterator[Guess]:
        """Guesses that differ from the defaults in many questions at once, those that differ least first."""
        options = self.candidate.options
        asked = [one for one in _TOGETHER if len(options.get(one, ())) > 1 and one not in self.fixed]
        sizes = {question: len(options[question]) for question in asked}
        runs = self._affordable()
        while prod(sizes.values()) > 4 * runs:  # the question with most options is cut first
            most = max(sizes, key=lambda question: sizes[question])
            sizes[most] = max(sizes[most] * 3 // 4, 1)
        places = sorted(product(*(range(sizes[question]) for question in asked)), key=lambda one: (sum(one), one))
        for chosen in islice(places, runs):
            of = {question: options[question][place] for question, place in zip(asked, chosen, strict=True)}
            yield {**self.candidate.default, **of}

    def _affordable(self) -> int:
        size = sum(weight.numel() for name, weight in self.tensors.items() if weight.ndim > 1)
        return int(max(min(MOST_WORK / (size * SOME_PAIRS * 4 * 2 + 1), MOST_RUNS), 60))
