"""One training step, three ways, side by side in one process: ours, a textbook transformer, and the TransformerLens bridge.

    python benchmarks/training_step.py [--rounds 20]

All three train the same network from the same weights on the same batch, with float64 cross-entropy and AdamW. The rounds are
interleaved, so that whatever else the machine does disturbs all three alike; the median step is reported.
"""

import argparse
import math
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from interp.experiment import ModelConfig, TrainingConfig
from interp.memory import keep_freed_memory
from interp.model import bridge
from interp.optimizers import WeightUpdater
from interp.task import Task
from interp.training import Batch, loss_and_gradient
from interp.weights import Weights, initial_weights

Step = Callable[[], float]  # one update; returns the loss before it


class Textbook(nn.Module):
    """The network as a textbook writes it: every layer at every position, the logits read at the last."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self.by_name = nn.ParameterDict({name.replace(".", "/"): nn.Parameter(weight.clone()) for name, weight in weights.items()})

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


def our_step(weights: Weights, model: ModelConfig, config: TrainingConfig, batch: Batch) -> Step:
    """`interp.training`, without metrics and snapshots."""
    weights = {name: weight.clone() for name, weight in weights.items()}
    updater, steps_done = WeightUpdater(weights, config), [0]

    def step() -> float:
        loss, _, gradient = loss_and_gradient(weights, model, batch)
        updater.update(steps_done[0], gradient)
        steps_done[0] += 1
        return loss

    return step


def module_step(network: nn.Module, p: int, config: TrainingConfig, batch: Batch) -> Step:
    """What one writes around any network: forward, loss, backward, step."""
    tokens = torch.cat([batch.pairs, torch.full((len(batch), 1), p)], dim=1)
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
    """GFLOP of a step: the three products per example of the factored form, each once forward and twice backward."""
    heads = model.n_heads * model.head_size
    return 6 * n * (heads * model.d_mlp + heads * p + model.d_mlp * p) / 1e9


def textbook_arithmetic(model: ModelConfig, p: int, n: int) -> float:
    """GFLOP of a step with every layer at three positions; the few of scores and mixing are left out."""
    heads = model.n_heads * model.head_size
    return 6 * n * 3 * model.d_model * (4 * heads + 2 * model.d_mlp + p) / 1e9


def gemm_peak(size: int = 2048, repeats: int = 5) -> float:
    """The GFLOP/s of a large float32 product, best of several: what this machine can do at this moment."""
    a, b, out = torch.randn(size, size), torch.randn(size, size), torch.empty(size, size)
    return 2 * size**3 / 1e9 / min(_seconds(lambda: torch.mm(a, b, out=out)) for _ in range(repeats))


def machine() -> str:
    """What the numbers were measured on."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        cpu = next((line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")), cpu)
    return f"{cpu}, {torch.get_num_threads()} threads, torch {torch.__version__}, Python {platform.python_version()}"


def compare(contenders: dict[str, Step], rounds: int, steps_per_round: int) -> dict[str, list[float]]:
    """The seconds of every step of every contender."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        names = list(contenders)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            contenders[name]()  # its memory and caches are the others' until now
            seconds[name] += [_seconds(contenders[name]) for _ in range(steps_per_round)]
    return seconds


def _seconds(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20, help="interleaved rounds (default: 20)")
    parser.add_argument("--steps-per-round", type=int, default=3, help="steps timed in a round (default: 3)")
    parser.add_argument("--p", type=int, default=113)
    parser.add_argument("--d-model", type=int, default=128)
    parser.add_argument("--n-heads", type=int, default=4)
    parser.add_argument("--d-mlp", type=int, default=512)
    options = parser.parse_args()
    keep_freed_memory()  # of the whole process: all three profit
    task, config = Task(p=options.p), TrainingConfig()
    model = ModelConfig(d_model=options.d_model, n_heads=options.n_heads, d_mlp=options.d_mlp)
    weights, batch = initial_weights(model, task.p), Batch.of(task, "train")
    contenders = {
        "interp": our_step(weights, model, config, batch),
        "textbook PyTorch": module_step(Textbook(weights), task.p, config, batch),
        "TransformerLens bridge": module_step(bridge(weights, model), task.p, config, batch),
    }
    losses = [step() for step in contenders.values()]
    if max(losses) - min(losses) > 1e-5 * max(losses):
        raise SystemExit(f"the three do not compute the same: their losses are {losses}")
    print(f"p = {task.p}, n = {len(batch)}, d_model {model.d_model}, {model.n_heads} heads, d_mlp {model.d_mlp}; {options.rounds} rounds")
    print(machine())
    peak = gemm_peak()
    print(f"float32 GEMM peak: {peak:.0f} GFLOP/s\n")
    seconds = compare(contenders, options.rounds, options.steps_per_round)
    gflop = dict.fromkeys(contenders, textbook_arithmetic(model, task.p, len(batch))) | {
        "interp": our_arithmetic(model, task.p, len(batch))
    }
    ours = statistics.median(seconds["interp"])
    print(f"{'':<24}{'ms per step':>12}{'fastest':>9}{'to ours':>9}{'GFLOP':>8}{'of GEMM peak':>14}")
    for name, times in seconds.items():
        median = statistics.median(times)
        share = gflop[name] / median / peak
        print(f"{name:<24}{1e3 * median:>12.2f}{1e3 * min(times):>9.2f}{median / ours:>8.2f}×{gflop[name]:>8.2f}{share:>14.0%}")


if __name__ == "__main__":
    main()
