"""One training step, four ways, side by side in one process: ours by token tables and by products, a textbook
transformer, and the TransformerLens bridge.

    python -m benchmarks.training_step [--step-rounds 20]

All train the same network from the same weights on the same batch, with float64 cross-entropy and AdamW. The rounds
are interleaved, so that whatever else the machine does disturbs all alike; the median step is reported. Torch's threads
wait passively (`benchmarks/__init__.py`): by default they spin, which would slow the textbook most wherever the machine
is not idle.
"""

import argparse
import math
import statistics
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from benchmarks.sizes import add_sizes, sized
from benchmarks.table import Row, gemm_peak, machine, seconds
from interp.experiment import Experiment, ModelConfig, TrainingConfig
from interp.machine import keep_freed_memory
from interp.models import Each, Weights, bridge, initial_weights
from interp.training import (
    Batch,
    WeightUpdater,
    loss_and_gradient,
    tables_are_faster,
    threads_of_torch,
    worker_threads,
)

Step = Callable[[], float]  # one update; returns the loss before it


class Textbook(nn.Module):
    """The network as a textbook writes it: every layer at every position, the logits read at the last."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self.by_name = nn.ParameterDict(
            {name.replace(".", "/"): nn.Parameter(weight.clone()) for name, weight in weights.items()}
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits [n, positions, p] of tokens [n, positions]."""
        w = {name.rpartition("/")[2]: weight for name, weight in self.by_name.items()}
        x = w["W_E"][tokens] + w["W_pos"]
        query, key, value = (torch.einsum("npd,hde->nhpe", x, w[name]) for name in ("W_Q", "W_K", "W_V"))
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
        ahead = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        attention = scores.masked_fill(ahead, -torch.inf).softmax(-1)
        x = x + torch.einsum("nhpe,hed->npd", attention @ value, w["W_O"])
        x = x + (x @ w["W_in"] + w["b_in"]).relu() @ w["W_out"] + w["b_out"]
        return x @ w["W_U"]


def our_step(
    weights: Weights, model: ModelConfig, config: TrainingConfig, batch: Batch, each: Each, *, by_tables: bool
) -> Step:
    """`interp.training.loop`, without metrics and snapshots."""
    weights = {name: weight.clone() for name, weight in weights.items()}
    updater, steps_done = WeightUpdater([weights], config), [0]

    def step() -> float:
        with threads_of_torch(model):
            loss, _, gradient = loss_and_gradient(weights, model, batch, each, by_tables=by_tables)
            updater.update(steps_done[0], [gradient])
        steps_done[0] += 1
        return loss

    return step


def module_step(network: nn.Module, p: int, config: TrainingConfig, batch: Batch) -> Step:
    """What one writes around any network: forward, loss, backward, step."""
    tokens = torch.cat([batch.inputs, torch.full((len(batch), 1), p)], dim=1)
    optimizer = torch.optim.AdamW(network.parameters(), config.lr, config.betas, config.eps, config.weight_decay)

    def step() -> float:
        logits = network(tokens)[:, -1]
        loss = nn.functional.cross_entropy(logits.double(), batch.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def our_arithmetic(model: ModelConfig, p: int, n: int) -> float:
    """GFLOP of a step by products: the three per example of the factored form, each once forward and twice backward."""
    heads = model.n_heads * model.head_size
    return 6 * n * (heads * model.d_mlp + heads * p + model.d_mlp * p) / 1e9


def tables_arithmetic(model: ModelConfig, p: int, n: int) -> float:
    """GFLOP of a step by token tables: one product per example; of the tables, one per token and two back; and the
    weighted sums of their rows, one forward and two backward."""
    heads, width = model.n_heads * model.head_size, model.d_mlp + p
    return 6 * (n * model.d_mlp * p + 2 * p * heads * width + n * 2 * model.n_heads * width) / 1e9


def textbook_arithmetic(model: ModelConfig, p: int, n: int) -> float:
    """GFLOP of a step with every layer at three positions; the few of scores and mixing are left out."""
    heads = model.n_heads * model.head_size
    return 6 * n * 3 * model.d_model * (4 * heads + 2 * model.d_mlp + p) / 1e9


def compare(contenders: dict[str, Step], rounds: int, steps_per_round: int) -> dict[str, list[float]]:
    """The seconds of every step of every contender."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        names = list(contenders)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            contenders[name]()  # its memory and caches are the others' until now
            times[name] += [seconds(contenders[name]) for _ in range(steps_per_round)]
    return times


def contenders(experiment: Experiment, each: Each) -> dict[str, Step]:
    """All, which have each taken one step from the same weights. Ends the program unless they compute the
    same."""
    model, config, p = experiment.model, experiment.training, experiment.task.p
    weights, batch = initial_weights(model, p), Batch.of(experiment.task, "train")
    steps = {
        "interp": our_step(weights, model, config, batch, each, by_tables=tables_are_faster(experiment)),
        "interp, by products": our_step(weights, model, config, batch, each, by_tables=False),
        "textbook PyTorch": module_step(Textbook(weights), p, config, batch),
        "TransformerLens bridge": module_step(bridge(weights, model), p, config, batch),
    }
    losses = [step() for step in steps.values()]
    if max(losses) - min(losses) > 1e-5 * max(losses):
        raise SystemExit(f"they do not compute the same: their losses are {losses}")
    return steps


def measure(
    experiment: Experiment, rounds: int, steps_per_round: int
) -> tuple[dict[str, list[float]], dict[str, float], float]:
    """The seconds of every step of each, the GFLOP that it takes, and the machine's GEMM peak meanwhile."""
    n = len(experiment.task.train_indices)
    with worker_threads() as each:
        steps = contenders(experiment, each)
        times: dict[str, list[float]] = {name: [] for name in steps}
        peak = 0.0
        for _ in range(rounds):
            peak = max(peak, gemm_peak(repeats=1))
            for name, found in compare(steps, 1, steps_per_round).items():
                times[name] += found
    gflop = {name: textbook_arithmetic(experiment.model, experiment.task.p, n) for name in steps}
    sizes = experiment.model, experiment.task.p, n
    products = our_arithmetic(*sizes)
    ours = tables_arithmetic(*sizes) if tables_are_faster(experiment) else products
    return times, gflop | {"interp": ours, "interp, by products": products}, peak


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """For the table of all benchmarks."""
    times, gflop, peak = measure(sized(options), options.step_rounds, options.steps_per_round)
    median = {name: statistics.median(values) for name, values in times.items()}
    ours = median.pop("interp")
    others = ", ".join(f"{name} {1e3 * value:.0f} ms ({value / ours:.1f}×)" for name, value in median.items())
    yield Row("training step, full batch", f"{1e3 * ours:.1f} ms", others, "≥ 6×")
    share = gflop["interp"] / ours / peak
    yield Row(
        "its share of the float32 GEMM peak",
        f"{share:.0%}",
        f"{gflop['interp']:.2f} GFLOP, peak {peak:.0f} GFLOP/s",
        "",
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """Those of this benchmark."""
    parser.add_argument("--step-rounds", type=int, default=20, help="interleaved rounds of all (default: 20)")
    parser.add_argument("--steps-per-round", type=int, default=3, help="steps timed in a round (default: 3)")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_options(parser)
    add_sizes(parser)
    options = parser.parse_args()
    keep_freed_memory()  # of the whole process: all profit
    experiment = sized(options)
    task, model = experiment.task, experiment.model
    times, gflop, peak = measure(experiment, options.step_rounds, options.steps_per_round)
    n = len(task.train_indices)
    print(
        f"p = {task.p}, n = {n}, d_model {model.d_model}, {model.n_heads} heads, d_mlp {model.d_mlp}; "
        f"{options.step_rounds} rounds"
    )
    print(machine())
    print(f"float32 GEMM peak: {peak:.0f} GFLOP/s\n")
    ours = statistics.median(times["interp"])
    print(f"{'':<24}{'ms per step':>12}{'fastest':>9}{'to ours':>9}{'GFLOP':>8}{'of GEMM peak':>14}")
    for name, values in times.items():
        median = statistics.median(values)
        share = gflop[name] / median / peak
        times_of = f"{1e3 * median:>12.2f}{1e3 * min(values):>9.2f}{median / ours:>8.2f}×"
        print(f"{name:<24}{times_of}{gflop[name]:>8.2f}{share:>14.0%}")


if __name__ == "__main__":
    main()
