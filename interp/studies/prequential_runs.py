"""Prequential codes by networks: what is trained for each block, and what its labels cost.

A code has data that are `given`, which may be none, and data that are coded after them, in an order and in blocks. For
every block but the first of all a network is trained from scratch on nine tenths of what is before the block, as an
ordinary run. On the other tenth, every tenth example in their order, the temperature and the share of the uniform code
are chosen (`interp.mathematics.prequential`). Training stops after a number of steps that is fixed beforehand, and the
initial weights are those of a seed: neither sees a label, and the receiver has both.

One exception, which depends on inputs alone. A network whose inputs enter as a sum gives (b, a) the answer that it
gives (a, b), up to rounding. Where it cannot tell any of the asked pairs from one in the prefix, a tenth that is held
out says nothing of them: then it is trained on all of the prefix, and tempered on what it was trained on.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from jaxtyping import Int

from interp.errors import InputError
from interp.experiment import Experiment, ModelConfig, Operation, Operations, Task, TrainingConfig
from interp.mathematics.prequential import UNIFORM, Tempering, choose_tempering, label_bits
from interp.runs import Checkpoint, Run
from interp.studies.prequential_design import PrequentialDesign
from interp.sweeps import GridRun

Indices = Int[np.ndarray, " n"]
TENTH = 10


@dataclass(frozen=True)
class Tables:
    """The tables whose labels are coded: of one operation modulo p, or of two that a token tells apart. Example
    o·p² + a·p + b is the pair (a, b) of operation number o. With `tied` the inputs of the network enter as a sum, and
    a random table is symmetric; `seed` draws the random table and the initial weights."""

    p: int
    operations: tuple[Operation, ...]
    tied: bool
    seed: int
    symmetric: bool = False

    @property
    def labels(self) -> Int[np.ndarray, " examples"]:
        """Those of all examples; −1 where there is none.

        >>> Tables(3, ("add",), True, 0).labels.tolist()
        [0, 1, 2, 1, 2, 0, 2, 0, 1]
        """
        return np.concatenate([self._alone(place).true_labels for place in range(len(self.operations))])

    def _alone(self, place: int) -> Task:
        name = self.operations[place]
        if len(self.operations) > 1:
            return Operations(self.p, self.operations, seed=self.seed).task_of(name)
        is_symmetric = name == "random" and (self.tied or self.symmetric)
        return Task(self.p, name, symmetric=is_symmetric, seed=self.seed)

    def trained_on(self, examples: Indices) -> Task | Operations:
        """The task of a run that is trained on these, in any order.

        >>> task = Tables(5, ("add", "subtract"), False, 0).trained_on(np.array([30, 26]))
        >>> task.title, task.train_indices.tolist()
        ('subtract modulo 5', [1, 5])
        """
        places = np.unique(examples // self.p**2)
        if len(places) == 1:
            of_one = tuple(np.sort(examples % self.p**2).tolist())
            return replace(self._alone(int(places[0])), split=of_one, given_away=())
        return Operations(self.p, self.operations, seed=self.seed, split=tuple(np.sort(examples).tolist()))

    def run(self, name: str, examples: Indices, design: PrequentialDesign) -> GridRun:
        """The run that is trained on these examples; of two operations the prompt names one, also where it is alone."""
        model = ModelConfig(
            d_model=design.d_model,
            d_mlp=design.d_mlp,
            prompt="ab=" if len(self.operations) == 1 else "aob=",
            attention_rate=0.0 if self.tied else 1.0,
            seed=self.seed,
        )
        training = TrainingConfig(
            steps=design.steps,
            lr=design.lr,
            weight_decay=design.weight_decay,
            betas=(0.9, 0.95),
            checkpoint_every=None,
            log_every=max(1, design.steps),
        )
        return GridRun(name, Experiment(self.trained_on(examples), model, training))


@dataclass(frozen=True)
class Part:
    """A block: the examples that its network is trained on, those that it is tempered on, and those that are coded. The
    first block of all has no network."""

    name: str
    trained: Int[np.ndarray, " trained"]
    tempered_on: Int[np.ndarray, " tempered"]
    asked: Int[np.ndarray, " asked"]


@dataclass(frozen=True, eq=False)
class Coding:
    """The code of `then` after `given`, examples of `tables` in their orders. Blocks of `then` end at these `shares` of
    it, and at its end.

    >>> tables = Tables(5, ("add",), True, 0)
    >>> coding = Coding("mine", tables, np.arange(0), np.arange(20), (0.5,))
    >>> [(len(part.trained), len(part.tempered_on), len(part.asked)) for part in coding.parts]
    [(0, 0, 10), (9, 1, 10)]
    """

    name: str
    tables: Tables
    given: Int[np.ndarray, " known"]
    then: Int[np.ndarray, " coded"]
    shares: tuple[float, ...]

    @property
    def parts(self) -> list[Part]:
        """Its blocks. Raises InputError where one of them has no label."""
        ends = [0, *(round(share * len(self.then)) for share in sorted(self.shares)), len(self.then)]
        if any(end <= start for start, end in pairwise(ends)):
            raise InputError(
                f"prefixes {' '.join(f'{share:g}' for share in self.shares)} of {len(self.then)} labels leave a block "
                "without one; give fewer prefixes, or a larger --p"
            )
        return [self._part(start, end) for start, end in pairwise(ends)]

    def _part(self, start: int, end: int) -> Part:
        prefix, asked = np.concatenate([self.given, self.then[:start]]), self.then[start:end]
        name = f"{self.name}-n{len(prefix)}-seed{self.tables.seed}"
        if self.tables.tied and np.isin(mirror(asked, self.tables.p), prefix).all():
            return Part(name, prefix, prefix, asked)
        is_held_out = np.arange(len(prefix)) % TENTH == TENTH - 1
        return Part(name, prefix[~is_held_out], prefix[is_held_out], asked)

    def runs(self, design: PrequentialDesign) -> list[GridRun]:
        """A run for every block with a prefix."""
        return [self.tables.run(part.name, part.trained, design) for part in self.parts if len(part.trained)]


def mirror(examples: Indices, p: int) -> Indices:
    """(b, a) of every pair (a, b) of one operation.

    >>> mirror(np.array([1, 3, 4]), 3).tolist()
    [3, 1, 4]
    """
    a, b = np.divmod(examples % p**2, p)
    return examples - examples % p**2 + b * p + a


@dataclass(frozen=True)
class Block:
    """What a block costs, in bits: with the tempered network, with its own probabilities, and with the tempered network
    as it was before training. Of the trained one the share of labels that are its most probable answer, and T and e."""

    labels: int
    bits: float
    raw_bits: float
    untrained_bits: float
    accuracy: float
    tempering: Tempering


def blocks(coding: Coding, runs: Mapping[str, Run]) -> list[Block]:
    """What each block of a code costs; the first of all, without a network, log₂ K a label, and its accuracy is NaN."""
    labels, n_classes = coding.tables.labels, coding.tables.p
    found = []
    for part in coding.parts:
        if not len(part.trained):
            uniform = len(part.asked) * float(np.log2(n_classes))
            found.append(Block(len(part.asked), uniform, uniform, uniform, np.nan, UNIFORM))
            continue
        run = runs[part.name]
        of = _answers(run.last, n_classes)
        tempering, bits = _tempered(of, part, labels)
        _, untrained = _tempered(_answers(run[0], n_classes), part, labels)
        logits, right = of(part.asked), labels[part.asked]
        raw, accuracy = label_bits(logits, right).sum(), (logits.argmax(1) == right).mean()
        found.append(Block(len(part.asked), bits, float(raw), untrained, float(accuracy), tempering))
    return found


def _tempered(of: Callable[[Indices], np.ndarray], part: Part, labels: np.ndarray) -> tuple[Tempering, float]:
    tempering = choose_tempering(of(part.tempered_on), labels[part.tempered_on])
    return tempering, float(label_bits(of(part.asked), labels[part.asked], tempering).sum())


def _answers(checkpoint: Checkpoint, n_classes: int) -> Callable[[Indices], np.ndarray]:
    """The logits of examples; a network of one operation was asked that one."""
    logits = checkpoint.logits.reshape(-1, n_classes).double().numpy()
    return lambda examples: logits[examples % len(logits)]
