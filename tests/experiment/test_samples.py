"""Examples that are vectors, and what they have in common with pairs."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from interp import Experiment, InputError, ModelConfig, Task, TrainingConfig
from interp.experiment import Samples, experiment_from_dict, experiment_from_toml

ASKED = [
    "seed",
    "title",
    "shape",
    "sizes",
    "n_classes",
    "inputs",
    "labels",
    "defined",
    "split_known",
    "train_indices",
    "n_held_out",
]
MLP = ModelConfig(family="mlp", d_mlp=16)


@pytest.mark.parametrize(
    "examples", [Task(7), Task(7, validation_fraction=0.5), Samples(n_train=100, n_test=50, n_validation=10)]
)
def test_both_kinds_answer_what_is_asked_of_examples(examples) -> None:
    assert all(hasattr(examples, name) for name in ASKED)
    n = int(np.prod(examples.shape))
    assert len(examples.inputs) == len(examples.labels) == len(examples.defined) == n
    train, test, held_out, unmirrored, every, validation = (
        examples.mask(split) for split in ("train", "test", "held_out", "unmirrored", "all", "validation")
    )
    assert np.flatnonzero(train).tolist() == examples.train_indices.tolist()
    assert ((train.astype(int) + test + validation) == every).all()  # each pair is in one of them
    assert (held_out <= unmirrored).all()
    assert (unmirrored <= test).all()
    assert 0 < examples.n_held_out <= held_out.sum()
    assert examples.labels.max() < examples.n_classes == examples.sizes[1]
    with pytest.raises(InputError, match="split"):
        examples.mask("tset")


def test_digits_are_those_of_scikit_learn_each_once() -> None:
    samples = Samples(n_train=1000, n_test=797, seed=3)
    inputs, labels = load_digits(return_X_y=True)
    assert samples.inputs.dtype == np.float32
    drawn = sorted(zip(map(bytes, (samples.inputs * 16).astype(np.uint8)), samples.labels.tolist(), strict=True))
    assert drawn == sorted(zip(map(bytes, inputs.astype(np.uint8)), labels.tolist(), strict=True))


def test_the_split_follows_the_seed_alone() -> None:
    one, same, other = Samples(), Samples(), Samples(seed=1)
    assert (one.labels == same.labels).all()
    assert (one.labels != other.labels).any()
    assert (Samples(n_test=0).inputs == one.inputs[:1000]).all()  # the test examples do not move those trained on


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"source": "digit"}, "task.source"),
        ({"n_train": 0}, "task.n-train must be at least 1"),
        ({"n_train": 1700}, "more than the 1,797 digits"),
        ({"seed": -1}, "task.seed"),
    ],
)
def test_what_cannot_be_is_refused(fields: dict, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        Samples(**fields)


@pytest.mark.parametrize("model", [ModelConfig(), ModelConfig(family="mlp", inputs="concatenated")])
def test_a_model_of_pairs_is_refused(model: ModelConfig) -> None:
    with pytest.raises(InputError, match=r"reads pairs of tokens; give model\.(family|inputs)"):
        Experiment(Samples(), model)


def test_vectors_are_recorded_by_their_kind_and_pairs_as_ever(tmp_path) -> None:
    experiment = Experiment(Samples(n_train=300, n_test=100), MLP, TrainingConfig(steps=5))
    recorded = experiment.to_dict()
    assert recorded["task"] == {"kind": "samples", "source": "digits", "n_train": 300, "n_test": 100, "seed": 0}
    assert experiment_from_dict(recorded) == experiment
    assert "kind" not in Experiment().to_dict()["task"]
    assert Experiment().hash == "909d76fd9682baa3"
    file = tmp_path / "digits.toml"
    file.write_text('[task]\nkind = "samples"\nn-train = 300\nn-test = 100\n[model]\nfamily = "mlp"\nd-mlp = 16\n')
    assert experiment_from_toml(file).task == experiment.task
    with pytest.raises(InputError, match=r"task\.kind"):
        experiment_from_dict({"task": {"kind": "sample"}})
    with pytest.raises(InputError, match=r"field in \[task\] 'n-trian'; did you mean 'n-train'"):
        experiment_from_dict({"task": {"kind": "samples", "n-trian": 3}})
