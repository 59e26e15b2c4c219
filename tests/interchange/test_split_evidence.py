"""Training pairs told from losses: planted memories whose split is known, networks that were trained in seconds, and
controls in which there is nothing to find."""

import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from interp.errors import InputError
from interp.experiment import Experiment, ModelConfig, Task, TrainingConfig
from interp.interchange import import_run
from interp.interchange.importing.split_claims import refute_split
from interp.interchange.importing.split_evidence import against_mirrors, infer_split, log_spaced, mirrors, populations
from interp.interchange.importing.split_generators import WAYS, drawn_by, search_generators
from interp.runs import Checkpoint
from interp.training import train

P = 17
SEEDS = (0, 1, 42, 598)


def planted(task: Task, seed: int = 0, *, mirrors_known: bool = True) -> np.ndarray:
    """The losses of a memory [pairs]: low on training pairs, in between on their mirrors, no better than a guess on
    others, of which one in p is right by luck."""
    draw = np.random.default_rng(seed)
    level = np.where(task.train_mask, -6.0, math.log(2.5 * math.log(task.p)))
    if task.commutative and mirrors_known:
        of_mirror = task.train_mask.reshape(task.p, task.p).T.reshape(-1)
        level = np.where(~task.train_mask & of_mirror, -4.0, level)
    noise = draw.normal(0, np.where(task.train_mask, 0.4, 0.9))
    lucky = ~task.train_mask & (draw.random(task.p**2) < 1 / task.p)
    losses = np.exp(np.where(lucky, -4.0, level) + noise)
    return np.where(task.defined, losses, np.nan)


def drawn(way: str, seed: int, count: int, n: int = P * P) -> tuple[int, ...]:
    return tuple(int(index) for index in sorted(WAYS[way](seed, n)[:count]))


def unknown(task: Task) -> Task:
    return Task(task.p, task.operation, split="unknown")


# ---- what is inferred ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("operation", ["subtract", "divide"])
def test_of_an_operation_without_mirrors_the_training_pairs_are_told(operation, seed):
    task = Task(P, operation, train_fraction=0.45, seed=seed)
    found = infer_split(planted(task, seed)[None], unknown(task))
    assert found.why_not == ""
    assert found.is_exact
    assert found.is_known[task.train_indices].all()
    assert (found.is_known & ~task.train_mask).sum() <= 4 * task.test_mask.sum() / P  # by luck


@pytest.mark.parametrize("seed", range(5))
def test_of_a_commutative_operation_they_are_told_up_to_mirrors(seed):
    task = Task(P, "add", train_fraction=0.4, seed=seed)
    found = infer_split(planted(task, seed)[None], unknown(task))
    closure = np.isin(mirrors(task), mirrors(task)[task.train_indices])
    assert not found.is_exact
    assert found.is_known[closure].all() or found.why_not


def test_where_mirrors_are_not_known_the_training_pairs_are_told():
    task = Task(P, "add", train_fraction=0.4)
    found = infer_split(planted(task, mirrors_known=False)[None], unknown(task))
    assert found.is_exact
    assert found.is_known[task.train_indices].all()


def test_several_checkpoints_tell_more_than_one():
    """Pairs that are right by luck at one checkpoint are not at another."""
    task = Task(P, "subtract", train_fraction=0.45)
    series = np.stack([planted(task, seed) for seed in range(3)])
    errors = [(infer_split(losses, unknown(task)).is_known != task.train_mask).sum() for losses in (series[:1], series)]
    assert errors[1] < errors[0]


CONTROLS = {
    "untrained": lambda draw: np.exp(draw.normal(math.log(math.log(P)), 0.2, P * P)),
    "trained on all": lambda draw: np.exp(draw.normal(-6, 1, P * P)),
    "generalized": lambda draw: np.exp(draw.normal(-9, 0.5, P * P)),
    "half learned, by answers": lambda draw: np.exp(
        np.where(Task(P).labels < P // 2, -5.0, 1.2) + draw.normal(0, 0.3, P * P)
    ),
    "answers the others too": lambda draw: np.exp(
        np.where(draw.random(P * P) < 0.5, -8.0, -3.0) + draw.normal(0, 0.3, P * P)
    ),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("control", CONTROLS)
def test_where_nothing_is_to_be_found_nothing_is_told(control, seed):
    losses = CONTROLS[control](np.random.default_rng(seed))[None]
    found = infer_split(losses, Task(P, split="unknown"))
    assert found.why_not
    assert search_generators(losses, Task(P, split="unknown"), found, SEEDS) is None
    assert (
        refute_split(losses, np.arange(100), Task(P, split="unknown"), [1])["verdict"] != "refuted"
        or "answers" in control
    )


def test_one_population_is_not_two():
    draw = np.random.default_rng(0)
    for shape in (draw.normal(size=300), draw.uniform(size=300), draw.exponential(size=300), np.ones(300)):
        assert not populations(shape).are_apart


# ---- generators ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_drawing_is_named_exactly(way):
    indices = drawn(way, 42, 86)
    words = drawn_by(indices, Task(P), SEEDS)
    assert words == f"exactly the first 86 of {way.format(n=P * P, seed=42)} (pairs, a before b)"
    assert drawn_by(indices[:-1], Task(P), SEEDS) is None
    others = np.setdiff1d(np.arange(P * P), indices)
    assert str(drawn_by(others, Task(P), SEEDS)).startswith("exactly the last 203 of")


def test_the_ways_are_those_of_published_code():
    torch.manual_seed(598)
    assert drawn_by(torch.randperm(P * P)[:80].tolist(), Task(P), SEEDS)
    pairs = [(a, b) for a in range(P) for b in range(P)]
    random.seed(1)
    random.shuffle(pairs)
    assert drawn_by([a * P + b for a, b in pairs[:80]], Task(P), SEEDS)
    random.seed(1)
    sampled = random.sample([(a, b) for a in range(P) for b in range(P)], 150)
    assert "exactly the last 150 of random.shuffle" in str(drawn_by([a * P + b for a, b in sampled], Task(P), SEEDS))
    from sklearn.model_selection import train_test_split

    train_part, _ = train_test_split(np.arange(P * P), train_size=0.4, random_state=42)
    assert "last 115" in str(drawn_by(train_part, Task(P), SEEDS))
    examples = torch.utils.data.TensorDataset(torch.arange(P * P))
    halves = torch.utils.data.random_split(examples, [100, P * P - 100], torch.Generator().manual_seed(42))
    assert drawn_by(list(halves[0].indices), Task(P), SEEDS)
    unordered = [(a, b) for a in range(P) for b in range(P) if a <= b]
    torch.manual_seed(0)
    chosen = [unordered[i] for i in torch.randperm(len(unordered))[:60]]
    both = {i for a, b in chosen for i in (a * P + b, b * P + a)}
    assert "first 60 of torch.randperm(153) with seed 0 (unordered pairs)" in str(
        drawn_by(sorted(both), Task(P), SEEDS)
    )


@pytest.mark.parametrize("operation", ["add", "subtract", "multiply"])
def test_a_generator_tells_what_losses_leave_open(operation):
    indices = drawn("torch.randperm({n}) with seed {seed}", 598, 115)
    task = Task(P, operation, split=indices)
    losses = planted(task)[None]
    found = search_generators(losses, unknown(task), infer_split(losses, unknown(task)), SEEDS)
    assert found is not None
    assert found.indices.tolist() == list(indices)
    assert found.words == "the first 115 (39.8%) of torch.randperm(289) with seed 598 (pairs, a before b)"
    assert found.by_chance < 1e-6


@pytest.mark.parametrize("count", [59, 100, 102, 116, 143, 145])
def test_a_round_share_does_not_overrule_the_pairs_that_are_known(count):
    """Of 289, 35 % are 101, 40 % 115, and 50 % 144."""
    task = Task(P, "subtract", split=drawn("torch.randperm({n}) with seed {seed}", 42, count))
    draw = np.random.default_rng(0)
    losses = np.exp(draw.normal(np.where(task.train_mask, -6.0, 1.5), 0.3, (2, P * P)))
    found = search_generators(losses, unknown(task), infer_split(losses, unknown(task)), SEEDS)
    assert found is not None
    assert len(found.indices) == count
    assert found.between is not None
    assert found.between[0] <= count <= found.between[1]
    assert found.between[1] - found.between[0] <= 3


ONE_OF_EACH = {
    "pairs with a ≤ b, a before b": [(a, b) for a in range(P) for b in range(a, P)],
    "pairs with b ≤ a, b before a": [(a, b) for b in range(P) for a in range(b, P)],
    "pairs with b ≤ a, a before b": [(a, b) for a in range(P) for b in range(a + 1)],
    "pairs with a ≤ b, b before a": [(a, b) for b in range(P) for a in range(b + 1)],
}


@pytest.mark.parametrize("mirrors_known", [False, True])
@pytest.mark.parametrize("listing", ONE_OF_EACH)
def test_one_of_each_pair_and_its_mirror_is_told_from_both(listing, mirrors_known):
    pairs = ONE_OF_EACH[listing]
    torch.manual_seed(42)
    chosen = [pairs[i] for i in torch.randperm(len(pairs))[:91]]
    task = Task(P, "add", split=tuple(sorted(a * P + b for a, b in chosen)))
    losses = planted(task, mirrors_known=mirrors_known)[None]
    found = search_generators(losses, unknown(task), infer_split(losses, unknown(task)), SEEDS)
    assert found is not None
    assert found.words == f"the first 91 (59.5%) of torch.randperm(153) with seed 42 ({listing})"
    assert found.indices.tolist() == task.train_indices.tolist()
    assert f"({listing})" in str(drawn_by(task.train_indices, unknown(task), SEEDS))


def test_of_a_network_that_cannot_tell_mirrors_apart_unordered_pairs_may_be_one_of_each():
    pairs = ONE_OF_EACH["pairs with a ≤ b, a before b"]
    chosen = [pairs[i] for i in WAYS["torch.randperm({n}) with seed {seed}"](42, 153)[:91]]
    both = Task(P, "add", split=tuple(sorted({i for a, b in chosen for i in (a * P + b, b * P + a)})))
    table = planted(both).reshape(P, P)
    losses = np.minimum(table, table.T).reshape(1, -1)
    found = search_generators(losses, unknown(both), infer_split(losses, unknown(both)), SEEDS)
    assert found is not None
    assert "(unordered pairs), or of the same with only one of each pair and its mirror" in found.words
    assert found.indices.tolist() == both.train_indices.tolist()


def test_samples_of_just_so_many_are_named():
    """They are no beginning and no end of an order."""
    sampled = random.Random(0).sample(range(P * P), 20)
    assert (
        str(drawn_by(sampled, Task(P), SEEDS)) == "exactly random.Random(0).sample(range(289), 20) (pairs, a before b)"
    )
    chosen = np.random.default_rng(42).choice(P * P, 86, replace=False)
    words = "numpy.random.default_rng(42).choice(289, 86, replace=False) (pairs, a before b)"
    assert drawn_by(chosen, Task(P), SEEDS) == f"exactly {words}"
    assert drawn_by(np.setdiff1d(np.arange(P * P), chosen), Task(P), SEEDS) == f"exactly all but {words}"
    assert drawn_by(chosen[:-1], Task(P), SEEDS) is None


def test_no_generator_is_named_where_none_was_used():
    """The split of a seed that is not tried, and one of which a third was exchanged."""
    draw = np.random.default_rng(0)
    task = Task(P, "subtract", split=drawn("torch.randperm({n}) with seed {seed}", 7, 115))
    losses = planted(task)[None]
    assert search_generators(losses, unknown(task), infer_split(losses, unknown(task)), SEEDS) is None
    near = draw.permutation(drawn("torch.randperm({n}) with seed {seed}", 0, 115))
    others = draw.permutation(np.setdiff1d(np.arange(P * P), near))
    mixed = Task(P, "subtract", split=tuple(int(i) for i in sorted([*near[:77], *others[:38]])))
    losses = planted(mixed)[None]
    assert search_generators(losses, unknown(mixed), infer_split(losses, unknown(mixed)), SEEDS) is None


# ---- claims ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("operation", ["add", "subtract", "multiply"])
def test_true_splits_are_supported_and_wrong_ones_refuted(operation, seed):
    task = Task(P, operation, train_fraction=0.45, seed=seed)
    losses, draw = planted(task, seed)[None], np.random.default_rng(seed)
    found = refute_split(losses, task.train_indices, unknown(task), [100])
    assert (found["verdict"], found["step"]) == ("supported", 100)
    wrong = draw.permutation(P * P)[: len(task.train_indices)]
    found = refute_split(losses, wrong, unknown(task), [100])
    assert found["verdict"] == "refuted"
    assert "pairs are known by heart" in found["reason"]
    few = P * P // 10
    exchanged = np.concatenate([task.train_indices[few:], draw.permutation(np.flatnonzero(task.test_mask))[:few]])
    found = refute_split(losses, exchanged, unknown(task), [100])
    assert found["verdict"] == "refuted" or any(
        said in found["reason"] for said in ("would look the same", "of those that are claimed")
    )


def test_splits_that_are_exchanged_and_checkpoints_that_tell_nothing():
    task = Task(P, "subtract", train_fraction=0.5)
    draw = np.random.default_rng(0)
    slightly = np.exp(draw.normal(np.where(task.train_mask, -9.5, -9.0), 0.5))[None]
    assert refute_split(slightly, task.train_indices, task, [9])["verdict"] == "supported"
    assert "would look the same" in refute_split(slightly, task.train_indices, task, [9])["reason"]
    exchanged = refute_split(slightly, np.flatnonzero(task.test_mask), task, [9])
    assert exchanged["verdict"] == "refuted"
    assert "exchanged" in exchanged["reason"]
    alike = np.exp(draw.normal(-9, 0.5, (2, P * P)))
    assert refute_split(alike, task.train_indices, task, [8, 9])["verdict"] == "cannot be told"
    assert refute_split(alike, [0, 1], task, [8, 9])["verdict"] == "cannot be told"


def mirrored(indices: np.ndarray) -> np.ndarray:
    return indices % P * P + indices // P


@pytest.mark.parametrize("seed", range(5))
def test_the_mirrored_pairs_are_refuted_where_losses_tell_them_apart(seed):
    task = Task(P, "add", train_fraction=0.45, seed=seed)
    losses = np.stack([planted(task, seed), np.exp(np.random.default_rng(seed).normal(1, 0.2, P * P))])
    found = refute_split(losses, task.train_indices, unknown(task), [100, 0])
    assert found["verdict"] == "supported"
    assert "mirrored" not in found["reason"]
    assert "whose mirror (b, a) is held out " in found["reason"]
    assert found["mirrors"]["step"] == 100
    found = refute_split(losses, mirrored(task.train_indices), unknown(task), [100, 0])
    assert found["verdict"] == "refuted"
    assert "a and b may be exchanged" in found["reason"]


def test_a_network_that_cannot_tell_mirrors_apart_leaves_open_which_was_trained_on():
    task = Task(P, "add", train_fraction=0.45)
    table = planted(task).reshape(P, P)
    losses = np.minimum(table, table.T).reshape(1, -1)
    for claimed in (task.train_indices, mirrored(task.train_indices)):
        found = refute_split(losses, claimed, unknown(task), [100])
        assert found["verdict"] == "supported"
        assert "or of the mirrored pairs (b, a), in place of these or beside them, some or all" in found["reason"]


def test_pairs_that_are_claimed_with_their_mirrors_are_asked_whether_one_was_trained_on_alone():
    a, b = Task(P).pairs.T
    chosen = np.flatnonzero((a <= b) & (np.random.default_rng(0).random(P * P) < 0.6))
    both = np.union1d(chosen, mirrored(chosen))
    for which, way in ((chosen, "<"), (mirrored(chosen), ">")):
        task = Task(P, "add", split=tuple(int(index) for index in sorted(which)))
        found = refute_split(planted(task)[None], both, unknown(task), [100])
        assert found["verdict"] == "cannot be told"
        assert f"the one with a {way} b has the lower loss in" in found["reason"]
    task = Task(P, "add", split=tuple(int(index) for index in both))
    found = refute_split(planted(task)[None], both, unknown(task), [100])
    assert found["verdict"] == "supported"
    assert "or of only one of each pair and its mirror (b, a), which these losses do not tell apart" in found["reason"]


def test_untrained_losses_do_not_tell_a_pair_from_its_mirror():
    """Also of a split of one orientation, where losses differ by what a and b add to them, each for itself."""
    a, b = Task(P).pairs.T
    highest = 0.0
    for seed in range(100):
        draw = np.random.default_rng(seed)
        of_a, of_b = draw.normal(0, 0.5, (2, P))
        losses = np.exp(1 + of_a[a] + of_b[b] + draw.normal(0, 0.2, (3, P * P)))
        split = np.flatnonzero(draw.random(P * P) < 0.4) if seed % 2 else np.flatnonzero(a <= b)
        highest = max(highest, abs(against_mirrors(losses, split, unknown(Task(P))).z))
    assert highest < 5


@pytest.mark.parametrize("seed", range(3))
def test_a_split_too_small_or_too_large_cannot_be_told(seed):
    """As from a wrong --train-fraction."""
    task = Task(P, "subtract", train_fraction=0.45, seed=seed)
    losses, draw = planted(task, seed)[None], np.random.default_rng(seed)
    half = draw.permutation(task.train_indices)[::2]
    found = refute_split(losses, half, unknown(task), [100])
    assert found["verdict"] == "cannot be told"
    assert "others are known as surely as these" in found["reason"]
    assert "is the share of training pairs too small?" in found["reason"]
    twice = np.concatenate([task.train_indices, draw.permutation(np.flatnonzero(task.test_mask))[:60]])
    found = refute_split(losses, twice, unknown(task), [100])
    assert found["verdict"] == "cannot be told"
    assert "is the share of training pairs too large" in found["reason"]


def test_a_split_of_which_most_pairs_are_right_is_told_from_the_right_one():
    task = Task(P, "subtract", train_fraction=0.45)
    losses = planted(task)[None]
    near = np.concatenate([task.train_indices[4:], np.flatnonzero(task.test_mask & (losses[0] > 1))[:4]])
    found = refute_split(losses, near, unknown(task), [100])
    assert found["verdict"] == "supported"
    assert "96.9% of those that are claimed" in found["reason"]
    assert "would look the same" in found["reason"]
    assert "would look the same" not in refute_split(losses, task.train_indices, unknown(task), [100])["reason"]


@pytest.mark.parametrize("count", [1, 2, 12, 13, 100, 5000])
def test_checkpoints_are_log_spaced_with_both_ends(count):
    places = log_spaced(count)
    assert (places[0], places[-1]) == (0, count - 1)
    assert len(places) == min(count, 12)
    assert places == sorted(set(places))


# ---- networks that were trained --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def memories(tmp_path_factory) -> tuple[Path, Task]:
    """Checkpoints of a network that memorized a + b modulo 17, in files; and its task."""
    task = Task(P, "add", split=drawn("torch.randperm({n}) with seed {seed}", 42, 144))
    model = ModelConfig(d_model=32, n_heads=2, d_mlp=64)
    settings = TrainingConfig(steps=300, lr=3e-3, weight_decay=0.3, checkpoint_steps=(0, 100, 300))
    folder = tmp_path_factory.mktemp("theirs")
    kept = {snapshot.step: snapshot.weights for snapshot in train(Experiment(task, model, settings)) if snapshot.kept}
    for step in (0, 100, 200, 300):
        torch.save(kept[step], folder / f"{step}.pt")
    assert Checkpoint(300, kept[300], task, model).accuracy("train") == 1
    return folder, task


def test_an_import_names_the_generator(memories, tmp_path):
    folder, task = memories
    run = import_run(folder, tmp_path / "run", task={"operation": "add"}, split="infer")
    assert run.task.train_indices.tolist() == task.train_indices.tolist()
    assert "the first 144 (49.8%) of torch.randperm(289) with seed 42" in run.info["imported"]["split"]
    assert run.info["imported"]["proof"]["split"]["verdict"] == "supported"
    assert any("the split is supported" in note for note in run.info["imported"]["notes"])


def test_an_import_with_a_wrong_split_is_refused(memories, tmp_path):
    folder, _ = memories
    wrong = {"task": {"operation": "add"}, "split": "torch-randperm:41", "train_fraction": 0.5}
    with pytest.raises(InputError, match=r"contradict the split: at step .*--split infer looks for it"):
        import_run(folder, tmp_path / "run", **wrong)
    assert not (tmp_path / "run").exists()
    run = import_run(folder, tmp_path / "run", **wrong, accept_unverified=True)
    assert run.info["imported"]["proof"]["split"]["verdict"] == "refuted"


def test_an_import_of_which_nothing_can_be_inferred_is_refused(memories, tmp_path):
    folder, _ = memories
    (tmp_path / "untrained").mkdir()
    (tmp_path / "untrained" / "0.pt").write_bytes((folder / "0.pt").read_bytes())
    with pytest.raises(InputError, match="--split infer: losses have no two populations"):
        import_run(
            tmp_path / "untrained", tmp_path / "run", task={"operation": "add"}, split="infer", accept_unverified=True
        )
