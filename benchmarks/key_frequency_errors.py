"""How often the rule for key frequencies errs: planted networks, whose key frequencies are known, and networks that
memorized random labels, which have none.

    python -m benchmarks.key_frequency_errors [--networks 60]

Every planted network is a table of logits over all pairs: a circuit of 2 to 5 random frequencies, a clock or a pizza,
of 30 logits in all, and noise, modulo 13 to 59 with 30, 45 or 60 % of the pairs trained on. Growing circuits have 5 to
50 % of these 30 logits, unequal strengths, and stand upon the logits of a trained network: of one that memorized random
labels (its residues renamed at random, so that each is another one), or true labels of 20 % of the pairs without weight
decay, modulo 23 to 59. A frequency is needed where, in the planted circuit alone, the loss doubles or rises by 0.1 nats
without it. The memorizers are trained here, in two families, the former with and without weight decay, on symmetric
tables and others; each has a table, a split and initial weights of its own. Planted networks draw them with
replacement. Intervals are exact ones of a binomial (95 %), over networks.
"""

import argparse
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from scipy import stats

from interp.analyses import frequency_evidence
from interp.experiment import Experiment, ModelConfig, Task, TrainingConfig
from interp.mathematics.key_frequencies import LEAST_FACTOR, LEAST_RISE, centre, evidence, frequencies_of, judges_of
from interp.models import initial_weights
from interp.runs import Checkpoint
from interp.testing import with_logits
from interp.training import train

MODULI, FRACTIONS = (13, 23, 31, 43, 59), (0.3, 0.45, 0.6)
LOGITS = 30.0  # of a circuit, over its frequencies
STEPS = 500  # of a memorizer's training
SEEDS = 4  # of memorizers, per modulus, family, kind of table and weight decay


class Network(NamedTuple):
    """Logits [a, b, c], the task, the planted frequencies, and those among them that the circuit needs."""

    task: Task
    logits: np.ndarray
    planted: set[int]
    needed: set[int]


class Tally(NamedTuple):
    """Of one kind of networks: how many there are and how many had a key frequency that was not planted; how many had
    one that is needed, and of how many of these all were found; needed frequencies, and those of them found."""

    networks: int
    false_alarms: int
    with_needed: int
    complete: int
    needed: int
    found: int


def memorizers(seeds: int = SEEDS) -> Iterator[Checkpoint]:
    """Networks that know random labels of their training pairs by heart."""
    settings = itertools.product(range(seeds), MODULI, ("transformer", "mlp"), (True, False), (0.0, 1.0))
    for seed, (_, p, family, symmetric, weight_decay) in enumerate(settings):
        task = Task(p, "random", train_fraction=FRACTIONS[seed % 3], symmetric=symmetric, seed=seed)
        yield _trained(task, family, weight_decay, seed)


def memorizers_of_true_labels(seeds: int = SEEDS) -> Iterator[Checkpoint]:
    """Networks that know few pairs by heart, and none of the others."""
    for seed, (_, p, family) in enumerate(itertools.product(range(5 * seeds), MODULI[1:], ("transformer", "mlp"))):
        yield _trained(Task(p, train_fraction=0.2, seed=seed), family, 0.0, seed)


def _trained(task: Task, family: str, weight_decay: float, seed: int) -> Checkpoint:
    special = {} if family == "transformer" else {"embedding": "untied"}
    if family == "mlp" and task.operation == "random" and not task.symmetric:
        special["inputs"] = "concatenated"
    model = ModelConfig(family=family, d_model=32, d_mlp=128, seed=seed, **special)
    training = TrainingConfig(steps=STEPS, lr=5e-3, weight_decay=weight_decay, checkpoint_every=None, log_every=STEPS)
    *_, last = train(Experiment(task, model, training))
    return Checkpoint(last.step, last.weights, task, model)


def circuit(p: int, strengths: dict[int, float], late: dict[int, float], kind: str) -> np.ndarray:
    """Σ_k strength_k cos(w_k(a+b−c) + late_k), for a pizza each times |cos w_k(a−b)/2|."""
    a, b, c = np.meshgrid(*[np.arange(p)] * 3, indexing="ij")
    logits = np.zeros((p, p, p))
    for k, strength in strengths.items():
        w = 2 * np.pi * k / p
        amplitude = strength * (np.abs(np.cos(w * (a - b) / 2)) if kind == "pizza" else 1)
        logits += amplitude * np.cos(w * (a + b - c) + late.get(k, 0.0))
    return logits


def needed_by(logits: np.ndarray, planted: set[int]) -> set[int]:
    """The frequencies without which a circuit alone does clearly worse."""
    p = len(logits)
    every = judges_of(torch.arange(p * p).view(p, p), torch.ones(p, p, dtype=torch.bool))
    found = evidence(centre(torch.from_numpy(logits)), every, held_out=True)
    rise = found.log_loss_without.exp() - math.exp(found.log_loss)
    worse = (found.log_loss_without - found.log_loss >= math.log(LEAST_FACTOR)) | (rise >= LEAST_RISE)
    return planted & set(frequencies_of(worse))


def renamed(memorizer: Checkpoint, generator: np.random.Generator) -> tuple[np.ndarray, tuple[int, ...]]:
    """The logits of a memorizer whose residues, of inputs and of answers, were renamed, and the pairs it trained on."""
    p = memorizer.task.p
    inputs, answers = generator.permutation(p), generator.permutation(p)
    trained = memorizer.task.train_mask.reshape(p, p)[np.ix_(inputs, inputs)]
    logits = memorizer.logits.double().numpy()[np.ix_(inputs, inputs, answers)]
    return logits, tuple(map(int, np.flatnonzero(trained)))


def draw(kind: str, pool: Sequence[Checkpoint], generator: np.random.Generator) -> Network:
    """A planted network of a kind, of those of CASES; a growing one upon a network of the pool."""
    memorizer = pool[generator.integers(len(pool))]
    if kind.endswith("true"):
        logits, split = memorizer.logits.double().numpy(), tuple(map(int, memorizer.task.train_indices))
    else:
        logits, split = renamed(memorizer, generator)
    p = len(logits)
    task, noise = Task(p, split=split), 0.3 * generator.standard_normal((p, p, p))
    if kind in ("table", "symmetric table"):
        known = task.train_mask.reshape(p, p)
        s, t = np.nonzero(known | known.T if kind == "symmetric table" else known)
        noise[s, t, (s + t) % p] += generator.uniform(5, 25)
        return Network(task, noise, set(), set())
    n_frequencies = int(generator.integers(2, min(5, p // 4) + 1))
    drawn = generator.choice(np.arange(1, p // 2 + 1), n_frequencies, replace=False)
    is_growing, late = kind.startswith("growing"), {}
    shares = np.full(n_frequencies, 1 / n_frequencies)
    if is_growing or kind == "unequal":
        shares = generator.dirichlet(2 * np.ones(n_frequencies))
    strengths = dict(zip(drawn.tolist(), (LOGITS * shares).tolist(), strict=True))
    if kind == "late":
        late = {int(drawn[0]): generator.choice([-1, 1]) * math.radians(generator.uniform(45, 65))}
    if kind == "harmonic":
        double = min(2 * drawn[0] % p, -2 * drawn[0] % p)
        strengths[int(double)] = LOGITS * generator.uniform(0.1, 0.3)
    planted = circuit(p, strengths, late, str(generator.choice(["clock", "pizza"])))
    needed = needed_by(planted, set(strengths))
    if is_growing:
        return Network(task, float(kind.split()[1]) / 100 * planted + logits, set(strengths), needed)
    return Network(task, planted + noise, set(strengths), needed)


CASES = {
    "circuit": "equal strengths",
    "unequal": "unequal strengths",
    "late": "one frequency late by 45° to 65° (less than half of its power adds)",
    "harmonic": "2k beside k",
    "growing 5": "growing, 5 % of its final strength, upon a real memorizer of random labels",
    "growing 10": "the same, 10 %",
    "growing 20": "the same, 20 %",
    "growing 50": "the same, 50 %",
    "growing 5 true": "growing, 5 %, upon a real memorizer of true labels",
    "growing 10 true": "the same, 10 %",
    "growing 20 true": "the same, 20 %",
    "growing 50 true": "the same, 50 %",
    "table": "a table of the training pairs",
    "symmetric table": "a table of these and their mirrors",
}


def tally(networks: Sequence[Network], key_of: Callable[[Network], set[int]]) -> Tally:
    """What a rule made of networks of one kind."""
    keys = [(network, key_of(network)) for network in networks]
    needing = [(network.needed, key) for network, key in keys if network.needed]
    return Tally(
        len(networks),
        sum(bool(key - network.planted) for network, key in keys),
        len(needing),
        sum(needed <= key for needed, key in needing),
        sum(len(needed) for needed, _ in needing),
        sum(len(needed & key) for needed, key in needing),
    )


def by_rule(network: Network, split: str | None = None) -> set[int]:
    """The key frequencies; with the split "unknown", as if nobody knew it."""
    task = Task(network.task.p, split=split) if split else network.task
    return set(with_logits(task, network.logits.copy()).key_frequencies)


def share(count: int, of: int) -> str:
    """A share of networks with its interval; – of none."""
    if not of:
        return "–"
    low, high = stats.binomtest(count, of).proportion_ci(0.95, "exact")
    return f"{count} of {of} ({100 * low:.1f} to {100 * high:.1f} %)"


def row(name: str, known: Tally, unknown: Tally) -> str:
    """A line of the table."""
    parts = [name, share(known.false_alarms, known.networks)]
    for one in (known, unknown):
        parts.append(share(one.complete, one.with_needed))
        parts.append(f"{100 * one.found / one.needed:.0f} %" if one.needed else "–")
    parts.insert(4, share(unknown.false_alarms, unknown.networks))
    return f"| {' | '.join(parts)} |"


def published(checkpoints: Sequence[Checkpoint]) -> dict[str, float]:
    """The mean share of all frequencies that each published rule calls key."""
    found = [frequency_evidence.measure(checkpoint).is_key_by.mean("frequency") for checkpoint in checkpoints]
    return {rule: float(np.mean([one.sel(rule=rule) for one in found])) for rule in frequency_evidence.RULES}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("--networks", type=int, default=60, help="planted networks of each kind (default: 60)")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"seeds of the memorizers (default: {SEEDS})")
    options = parser.parse_args()
    pool, of_true = list(memorizers(options.seeds)), list(memorizers_of_true_labels(options.seeds))
    columns = " | ".join(("false alarm", "all needed found", "share of needed"))
    print(f"| networks | {columns} | split unknown: {columns} |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    kinds = [
        (name, [_planted(kind, pool, of_true, number, index) for index in range(options.networks)])
        for number, (kind, name) in enumerate(CASES.items())
    ]
    fresh = []
    for seed, one in enumerate(pool):
        model = replace(one.model, seed=1000 + seed)
        fresh.append(
            Checkpoint(
                0, initial_weights(model, one.task.p), replace(one.task, operation="add", symmetric=False), model
            )
        )
    kinds += [
        (name, [Network(one.task, one.logits.double().numpy(), set(), set()) for one in networks])
        for name, networks in (
            ("real memorizers of random labels", pool),
            ("real memorizers of true labels", of_true),
            ("untrained networks", fresh),
        )
    ]
    for name, networks in kinds:
        known = tally(networks, by_rule)
        print(row(name, known, tally(networks, lambda network: by_rule(network, "unknown"))), flush=True)
    for name, networks in (("random labels", pool), ("true labels", of_true)):
        deviations = torch.cat([one.spectrum.evidence.deviations for one in networks])
        print(
            f"\nDeviations of the memorizers of {name}: mean {deviations.mean():.2f}, standard deviation "
            f"{deviations.std():.2f}. With an unknown split {sum(map(_has_signal, networks))} of {len(networks)} have "
            "a signal."
        )
    for name, checkpoints in (("memorizers of random labels", pool), ("untrained networks", fresh)):
        shares = ", ".join(f"{rule} {100 * value:.0f} %" for rule, value in published(checkpoints).items())
        print(f"\nOf all frequencies of the {name} the published rules call key: {shares}.")


def _has_signal(memorizer: Checkpoint) -> bool:
    """Whether some frequency stands out of all pairs, by the first condition alone."""
    unknown = with_logits(Task(memorizer.task.p, split="unknown"), memorizer.logits.double())
    return bool(unknown.spectrum.evidence.has_signal.any())


def _planted(kind: str, pool: Sequence[Checkpoint], of_true: Sequence[Checkpoint], number: int, index: int) -> Network:
    return draw(kind, of_true if kind.endswith("true") else pool, np.random.default_rng([number, index]))


if __name__ == "__main__":
    main()
