"""Verdicts. Is what explain says of a run what happened in it?

Of some hundred small networks the truth is known beforehand or counted: every network is trained to four times its
budget, and after every single step its wrong answers are counted, on the pairs that it is trained on and on those it
was never shown (`interp.studies.every_step`: definitions written anew, a forward pass written anew). The verdict is
told from what `interp train` leaves of the budget alone: a run with weights and metrics at every 10th to 50th step.
The networks (`interp.studies.verdict_networks`): transformers and MLPs; sums, differences, products, x² + xy + y² and
random labels; much and little data; wrong labels; weight decays from 0 to 60; learning rates that are too low, too
high, or rise until all is lost; runs that are stopped early.

With even seeds the constants of `interp.mathematics.grokking` were checked; those with odd seeds judge. right: at least
97 % of the verdicts given are true. unknown: at most 10 % are "unknown". recall: of every true verdict at least 90 %
are told, where "unknown" is a miss. decided: none is "unknown" where the truth is known by construction, or is plain:
pairs never shown stay at chance, with training pairs known at the end or never half known; or both are all right at the
end, and those never shown stayed at chance for six times the steps to memorize. Confirmed where Wilson's 95 % interval
keeps the bound, not shown where the share alone does, not confirmed where it does not. Borderline cases, where another
reading of the definitions makes another verdict true, are counted apart.

Two rules were mended while the networks of the default design were trained, so that those which judge are not wholly
unseen: docs/verdicts.md has both numbers. It cannot tell how often a verdict is right elsewhere: networks are drawn
from kinds that we chose, so that every verdict is often the true one, and all are small. That what is called grokking
here is what others call so is a matter of the definition, which both sides share: 99 %, and three times the steps.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from interp.analysis import load_result, save_result
from interp.errors import InputError
from interp.experiment import Task, hash_of
from interp.machine import read_json
from interp.mathematics import grokking
from interp.models import DivergedError, Weights
from interp.runs import Run, RunWriter, events_of
from interp.studies.design import DecayDesign, Prediction, Verdict
from interp.studies.every_step import CONTINUED, count_wrong, questions, truth
from interp.studies.verdict_figure import verdict_figure
from interp.studies.verdict_networks import KINDS, kind_of, networks, seed_of
from interp.studies.verdict_scores import borderline, clear, scores, share
from interp.sweeps import GridRun
from interp.training import train

TITLE = "Verdicts: is what explain says of a run what happened in it?"
REFERENCE = "ours; the words after Liu et al. 2022, arXiv:2205.10343"
DESIGN = DecayDesign(
    p=29, sizes=(60, 90), weight_decays=(1.0, 1.5, 2.0), seeds=10, duration=10, rescale_lr=False, d_model=32, d_mlp=64
)
FULL = DecayDesign(
    p=113, sizes=(900, 1300), weight_decays=(1.0, 1.5, 2.0), seeds=10, duration=10, lr=1e-3, rescale_lr=False
)
CAPTION = (
    "How many networks came to what (rows), and what was said of them (columns); the bluer, the larger the share of "
    "the row. Intervals: Wilson’s, 95 %."
)
RIGHT, UNKNOWN, RECALL = 0.97, 0.1, 0.9
AT_CHANCE, PLAINLY_LATE = 0.1, 6
LARGEST_SIZE = 0.25  # of all pairs: with more some networks generalize
ANSWERS, NOT_READ = "blind.json", "not read"


def grid(design: DecayDesign, *, full: bool = False) -> list[GridRun]:
    """`interp.studies.verdict_networks`. Of the design: primes near `p`; `sizes`, training pairs that are far too few;
    `weight_decays`, where nothing else is drawn; `seeds` of every kind; `duration` at weight decay 1, of which budgets
    are multiples, as learning rates are of `lr`; `eps`; and the widths."""
    if max(design.sizes) > LARGEST_SIZE * design.p**2:
        raise InputError(
            f"the sizes of verdicts are training pairs that are far too few to generalize: give at most "
            f"{int(LARGEST_SIZE * design.p**2)} of the {design.p**2} modulo {design.p}, not {max(design.sizes)}"
        )
    return networks(design)


def train_one(folder: Path, run: GridRun) -> str:
    """Train a network to four times its budget, count its wrong answers after every step, and leave in `folder`/NAME
    what `interp train` would leave of its budget. The counts lie beside the folder, in every_step/NAME.nc; they are
    written first, so that a run which is there has them."""
    task, model, training = run.experiment.task, run.experiment.model, run.experiment.training
    assert isinstance(task, Task)
    asked, wrong = questions(task), []

    def watch(step: int, weights: Weights) -> None:
        wrong.append(count_wrong({name: weight.numpy() for name, weight in weights.items()}, model, asked))

    longer = replace(run.experiment, training=replace(training, steps=CONTINUED * training.steps))
    try:
        seen = [snapshot for snapshot in train(longer, watch=watch) if snapshot.step <= training.steps]
    except DivergedError as error:
        raise InputError(f"{run.name}: {error}") from None
    pairs = len(asked.trained), asked.unordered
    counts = _counts(np.array(wrong, dtype=np.int32), pairs).assign_attrs(identity=_identity(run.experiment.hash))
    save_result(counts_path(folder / run.name), counts)
    with RunWriter.create(folder / run.name, task, model, training, overwrite=True) as writer:
        for snapshot in seen:
            writer.write(snapshot)
    return run.name


def counts_path(run: Path) -> Path:
    """Where the counts of a run lie."""
    return run.parent.parent / "every_step" / f"{run.name}.nc"


def counts_of(run: Run) -> xr.Dataset:
    """`wrong` [step, split] after every step and `pairs` [split], how many were asked. Raises InputError where they are
    missing, damaged or of another run, were not counted by this user, or are not of every step to four times the
    budget."""
    assert run.training is not None
    found = load_result(path := counts_path(run.path), _identity(run.hash))
    shape = (CONTINUED * run.training.steps + 1, 2)
    if found is None or not {"wrong", "pairs"} <= set(found) or found.wrong.shape != shape:
        raise InputError(
            f"{path} is missing or damaged, or not counted by you; remove {run.path}, and the same command trains it "
            "anew"
        )
    return found


def _identity(run_hash: str) -> str:
    return hash_of(["wrong answers after every step", run_hash])


def _counts(wrong: np.ndarray, pairs: tuple[int, int]) -> xr.Dataset:
    return xr.Dataset(
        {
            "wrong": (("step", "split"), wrong, {"long_name": "wrong answers", "units": "pairs"}),
            "pairs": ("split", np.array(pairs, dtype=np.int32), {"long_name": "how many were asked", "units": "pairs"}),
        },
        {
            "step": ("step", np.arange(len(wrong), dtype=np.int32), {"long_name": "step", "units": "updates"}),
            "split": ("split", np.array(["trained", "never shown"]), {"long_name": "split", "units": "name"}),
        },
    )


def measure(runs: Mapping[str, Run], design: DecayDesign) -> xr.Dataset:
    """Of every [run]: its `folder`, `kind` and `seed`; the `true` verdict, the one `said` (that of `explain`), and the
    one `read` from the counts by a reader who had seen no verdict, where blind.json of the experiment's folder has it;
    whether it is `borderline`, `by_construction`, `plain` or lost at the cut and back later, a `dip`; the steps at
    which it came to know training pairs and pairs never shown, true and said (NaN: it did not); `budget` and
    `logging_interval`."""
    answers = _answers(path := next(iter(runs.values())).path.parent.parent / ANSWERS)
    if strangers := sorted(set(answers) - set(runs)):
        raise InputError(f"{path} names runs that are not among those of the experiment: {', '.join(strangers)}")
    rows = [_row(name, run) | {"read": answers.get(name, NOT_READ)} for name, run in runs.items()]
    return xr.Dataset({key: ("run", np.array([row[key] for row in rows]), words) for key, words in _WORDS.items()})


_WORDS = {
    "folder": {"long_name": "folder of the run", "units": "name"},
    "kind": {"long_name": "kind of run", "units": "name"},
    "seed": {"long_name": "seed", "units": "1"},
    "true": {"long_name": "true verdict", "units": "name"},
    "said": {"long_name": "verdict of explain", "units": "name"},
    "read": {"long_name": "verdict of a blind reader", "units": "name"},
    "borderline": {"long_name": "whether another reading makes another verdict true", "units": "1"},
    "by_construction": {"long_name": "whether nothing can be generalized", "units": "1"},
    "plain": {"long_name": "whether the truth is plain", "units": "1"},
    "dip": {"long_name": "whether it is lost at the cut and back later", "units": "1"},
    "memorized": {"long_name": "step since when training pairs are known", "units": "updates"},
    "generalized": {"long_name": "step since when pairs never shown are known", "units": "updates"},
    "memorized_said": {"long_name": "the same, as told by explain", "units": "updates"},
    "generalized_said": {"long_name": "the same, as told by explain", "units": "updates"},
    "budget": {"long_name": "budget", "units": "updates"},
    "logging_interval": {"long_name": "steps from one logged step to the next", "units": "updates"},
}


def _row(name: str, run: Run) -> dict[str, Any]:
    training = run.training
    assert training is not None
    counted = counts_of(run)
    (trained, unseen), pairs = counted.wrong.values.T, counted.pairs.values
    happened, said = truth(trained, unseen, (int(pairs[0]), int(pairs[1])), training.steps), events_of(run)
    possible = KINDS[kind_of(name)].possible
    if possible and happened.verdict not in possible:
        raise InputError(
            f"{run.path} generalized, which is impossible: its counts, or its task, are not what they were"
        )
    at = [math.nan if event is None else event.at for event in (said.memorized, said.generalized)]
    return {
        "folder": name,
        "kind": kind_of(name),
        "seed": seed_of(name),
        "true": happened.verdict,
        "said": said.verdict,
        "borderline": int(happened.borderline),
        "by_construction": int(bool(possible)),
        "plain": int(_is_plain(trained[: training.steps + 1] / pairs[0], unseen[: training.steps + 1] / pairs[1])),
        "dip": int(happened.dip),
        "memorized": happened.memorized,
        "generalized": happened.generalized,
        "memorized_said": at[0],
        "generalized_said": at[1],
        "budget": training.steps,
        "logging_interval": training.log_every,
    }


def _is_plain(trained: np.ndarray, unseen: np.ndarray) -> bool:
    """From the wrong shares after every step of the budget."""
    if 1 - unseen.min() <= AT_CHANCE:
        return bool(trained[-1] == 0 or trained.min() >= 0.5)
    if trained[-1] > 0 or unseen[-1] > 0:
        return False
    memorized = int(np.flatnonzero(trained == 0)[0])
    return bool(1 - unseen[: PLAINLY_LATE * memorized + 1].min() <= AT_CHANCE)


def _answers(path: Path) -> dict[str, str]:
    """The verdicts of a blind reader, by the name of the run, where there are any."""
    if not path.is_file():
        return {}
    answers = read_json(path)
    known = grokking.VERDICTS
    if not isinstance(answers, dict) or not all(answer in known for answer in answers.values()):
        raise InputError(f"{path} must give a verdict for each run that it names, one of {', '.join(known)}")
    return answers


def failed_precondition(result: xr.Dataset) -> str | None:
    """Why nothing can be said, where nothing can."""
    judged = clear(result, judging=True).true.values
    if not len(judged):
        return "there is no seed that judges, which those with odd numbers do; two seeds are needed"
    missing = [verdict for verdict in grokking.VERDICTS[:-1] if verdict not in judged]
    return f"no network that judges came to {' or '.join(missing)}" if missing else None


def predictions(result: xr.Dataset) -> list[Prediction]:
    """How many are right, unknown, and told of each true verdict; and whether what is plain is decided."""
    judged = clear(result, judging=True)
    numbers = {
        "judged": scores(judged),
        "constants_checked_on": scores(clear(result, judging=False)),
        "borderline": scores(borderline(result)),
        "not_the_true_one": _wrong(result),
    }
    if (because := failed_precondition(result)) is not None:
        return [Prediction(key, text, "not shown", because, {}) for key, text in _STATEMENTS.items()]
    found = numbers["judged"]
    return [
        _bounded("right", found["right"], RIGHT, numbers | {"read_blind": _read_blind(result)}),
        _bounded("unknown", found["unknown"], UNKNOWN, {}, at_most=True),
        _recall(found["recall"]),
        _decided(judged),
    ]


_STATEMENTS = {
    "right": "at least 97 % of the verdicts given are true",
    "unknown": "at most 10 % of the verdicts are unknown",
    "recall": "of every true verdict at least 90 % are told",
    "decided": "what is known by construction, or is plain, is never unknown",
}


def _bounded(
    key: str, found: dict[str, Any], bound: float, numbers: dict[str, Any], *, at_most: bool = False
) -> Prediction:
    return Prediction(key, _STATEMENTS[key], _verdict(found, bound, at_most), _said(found), found | numbers)


def _verdict(found: dict[str, Any], bound: float, at_most: bool = False) -> Verdict:
    value, (low, high) = found["share"], found["interval_95"]
    keeps, surely = (value <= bound, high <= bound) if at_most else (value >= bound, low >= bound)
    return "confirmed" if surely else "not shown" if keeps else "not confirmed"


def _said(found: dict[str, Any]) -> str:
    low, high = found["interval_95"]
    return f"{100 * found['share']:.1f} % of {found['of']} ({100 * low:.1f} to {100 * high:.1f} %, 95 %)"


def _recall(found: dict[str, dict[str, Any]]) -> Prediction:
    verdicts = [_verdict(one, RECALL) for one in found.values()]
    worst: tuple[Verdict, ...] = ("not confirmed", "not shown", "confirmed")
    verdict: Verdict = next(one for one in worst if one in verdicts)
    because = "; ".join(f"{name} {_said(one)}" for name, one in found.items())
    return Prediction("recall", _STATEMENTS["recall"], verdict, because, found)


def _decided(judged: xr.Dataset) -> Prediction:
    plain = (judged.plain.values | judged.by_construction.values).astype(bool)
    unknown = int((judged.said.values[plain] == "unknown").sum())
    because = f"{unknown} of {plain.sum()} such runs are unknown"
    verdict: Verdict = "not confirmed" if unknown else "confirmed" if plain.any() else "not shown"
    return Prediction(
        "decided", _STATEMENTS["decided"], verdict, because, {"runs": int(plain.sum()), "unknown": unknown}
    )


def _read_blind(result: xr.Dataset) -> dict[str, Any]:
    """How often a reader of the curves who had not seen a verdict agrees with the truth and with explain."""
    some = result.isel(run=np.flatnonzero(result.read.values != NOT_READ))
    read, clear = some.read.values, some.borderline.values == 0
    return {
        "runs": len(read),
        "as_the_truth": share(int((read == some.true.values)[clear].sum()), int(clear.sum())),
        "as_explain": share(int((read == some.said.values)[clear].sum()), int(clear.sum())),
    }


def _wrong(result: xr.Dataset) -> dict[str, str]:
    """Every run whose verdict is not the true one, borderline ones too."""
    found = result.isel(run=np.flatnonzero(result.true.values != result.said.values))
    return {
        str(name): f"{true}, said: {said}" + (" (borderline)" if borderline else "")
        for name, true, said, borderline in zip(
            found.folder.values, found.true.values, found.said.values, found.borderline.values, strict=True
        )
    }


def plot(result: xr.Dataset):
    """The confusion matrix of the runs that judge, of those the constants were checked on, and of borderline ones; and
    the shares with their intervals."""
    return verdict_figure(result, TITLE, REFERENCE)
