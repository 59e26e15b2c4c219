"""Examples that are vectors, and what they have in common with pairs."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from interp import Experiment, InputError, ModelConfig, Task, TrainingConfig
from interp.experiment import Operations, Samples, experiment_from_dict, experiment_from_toml

ASKED = [
    "seed",
    "title",
    "shape",
    "sizes",
    "n_classes",
    "inputs",
    "labels",
    "true_labels",
    "noisy_indices",
    "defined",
    "split_known",
    "train_indices",
    "n_held_out",
]
MLP = ModelConfig(family="mlp", d_mlp=16)


@pytest.mark.parametrize(
    "examples",
    [
        Task(7),
        Task(7, validation_fraction=0.5),
        Samples(n_train=100, n_test=50, n_validation=10),
        Samples(n_train=100, n_test=50, n_validation=10, test_seed=3, label_noise=0.3),
        Samples("parity", n_train=100, n_test=50, n_validation=10, n_features=9, label_noise=0.3),
        Samples("gaussian", n_train=100, n_test=50, n_validation=10, n_features=9, classes=4, test_seed=1),
        Operations(7, ("add", "divide")),
    ],
)
def test_every_kind_answers_what_is_asked_of_examples(examples) -> None:
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
        ({"label_noise": 1.5}, "task.label-noise must be at most 1"),
        ({"test_seed": -1}, "task.test-seed must be at least 0"),
        ({"k": 4}, "task.k is of the source parity, and task.source is digits; leave it at 3"),
        ({"n_features": 8}, "task.n-features is of the source parity or gaussian, and task.source is digits"),
        ({"source": "parity", "classes": 3}, "task.classes is of the source gaussian"),
        ({"source": "parity", "teacher_seed": 1}, "task.teacher-seed is of the source gaussian"),
        ({"source": "gaussian", "scaling": "centered"}, "task.scaling is of the source digits"),
        ({"source": "parity", "k": 65}, "task.k 65 signs decide, and task.n-features 64 are fewer"),
        ({"source": "gaussian", "classes": 1}, "task.classes must be at least 2"),
        ({"source": "gaussian", "n_train": 10**7}, "are more than 268,435,456 numbers; give fewer"),
        ({"scaling": "center"}, "task.scaling"),
        ({"n_train": 0}, "task.n-train must be at least 1"),
        ({"n_train": 1700}, "more than the 1,797 digits"),
        ({"seed": -1}, "task.seed"),
    ],
)
def test_what_cannot_be_is_refused(fields: dict, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        Samples(**fields)


# ---- label noise -----------------------------------------------------------------------------------------------------

SOURCES = [
    {"source": "digits"},
    {"source": "digits", "test_seed": 7},
    {"source": "parity", "n_features": 12},
    {"source": "gaussian", "classes": 5},
]


@pytest.mark.parametrize("fields", SOURCES)
@pytest.mark.parametrize("noise", [0.0, 0.01, 0.29, 1.0])
def test_a_share_of_the_training_labels_is_wrong_and_nothing_else_changes(fields: dict, noise: float) -> None:
    clean, noisy = (Samples(n_train=100, n_test=80, n_validation=5, label_noise=of, **fields) for of in (0.0, noise))
    assert len(noisy.noisy_indices) == round(100 * noise)  # 0.29 · 100 is 28.999…
    assert (noisy.labels != clean.labels).nonzero()[0].tolist() == noisy.noisy_indices.tolist()
    assert noisy.noisy_indices.max(initial=0) < 100  # labels of test and validation examples are right
    assert (noisy.true_labels == clean.labels).all()
    assert (noisy.inputs == clean.inputs).all()
    assert 0 <= noisy.labels.min() <= noisy.labels.max() < noisy.n_classes


def test_wrong_labels_are_any_other_class_and_those_of_less_noise_are_among_them() -> None:
    some, more = (Samples("gaussian", n_train=9000, n_test=1, classes=4, label_noise=of) for of in (0.5, 1.0))
    shift = (more.labels - more.true_labels)[:9000] % 4
    counts = np.bincount(shift, minlength=4)
    assert counts[0] == 0
    assert (abs(counts[1:] - 3000) < 4 * np.sqrt(9000 * 2 / 9)).all()  # four standard deviations of a binomial
    assert (some.labels[some.noisy_indices] == more.labels[some.noisy_indices]).all()
    other = Samples("gaussian", n_train=9000, n_test=1, classes=4, label_noise=0.5, seed=1)
    assert (other.noisy_indices != some.noisy_indices).any()


@pytest.mark.parametrize("fields", SOURCES)
def test_a_test_seed_names_test_examples_that_no_draw_moves(fields: dict) -> None:
    sizes = {"n_test": 60, "n_validation": 10}
    draws = [
        Samples(n_train=n, seed=seed, label_noise=noise, **sizes, **(fields | {"test_seed": 7}))
        for n, seed, noise in ((50, 0, 0.0), (90, 1, 0.5))
    ]
    inputs, labels = ([getattr(one, name)[one.mask("test")] for one in draws] for name in ("inputs", "labels"))
    assert (inputs[0] == inputs[1]).all()
    assert (labels[0] == labels[1]).all()
    for one in draws:
        seen = {example.tobytes() for example in one.inputs[~one.mask("test")]}
        if one.n_features == 64:  # of 12 signs there are 4,096 vectors, and some come twice
            assert not seen & {example.tobytes() for example in inputs[0]}
    assert (draws[0].inputs[:50] != draws[1].inputs[:50]).any()
    longer = Samples(n_train=80, seed=0, **sizes, **(fields | {"test_seed": 7}))
    assert (longer.inputs[:50] == draws[0].inputs[:50]).all()


def test_every_digit_is_in_one_split_where_the_test_digits_have_a_seed_of_their_own() -> None:
    samples = Samples(n_train=900, n_test=797, n_validation=100, seed=3, test_seed=0)
    inputs, _ = load_digits(return_X_y=True)
    assert sorted(map(bytes, (samples.inputs * 16).astype(np.uint8))) == sorted(map(bytes, inputs.astype(np.uint8)))


# ---- sources ---------------------------------------------------------------------------------------------------------


def test_centered_digits_are_gray_values_shifted_by_pixel_and_scaled_as_one() -> None:
    gray, centered = (Samples(n_train=1000, n_test=797, scaling=of).inputs for of in ("none", "centered"))
    assert np.square(centered).mean() == pytest.approx(1, abs=1e-5)
    assert abs(centered.mean(0)).max() < 1e-5
    varied = gray.std(0) > 0.05
    assert np.ptp(gray[:, varied].std(0) / centered[:, varied].std(0)) < 1e-5


def test_parity_is_the_product_of_k_signs_and_no_fewer_tell_it() -> None:
    samples = Samples("parity", n_train=4000, n_test=100, n_features=8, k=3)
    assert set(np.unique(samples.inputs)) == {-1.0, 1.0}
    assert (samples.labels == (1 - samples.inputs[:, 0] * samples.inputs[:, 1] * samples.inputs[:, 2]) / 2).all()
    signs = 1 - 2 * samples.labels
    for chosen in ([0], [0, 1], [1, 2], [5], [0, 1, 3]):  # every other product of signs is independent of the answer
        assert abs((samples.inputs[:, chosen].prod(1) * signs).mean()) < 4 / np.sqrt(4100)


def test_a_linear_teacher_is_shared_by_draws_and_drawn_by_its_own_seed() -> None:
    """Least squares on one draw finds what answers another."""
    one, other, elsewhere = (
        Samples("gaussian", n_train=3000, n_test=500, n_features=10, classes=3, seed=seed, teacher_seed=teacher)
        for seed, teacher in ((0, 0), (1, 0), (1, 1))
    )
    weights = np.linalg.lstsq(one.inputs, np.eye(3)[one.labels], rcond=None)[0]
    right, wrong = (((of.inputs @ weights).argmax(1) == of.labels).mean() for of in (other, elsewhere))
    assert right > 0.85
    assert wrong < 0.7
    assert (other.inputs == elsewhere.inputs).all()
    assert abs(one.inputs.mean()) < 4 / np.sqrt(one.inputs.size)
    assert one.inputs.std() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("model", [ModelConfig(), ModelConfig(family="mlp", inputs="concatenated")])
def test_a_model_of_pairs_is_refused(model: ModelConfig) -> None:
    with pytest.raises(InputError, match=r"reads pairs of tokens; give model\.(family|inputs)"):
        Experiment(Samples(), model)


def test_vectors_are_recorded_by_their_kind_and_pairs_as_ever(tmp_path) -> None:
    experiment = Experiment(Samples(n_train=300, n_test=100), MLP, TrainingConfig(steps=5))
    recorded = experiment.to_dict()
    assert recorded["task"] == {"kind": "samples", "source": "digits", "n_train": 300, "n_test": 100, "seed": 0}
    assert experiment_from_dict(recorded) == experiment
    parity = Experiment(Samples("parity", n_features=12, label_noise=0.1, test_seed=0), MLP)
    assert experiment_from_dict(parity.to_dict()) == parity
    assert parity.to_dict()["task"].keys() - recorded["task"].keys() == {"n_features", "label_noise", "test_seed"}
    assert "kind" not in Experiment().to_dict()["task"]
    assert Experiment().hash == "909d76fd9682baa3"
    file = tmp_path / "digits.toml"
    file.write_text('[task]\nkind = "samples"\nn-train = 300\nn-test = 100\n[model]\nfamily = "mlp"\nd-mlp = 16\n')
    assert experiment_from_toml(file).task == experiment.task
    with pytest.raises(InputError, match=r"task\.kind"):
        experiment_from_dict({"task": {"kind": "sample"}})
    with pytest.raises(InputError, match=r"field in \[task\] 'n-trian'; did you mean 'n-train'"):
        experiment_from_dict({"task": {"kind": "samples", "n-trian": 3}})
