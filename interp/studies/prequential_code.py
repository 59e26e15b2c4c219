"""Prequential code. From how many labels on are those of a rule free, and what do two data sets save together?

Of a table in a random order, each block of labels is coded by a network that was trained from scratch on the labels
before it, and on nothing else (`interp.mathematics.prequential`, `interp.studies.prequential_runs`):

    L = n₁ log₂ K + Σ_j −log₂ q_{prefix j}(block j)   bits,

against n log₂ K for labels without a rule. Bits per label against the prefix are a learning curve in bits, and the
prefix after which a label first costs less than one bit is a critical data size that no accuracy and no threshold of a
circuit enters. Of a commutative operation unordered pairs are coded, each once, by a network whose inputs enter as a
sum: otherwise half of the labels are given away by the other half; with `ordered` all pairs are, and they are.

Two data sets X and Y gain L(X) + L(Y) − L(XY) by being coded together, blocks being the same. X and Y are

    halves             two halves of the table
    mirrors-tied       random labels of pairs, and those of the mirrored pairs, by a network with tied inputs
    mirrors            the same, by a network whose inputs are told apart: that labels are symmetric is to be learned
    operations         all pairs under one operation, and the same pairs under another, in one network
    halves-random      two halves of a random table
    operations-random  all pairs under the operation, and the same pairs with random labels, in one network

The last two have nothing to share.

    rule               the labels of the rule cost less than n log₂ K
    null               random labels do not: that c bits are saved has a chance of at most 2^−c
    free               in every order labels become free; random labels never do, nor with untrained networks
    and one for each pair of data sets

The area under the training-loss curve of one run is not a prequential code, for its labels are seen again and again,
and is not offered here. (Of training in one pass it is one: `training.one-pass`, `prequential_bits`.)

It cannot tell how few labels the rule needs, only at how many this network, trained for so many steps, knows it: a code
is an upper bound. The prefix is known as finely as blocks are, and nine tenths of it are trained on.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from interp.experiment import Operation, Task
from interp.runs import Run
from interp.studies.design import Prediction
from interp.studies.prequential_design import PrequentialDesign
from interp.studies.prequential_figure import prequential_figure
from interp.studies.prequential_runs import Block, Coding, Indices, Tables, blocks, mirror
from interp.studies.prequential_sentences import (
    become_free,
    codes,
    costs_less,
    gain_numbers,
    gains,
    saves_nothing,
)
from interp.sweeps import GridRun

TITLE = "Prequential code: what labels cost, and two data sets together"
REFERENCE = "Blier & Ollivier 2018, arXiv:1802.07044; Dawid 1984, doi:10.2307/2981683"
CAPTION = (
    "Left: bits per label of the next block, by networks trained from scratch on the prefix, an order a line and their "
    "mean; gray: random labels. Right: what two data sets save together, of the lesser of both codes, with 95 % "
    "intervals over orders; gray: with nothing to share."
)
LABELS = ("rule", "random")
CODES = ("X", "Y", "Y after X", "X after Y")
AXES, JOINT_AXES = ("labels", "seed", "block"), ("setting", "seed", "code", "joint_block")


DESIGN = PrequentialDesign()
FULL = PrequentialDesign(
    p=113,
    prefixes=tuple(round(0.05 * i, 2) for i in range(1, 20)),
    steps=20_000,
    lr=1e-3,
    d_model=128,
    d_mlp=512,
)


# ---- what is coded ---------------------------------------------------------------------------------------------------


def grid(design: PrequentialDesign, *, full: bool = False) -> list[GridRun]:
    """A run for each code, order and block that has a prefix."""
    every = [code for seed in range(design.seeds) for code in _all_codes(design, seed)]
    return [run for code in every for run in code.runs(design)]


def _all_codes(design: PrequentialDesign, seed: int) -> list[Coding]:
    single = [code_of(design, labels, seed) for labels in LABELS]
    return single + [code for setting in design.data_sets for code in codes_of(design, setting, seed).values()]


def code_of(design: PrequentialDesign, labels: str, seed: int) -> Coding:
    """The code of the whole table, of the rule or of a random one."""
    tables = _tables(design, labels, seed)
    return Coding(labels, tables, _nothing(), _pairs(design, tables, seed), tuple(sorted(design.prefixes)))


def codes_of(design: PrequentialDesign, setting: str, seed: int) -> dict[str, Coding]:
    """The four codes of two data sets, by their names."""
    p = design.p
    if setting.startswith("halves"):
        tables = _tables(design, "random" if setting == "halves-random" else "rule", seed)
        pairs = _pairs(design, tables, seed)
        x, y = np.split(pairs, [len(pairs) // 2])
    elif setting.startswith("mirrors"):
        tables = Tables(p, ("random",), setting == "mirrors-tied", seed, symmetric=True)
        a, b = np.divmod(np.arange(p**2), p)
        rng = np.random.RandomState([seed, 1])
        pairs = rng.permutation(np.flatnonzero(a < b))[: max(2, p * (p - 1) // 4)]
        x = np.where(rng.randint(2, size=len(pairs)), pairs, mirror(pairs, p))  # neither order is that of the numbers
        y = mirror(rng.permutation(x), p)
    else:
        other: Operation = "random" if setting == "operations-random" else design.partner
        tables = Tables(p, (design.operation, other), False, seed)
        first = _pairs(design, tables, seed)
        x, y = first, p**2 + np.random.RandomState([seed, 2]).permutation(first)
    given = {"X": (_nothing(), x), "Y": (_nothing(), y), "Y after X": (x, y), "X after Y": (y, x)}
    shares = tuple(sorted(design.joint_prefixes))
    return {
        name: Coding(f"{setting}-{name.replace(' ', '-').lower()}", tables, before, then, shares)
        for name, (before, then) in given.items()
    }


def _nothing() -> Indices:
    return np.arange(0)


def _tables(design: PrequentialDesign, labels: str, seed: int) -> Tables:
    operation: Operation = design.operation if labels == "rule" else "random"
    return Tables(design.p, (operation,), design.unordered, seed)


def _pairs(design: PrequentialDesign, tables: Tables, seed: int) -> Indices:
    """The pairs that are coded, in a random order: those for which all operations have an answer; of (a, b) and (b, a)
    one, where they are not told apart."""
    a, b = np.divmod(np.arange(design.p**2), design.p)
    answered = (tables.labels.reshape(-1, design.p**2) >= 0).all(0)
    return np.random.RandomState([seed, 0]).permutation(np.flatnonzero(answered & ((a <= b) | (not design.unordered))))


# ---- what was measured -----------------------------------------------------------------------------------------------


def measure(runs: Mapping[str, Run], design: PrequentialDesign) -> xr.Dataset:
    """`bits`, `raw_bits`, `untrained_bits`, `accuracy`, `temperature` and `mixing` [labels, seed, block], and of the
    blocks their `size` and `prefix`; `joint_bits` [setting, seed, code, joint_block], and how many labels a code has,
    `joint_labels` [setting, code]."""
    seeds = range(design.seeds)
    of = [[blocks(code_of(design, labels, seed), runs) for seed in seeds] for labels in LABELS]
    joint = [
        [[blocks(code, runs) for code in codes_of(design, setting, seed).values()] for seed in seeds]
        for setting in design.data_sets
    ]
    sizes = np.array([block.labels for block in of[0][0]], dtype=np.int32)
    told = {
        "bits": ("cost of a block", "bits", lambda block: block.bits),
        "raw_bits": ("cost of a block, not tempered", "bits", lambda block: block.raw_bits),
        "untrained_bits": ("cost of a block by untrained networks", "bits", lambda block: block.untrained_bits),
        "accuracy": ("accuracy on a block", "1", lambda block: block.accuracy),
        "temperature": ("temperature T", "1", lambda block: block.tempering.temperature),
        "mixing": ("share e of the uniform code", "1", lambda block: block.tempering.mixing),
    }
    values = {
        name: (AXES, _array(of, number), {"long_name": long_name, "units": units})
        for name, (long_name, units, number) in told.items()
    }
    n_labels = np.array([[sum(one.labels for one in code) for code in setting[0]] for setting in joint], dtype=np.int32)
    return xr.Dataset(
        values
        | {
            "size": ("block", sizes, {"long_name": "labels of a block", "units": "1"}),
            "prefix": ("block", (np.cumsum(sizes) - sizes), {"long_name": "labels before a block", "units": "1"}),
            "joint_bits": (
                JOINT_AXES,
                _array(joint, lambda block: block.bits),
                {"long_name": "cost of a block", "units": "bits"},
            ),
            "joint_labels": (("setting", "code"), n_labels, {"long_name": "labels of a code", "units": "1"}),
        },
        coords={
            "labels": ("labels", np.array(LABELS), {"long_name": "labels", "units": "name"}),
            "seed": ("seed", np.arange(design.seeds, dtype=np.int32), {"long_name": "order", "units": "1"}),
            "block": ("block", np.arange(len(sizes), dtype=np.int32), {"long_name": "block", "units": "1"}),
            "setting": ("setting", np.array(design.data_sets), {"long_name": "two data sets", "units": "name"}),
            "code": ("code", np.array(CODES), {"long_name": "code", "units": "name"}),
            "joint_block": (
                "joint_block",
                np.arange(len(design.joint_prefixes) + 1, dtype=np.int32),
                {"long_name": "block", "units": "1"},
            ),
        },
        attrs={
            "classes": design.p,
            "rule": Task(design.p, design.operation).title,
            "pairs": "unordered pairs" if design.unordered else "ordered pairs",
        },
    )


def _array(nested: Sequence[Any], number: Callable[[Block], float]) -> np.ndarray:
    """The number of each block of nested lists of blocks."""
    return np.array([number(one) if isinstance(one, Block) else _array(one, number) for one in nested])


# ---- what it says ----------------------------------------------------------------------------------------------------


def failed_precondition(result: xr.Dataset) -> str | None:
    """Why nothing can be said: too few orders, or training diverged."""
    if result.sizes["seed"] < 3:
        return f"there are {result.sizes['seed']} orders; three are needed for an interval (--seeds)"
    bad = sum(int((~np.isfinite(result[name])).sum()) for name in ("bits", "joint_bits"))
    return f"{bad} costs are not finite: training diverged; give a lower --lr" if bad else None


def predictions(result: xr.Dataset) -> list[Prediction]:
    """A verdict on every statement of the module."""
    failed = failed_precondition(result)
    told = [costs_less(result), saves_nothing(result), become_free(result), *gains(result)]
    if failed is None:
        return told
    return [Prediction(one.name, one.statement, "not shown", failed, {}) for one in told]


def table(result: xr.Dataset) -> list[dict[str, str]]:
    """A row for each block: what a label of it costs, in the mean over orders."""
    mean = result.mean("seed")
    rows = []
    for block in result.block.values.tolist():
        at, size = mean.sel(block=block), int(result["size"].sel(block=block))
        rule, random = at.sel(labels="rule"), at.sel(labels="random")
        rows.append(
            {
                "prefix": str(int(result.prefix.sel(block=block))),
                "labels": str(size),
                "bits per label": f"{float(rule.bits) / size:.3f}",
                "not tempered": f"{float(rule.raw_bits) / size:.2f}",
                "accuracy": "" if block == 0 else f"{100 * float(rule.accuracy):.0f} %",
                "random labels": f"{float(random.bits) / size:.3f}",
                "untrained": f"{float(rule.untrained_bits) / size:.3f}",
            }
        )
    return rows


def numbers(result: xr.Dataset) -> dict[str, Any]:
    """Of each order the total, its share of n log₂ K and the prefix after which labels are free; and every gain."""
    return {
        **{
            labels: {
                "total_bits": [code.total for code in of],
                "share": [code.share for code in of],
                "free_from": [code.free_from for code in of],
                "paid_before_bits": [code.paid_before for code in of],
            }
            for labels in LABELS
            if (of := codes(result, labels))
        },
        "gains": gain_numbers(result),
    }


def plot(result: xr.Dataset):
    """Bits per label against the prefix, and the gains."""
    return prequential_figure(result, TITLE, REFERENCE)
