"""The split of the logits against planted strengths, a slow second implementation, the identities it must obey, and
negative controls."""

import json

import numpy as np
import pytest
import torch
import xarray as xr
from numpy.testing import assert_allclose

from interp.analyses import circuit_split, logit_structure
from interp.analysis import find, measure_checkpoint
from interp.experiment import Activation, Embedding, Family, ModelConfig, Task
from interp.mathematics import circuits
from interp.models import initial_weights
from interp.runs import Checkpoint, centred_logits, phase_pairs
from interp.testing import LookupTable, circuit_checkpoint, circuit_neurons, ideal_logits, with_logits

EXACT = {"rtol": 1e-9, "atol": 1e-10}
SPLITS = ("all", "train", "test", "held_out")


def gaussian(p: int) -> np.ndarray:
    return 3 * np.random.RandomState(p).standard_normal((p, p, p))


def strengths(result: xr.Dataset, split: str = "train") -> dict[str, float]:
    """`gen_published` and so on."""
    short = {"generalizing": "gen", "memorizing": "mem"}
    return {
        f"{short[circuit]}_{estimator}": float(result.strength.sel(estimator=estimator, circuit=circuit, split=split))
        for estimator in circuit_split.ESTIMATORS
        for circuit in circuit_split.CIRCUITS
    }


def clock_and_table(task: Task, lookup: LookupTable) -> np.ndarray:
    """Two cosines of strength 3 and 2, and a lookup table, as logits [a, b, c]."""
    logits = (3 * ideal_logits(task.p, [2], "clock") + 2 * ideal_logits(task.p, [3], "clock")).numpy()
    return logits + lookup.pairs(task)[..., None] * np.eye(task.p)[task.labels].reshape(task.p, task.p, task.p)


@pytest.mark.parametrize("leakage", [0.0, 0.4, -0.3])
@pytest.mark.parametrize("s", [0.0, 0.5, 3.0, 10.0])
@pytest.mark.parametrize("p", [13, 14])
def test_planted_strengths(p: int, s: float, leakage: float) -> None:
    """Centred over p classes, a lookup table of strength s says s(1 − 1/p) to its label. What leaks to test pairs
    changes places."""
    task = Task(p, train_fraction=0.4)
    f = len(task.train_indices) / p**2
    found = strengths(circuit_split.measure(with_logits(task, clock_and_table(task, LookupTable(s, leakage)))))
    table = s * (1 - 1 / p)
    assert_allclose(found["gen_held_out"], 5 + leakage * table, **EXACT)
    assert_allclose(found["mem_held_out"], (1 - leakage) * table, **EXACT)
    assert_allclose(found["gen_published"], 5 + (leakage + f * (1 - leakage)) * table, **EXACT)
    assert_allclose(found["mem_published"], (1 - f) * (1 - leakage) * table, **EXACT)


@pytest.mark.parametrize("s", [0.5, 10.0])
def test_planted_in_weights(s: float) -> None:
    """A clock and a lookup table of real neurons, at a p where 1/p is less than the 2 % that the estimate may be off.
    ReLU neurons make a clock that owes a little to a − b; that is the same with and without the table."""
    task = Task(59, train_fraction=0.3)
    neurons = circuit_neurons([3, 10, 21], per_frequency=32, circuit="clock")
    both, alone = (
        strengths(circuit_split.measure(circuit_checkpoint(task, neurons, lookup=table, strength=1.0)))
        for table in (LookupTable(s), None)
    )
    assert_allclose(both["mem_held_out"] - alone["mem_held_out"], s, rtol=0.02)
    assert_allclose(both["gen_held_out"], alone["gen_held_out"], rtol=1e-9)
    assert abs(alone["mem_held_out"]) < 0.01 * alone["gen_held_out"]


def test_without_a_table_nothing_is_memorized() -> None:
    planted = circuit_checkpoint(
        Task(59), circuit_neurons([3, 10, 21], per_frequency=8, circuit="clock"), activation="square"
    )
    found = strengths(circuit_split.measure(planted))
    assert_allclose([found["mem_held_out"], found["mem_published"]], 0, rtol=0, atol=1e-9 * found["gen_held_out"])


@pytest.mark.parametrize("fraction", [0.2, 0.7])
def test_the_identities_hold_for_any_logits(fraction: float) -> None:
    """Where a pair is trained on with all that symmetries make of it, held-out pairs are all that were not."""
    orbits = Task(11, "subtract").orbits
    of_orbits = np.random.RandomState(0).permutation(np.unique(orbits))
    trained = np.flatnonzero(np.isin(orbits, of_orbits[: round(fraction * len(of_orbits))]))
    task = Task(11, "subtract", split=tuple(trained.tolist()))
    f = len(trained) / 11**2
    found = strengths(circuit_split.measure(with_logits(task, gaussian(11))))
    assert_allclose(found["gen_published"], found["gen_held_out"] + f * found["mem_held_out"], **EXACT)
    assert_allclose(found["mem_published"], (1 - f) * found["mem_held_out"], **EXACT)


@pytest.mark.parametrize("fraction", [0.2, 0.4])
def test_the_identity_of_a_sum_counts_mirrors_among_the_known_pairs(fraction: float) -> None:
    """g_published(0) = g_held out(0) + f·(g_known(0) − g_held out(0)), f the fraction of training pairs and their
    mirrors: 0 is its own negative, so g(0) is the mean logit of the label."""
    task, logits = Task(11, train_fraction=fraction), gaussian(11)
    label = (logits - logits.mean(-1, keepdims=True)).reshape(121, 11)[np.arange(121), task.labels]
    known = (task.train_mask.reshape(11, 11) | task.train_mask.reshape(11, 11).T).reshape(-1)
    found = strengths(circuit_split.measure(with_logits(task, logits)))
    memorizing = label[known].mean() - found["gen_held_out"]
    assert known.mean() > task.train_mask.mean() + 0.05
    assert_allclose(found["gen_held_out"], label[~known].mean(), **EXACT)
    assert_allclose(found["gen_published"], found["gen_held_out"] + known.mean() * memorizing, **EXACT)


TASKS = [
    Task(9, train_fraction=0.3),
    Task(10, train_fraction=0.3),
    Task(11, train_fraction=0.4, label_noise=0.4),
    Task(9, "subtract", train_fraction=0.4),
    Task(13, "multiply", train_fraction=0.1, label_noise=0.5),  # some labels become 0, which has no phase
    Task(11, "divide", train_fraction=0.3),
    Task(7, train_fraction=0.5),  # too few are held out
]


def even_mean(rows: list[tuple[int, np.ndarray]], n: int) -> np.ndarray:
    """The even part of the mean at each d, of (sum, centred logits) of some pairs, one by one."""
    values: list[list[float]] = [[] for _ in range(n)]
    for total, logits in rows:
        for u in range(n):
            values[(total - u) % n].append(logits[u])
            values[(u - total) % n].append(logits[u])
    return np.array([np.mean(of_d) for of_d in values])


def too_few(indices: list[int], task: Task) -> bool:
    return len({int(task.orbits[index]) for index in indices if task.held_out_mask[index]}) < 20


@pytest.mark.parametrize("task", TASKS, ids=lambda task: f"{task.operation}{task.p}")
def test_a_slow_second_implementation(task: Task) -> None:
    """Pair by pair, with the folds that the module deals."""
    phase, logits = task.coordinates, gaussian(task.p)
    n, classes = phase.order, {int(c): u for u, c in enumerate(phase.classes)}
    dealt = phase_pairs(task)
    folds = dict(zip(dealt.row_major.tolist(), dealt.fold.tolist(), strict=True))
    every: list[tuple[int, int, np.ndarray]] = []
    for s in range(n):
        for t in range(n):
            index = int(phase.rows[s]) * task.p + int(phase.columns[t])
            if task.defined[index]:
                row = logits[phase.rows[s], phase.columns[t]][phase.classes]
                every.append((index, (s + t) % n, row - row.mean()))
    whole = even_mean([(total, row) for _, total, row in every], n)
    outside = {
        j: even_mean([(t, row) for i, t, row in every if folds[i] not in (-1, j)], n) for j in range(-1, circuits.FOLDS)
    }
    if too_few([index for index, _, _ in every], task):
        outside = {fold: np.full(n, np.nan) for fold in outside}
    result = circuit_split.measure(with_logits(task, logits))
    for estimator in circuit_split.ESTIMATORS:
        collected: dict[tuple[str, str, str], list[float]] = {}
        for index, total, row in every:
            label = classes.get(int(task.labels[index]))
            if label is None:
                continue
            profile = whole if estimator == "published" else outside[folds[index]]
            part = np.array([profile[(total - u) % n] for u in range(n)])
            for circuit, of in (("generalizing", part), ("memorizing", row - part)):
                values = {
                    "strength": of[label],
                    "margin": of[label] - np.delete(of, label).max(),
                    "loss": np.log(np.exp(of).sum()) - of[label],
                }
                for split in SPLITS:
                    for name, value in values.items() if task.mask(split)[index] else ():
                        collected.setdefault((name, circuit, split), []).append(float(value))
        for (name, circuit, split), values in collected.items():
            found = result[name].sel(estimator=estimator, circuit=circuit, split=split)
            assert_allclose(
                found, np.mean(values), rtol=1e-6, atol=1e-9, err_msg=f"{estimator} {name} {circuit} {split}"
            )


@pytest.mark.parametrize("p", [9, 10])
def test_the_published_part_is_the_projection_on_the_cubes(p: int) -> None:
    checkpoint = with_logits(Task(p, train_fraction=0.5), gaussian(p))
    result, structure = circuit_split.measure(checkpoint), logit_structure.measure(checkpoint)
    assert_allclose(result.coefficient.sel(estimator="published"), structure.coefficient, **EXACT)
    share = result.power_share.sel(estimator="published", split="all")
    assert_allclose(share.sel(circuit="generalizing"), structure.r_squared.sel(terms="all"), **EXACT)
    assert_allclose(share.sum("circuit"), 1, **EXACT)


def test_folds() -> None:
    """Every held-out pair has one, its mirror image the same, and each fold about a fifth; no other pair has any, be it
    the mirror of a training pair."""
    task = Task(23, train_fraction=0.3)
    pairs = phase_pairs(task)
    fold = torch.full((23, 23), -1)
    fold.view(-1)[pairs.row_major] = pairs.fold
    assert_allclose((fold.view(-1) >= 0).numpy(), task.held_out_mask)
    assert torch.equal(fold, fold.T)
    counts = torch.bincount(pairs.fold[pairs.fold >= 0])
    assert len(counts) == circuits.FOLDS
    assert (counts > 0.6 * counts.double().mean()).all()


def test_no_held_out_pair_judges_itself() -> None:
    """One held-out pair shouts: judged by the others, no part of it is generalization; the published mean takes its
    share."""
    task = Task(11, train_fraction=0.4)
    logits = np.zeros((11, 11, 11))
    index = next(i for i in np.flatnonzero(task.held_out_mask) if task.pairs[i][0] != task.pairs[i][1])
    logits[(*task.pairs[index], task.labels[index])] = 1000.0
    result = circuit_split.measure(with_logits(task, logits))
    mirror = task.pairs[index][1] * 11 + task.pairs[index][0]
    pairs = phase_pairs(task)
    own = pairs.fold[pairs.row_major == index]
    profile = circuits.profiles(centred_logits(with_logits(task, logits), pairs), pairs)
    assert_allclose(profile.held_out[own + 1], 0, rtol=0, atol=1e-9)
    assert float(profile.published[0, 0]) > 1
    assert pairs.fold[pairs.row_major == mirror] == own
    assert np.isfinite(result.strength).all()


def test_symmetries() -> None:
    """A factor multiplies strengths and margins; constants per pair, and renaming a → a + 1, b → b + 1, c → c + 2 with
    the split, change nothing."""
    p = 11
    task = Task(p, train_fraction=0.4)
    logits = gaussian(p) + 2 * ideal_logits(p, [3], "clock").numpy()
    before = circuit_split.measure(with_logits(task, logits))
    shifted = circuit_split.measure(with_logits(task, logits + np.random.RandomState(0).standard_normal((p, p, 1))))
    assert_allclose(shifted.strength, before.strength, **EXACT)
    assert_allclose(shifted.loss, before.loss, rtol=1e-6)
    scaled = circuit_split.measure(with_logits(task, 3 * logits))
    for name in ("strength", "margin", "standard_error", "coefficient"):
        assert_allclose(scaled[name], 3 * before[name], err_msg=name, **EXACT)
    assert_allclose(scaled.power_share, before.power_share, **EXACT)
    moved = Task(p, split=tuple(((task.pairs[task.train_indices] + 1) % p @ [p, 1]).tolist()))
    after = circuit_split.measure(with_logits(moved, np.roll(logits, (1, 1, 2), axis=(0, 1, 2))))
    on_train, published = {"split": "train"}, {"estimator": "published"}
    assert_allclose(after.strength.sel(on_train), before.strength.sel(on_train), **EXACT)
    assert_allclose(after.loss.sel(published), before.loss.sel(published), rtol=1e-6)


def test_a_lookup_table_of_all_pairs_is_told_apart_by_its_frequencies_only() -> None:
    task = Task(13, train_fraction=0.5)
    result = circuit_split.measure(with_logits(task, 7 * np.eye(13)[task.labels].reshape(13, 13, 13)))
    assert_allclose(result.power_share.sel(circuit="generalizing"), 1, **EXACT)
    assert_allclose(result.coefficient, 7 * 2 / 13, **EXACT)


def by_heart(task: Task, known: np.ndarray, strength: float = 10.0) -> np.ndarray:
    """Logits of a lookup table that knows these pairs, and says nothing of others."""
    return strength * np.eye(task.p)[task.labels.clip(min=0)].reshape((task.p,) * 3) * known.reshape(task.p, task.p, 1)


def test_negative_controls() -> None:
    """Labels of any table learned by heart, an untrained network, equal logits: nothing generalizes."""
    for operation in ("random", "add"):
        task = Task(23, operation, train_fraction=0.5)
        result = circuit_split.measure(with_logits(task, by_heart(task, task.train_mask)))
        assert_allclose(strengths(result)["gen_held_out"], 0, rtol=0, atol=1e-12)
        assert_allclose(strengths(result)["mem_held_out"], 10 * (1 - 1 / 23), rtol=1e-9)
    assert_allclose(result.loss.sel(estimator="held_out", circuit="generalizing"), np.log(23), rtol=1e-9)
    model = ModelConfig(d_model=16, n_heads=2, d_mlp=32)
    untrained = circuit_split.measure(Checkpoint(0, initial_weights(model, 23), Task(23), model))
    assert float(untrained.power_share.sel(circuit="generalizing").max()) < 0.05
    assert np.isnan(untrained.degree.sel(circuit="generalizing")).all()
    flat = circuit_split.measure(with_logits(task, np.full((23, 23, 23), 0.3)))
    assert_allclose(flat.strength, 0, rtol=0, atol=1e-12)
    assert_allclose(flat.loss, np.log(23), rtol=1e-9)


@pytest.mark.parametrize(
    ("family", "embedding", "activation", "degree"),
    [
        ("mlp", "none", "relu", 2),
        ("mlp", "tied", "relu", 4),
        ("mlp", "none", "square", 3),
        ("transformer", "none", "relu", 6),
    ],
)
def test_the_degree_counts_the_matrices_in_a_row(
    family: Family, embedding: Embedding, activation: Activation, degree: int
) -> None:
    """W_in W_out; an embedding at both ends adds two; x² counts what is before it twice; a transformer adds W_V W_O, at
    fixed attention."""
    neurons = circuit_neurons([1, 2, 3], per_frequency=9)
    checkpoint = circuit_checkpoint(Task(11), neurons, family=family, embedding=embedding, activation=activation)
    found = circuit_split.measure(checkpoint).degree.sel(circuit="generalizing")
    assert_allclose(found, degree, rtol=1e-9)


def test_a_table_of_real_neurons_has_a_degree_too() -> None:
    task = Task(11, train_fraction=0.3)
    checkpoint = circuit_checkpoint(
        task, circuit_neurons([1, 2], per_frequency=16, circuit="clock"), lookup=LookupTable(4), family="mlp"
    )
    assert_allclose(circuit_split.measure(checkpoint).degree, 2, rtol=1e-6)


def test_the_standard_error_covers() -> None:
    """A pizza memorizes nothing: over many splits the memorizing strength lies within two standard errors about
    19 times of 20."""
    logits = ideal_logits(13, [2], "pizza").numpy()
    inside = []
    for seed in range(60):
        result = circuit_split.measure(with_logits(Task(13, train_fraction=0.4, seed=seed), logits))
        inside.append(
            abs(strengths(result)["mem_held_out"]) < 2 * float(result.standard_error.sel(circuit="memorizing"))
        )
    assert 0.85 < np.mean(inside) <= 1


def test_what_is_not_known_is_null() -> None:
    unknown = measure_checkpoint(with_logits(Task(8, split="unknown"), gaussian(8)), "circuit_split")
    facts = find("circuit_split").summary(unknown)
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert set(facts["strength"].values()) == {None}
    assert facts["generalizing_leads_from"] is facts["highest_memorizing_strength"] is None
    assert np.isfinite(unknown.strength.sel(estimator="published", split="all")).all()
    everything = circuit_split.measure(with_logits(Task(8, train_fraction=1.0), gaussian(8)))
    assert np.isnan(everything.strength.sel(estimator="held_out")).all()
    assert np.isfinite(everything.strength.sel(estimator="published", split="train")).all()


def test_the_summary_of_a_story() -> None:
    """Memorization rises and falls while the clock grows: the lead changes at the third of four checkpoints."""
    task = Task(11, train_fraction=0.4)
    clock, table = (
        ideal_logits(11, [2], "clock").numpy(),
        np.eye(11)[task.labels].reshape(11, 11, 11) * task.train_mask.reshape(11, 11, 1),
    )
    rows = []
    for step, (gen, mem) in enumerate(((0.1, 4.0), (1.0, 8.0), (6.0, 2.0), (9.0, 0.0))):
        checkpoint = with_logits(task, gen * clock + mem * table)
        checkpoint.step = 10 * step
        rows.append(measure_checkpoint(checkpoint, "circuit_split"))
    facts = find("circuit_split").summary(xr.concat(rows, "step", combine_attrs="override", data_vars="minimal"))
    assert (facts["generalizing_leads_from"], facts["generalizing_led_not_at"]) == (20, 10)
    assert facts["generalizing_part_answers"] is True
    assert_allclose(facts["held_out_margin"], 9 * (1 - np.cos(2 * np.pi / 11)), rtol=1e-9)
    assert_allclose(facts["highest_generalizing_strength"], 9, rtol=1e-9)
    assert facts["highest_memorizing_strength_at"] == 10
    assert_allclose(facts["highest_memorizing_strength"], 8 * 10 / 11, rtol=1e-9)
    assert_allclose(facts["strength"]["generalizing"], 9, rtol=1e-9)
