"""Frequency ablation against closed forms, a slow second implementation that really cuts and runs on, symmetries,
negative controls."""

import json
import math
from itertools import zip_longest

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from interp.analyses import frequency_ablation
from interp.analysis import find, measure_checkpoint
from interp.experiment import Mlp, ModelConfig, Norm, Task
from interp.mathematics.random_sets import random_sets
from interp.models import embed, initial_weights, transform
from interp.runs import Checkpoint
from interp.testing import circuit_checkpoint, circuit_neurons, with_logits

SPLITS = ("all", "train", "test", "held_out")
EXACT = {"rtol": 1e-9, "atol": 1e-11}


def untrained(task: Task, **fields) -> Checkpoint:
    """Random float64 weights, larger than usual, so that the network says something."""
    model = ModelConfig(**({"d_model": 8, "n_heads": 2, "d_mlp": 12} | fields))
    weights = {name: 1.5 * weight.double() for name, weight in initial_weights(model, task.p).items()}
    generator = torch.Generator().manual_seed(3)
    for name, weight in weights.items():
        if ".ln" in name or name.startswith("ln") or (model.biases and ".b_" in name):
            weight.add_(0.5 * torch.randn(weight.shape, generator=generator).double())
    return Checkpoint(0, weights, task, model)


def projected(values: np.ndarray, waves: list[np.ndarray]) -> np.ndarray:
    """The least-squares fit of each column of values [rows, columns] by the waves."""
    design = np.stack([wave.reshape(-1) for wave in waves], axis=1)
    return design @ np.linalg.lstsq(design, values, rcond=1e-9)[0]


class Slow:
    """The same cuts, each made where it says, on explicit waves, and the textbook network run on from there."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint, self.task, phase = checkpoint, checkpoint.task, checkpoint.task.coordinates
        self.n, self.rows = phase.order, phase.rows
        self.pairs = (phase.rows[:, None] * self.task.p + phase.columns).reshape(-1)
        self.s, self.t = np.divmod(np.arange(self.n**2), self.n)
        self.neurons = checkpoint.neurons.flatten(0, 1).numpy()[self.pairs]
        self.logits = checkpoint.logits.flatten(0, 1).numpy()[self.pairs]
        self.to_logits = (checkpoint.W_out @ checkpoint.W_U).numpy()
        self.lengths = np.ones((len(self.pairs), 1))
        if (norm := checkpoint.model.norm).is_at("final"):  # held as they are, whatever is cut
            w = {name: weight.numpy() for name, weight in checkpoint.weights.items()}
            stream = checkpoint.activations.residual_mid.flatten(0, 1).numpy()[self.pairs]
            stream = stream + self.neurons @ w["blocks.0.mlp.W_out"] + w["blocks.0.mlp.b_out"]
            centred = stream - (stream.mean(1, keepdims=True) if norm.kind == "layer" else 0)
            self.lengths = np.sqrt(np.square(centred).mean(1, keepdims=True) + norm.epsilon)
            read = np.diag(w["ln_final.w"]) @ w["unembed.W_U"]
            self.to_logits = w["blocks.0.mlp.W_out"] @ (read - (read.mean(0) if norm.kind == "layer" else 0))

    def wave(self, k: int, t: np.ndarray) -> list[np.ndarray]:
        angle = 2 * np.pi * k * t / self.n
        return [np.cos(angle), np.sin(angle)]

    def block(self, k: int) -> list[np.ndarray]:
        over_a, over_b = ([np.ones(self.n**2), *self.wave(k, x)] for x in (self.s, self.t))
        return [one * other for one in over_a for other in over_b][1:]

    def part(self, values: np.ndarray, k: int, target: str) -> np.ndarray:
        centred = values - values.mean(0)
        if target == "embedding":
            return projected(centred, self.wave(k, np.arange(self.n)))
        return projected(centred, self.block(k) if target == "neurons" else self.wave(k, self.s + self.t))

    def logits_after(self, target: str, key: list[int], keep: bool) -> np.ndarray:
        values = {"embedding": self.checkpoint.W_E[self.rows].numpy(), "neurons": self.neurons, "logits": self.logits}[
            target
        ]
        parts = sum((self.part(values, k, target) for k in key), np.zeros_like(values))
        cut = values.mean(0) + parts if keep else values - parts
        if target == "embedding":
            W_E = self.checkpoint.weights["embed.W_E"].clone()
            W_E[self.rows] = torch.from_numpy(cut)
            weights = self.checkpoint.weights | {"embed.W_E": W_E}
            pairs = torch.from_numpy(self.task.pairs[self.pairs])
            return transform(
                weights, self.checkpoint.model, embed(weights, self.checkpoint.model, pairs)
            ).logits.numpy()
        if target == "neurons":
            return self.logits + (cut - values) @ self.to_logits / self.lengths
        return self.logits + cut - values

    def polynomial(self, threshold: float) -> tuple[np.ndarray, int]:
        """Logits after replacing neurons, one by one, and how many."""
        neurons, count = self.neurons.copy(), 0
        for j in range(neurons.shape[1]):
            centred = neurons[:, j : j + 1] - neurons[:, j].mean()
            parts = [self.part(centred, k, "neurons") for k in range(1, self.n // 2 + 1)]
            shares = [np.square(part).sum() / np.square(centred).sum() for part in parts] if centred.any() else [0]
            if max(shares) >= threshold:
                neurons[:, j : j + 1] += parts[int(np.argmax(shares))] - centred
                count += 1
        return self.logits + (neurons - self.neurons) @ self.to_logits / self.lengths, count

    def judged(self, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        labels = np.maximum(self.task.labels[self.pairs], 0)  # those without an answer are in no mask
        losses = [
            math.log(np.exp(row - row.max()).sum()) + row.max() - row[label]
            for row, label in zip(logits, labels, strict=True)
        ]
        masks = [self.task.mask(split)[self.pairs] for split in SPLITS]
        return tuple(
            np.array([np.mean(np.array(v)[mask]) for mask in masks]) for v in (losses, logits.argmax(1) == labels)
        )


CASES = [
    (Task(7, train_fraction=0.5), {}),
    (Task(8, train_fraction=0.5), {"activation": "gelu"}),
    (Task(11, label_noise=0.2), {"prompt": "ab", "causal": False, "attention_rate": 0.7}),
    (Task(7, "subtract", train_fraction=0.5), {"n_layers": 2}),
    (Task(11, "multiply", train_fraction=0.5), {"activation": "square"}),
    (Task(7, "divide", train_fraction=0.5), {}),
    (Task(8, "divide", train_fraction=0.5), {}),  # no phase, and pairs without an answer
    (Task(8, "random", train_fraction=0.5), {}),
    (Task(7, train_fraction=0.5), {"norm": Norm(kind="layer"), "biases": True}),
    (Task(8, "subtract", train_fraction=0.5), {"norm": Norm(kind="rms"), "prompt": "a+b=", "activation": "silu"}),
    (Task(7, train_fraction=0.5), {"norm": Norm(kind="layer", at=("mlp",)), "mlp": Mlp(gated=True), "biases": True}),
]


@pytest.mark.parametrize(
    ("task", "fields"), CASES, ids=lambda case: f"{case.operation}{case.p}" if isinstance(case, Task) else ""
)
def test_cut_and_run_on(task: Task, fields: dict) -> None:
    checkpoint = untrained(task, **fields)
    slow, key = Slow(checkpoint), [1, slow_top(task)]
    result = frequency_ablation.measure(checkpoint, key_frequencies=key, threshold=0.4)
    for target in frequency_ablation.TARGETS:
        for mode, keep in (("remove_key", False), ("keep_key", True)):
            loss, accuracy = slow.judged(slow.logits_after(target, key, keep))
            chosen = result.sel(target=target, mode=mode)
            assert_allclose(chosen.loss, loss, err_msg=f"{target} {mode}", **EXACT)
            assert_allclose(chosen.accuracy, accuracy, err_msg=f"{target} {mode}", **EXACT)
        in_sample = result.sel(target=target, mode=[frequency_ablation.IN_SAMPLE, "remove_key"])  # of all pairs here
        assert_allclose(in_sample.loss[0], in_sample.loss[1], **EXACT)
        assert_allclose(in_sample.accuracy[0], in_sample.accuracy[1], **EXACT)
        sets = random_sets(slow.n // 2, key, 8)
        for mode, some in zip_longest(frequency_ablation.RANDOM, sets):
            loss, accuracy = slow.judged(slow.logits_after(target, some, keep=False)) if some else (np.nan, np.nan)
            chosen = result.sel(target=target, mode=mode)
            assert_allclose(chosen.loss, loss, err_msg=f"{target} {some}", **EXACT)
            assert_allclose(chosen.accuracy, accuracy, err_msg=f"{target} {some}", **EXACT)
        for k in range(1, slow.n // 2 + 1):
            chosen = result.sel(target=target, frequency=k)
            expected = (
                slow.judged(slow.logits_after(target, [k], keep=False))
                if k in key
                else (np.full(len(SPLITS), np.nan),) * 2
            )
            assert_allclose(chosen.loss_without, expected[0], err_msg=f"{target} {k}", **EXACT)
            assert_allclose(chosen.accuracy_without, expected[1], err_msg=f"{target} {k}", **EXACT)
    logits, count = slow.polynomial(0.4)
    assert int(result.replaced_neurons) == count > 0
    for network, table in (("original", slow.logits), ("polynomial", logits)):
        loss, accuracy = slow.judged(table)
        assert_allclose(result.network_loss.sel(network=network), loss, **EXACT)
        assert_allclose(result.network_accuracy.sel(network=network), accuracy, **EXACT)


def slow_top(task: Task) -> int:
    """The highest frequency: n/2 without a sine where n is even."""
    return task.coordinates.order // 2


def loss_of(table: np.ndarray) -> float:
    """The loss of logits table[a + b − c]."""
    return math.log1p(np.exp(table[1:] - table[0]).sum())


def test_a_pizza_of_square_neurons_in_closed_form() -> None:
    """N neurons give N/2 cos w(a+b−c) + N/4 (cos w(2a−c) + cos w(2b−c)). The first is in the blocks of k, and in cos,
    sin w_k(a+b); the others are at twice the frequency."""
    p, k, per_frequency, strength = 13, 3, 7, 0.5
    checkpoint = circuit_checkpoint(
        Task(p), circuit_neurons([k], per_frequency=per_frequency), activation="square", strength=strength
    )
    result = frequency_ablation.measure(checkpoint, key_frequencies=[k], threshold=0.75)
    scale, a = strength * per_frequency, np.arange(p)

    def wave(phase: np.ndarray) -> np.ndarray:
        return np.cos(2 * np.pi * k * phase / p)

    circuit = loss_of(scale / 2 * wave(a))
    rest = scale / 4 * (wave(2 * a[:, None, None] - a) + wave(2 * a[:, None] - a))
    right = np.take_along_axis(rest, ((a[:, None] + a) % p)[..., None], axis=2)[..., 0]
    leftover = (np.log(np.exp(rest).sum(-1)) - right).mean()
    for target in ("neurons", "logits"):
        cut = result.sel(target=target, split="all")
        assert_allclose(cut.loss.sel(mode="keep_key"), circuit, **EXACT)
        assert_allclose(cut.loss.sel(mode="remove_key"), leftover, **EXACT)
        assert_allclose(cut.loss_without.sel(frequency=k), leftover, **EXACT)
    assert_allclose(result.accuracy.sel(target=["neurons", "logits"], mode="keep_key"), 1, rtol=0)
    # A square neuron's own polynomial of first harmonics is four fifths of it; what is left out is the rest above.
    assert int(result.replaced_neurons) == per_frequency
    assert_allclose(result.network_loss.sel(network="polynomial"), circuit, **EXACT)
    # Without its only frequency the embedding is constant, and with it alone it is what it was.
    embedding = result.sel(target="embedding")
    assert_allclose(embedding.loss.sel(mode="remove_key"), math.log(p), **EXACT)
    assert_allclose(embedding.loss.sel(mode="keep_key"), result.network_loss.sel(network="original"), **EXACT)


def test_one_of_two_frequencies_in_a_clock() -> None:
    """Without one, the other is left, which for a prime p still tells every class; without a third, nothing happens."""
    p = 13
    checkpoint = circuit_checkpoint(
        Task(p), circuit_neurons([2, 5], per_frequency=8, circuit="clock"), activation="square", strength=0.2
    )
    alone = circuit_checkpoint(
        Task(p), circuit_neurons([5], per_frequency=8, circuit="clock"), activation="square", strength=0.2
    )
    result = frequency_ablation.measure(checkpoint, key_frequencies=[2, 4])
    without = result.loss_without.sel(split="all")
    # A dead input leaves squares of the other, which say the same to all classes up to their own doubled frequency.
    assert_allclose(without.sel(target=["neurons", "logits"], frequency=2), [alone.loss("all")] * 2, rtol=0.5)
    assert_allclose(without.sel(frequency=4), checkpoint.loss("all"), rtol=1e-9)
    assert_allclose(result.accuracy_without.sel(frequency=4), 1, rtol=0)


def test_an_order_of_neurons_means_nothing() -> None:
    checkpoint = untrained(Task(8))
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    mixed = dict(checkpoint.weights)
    for name, axis in (("W_in", 1), ("b_in", 0), ("W_out", 0)):
        mixed[f"blocks.0.mlp.{name}"] = mixed[f"blocks.0.mlp.{name}"].index_select(axis, order)
    before = frequency_ablation.measure(checkpoint, key_frequencies=[1, 4], threshold=0.4)
    after = frequency_ablation.measure(
        Checkpoint(0, mixed, checkpoint.task, checkpoint.model), key_frequencies=[1, 4], threshold=0.4
    )
    for name in before.data_vars:
        assert_allclose(after[name], before[name], err_msg=name, **EXACT)


@pytest.mark.parametrize("task", [Task(13), Task(8, "random")], ids=("add", "random"))
def test_where_no_frequency_is_key_nothing_is_cut(task: Task) -> None:
    checkpoint = untrained(task)
    result = frequency_ablation.measure(checkpoint, key_frequencies=[], threshold=1.01)
    known = [checkpoint.loss(split) for split in SPLITS]
    for target in frequency_ablation.TARGETS:
        assert_allclose(result.loss.sel(target=target, mode="remove_key"), known, **EXACT)
    constant = np.broadcast_to(checkpoint.logits.mean((0, 1)).numpy(), (task.p**2, task.p))
    assert_allclose(result.loss.sel(target="logits", mode="keep_key"), Slow(checkpoint).judged(constant)[0], **EXACT)
    assert result.loss_without.isnull().all()
    assert result.accuracy_without.isnull().all()
    assert int(result.replaced_neurons) == 0
    assert_allclose(result.network_loss, [known, known], **EXACT)


def test_without_enough_frequencies_there_is_nothing_to_compare_with() -> None:
    """Of 1 … 6 four are key, and two are left: no set of four. Of three there is one."""
    result = frequency_ablation.measure(untrained(Task(13)), key_frequencies=[1, 2, 3, 4])
    assert result.sel(mode=list(frequency_ablation.RANDOM)).loss.isnull().all()
    few = frequency_ablation.measure(untrained(Task(13)), key_frequencies=[1, 2, 3]).loss
    assert few.sel(mode=list(frequency_ablation.RANDOM[1:])).isnull().all()
    assert few.sel(mode=frequency_ablation.RANDOM[0]).notnull().all()
    facts = find("frequency_ablation").summary(result.expand_dims(step=[0]))
    assert facts["random_accuracy"]["neurons"] == {"all": [None, None], "held_out": [None, None]}
    frequency_ablation.plot(result.expand_dims(step=[0]))


def test_held_out_pairs_leave_out_the_mirrors_of_training_pairs() -> None:
    """A symmetric table of training pairs knows their mirrors: all it is worth to test pairs, and nothing to held-out
    ones."""
    p = 13
    task = Task(p, train_fraction=0.3)
    known = (task.train_mask | task.train_mask.reshape(p, p).T.reshape(-1)).reshape(p, p)
    logits = 10.0 * np.eye(p)[task.labels].reshape(p, p, p) * known[..., None]
    cut = frequency_ablation.measure(with_logits(task, logits), key_frequencies=[]).sel(
        target="logits", mode="remove_key"
    )
    mirrored = known[task.test_mask.reshape(p, p)].mean()
    assert 0 < mirrored < 1
    assert_allclose(cut.accuracy.sel(split=["train", "test", "held_out"]), [1, mirrored, 0], rtol=1e-9)


def test_untrained_weights_have_no_key_frequency() -> None:
    model = ModelConfig(d_model=16, n_heads=2, d_mlp=32)
    assert not frequency_ablation.measure(Checkpoint(0, initial_weights(model, 13), Task(13), model)).is_key.any()


def test_a_sample_of_pairs_for_the_embedding() -> None:
    """A sample is the mean over the pairs in it; all pairs are the default here, and everything else is not sampled."""
    checkpoint = untrained(Task(11, train_fraction=0.5))
    whole = frequency_ablation.measure(checkpoint, key_frequencies=[2])
    result = frequency_ablation.measure(checkpoint, key_frequencies=[2], sample_pairs=40)
    slow, drawn = Slow(checkpoint), np.random.RandomState(0).permutation(121)[:40]
    logits, labels = slow.logits_after("embedding", [2], keep=False), checkpoint.task.labels
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(121), labels]
    in_train = drawn[checkpoint.task.mask("train")[drawn]]
    cut = result.loss.sel(target="embedding", mode="remove_key")
    assert_allclose(cut.sel(split=["all", "train"]), [losses[drawn].mean(), losses[in_train].mean()], **EXACT)
    assert_allclose(whole.loss.sel(target="embedding", mode="remove_key", split="all"), losses.mean(), **EXACT)
    # What is drawn stands for all; held-out pairs are all there, being so few.
    held_out = np.flatnonzero(checkpoint.task.mask("held_out"))
    assert_allclose(cut.sel(split="held_out"), losses[held_out].mean(), **EXACT)
    for target in ("neurons", "logits"):
        exact = {"target": target, "mode": list(frequency_ablation.CUTS)}
        assert_allclose(result.loss.sel(exact), whole.loss.sel(exact), rtol=0)
        logits = slow.logits_after(target, [2], keep=False)
        losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(121), labels]
        cut = result.loss.sel(target=target, mode=frequency_ablation.IN_SAMPLE)
        assert_allclose(cut.sel(split=["all", "train"]), [losses[drawn].mean(), losses[in_train].mean()], **EXACT)


def test_float32_resolves_a_tiny_loss() -> None:
    """Float32 log-softmax has a floor at 1.2e-7; the loss of this table, cut of nothing, is 2e-12."""
    logits, labels, nothing = torch.zeros(5, 9), torch.arange(9) % 5, (torch.zeros(5, 1), torch.zeros(1, 9))
    logits.scatter_(0, labels[None], 28.0)
    loss, accuracy = frequency_ablation._judge([frequency_ablation._Cut(logits, *nothing)], labels)
    assert_allclose(loss, math.log1p(4 * math.exp(-28)), rtol=1e-5)
    assert accuracy.all()
    wrong, accuracy = frequency_ablation._judge([frequency_ablation._Cut(logits, *nothing)], (labels + 1) % 5)
    assert_allclose(wrong, 28 + math.log1p(4 * math.exp(-28)), rtol=1e-7)
    assert not accuracy.any()


@pytest.mark.parametrize("at_once", [1, 7, 64])
def test_pairs_judged_by_the_few_or_the_many(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    checkpoint = untrained(Task(8))
    expected = frequency_ablation.measure(checkpoint, key_frequencies=[1, 4], threshold=0.4)
    monkeypatch.setattr(frequency_ablation, "PAIRS_AT_ONCE", at_once)
    result = frequency_ablation.measure(checkpoint, key_frequencies=[1, 4], threshold=0.4)
    for name in expected.data_vars:
        assert_allclose(result[name], expected[name], err_msg=name, **EXACT)


def test_a_tie_is_no_answer() -> None:
    """Constant logits: nothing to choose by, though the first class is the answer of some pairs."""
    result = frequency_ablation.measure(with_logits(Task(7), np.zeros((7, 7, 7))), key_frequencies=[])
    assert_allclose(result.accuracy.sel(target="logits", mode=list(frequency_ablation.CUTS)), 0, rtol=0)
    assert_allclose(result.network_accuracy.sel(network="original"), 0, rtol=0)


@pytest.mark.parametrize("threshold", [0.2, 0.3, 0.4, 0.5])
def test_few_or_most_neurons_replaced(threshold: float) -> None:
    """The smaller of the two groups of neurons is added or taken away; either way the rest is the same network."""
    checkpoint = untrained(Task(11))
    logits, count = Slow(checkpoint).polynomial(threshold)
    result = frequency_ablation.measure(checkpoint, key_frequencies=[], threshold=threshold)
    assert int(result.replaced_neurons) == count
    assert_allclose(result.network_loss.sel(network="polynomial"), Slow(checkpoint).judged(logits)[0], **EXACT)


def test_what_is_not_known_is_null() -> None:
    result = measure_checkpoint(untrained(Task(8, split="unknown")), "frequency_ablation", key_frequencies=[1, 4])
    facts = find("frequency_ablation").summary(result)
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert facts["network_loss"]["original"]["train"] is None
    assert facts["network_loss"]["original"]["all"] is not None
    assert list(facts["loss_without"]["neurons"]) == ["1", "4"]
    assert facts["loss"]["logits"]["keep_key"] == result.loss.sel(target="logits", mode="keep_key", split="all").item()
    assert len(frequency_ablation.plot(result).data) > 8


def test_what_is_not_a_number_stays_in_its_split() -> None:
    splits = [torch.tensor(pairs, dtype=torch.int64) for pairs in ([0, 1], [2], [])]
    found = frequency_ablation._mean(torch.tensor([[1.0, 2.0, torch.nan]]), splits)
    assert_allclose(found, [[1.5, np.nan, np.nan]])
