"""What a GPU gives: many networks trained at once, in one command of at most eight minutes.

    python -m benchmarks.device [--out FILE] [--seconds 480]

It measures the products that a step consists of, the time of a step and the highest memory for 1 to 1,024 networks of
`quick`, how far the losses and gradients are from float64, whether the same bits come out again, how long 1,024
networks take to learn the task, and what writing their runs adds. Every line is printed (and appended to --out) as soon
as it is measured, and a table for the README at the end; what there is no time left for is left out, and said so.

Where torch finds no GPU it says that and measures nothing. With --cpu-rehearsal the same code runs on the CPU, on sizes
at which the numbers mean nothing.
"""

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks.table import Row, machine, markdown, seconds
from interp.experiment import Experiment, ModelConfig, Task, TrainingConfig, preset
from interp.models import factored_gradient, initial_weights
from interp.models.many_networks import ManyExamples, losses_and_gradients
from interp.runs import Run, verify
from interp.sweeps import run_together
from interp.sweeps.seeds import with_seed
from interp.training import Batch
from interp.training.at_once import SHARE_OF_MEMORY, bytes_on_gpu
from interp.training.side_by_side import AsOneBatch, products_in

LEVEL = 0.99  # of the test pairs


class Size(NamedTuple):
    """How much is measured."""

    experiment: Experiment
    networks: tuple[int, ...]  # trained at once, where the time of a step is measured
    learners: int  # how many learn the task
    early: int  # the first step at which they are counted
    count_every: int  # steps
    repeats: int
    written: int  # how many are written as runs, and of how many steps
    written_steps: int


FULL = Size(preset("quick"), (1, 16, 128, 512, 1024), 1024, 300, 50, 10, 64, 100)
REHEARSAL = Size(
    Experiment(
        Task(11, train_fraction=0.5), ModelConfig(d_model=8, n_heads=2, d_mlp=16), TrainingConfig(steps=8, warmup=0)
    ),
    (1, 3),
    4,
    4,
    2,
    1,
    2,
    4,
)


@dataclass(frozen=True)
class Clock:
    """How much time is left."""

    ends: float

    @property
    def left(self) -> float:
        """Seconds."""
        return self.ends - time.monotonic()


def rows(device: str, size: Size, clock: Clock) -> Iterator[Row]:
    """Every line, as it is measured."""
    parts: tuple[Callable[[str, Size, Clock], Iterator[Row]], ...] = (products, steps, agreement, learning, writing)
    for part in parts:
        if clock.left < 20 and device != "cpu":
            yield Row((part.__doc__ or "").splitlines()[0], "left out", "no time was left", "")
            continue
        try:
            yield from part(device, size, clock)
        except torch.OutOfMemoryError:
            yield Row((part.__doc__ or "").splitlines()[0], "not possible", "the device's memory is too small", "")
            torch.cuda.empty_cache()


def products(device: str, size: Size, clock: Clock) -> Iterator[Row]:
    """The batched products of a step."""
    task, model = size.experiment.task, size.experiment.model
    n, p, m, v = len(task.train_indices), task.n_classes, model.d_mlp, model.n_heads * model.head_size
    n_networks = min(128, max(size.networks))
    shapes = {"h": (m, v, n), "logits": (p, m, n), "of y": (m, p, n), "of B": (m, n, p), "of z": (v, m, n)}
    shapes |= {"of A": (v, n, m), "of the tables": (v + model.n_heads, n, p)}
    for tf32 in (False, True):
        found = {}
        for name, (i, k, j) in shapes.items():
            one = torch.randn(n_networks, i, k, device=device)
            other = torch.randn(n_networks, k, j, device=device)
            with products_in(device, tf32=tf32):
                took = per_call(lambda one=one, other=other: torch.bmm(one, other), device, size.repeats)
            found[name] = 2e-12 * n_networks * i * k * j / took
        told = ", ".join(f"{name} {rate:.3g}" for name, rate in found.items())
        yield Row(f"products of {n_networks} networks, {named(tf32)}", f"{min(found.values()):.3g} TFLOP/s", told, "")


def steps(device: str, size: Size, clock: Clock) -> Iterator[Row]:
    """A step of so many networks at once."""
    for n_networks, tf32 in itertools.product(size.networks, (False, True)):
        what = f"a step of {n_networks:,} networks, {named(tf32)}"
        if device != "cpu":
            needed, free = n_networks * bytes_on_gpu(size.experiment), torch.cuda.mem_get_info()[0]
            if needed > SHARE_OF_MEMORY * free:
                yield Row(what, "not at once", f"needs {needed / 1e9:.0f} GB, free are {free / 1e9:.0f} GB", "")
                continue
            torch.cuda.reset_peak_memory_stats()
        networks, done = begun(size.experiment, n_networks, device, tf32=tf32), itertools.count()

        def step(networks: AsOneBatch = networks, done: Iterator[int] = done) -> None:
            number = next(done)
            with networks.arithmetic():
                networks.losses(number)
                networks.update(number)

        took = per_call(step, device, size.repeats)
        each = f"{1e3 * took / n_networks:.3g} ms for each"
        yield Row(what, f"{1e3 * took:.3g} ms", f"{each}; {highest_memory(device, n_networks)}", "")
        del networks, step
        if device != "cpu":
            torch.cuda.empty_cache()


def agreement(device: str, size: Size, clock: Clock) -> Iterator[Row]:
    """Losses and gradients beside float64, and again."""
    experiments = [with_seed(size.experiment, seed) for seed in range(2)]
    networks = begun(size.experiment, 2, device)
    trained = min(60, size.early)
    for number in range(trained):
        with networks.arithmetic():
            networks.losses(number)
            networks.update(number)
    weights = [{name: weight.clone() for name, weight in own.items()} for own in networks.weights]
    stacked = {name: torch.stack([own[name] for own in weights]) for name in weights[0]}
    batches = [Batch.of(one.task, "train") for one in experiments]
    columns = [torch.stack([batch.examples[place] for batch in batches]).to(device) for place in range(3)]
    model, examples = size.experiment.model, ManyExamples(*columns)
    exact = [
        factored_gradient.loss_and_gradient(
            {name: weight.double().cpu() for name, weight in own.items()}, model, batch.examples
        )
        for own, batch in zip(weights, batches, strict=True)
    ]
    for tf32 in (False, True):
        with products_in(device, tf32=tf32):
            (losses, _, gradients), (_, _, again) = (losses_and_gradients(stacked, model, examples) for _ in range(2))
        off = max(
            abs(float(found.mean()) / float(true.mean()) - 1) for found, (true, _, _) in zip(losses, exact, strict=True)
        )
        off_gradient = max(
            float((gradients[name][place].double().cpu() - true).abs().max() / true.abs().max())
            for place, (_, _, gradient) in enumerate(exact)
            for name, true in gradient.items()
        )
        same = all(torch.equal(gradients[name], again[name]) for name in gradients)
        told = f"gradient {off_gradient:.1e} of the largest entry; again {'the same' if same else 'OTHER'} bits"
        goal = "" if tf32 else "1e-6, 1e-5"
        yield Row(f"off float64 after {trained} steps, {named(tf32)}", f"loss {off:.1e}", told, goal)


def learning(device: str, size: Size, clock: Clock) -> Iterator[Row]:
    """How long many networks take to learn the task."""
    config, n_networks = size.experiment.training, size.learners
    if device != "cpu":
        fits = int(SHARE_OF_MEMORY * torch.cuda.mem_get_info()[0]) // bytes_on_gpu(size.experiment)
        n_networks = min(n_networks, fits)
    networks = begun(size.experiment, n_networks, device)
    began, there, first = time.monotonic(), 0, 0.0
    for number in range(config.steps + 1):
        with networks.arithmetic():
            networks.losses(number)
            if number % size.count_every == 0 or number == config.steps:
                networks.train_losses()
                there = sum(metrics["test_accuracy"] >= LEVEL for metrics in networks.metrics())
                took = time.monotonic() - began
                first = first or (took if there >= LEVEL * n_networks else 0.0)
                if number == size.early:
                    yield Row(
                        f"{n_networks:,} networks, {number} steps",
                        f"{took:.1f} s",
                        f"{there:,} at 99 % of the test pairs",
                        "",
                    )
                if clock.left < 45 and device != "cpu":
                    break
            networks.update(number)
    told = (
        f"{there:,} at 99 % of the test pairs; 99 % of the networks after {first:.1f} s"
        if first
        else f"{there:,} there"
    )
    yield Row(f"{n_networks:,} networks, {number} steps", f"{time.monotonic() - began:.1f} s", told, "≤ 60 s to 99 %")


def writing(device: str, size: Size, clock: Clock) -> Iterator[Row]:
    """The same into runs on disk."""
    training = replace(size.experiment.training, steps=size.written_steps, checkpoint_every=size.written_steps // 2)
    experiments = [with_seed(replace(size.experiment, training=training), seed) for seed in range(size.written)]
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f"seed{seed}") for seed in range(size.written)]
        ends = list[object]()
        took = seconds(lambda: ends.extend(run_together(experiments, paths, device=device)))
        sound = [isinstance(end, Run) and not verify(end).contradictions for end in ends[:2]]
    what = f"{size.written} networks, {size.written_steps} steps, written as runs"
    yield Row(what, f"{took:.1f} s", f"the first two {'verify' if all(sound) else 'DO NOT VERIFY'}", "")


# ---- what they share -------------------------------------------------------------------------------------------------


def begun(experiment: Experiment, n_networks: int, device: str, *, tf32: bool = False) -> AsOneBatch:
    """So many seeds of an experiment, at step 0."""
    experiments = [with_seed(experiment, seed) for seed in range(n_networks)]
    starts = [initial_weights(one.model, one.task.sizes) for one in experiments]
    return AsOneBatch(experiments, starts, device, tf32=tf32)


def per_call(act: Callable[[], object], device: str, repeats: int) -> float:
    """Seconds of one call among several, after two that are not counted, all finished."""
    finish = torch.cuda.synchronize if device != "cpu" else lambda: None

    def several(n: int) -> None:
        for _ in range(n):
            act()
        finish()

    several(2)
    return seconds(lambda: several(repeats)) / repeats


def highest_memory(device: str, n_networks: int) -> str:
    """For a person."""
    if device == "cpu":
        return "memory is not measured on a CPU"
    highest = torch.cuda.max_memory_allocated()
    return f"at most {highest / 1e9:.1f} GB, {highest / 1e6 / n_networks:.0f} MB for each"


def named(tf32: bool) -> str:
    """How products are computed."""
    return "TF32" if tf32 else "float32"


def title(device: str) -> str:
    """What the numbers were measured on."""
    name = "a rehearsal on the CPU, whose numbers mean nothing" if device == "cpu" else torch.cuda.get_device_name()
    return f"{name}; {machine()}. `python -m benchmarks.device`"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, metavar="FILE", help="append every line to this file too")
    parser.add_argument("--seconds", type=float, default=470, help="of all together (default: 470)")
    parser.add_argument("--cpu-rehearsal", action="store_true", help="the same code on the CPU, on sizes of no meaning")
    options = parser.parse_args()
    if not torch.cuda.is_available() and not options.cpu_rehearsal:
        print("there is no GPU here that torch can use, so nothing is measured (--cpu-rehearsal tries the code)")
        return
    device, size = ("cpu", REHEARSAL) if options.cpu_rehearsal else ("cuda", FULL)
    found = []

    def say(line: str) -> None:
        print(line, flush=True)
        if options.out:
            with options.out.open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")

    say(title(device))
    for row in rows(device, size, Clock(time.monotonic() + options.seconds)):
        found.append(row)
        say(f"{row.what}: {row.ours}  [{row.beside}]  goal {row.goal or 'none'}")
    say(f"\n{markdown(found, title(device))}")


if __name__ == "__main__":
    main()
