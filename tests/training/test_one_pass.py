"""One pass over the examples: the loss before the update is the test loss, its sum is a code, and what is resumed has
the same bits. Where examples come again neither is true: the control."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from interp.errors import InputError
from interp.experiment import Experiment, ModelConfig, Operations, Regularizers, Samples, Task, TrainingConfig
from interp.runs import open_run
from interp.sweeps import resume_run, run_experiment
from interp.training import ONLINE, Batch, together, train
from tests.training.test_loop import assert_same_bits

MLP = ModelConfig(family="mlp", embedding="none", inputs="sum", d_mlp=32)
SIZE, STEPS = 10, 239
ONCE = TrainingConfig(
    steps=STEPS, batch_size=SIZE, lr=3e-3, weight_decay=0.0, log_every=1, checkpoint_every=None, one_pass=True
)


def teacher(n_train: int) -> Samples:
    """Three classes of ten numbers; 2,000 examples are tested."""
    return Samples("gaussian", n_train=n_train, n_test=2000, n_features=10, classes=3)


def distance(experiment: Experiment, name: str) -> float:
    """Mean of batch loss before the update minus test loss, over the later two thirds of the steps, in its standard
    errors: those of the batches, whose losses differ from the test loss independently, and of the test examples."""
    snapshots = list(train(experiment))[STEPS // 3 :]
    gaps = np.array([one.metrics[name] - one.metrics["test_loss"] for one in snapshots])
    of_one_example = gaps.std(ddof=1) * math.sqrt(SIZE)
    return gaps.mean() / (of_one_example * math.sqrt(1 / (len(gaps) * SIZE) + 1 / experiment.task.n_test))


def test_the_loss_before_the_update_is_the_test_loss_and_not_where_examples_come_again() -> None:
    """With 200 examples, 12 times each, the network knows them: the loss of a batch before its update is lower."""
    assert abs(distance(Experiment(teacher(SIZE * (STEPS + 1)), MLP, ONCE), "online_loss")) < 3
    again = replace(ONCE, one_pass=False)
    assert distance(Experiment(teacher(200), MLP, again), "train_loss_max") < -4


def test_the_code_is_the_sum_of_the_losses_in_bits_and_begins_with_a_uniform_one() -> None:
    """Of a network whose first weights are nearly 0, the first batch costs log₂K a label."""
    model = replace(MLP, initialization_scale=1e-3)
    snapshots = list(train(Experiment(teacher(SIZE * (STEPS + 1)), model, ONCE)))
    losses = [one.metrics["online_loss"] for one in snapshots]
    bits = [one.metrics["prequential_bits"] for one in snapshots]
    assert bits[0] == pytest.approx(math.log2(3), rel=1e-4)
    assert bits == pytest.approx(np.cumsum(losses) / np.arange(1, STEPS + 2) / math.log(2), rel=1e-12)
    assert bits[-1] < 0.7 * math.log2(3)


def test_labels_without_a_rule_cost_what_a_uniform_code_does() -> None:
    """The parity of 15 of 15 signs: 2^15 inputs tell nothing of one another to a network that sees 1,000 of them."""
    task = Samples("parity", n_train=1000, n_test=100, n_features=15, k=15)
    training = replace(ONCE, steps=49, lr=1e-3)
    last = list(train(Experiment(task, replace(MLP, initialization_scale=0.1), training)))[-1]
    assert 1 - 3 / math.sqrt(1000) < last.metrics["prequential_bits"] < 1.05


def test_a_line_has_the_mean_of_the_batches_since_the_line_before() -> None:
    experiment = Experiment(teacher(SIZE * 21), MLP, replace(ONCE, steps=20))
    every = [one.metrics["online_loss"] for one in train(experiment)]
    few = list(train(replace(experiment, training=replace(experiment.training, log_every=6))))
    assert [one.step for one in few] == [0, 6, 12, 18, 20]
    spans = [every[:1], every[1:7], every[7:13], every[13:19], every[19:]]
    assert [one.metrics["online_loss"] for one in few] == pytest.approx([float(np.mean(span)) for span in spans])


@pytest.mark.parametrize("task", [teacher(SIZE * 13), Task(23, train_pairs=SIZE * 13)])
def test_every_example_is_in_one_batch_at_most(task: Samples | Task) -> None:
    every = Batch.of(task, "train")
    numbered = replace(every, labels=torch.arange(len(every)))
    seen = np.concatenate([numbered.minibatch(SIZE, step, 0).labels.numpy() for step in range(13)])
    assert sorted(seen.tolist()) == list(range(SIZE * 13))


def test_resumed_it_has_the_same_bits(tmp_path: Path) -> None:
    """In memory from every snapshot, and from disk."""
    training = replace(ONCE, steps=12, log_every=5, checkpoint_every=4)
    experiment = Experiment(teacher(SIZE * 13), MLP, training)
    snapshots = list(train(experiment))
    for place, snapshot in enumerate(snapshots[:-1]):
        for again, whole in zip(train(experiment, resume=snapshot), snapshots[place + 1 :], strict=True):
            assert_same_bits(again, whole)
    whole = run_experiment(experiment, tmp_path / "whole")
    stopped = tmp_path / "stopped"

    def stop(snapshot) -> None:
        if snapshot.step == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_experiment(experiment, stopped, report=stop)
    resume_run(stopped)
    assert open_run(stopped).rows == open_run(whole.path).rows
    assert set(ONLINE) <= open_run(stopped).rows[-1].keys()


def test_a_state_without_the_sum_is_refused() -> None:
    experiment = Experiment(teacher(SIZE * 13), MLP, replace(ONCE, steps=12))
    first = next(train(experiment))
    with pytest.raises(InputError, match="no sum of the losses before it"):
        next(train(experiment, resume=replace(first, state={})))


def test_networks_side_by_side_have_each_its_own_sum() -> None:
    experiments = [Experiment(replace(teacher(SIZE * 6), seed=seed), MLP, replace(ONCE, steps=5)) for seed in (0, 1)]
    moments = [moment for moment in together(experiments) if moment]
    for place, experiment in enumerate(experiments):
        for alone, moment in zip(train(experiment), moments, strict=True):
            assert [moment[place].metrics[name] for name in ONLINE] == [alone.metrics[name] for name in ONLINE]


def test_experiments_without_it_keep_hash_and_metrics() -> None:
    assert Experiment().hash == "909d76fd9682baa3"
    assert "one_pass" not in Experiment().to_dict()["training"]
    (first, *_) = train(Experiment(teacher(SIZE * 6), MLP, replace(ONCE, steps=5, one_pass=False)))
    assert not set(ONLINE) & first.metrics.keys()


@pytest.mark.parametrize(
    ("task", "training", "said"),
    [
        (teacher(SIZE * 5), {"steps": 5}, r"of 5 steps .* needs 60, and there are 50 .*raise task\.n-train"),
        (Samples(n_train=500), {"steps": 50}, r"needs 510, and there are 500"),
        (Task(7), {"steps": 5}, r"needs 60, and there are 14 .*no more than its pairs"),
        (Operations(7, ("add", "divide")), {"steps": 5}, "no more than its pairs"),
        (Task(43, augmentation="mirror"), {"steps": 5}, "adds mirrors"),
        (teacher(200), {"steps": 5, "batch_size": None}, "give that"),
        (teacher(200), {"steps": 5, "loss": "squared-error"}, "squared error; leave out one"),
        (teacher(200), {"steps": 5, "label_smoothing": 0.1}, r"smoothed by 0\.1; leave out one"),
        (teacher(200), {"steps": 5, "regularizers": Regularizers(dropout=0.1)}, "dropout"),
        (teacher(200), {"steps": 5, "one_pass": 1}, "true or false"),
    ],
)
def test_what_would_see_an_example_twice_or_is_no_code_is_refused(task, training: dict, said: str) -> None:
    model = MLP if isinstance(task, Samples) else ModelConfig(d_model=8, n_heads=2, d_mlp=8)
    if isinstance(task, Operations):
        model = replace(model, prompt="aob=")
    with pytest.raises(InputError, match=said):
        Experiment(task, model, replace(ONCE, **training))
