"""What analyzing one checkpoint costs: every analysis, and, for the measures that are published as notebooks, those
notebooks' way.

    python -m benchmarks.analyses [--analysis-rounds 5] [--weights-of RUN]

First every analysis in ms per checkpoint, with one shared forward pass. Then, side by side, published measures computed
from the same weights by our analyses and in the style of the public notebooks (a textbook forward pass, Python loops
over neurons and frequencies, dense cubes over p/2 × p² × p, automatic differentiation one triple at a time), written
here from the formulas; both must agree before they are timed. Rounds are interleaved, on one thread, and the lowest
processor time of each counts. Without --weights-of they are the initial ones and the key frequencies the first five.
"""

import argparse
import functools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.sizes import add_sizes, sized
from benchmarks.table import Row, machine
from interp.analysis import discover
from interp.experiment import ModelConfig, Task
from interp.machine import keep_freed_memory
from interp.mathematics import fourier
from interp.models import Weights, initial_weights
from interp.runs import Checkpoint, open_run

TRIPLES = 100  # as published; ours draws 20,000


class Notebook:
    """The measures the way that notebooks compute them."""

    def __init__(self, weights: Weights, task: Task, key: list[int]) -> None:
        self.weights, self.task, self.key, self.p = weights, task, key, task.p
        self.basis = fourier.basis(task.p, torch.float32)
        self.tokens = torch.tensor([(a, b, task.p) for a in range(task.p) for b in range(task.p)])
        self.labels = torch.from_numpy(task.labels)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Logits [p², p] and neurons [p², d_mlp] of all pairs, every layer at every position."""
        w = {name.rpartition(".")[2]: weight for name, weight in self.weights.items()}
        return textbook(w, w["W_E"][self.tokens])

    def neuron_spectra(self) -> Tensor:
        """The share of every 3×3 block in every neuron's variance, neuron by neuron, frequency by frequency
        [K, d_mlp]."""
        _, neurons = self.forward()
        grid = neurons.view(self.p, self.p, -1)
        shares = torch.zeros(self.p // 2, grid.shape[2])
        for j in range(grid.shape[2]):
            centred = grid[:, :, j] - grid[:, :, j].mean()
            square = (self.basis @ centred @ self.basis.T).square()
            for k in range(1, self.p // 2 + 1):
                rows = [0, 2 * k - 1, 2 * k]
                shares[k - 1, j] = (square[rows][:, rows].sum() - square[0, 0]) / square.sum()
        return shares

    def key_frequencies(self) -> Tensor:
        """The norms of W_L by frequency and the shares of logit power in the planes of cos, sin w_k(a+b) [2, K]."""
        logits, _ = self.forward()
        W_L = self.weights["blocks.0.mlp.W_out"] @ self.weights["unembed.W_U"]
        centred = logits - logits.mean(1, keepdim=True)
        found = torch.zeros(2, self.p // 2)
        for k in range(1, self.p // 2 + 1):
            found[0, k - 1] = (self.basis[2 * k - 1 : 2 * k + 1] @ W_L.T).norm()
            found[1, k - 1] = (
                sum((wave @ centred).square().sum() for wave in self.sum_waves(k)) / centred.square().sum()
            )
        return found

    def sum_waves(self, k: int) -> tuple[Tensor, Tensor]:
        """cos, sin w_k(a+b) over the p² pairs, of norm 1."""
        cosine, sine = self.basis[2 * k - 1], self.basis[2 * k]
        first = (torch.outer(cosine, cosine) - torch.outer(sine, sine)).flatten() / 2**0.5
        return first, (torch.outer(sine, cosine) + torch.outer(cosine, sine)).flatten() / 2**0.5

    def loss(self, logits: Tensor) -> Tensor:
        return -logits.double().log_softmax(-1).gather(1, self.labels[:, None]).mean()

    def progress(self) -> Tensor:
        """Restricted and excluded loss over all pairs, and excluded loss of every frequency [2 + K]."""
        logits, _ = self.forward()
        # All projections at once: the cube over frequencies, pairs and classes.
        planes = (torch.stack(self.sum_waves(k)) for k in range(1, self.p // 2 + 1))
        cube = torch.stack([waves.T @ (waves @ logits) for waves in planes])
        circuit = cube[[k - 1 for k in self.key]].sum(0)
        losses = [self.loss(circuit + logits.mean(0)), self.loss(logits - circuit)]
        return torch.stack(losses + [self.loss(logits - part) for part in cube])

    def clock_pizza(self) -> Tensor:
        """Distance irrelevance, and gradient symmetricity of random triples, one at a time [2]."""
        logits, _ = self.forward()
        table = torch.zeros(self.p, self.p)
        for a in range(self.p):
            for b in range(self.p):
                table[(a + b) % self.p, (a - b) % self.p] = logits[a * self.p + b, (a + b) % self.p]
        irrelevance = table.std(0, correction=0).mean() / table.std(correction=0)
        w = {name.rpartition(".")[2]: weight for name, weight in self.weights.items()}
        generator, cosines = np.random.RandomState(0), []
        for a, b, c in generator.randint(self.p, size=(TRIPLES, 3)):
            x = w["W_E"][torch.tensor([[a, b, self.p]])].clone().requires_grad_()
            textbook(w, x)[0][0, c].backward()
            assert x.grad is not None
            cosines.append(torch.cosine_similarity(x.grad[0, 0], x.grad[0, 1], dim=0))
        return torch.stack([irrelevance, torch.stack(cosines).mean()])


def textbook(w: dict[str, Tensor], embedded: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and neurons at the last position, from embedded tokens [n, positions, d_model]."""
    x = embedded + w["W_pos"]
    query, key, value = (torch.einsum("npd,hde->nhpe", x, w[name]) for name in ("W_Q", "W_K", "W_V"))
    scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    ahead = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    x = x + torch.einsum("nhpe,hed->npd", scores.masked_fill(ahead, -torch.inf).softmax(-1) @ value, w["W_O"])
    neurons = torch.relu(x @ w["W_in"] + w["b_in"])
    return ((x + neurons @ w["W_out"] + w["b_out"]) @ w["W_U"])[:, -1], neurons[:, -1]


NAMES = ("neuron Fourier spectra", "key frequencies", "restricted and excluded loss", "clock or pizza")


def ours(checkpoint: Checkpoint, key: list[int]) -> dict[str, Callable[[], Tensor]]:
    """The same numbers from our analyses, of a checkpoint that has computed nothing yet."""

    def values(name: str, *variables: str) -> list[np.ndarray]:
        given = {"key_frequencies": key} if "key_frequencies" in discover()[name].parameters else {}
        result = discover()[name].function(checkpoint, **given)
        everywhere = (result[v].sel(split="all") if "split" in result[v].dims else result[v] for v in variables)
        return [np.atleast_1d(value.values) for value in everywhere]

    progress = ("restricted_loss", "excluded_loss", "excluded_loss_of_frequency")
    acts = (
        lambda: torch.from_numpy(values("neuron_periodicity", "share")[0]).T,
        lambda: torch.from_numpy(np.stack(values("embedding_spectrum", "output_norm", "logit_share"))),
        lambda: torch.from_numpy(np.concatenate(values("progress_measures", *progress))),
        lambda: torch.from_numpy(
            np.concatenate(values("clock_pizza", "distance_irrelevance", "gradient_symmetricity"))
        ),
    )
    return dict(zip(NAMES, acts, strict=True))


def theirs(notebook: Notebook) -> dict[str, Callable[[], Tensor]]:
    """The measures of a notebook, under the names of ours."""
    functions = (notebook.neuron_spectra, notebook.key_frequencies, notebook.progress, notebook.clock_pizza)
    return dict(zip(NAMES, functions, strict=True))


def check(name: str, one: Tensor, other: Tensor) -> None:
    """Both ways give the same numbers, but for neurons that ours calls dead; a mean over 100 random triples has a
    standard error of a few hundredths."""
    tolerance = 0.15 if name == "clock or pizza" else 1e-3
    known = one.isfinite()
    one, other = one.double()[known], other.double()[known]
    if (one - other).abs().max() > tolerance * max(1.0, float(other.abs().max())):
        raise SystemExit(f"{name}: the two ways do not agree: {one[:5].tolist()}, {other[:5].tolist()}")


def seconds(act: Callable[[], object]) -> float:
    """Processor time: on a machine that does other things too, the time on the clock says little."""
    began = time.process_time()
    act()
    return time.process_time() - began


def each_analysis(checkpoint: Checkpoint, key: list[int]) -> dict[str, float]:
    """The seconds of every analysis that is not asked for by name alone, of a checkpoint that has computed nothing yet;
    what they share is counted apart."""
    found = {
        "forward pass": seconds(lambda: checkpoint.logits),
        "neurons by frequency": seconds(lambda: checkpoint.spectrum.neuron_frequencies),
        "losses": seconds(lambda: checkpoint.losses),
        "spectra of the logits": seconds(lambda: checkpoint.key_mask),
    }
    for analysis in discover().values():
        if analysis.on_request:
            continue
        if not analysis.of_run and checkpoint.model.family in analysis.families:
            measure = functools.partial(analysis.function, checkpoint)
            given = {"key_frequencies": key} if "key_frequencies" in analysis.parameters else {}
            found[analysis.name] = seconds(functools.partial(measure, **given))
    return found


def fastest(rounds: list[dict[str, float]], total: str) -> dict[str, float]:
    """The lowest of all rounds in ms, and their sum."""
    lowest = {name: 1e3 * min(times[name] for times in rounds) for name in rounds[0]}
    return lowest | {total: sum(lowest.values())}


class Measured(NamedTuple):
    """Milliseconds of processor time by name, each with its total, and the experiment that they are of."""

    each: dict[str, float]
    ours: dict[str, float]
    notebook: dict[str, float]
    task: Task
    model: ModelConfig


def compare(options: argparse.Namespace) -> Measured:
    """Every analysis, and both ways of the published measures, in interleaved rounds."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _compare(options)
    finally:
        torch.set_num_threads(threads)


def _compare(options: argparse.Namespace) -> Measured:
    experiment = sized(options)
    task, model = experiment.task, experiment.model
    if options.weights_of:
        run = open_run(options.weights_of)
        weights, task, model, key = run.last.weights, run.task, run.model, run.key_frequencies
    else:
        weights, key = initial_weights(model, task.p), list(range(1, min(5, options.p // 2) + 1))

    def fresh() -> Checkpoint:
        return Checkpoint(0, weights, task, model)

    notebook = theirs(Notebook(weights, task, key))
    for name, act in notebook.items():
        check(name, ours(fresh(), key)[name](), act())
    each, slow, fast = [], [], []
    for _ in range(options.analysis_rounds):
        each.append(each_analysis(fresh(), key))
        slow.append({name: seconds(act) for name, act in notebook.items()})
        # The four share one forward pass, for which the first of them pays.
        fast.append({name: seconds(act) for name, act in ours(fresh(), key).items()})
    return Measured(fastest(each, "all analyses"), fastest(fast, "all four"), fastest(slow, "all four"), task, model)


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """For the table of all benchmarks."""
    found = compare(options)
    total, notebook, four = found.each["all analyses"], found.notebook["all four"], found.ours["all four"]
    measured = [one for one in discover().values() if one.name in found.each]
    core = total - sum(found.each[one.name] for one in measured if not one.core)
    yield Row(
        f"all analyses of a checkpoint ({len(measured)}), one thread",
        f"{total:.0f} ms",
        f"forward pass {found.each['forward pass']:.0f} ms; the core {core:.0f} ms, without those of whole runs",
        "core ≤ 300 ms",
    )
    yield Row(
        "four published measures of them",
        f"{four:.0f} ms",
        f"as notebooks: {notebook / 1e3:.1f} s, {notebook / four:.0f}×",
        "≥ 20×",
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """Those of this benchmark."""
    parser.add_argument("--analysis-rounds", type=int, default=5, help="interleaved rounds (default: 5)")
    parser.add_argument("--weights-of", type=Path, metavar="RUN", help="analyze the last checkpoint of this run")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_options(parser)
    add_sizes(parser)
    options = parser.parse_args()
    keep_freed_memory()
    found = compare(options)
    model = found.model
    print(
        f"p = {found.task.p}, d_model {model.d_model}, {model.n_heads} heads, d_mlp {model.d_mlp}; "
        f"{options.analysis_rounds} rounds"
    )
    print(f"{machine()}\n\n{'':<32}{'ms of processor time':>12}")
    for name, time_taken in found.each.items():
        print(f"{name:<32}{time_taken:>12.1f}")
    print(f"\n{'':<32}{'interp':>12}{'notebook':>12}{'ratio':>9}")
    for name, time_taken in found.ours.items():
        print(f"{name:<32}{time_taken:>12.1f}{found.notebook[name]:>12.1f}{found.notebook[name] / time_taken:>8.1f}×")


if __name__ == "__main__":
    main()
