"""The verdict of `clock_pizza` beside what is known: planted networks, and the authors' own.

    python -m benchmarks.clock_or_pizza --planted 200
    python -m benchmarks.clock_or_pizza --networks FOLDER

Of planted networks the kind is known by construction. They have 2 to 5 random frequencies modulo 31, 43 or 59,
frequencies and neurons of unequal strength, phases that are off by 0.1 rad, and noise of up to 5 % on every matrix (a
tenth of both where it says so). For each kind, how often each verdict is given, how often a name is wrong, and how
often it is wrong and no witness disagrees, both with Wilson's 95 % interval for such networks.

The FOLDER holds `model_NAME.pt` beside `config_NAME.json` as in github.com/fjzzq2002/pizza (MIT): for every key
frequency, the fit of clock and pizza to the logits of one isolated circle, as the authors cut it (two principal
components, all p³ entries of the logits), of these the part with frequency k, and as `clock_pizza` does (the plane of
k, the part with frequency k), here on all pairs.
"""

import argparse
import functools
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.random import Generator
from scipy import stats
from torch import Tensor

from interp import ModelConfig, Task
from interp.analysis import find, measure_checkpoint
from interp.interchange.importing import import_run
from interp.mathematics import fourier
from interp.mathematics.clock_and_pizza import FORMULAS, accompanying
from interp.models import initial_weights, logits_with_vectors
from interp.runs import Checkpoint
from interp.testing import LookupTable, Neuron, accompany, circuit_checkpoint, circuit_neurons, ideal_logits

MODULI = (31, 43, 59)
PHASE_NOISE, WEIGHT_NOISE = 0.1, 0.05
# What an ideal pizza needs of the accompanying cosine, |cos x/2| = 2/π + 4/(3π) cos x − …, as a share of its mean.
MADE_UP = 2 / 3


def summary_of(checkpoint: Checkpoint, **parameters: int) -> dict[str, Any]:
    """The summary of `clock_pizza`."""
    return find("clock_pizza").summary(measure_checkpoint(checkpoint, "clock_pizza", **parameters))


# ---- planted networks ------------------------------------------------------------------------------------------------


def _frequencies(p: int, random: Generator, fewest: int = 2) -> list[int]:
    return sorted(int(k) for k in 1 + random.permutation(p // 2)[: random.integers(fewest, 6)])


def _neurons(
    frequencies: list[int], circuit: str, activation: str, random: Generator, noise: float = 1.0
) -> list[Neuron]:
    """Pizzas stay pizzas: the phases of a neuron over both inputs are off by the same."""
    fewest = {("clock", "relu"): 16, ("clock", "square"): 8, ("pizza", "relu"): 9, ("pizza", "square"): 7}
    per_frequency = int(fewest[circuit, activation] + random.integers(0, 8))
    planted = []
    for neuron in circuit_neurons(frequencies, per_frequency=per_frequency, circuit=circuit):
        off_a, off_b = random.normal(0, noise * PHASE_NOISE, 2)
        off_b = off_a if circuit == "pizza" else off_b
        planted.append(Neuron(neuron.frequency, neuron.phase_a + off_a, neuron.phase_b + off_b))
    return planted


def _unequal(checkpoint: Checkpoint, neurons: list[Neuron], random: Generator, noise: float = 1.0) -> Checkpoint:
    """Frequencies up to four times as strong as others, neurons off by a tenth, noise on every matrix."""
    of_frequency = {k: 2 ** random.uniform(-1, 1) for k in sorted({neuron.frequency for neuron in neurons})}
    scale = [of_frequency[neuron.frequency] * random.normal(1, 0.1 * noise) for neuron in neurons]
    weights = {name: weight.clone() for name, weight in checkpoint.weights.items()}
    name = next(name for name in weights if name.endswith("W_out"))
    weights[name][: len(scale)] *= torch.tensor(scale)[:, None]
    level = noise * random.uniform(0, WEIGHT_NOISE)
    for name, weight in weights.items():
        # Of what is not zero: the planted matrices are sparse.
        size = weight[weight != 0].square().mean().sqrt() if weight.any() else torch.tensor(0.0)
        if not name.endswith(("W_Q", "W_K", "W_pos")):  # those that point attention are large, and stay
            weights[name] = weight + level * size * torch.from_numpy(random.normal(size=tuple(weight.shape)))
    return Checkpoint(0, weights, checkpoint.task, checkpoint.model)


def _planted(circuit: str, random: Generator, **options: Any) -> Checkpoint:
    task = Task(int(random.choice(MODULI)), train_fraction=0.5, seed=int(random.integers(1000)))
    activation = "relu" if "lookup" in options else str(random.choice(["relu", "square"]))
    neurons = _neurons(_frequencies(task.p, random), circuit, activation, random)
    strength = options.pop("strength", 10.0) * (0.3 if activation == "square" else 1)
    planted = circuit_checkpoint(task, neurons, activation=activation, strength=strength, **options)
    return _unequal(planted, neurons, random)


def clock(random: Generator) -> Checkpoint:
    return _planted("clock", random)


def clock_mlp(random: Generator) -> Checkpoint:
    return _planted("clock", random, family="mlp")


def pizza(random: Generator) -> Checkpoint:
    return _planted("pizza", random)


def pizza_apart(random: Generator) -> Checkpoint:
    """The phases of a neuron over a and over b are not quite the same: each is off by its own."""
    task = Task(int(random.choice(MODULI)))
    planted = _neurons(_frequencies(task.p, random), "pizza", "relu", random)
    off = random.normal(0, PHASE_NOISE, len(planted))
    neurons = [replace(neuron, phase_b=neuron.phase_b + by) for neuron, by in zip(planted, off, strict=True)]
    return _unequal(circuit_checkpoint(task, neurons), neurons, random)


def pizza_mlp(random: Generator) -> Checkpoint:
    """Both inputs enter as a sum."""
    return _planted("pizza", random, family="mlp")


def pizza_accompanied(random: Generator, noise: float = 1.0) -> Checkpoint:
    """Circles of twice the frequency make up for half to all of what the pizza lacks."""
    task = Task(int(random.choice(MODULI)))
    neurons = _neurons(_frequencies(task.p, random), "pizza", "relu", random, noise)
    alone = _unequal(circuit_checkpoint(task, neurons), neurons, random, noise)
    frequencies, found = sorted({neuron.frequency for neuron in neurons}), alone
    for k in frequencies:
        cube = ideal_logits(task.p, [k], "clock")
        mean = float((alone.logits * cube).sum() / cube.square().sum())
        found = accompany(found, [k], random.uniform(0.5, 1) * MADE_UP * mean)
    return found


def mixed(random: Generator) -> Checkpoint:
    """Half of the frequencies are a clock's, the others a pizza's."""
    task = Task(int(random.choice(MODULI)))
    frequencies, neurons = _frequencies(task.p, random, fewest=4), []
    for circuit, some in (("clock", frequencies[::2]), ("pizza", frequencies[1::2])):
        neurons += _neurons(some, circuit, "relu", random)
    return _unequal(circuit_checkpoint(task, neurons), neurons, random)


def _growing(circuit: str, random: Generator) -> Checkpoint:
    """A circuit that is being learned, beside a table of the training pairs that is as strong, or several times."""
    return _planted(circuit, random, lookup=LookupTable(float(random.uniform(5, 30))), strength=random.uniform(0.3, 3))


def growing_clock(random: Generator) -> Checkpoint:
    return _growing("clock", random)


def growing_pizza(random: Generator) -> Checkpoint:
    return _growing("pizza", random)


def untrained(random: Generator) -> Checkpoint:
    task = Task(int(random.choice(MODULI)), train_fraction=0.5)
    model = ModelConfig(
        prompt=str(random.choice(["ab=", "ab"])),
        attention_rate=float(random.choice([0, 0.5, 1])),
        seed=int(random.integers(10**6)),
    )
    return Checkpoint(0, initial_weights(model, task.p), task, model)


def memorizer(random: Generator) -> Checkpoint:
    """A table of the training pairs and nothing else, of right or of random labels."""
    noise = float(random.choice([0, 1]))
    seed = int(random.integers(1000))
    task = Task(int(random.choice(MODULI)), train_fraction=0.5, seed=seed, label_noise=noise)
    return circuit_checkpoint(task, [], lookup=LookupTable(float(random.uniform(5, 30))))


def shuffled(random: Generator) -> Checkpoint:
    """A clock or a pizza whose answers are renamed at random."""
    found = _planted(str(random.choice(list(FORMULAS))), random)
    order = torch.from_numpy(random.permutation(found.task.p))
    weights = found.weights | {"unembed.W_U": found.weights["unembed.W_U"][:, order]}
    return Checkpoint(0, weights, found.task, found.model)


# The kind that is planted, what it is to be called, and how it is made.
KINDS: tuple[tuple[str, str, Callable[[Generator], Checkpoint]], ...] = (
    ("clock, transformer", "clock", clock),
    ("clock, MLP", "clock", clock_mlp),
    ("pizza, transformer", "pizza", pizza),
    ("pizza, phases over a and b 0.1 rad apart", "pizza", pizza_apart),
    ("pizza, MLP of the sum", "pizza", pizza_mlp),
    ("pizza with accompanying circles", "pizza", pizza_accompanied),
    ("the same, a tenth of the noise", "pizza", functools.partial(pizza_accompanied, noise=0.1)),
    ("growing clock beside a lookup table", "clock", growing_clock),
    ("growing pizza beside a lookup table", "pizza", growing_pizza),
    ("clock and pizza, half each", "neither", mixed),
    ("untrained", "neither", untrained),
    ("lookup table, right or wrong labels", "neither", memorizer),
    ("circuit with shuffled answers", "neither", shuffled),
)


def planted_rows(samples: int) -> Iterator[str]:
    """The table of errors, row by row. A name is wrong where it is another than what was planted: `neither` is none."""
    yield "| planted | clock | pizza | neither | wrong name | wrong, and no witness disagrees |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for number, (kind, truth, make) in enumerate(KINDS):
        random = np.random.default_rng([7, number])
        found = [summary_of(make(random)) for _ in range(samples)]
        verdicts = Counter(one["verdict"] for one in found)
        wrong = [one for one in found if one["verdict"] not in (truth, "neither")]
        errors = (len(wrong), sum(not one["disagreeing"] for one in wrong))
        counts = " | ".join(str(verdicts[name]) for name in (*FORMULAS, "neither"))
        yield f"| {kind} | {counts} | {' | '.join(share(count, samples) for count in errors)} |"


def share(count: int, samples: int) -> str:
    """A count, with the interval of the share."""
    ends = stats.binomtest(count, samples).proportion_ci(method="wilson")
    return f"{count} ({100 * ends.low:.1f} to {100 * ends.high:.1f} %)"


# ---- the authors' networks -------------------------------------------------------------------------------------------


def explained(logits: Float[Tensor, "p p p"], formula: Float[Tensor, "p p p"]) -> float:
    """The fraction of variance explained over all entries, both sides standardized."""
    y, fit = ((table - table.mean()) / table.std(correction=0) for table in (logits, formula))
    return 1 - float((y - fit).square().mean())


def published_fits(checkpoint: Checkpoint, k: int) -> dict[str, float]:
    """The clock's and the pizza's fit to the logits of the two principal components of W_E that have most power at k,
    and to their part with frequency k alone; and the accompanying formula's to those that have most at 2k."""
    p = checkpoint.task.p
    weights = {name: weight.double() for name, weight in checkpoint.weights.items()}
    W_E = weights["embed.W_E"][:p]
    centred = W_E - W_E.mean(0)
    components = torch.linalg.svd(centred, full_matrices=False)[0]
    sizes = fourier.power(components)
    pairs = torch.cartesian_prod(torch.arange(p), torch.arange(p))
    vectors = []
    for frequency in (k, accompanying(k, p) or k):
        two = components[:, sizes[frequency - 1].topk(2).indices.sort().values]
        vectors.append(W_E.mean(0) + two @ (two.T @ centred))
    alone, beside = logits_with_vectors(weights, checkpoint.model, torch.stack(vectors), pairs).view(2, p, p, p)
    s = torch.arange(p, dtype=torch.float64)
    w, d = 2 * math.pi * k / p, (s[:, None] - s)[..., None]
    wave = (w * (s[:, None, None] + s[:, None] - s)).cos()
    formulas = {"clock": wave, "pizza": (w * d / 2).cos().abs() * wave}
    waves = fourier.pairs(p)[k - 1]
    part = alone @ waves.T @ waves
    fits = {name: explained(alone, formula) for name, formula in formulas.items()}
    fits |= {f"part_{name}": explained(part, formula) for name, formula in formulas.items()}
    return fits | {"accompanying": explained(beside, -(w * d).cos() * wave)}


def isolation_rows(folder: Path) -> Iterator[str]:
    """The table of isolated circles, a row for every key frequency of every network."""
    yield (
        "| network | verdict | q | s_g | k | two components, all logits | their part k | accompanying | plane of k | "
        "with that of 2k | all circles |"
    )
    yield f"|{' --- |' * 11}"
    for path in sorted(folder.glob("model_*.pt")):
        with TemporaryDirectory() as temporary:
            checkpoint = import_run(path, Path(temporary) / "run", split="none").last
        found = summary_of(checkpoint, pairs=10**9)
        for position, k in enumerate(checkpoint.key_frequencies):
            measures = [
                found["verdict"],
                *(f"{found[name]:.3f}" for name in ("distance_irrelevance", "gradient_symmetricity")),
            ]
            head = [path.stem.removeprefix("model_"), *measures] if position == 0 else [""] * 4
            fits = published_fits(checkpoint, k)
            ours = [
                ", ".join(f"{100 * found[f'{circles}fit_per_frequency'][str(k)][name]:.2f}" for name in FORMULAS)
                for circles in ("isolated_", "accompanied_", "")
            ]
            theirs = [", ".join(f"{100 * fits[f'{part}{name}']:.2f}" for name in FORMULAS) for part in ("", "part_")]
            cells = [*head, str(k), *theirs, f"{100 * fits['accompanying']:.2f}", *ours]
            yield f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("--planted", type=int, default=0, metavar="N", help="plant so many networks of each kind")
    parser.add_argument("--networks", type=Path, metavar="FOLDER", help="model_NAME.pt with config_NAME.json beside it")
    options = parser.parse_args()
    if not options.planted and options.networks is None:
        parser.error("give --planted N, --networks FOLDER, or both")
    for rows in (
        isolation_rows(options.networks) if options.networks else (),
        planted_rows(options.planted) if options.planted else (),
    ):
        for row in rows:
            print(row, flush=True)


if __name__ == "__main__":
    main()
