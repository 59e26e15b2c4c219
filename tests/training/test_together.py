"""Experiments side by side: on cores each as it is alone, to the last bit; as one batch up to rounding."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import mannwhitneyu
from torch.testing import assert_close

from interp.errors import InputError
from interp.experiment import Experiment, ModelConfig, Samples, Task, TrainingConfig
from interp.models import DivergedError, Snapshot, Weights
from interp.training import WeightUpdater, check_together, groups, side_by_side, together, train
from interp.training.stacked_updates import RULES, StackedUpdater

TASK = Task(11, train_fraction=0.5)
SMALL = ModelConfig(d_model=8, n_heads=2, d_mlp=12)
SHORT = TrainingConfig(steps=9, lr=1e-2, log_every=3, checkpoint_every=4)
MLP = ModelConfig(family="mlp", d_mlp=16, embedding="untied", d_model=8)
DEEP = ModelConfig(family="mlp", n_layers=3, d_mlp=16, inputs="concatenated", activation="tanh", biases=True)
# What may differ in a group: seeds, the rate, decay, betas, ε, warm-up; label noise; and how 60 pairs are asked for.
VARIED = (
    {},
    {"lr": 2e-2, "warmup": 0, "betas": (0.8, 0.9)},
    {"weight_decay": 0.1, "eps": 1e-3, "momentum": 0.0, "seed": 4},
)
TASKS = (TASK, Task(11, train_pairs=60, seed=1, label_noise=0.2), Task(11, split=tuple(range(0, 120, 2))))


def varied(model: ModelConfig, **training: Any) -> list[Experiment]:
    """Three experiments of one group."""
    return [
        Experiment(task, replace(model, seed=seed), replace(SHORT, **training | fields))
        for seed, (task, fields) in enumerate(zip(TASKS, VARIED, strict=True))
    ]


def of_all(experiments: list[Experiment], **options: Any) -> list[list[Snapshot]]:
    """The snapshots of every one of them."""
    found: list[list[Snapshot]] = [[] for _ in experiments]
    for moment in together(experiments, **options):
        for place, snapshot in (moment or {}).items():
            assert isinstance(snapshot, Snapshot)
            found[place].append(snapshot)
    return found


@pytest.fixture
def as_one_batch(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From when it is called, networks are trained as on a GPU."""
    return lambda: monkeypatch.setattr(side_by_side, "_has_cores", lambda device: False)


def assert_same_bits(one: Snapshot, other: Snapshot) -> None:
    assert (one.step, one.kept) == (other.step, other.kept)
    assert one.metrics == pytest.approx(other.metrics, rel=0, abs=0, nan_ok=True)
    for mine, yours in ((one.weights, other.weights), (one.state, other.state)):
        assert list(mine) == list(yours)
        assert all(torch.equal(mine[name], yours[name]) for name in mine)


# ---- a core each -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "optimizer", "batch_size", "n_threads"),
    [
        (SMALL, "adamw", None, 1),
        (SMALL, "sgd", 20, 2),
        (SMALL, "muon", None, 2),
        (MLP, "adamw", None, 2),
        (MLP, "sgd", 20, 1),
        (MLP, "rmsprop", 20, 1),
    ],
    ids=["transformer", "transformer, two threads", "by Muon, two threads", "MLP, two threads", "MLP", "by RMSProp"],
)
def test_on_cores_each_is_the_same_to_the_last_bit(
    model: ModelConfig, optimizer: str, batch_size: int | None, n_threads: int
) -> None:
    experiments = varied(model, optimizer=optimizer, batch_size=batch_size)
    torch.set_num_threads(n_threads)
    try:
        found = of_all(experiments)
    finally:
        torch.set_num_threads(1)
    for experiment, own in zip(experiments, found, strict=True):
        assert [one.step for one in own] == [0, 3, 4, 6, 8, 9]
        for one, other in zip(own, train(experiment), strict=True):
            assert_same_bits(one, other)


# ---- one batch -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "optimizer", "batch_size"),
    [
        (SMALL, "adamw", None),
        (SMALL, "sgd", 20),
        (replace(SMALL, activation="gelu", attention_rate=0.5), "adam", None),
        (replace(SMALL, n_layers=2, causal=True), "adamw", None),
        (MLP, "sgd", None),
        (MLP, "adamw", 20),
        (DEEP, "adam", None),
        (SMALL, "rmsprop", 20),
        (SMALL, "muon", None),
        (DEEP, "muon", 20),
    ],
    ids=[
        *(
            "plain",
            "plain, by SGD",
            "gelu, with a rate, by Adam",
            "two layers",
            "an MLP by SGD",
            "an MLP",
            "a deep MLP",
        ),
        *("plain, by RMSProp", "plain, by Muon", "a deep MLP by Muon"),
    ],
)
def test_as_one_batch_each_is_the_same_up_to_rounding(
    model: ModelConfig, optimizer: str, batch_size: int | None, as_one_batch: Callable[[], None]
) -> None:
    # With 1e-8 rounding decides the sign of an update.
    experiments = varied(model, optimizer=optimizer, batch_size=batch_size, eps=1e-4)
    expected = [list(train(experiment)) for experiment in experiments]
    as_one_batch()
    for own, alone in zip(of_all(experiments), expected, strict=True):
        for one, other in zip(own, alone, strict=True):
            assert (one.step, one.kept) == (other.step, other.kept)
            for name, value in other.metrics.items():
                assert one.metrics[name] == pytest.approx(value, rel=2e-3, abs=0, nan_ok=True), name
            if not one.kept:
                assert one.weights == one.state == {}
                continue
            assert (list(one.weights), list(one.state)) == (list(other.weights), list(other.state))
            for name, weight in other.weights.items():
                assert_close(one.weights[name], weight, rtol=1e-4, atol=1e-5)


def test_one_network_has_its_weights_at_every_step_that_is_shown(as_one_batch: Callable[[], None]) -> None:
    as_one_batch()
    (experiment, *_) = varied(SMALL)
    snapshots = list(train(experiment))
    assert [snapshot.step for snapshot in snapshots] == [0, 3, 4, 6, 8, 9]
    assert all(snapshot.weights for snapshot in snapshots)
    for place, snapshot in enumerate(snapshots):
        for one, other in zip(train(experiment, resume=snapshot), snapshots[place + 1 :], strict=True):
            assert_same_bits(one, other)


@pytest.mark.parametrize("optimizer", RULES)
def test_resumed_together_each_goes_on_to_the_last_bit(optimizer: str, as_one_batch: Callable[[], None]) -> None:
    as_one_batch()
    experiments = varied(SMALL, optimizer=optimizer)
    whole = of_all(experiments)
    resumed = of_all(experiments, resume=[own[2] for own in whole])
    for own, again in zip(whole, resumed, strict=True):
        assert [one.step for one in again] == [6, 8, 9]
        for one, other in zip(again, own[3:], strict=True):
            assert_same_bits(one, other)


@pytest.mark.parametrize("model", [SMALL, MLP], ids=["transformer", "mlp"])
@pytest.mark.parametrize("cores", [True, False])
def test_without_test_pairs(model: ModelConfig, cores: bool, as_one_batch: Callable[[], None]) -> None:
    if not cores:
        as_one_batch()
    every = [Experiment(Task(7, train_fraction=1), replace(model, seed=seed), SHORT) for seed in range(2)]
    for own in of_all(every):
        assert math.isnan(own[-1].metrics["test_loss"])
        assert math.isnan(own[-1].metrics["unmirrored_test_accuracy"])
        assert math.isfinite(own[-1].metrics["train_loss"])


def test_held_out_pairs_are_told_of_as_alone(as_one_batch: Callable[[], None]) -> None:
    task = Task(7, "x2+y2", train_fraction=0.3)
    every = [Experiment(replace(task, seed=seed), SMALL, SHORT) for seed in range(3)]
    expected = [next(train(one)) for one in every]
    as_one_batch()
    for own, other in zip(of_all(every), expected, strict=True):
        assert list(own[0].metrics) == list(other.metrics)
        assert own[0].metrics == pytest.approx(other.metrics, rel=1e-5)


@pytest.mark.parametrize("model", [SMALL, MLP])
def test_validation_pairs_are_told_of_as_alone(model: ModelConfig, as_one_batch: Callable[[], None]) -> None:
    every = [Experiment(Task(7, validation_fraction=0.4, seed=seed), model, SHORT) for seed in range(3)]
    expected = [next(train(one)) for one in every]
    as_one_batch()
    for own, other in zip(of_all(every), expected, strict=True):
        assert own[0].metrics == pytest.approx(other.metrics, rel=1e-5)
        assert math.isfinite(own[0].metrics["validation_loss"])
    with pytest.raises(InputError, match=r"one (task\.validation-fraction|number of test examples)"):
        check_together([every[0], replace(every[0], task=Task(7))])


@pytest.mark.parametrize("cores", [True, False])
def test_one_that_diverges_leaves_the_others_alone(cores: bool, as_one_batch: Callable[[], None]) -> None:
    """With a learning rate of 1e30, beside two of 1e-2 that are as without it."""
    if not cores:
        as_one_batch()
    calm = [Experiment(TASK, replace(SMALL, seed=seed), SHORT) for seed in range(2)]
    wild = Experiment(TASK, SMALL, replace(SHORT, optimizer="adamw", lr=1e30))
    expected = of_all(calm)
    found: dict[int, list[Snapshot]] = {0: [], 2: []}
    lost: list[DivergedError] = []
    for moment in together([calm[0], wild, calm[1]]):
        for place, snapshot in (moment or {}).items():
            if isinstance(snapshot, DivergedError):
                assert place == 1
                lost.append(snapshot)
            elif place != 1:
                found[place].append(snapshot)
    assert len(lost) == 1
    for own, other in zip(found.values(), expected, strict=True):
        assert own[-1].step == 9
        for name, weight in other[-1].weights.items():
            assert_close(own[-1].weights[name], weight, rtol=0 if cores else 1e-4, atol=0 if cores else 1e-5)


# ---- the stacked optimizers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", RULES)
def test_stacked_updates_are_torchs_to_rounding(optimizer: str) -> None:
    """Thirty updates of three networks in float64, each with numbers of its own; and a state of each that either takes
    from the other."""
    configs = [replace(SHORT, optimizer=optimizer, **fields) for fields in VARIED]
    generator = torch.Generator().manual_seed(0)

    def drawn() -> Weights:
        shapes = {"matrix": (3, 3, 4), "bias": (3, 5)}
        return {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}

    stacked, gradients = drawn(), [drawn() for _ in range(30)]
    single = [{name: value[place].clone() for name, value in stacked.items()} for place in range(3)]
    updater, others = StackedUpdater(stacked, configs), WeightUpdater(single, configs)
    assert updater.states() == [{}, {}, {}]

    def advance(steps: range) -> None:
        for step in steps:
            updater.update(step, gradients[step])
            others.update(step, [{name: value[place] for name, value in gradients[step].items()} for place in range(3)])

    def assert_equal() -> None:
        for place, weights in enumerate(single):
            for name, weight in weights.items():
                assert_close(stacked[name][place], weight, rtol=0, atol=1e-12)

    advance(range(20))
    assert_equal()
    states, theirs = updater.states(), [others.state(place) for place in range(3)]
    for mine, yours in zip(states, theirs, strict=True):
        assert list(mine) == list(yours)
        for name, value in yours.items():
            assert_close(mine[name], value, rtol=1e-12, atol=1e-12)
    updater, others = StackedUpdater(stacked, configs), WeightUpdater(single, configs)
    updater.restore(theirs)
    others.restore(states)
    advance(range(20, 30))
    assert_equal()


def test_a_state_of_other_weights_is_refused() -> None:
    with pytest.raises(InputError, match=r"'layer.exp_avg' \[2\] does not belong to these weights"):
        StackedUpdater({"layer": torch.zeros(1, 3)}, [SHORT]).restore([{"layer|exp_avg": torch.zeros(2)}])


# ---- the outcomes ----------------------------------------------------------------------------------------------------


def test_the_outcomes_of_64_networks_are_distributed_like_those_of_64_alone() -> None:
    """Steps until 99 % of the training pairs, and test accuracy at the end, by Mann-Whitney's test at the level 1e-3.
    Rounding parts trajectories, so networks are compared as a population. The control, at half the learning rate, is
    told apart. On cores each is as alone, to the last bit: see above."""
    command = [sys.executable, str(Path(__file__).with_name("outcomes.py"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    alone, batched, control = json.loads(done.stdout)
    for one, other, slower in zip(alone, batched, control, strict=True):
        assert (len(one), len(set(one)) > 5) == (64, True)
        assert mannwhitneyu(one, other).pvalue > 1e-3
        assert mannwhitneyu(one, slower).pvalue < 1e-3


# ---- which may ------------------------------------------------------------------------------------------------------


def test_groups_are_of_what_has_one_shape_and_one_schedule() -> None:
    base = varied(SMALL)
    others = [
        replace(base[0], training=replace(SHORT, steps=10)),
        replace(base[0], task=Task(11, train_fraction=0.4)),
        replace(base[0], model=replace(SMALL, d_mlp=16)),
        replace(base[0], task=Task(11, "subtract", train_fraction=0.5)),
        Experiment(Samples(n_train=60, n_test=61), ModelConfig(family="mlp", d_mlp=16, embedding="none"), SHORT),
    ]
    assert groups([*base, *others]) == [[0, 1, 2], [3], [4], [5], [6], [7]]
    words = (
        "training.steps, and these have 9 and 10",
        "number of training examples, and these have 60 and 48",
        "model.d-mlp, and these have 12 and 16",
        "task.operation, and these have 'add' and 'subtract'",
        "kind of task, and these have 'Task' and 'Samples'",
    )
    check_together(base)
    for other, said in zip(others, words, strict=True):
        with pytest.raises(InputError, match=rf"^experiments that train together have one {said}$"):
            next(together([base[0], other]))


def test_tf32_is_for_a_gpu() -> None:
    with pytest.raises(InputError, match="TF32 is how a GPU can multiply, and the device here is cpu"):
        next(train(varied(SMALL)[0], tf32=True))
    before = torch.backends.cuda.matmul.allow_tf32
    for asked in (True, False):
        with side_by_side.products_in("cuda", tf32=asked):
            assert torch.backends.cuda.matmul.allow_tf32 is asked
    assert torch.backends.cuda.matmul.allow_tf32 is before
