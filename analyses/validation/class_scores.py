"""Class scores. Which classes does the network know, and which does it only rank well?

For every class, of training and of held-out examples, precision, recall and F1 of the answers; and of the probability
of the class, against all examples of others (one-v-rest), the area under the ROC curve (AUC) and the distance of
Kolmogorov and Smirnov that credit risk calls KS,

    AUC_c = P(p_c of an example of c > p_c of another) + ½ P(they are equal)
    KS_c  = max_t TPR_c(t) − FPR_c(t)

of probabilities and not of logits: adding to all logits of one example changes neither its answer nor its
probabilities, but it changes the order of logits (`interp.mathematics.class_scores`). They are ranked by their
logarithm, in which none is rounded to 0.

Macro scores are means over classes that have examples, weighted ones means by how many these are, micro precision,
recall and F1 are the accuracy. An example is answered where one logit is larger than every other, as it is for the
accuracy. Precision is 0 where a class is never answered, which is counted.

Beside the scores stands what knows nothing: a guess among K classes has precision, recall and at most an F1 of 1/K, and
AUC ½; scores drawn at random have a KS above 0, the higher the fewer examples a class has. Pairs that a symmetry makes
of each other are one example for that, and two in all scores.

It cannot tell why a class is harder than another, nor whether it is: a few examples a class differ by chance. Whether
pairs of one sum are learned together is what `graduation` tests.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float, Int

from interp.analysis import axes
from interp.figures import PALETTE, SEQUENTIAL, as_number, as_percent, as_step, new_panels, percent_axis
from interp.mathematics.class_scores import answer_scores, answered, ks_by_chance, separation
from interp.runs import Checkpoint

ASKS = "answers"
READS = ()
REFERENCE = "van Rijsbergen 1979; Fawcett 2006, doi:10.1016/j.patrec.2005.10.010"
ON_REQUEST = True
SCALES = {"": "share"}
SPLITS = ("train", "held_out")
MEASURES = ("precision", "recall", "F1", "AUC", "KS")
AVERAGES = ("macro", "weighted", "micro", "guess")
COUNTS = ("classes", "with examples", "never answered")
KNOWN = 0.9  # F1 from which on a class counts as known


def measure(checkpoint: Checkpoint) -> xr.Dataset:
    """`precision`, `recall`, `f1`, `auc` and `ks` [split, class], NaN of classes without examples (and of AUC and KS
    where all examples are of one), which `support` [split, class] counts; their `average` [split, averaged, measure]
    (macro, weighted, micro, and what a guess has), and the `count` [split, of] of classes, of those with examples, and
    of those that have some and are never answered.

    NaN where a split is not known.

    >>> import interp
    >>> run = interp.open_run(interp.reference_path())
    >>> macro = [measure(run[step]).average.sel(split="held_out", averaged="macro") for step in (0, 100, 800, 3000)]
    >>> [[round(float(one.sel(measure=name)), 2) for name in ("F1", "AUC", "KS")] for one in macro]
    [[0.0, 0.5, 0.21], [0.01, 0.54, 0.24], [0.53, 0.98, 0.93], [1.0, 1.0, 1.0]]
    """
    task, n_classes = checkpoint.task, checkpoint.logits.shape[-1]
    logits = checkpoint.logits.flatten(0, -2)
    rows = np.full((len(SPLITS), len(MEASURES), n_classes), np.nan)
    average = np.full((len(SPLITS), len(AVERAGES), len(MEASURES)), np.nan)
    support = np.zeros((len(SPLITS), n_classes), dtype=np.int32)
    count = np.zeros((len(SPLITS), len(COUNTS)), dtype=np.int32)
    for place, split in enumerate(SPLITS):
        chosen = np.flatnonzero(task.mask(split))
        count[place, 0] = n_classes
        if not len(chosen):
            continue
        said, labels = logits[torch.from_numpy(chosen)], task.labels[chosen]
        answers = answered(said)
        of_answers = answer_scores(labels, answers, n_classes)
        of_scores = separation(torch.log_softmax(said.double(), 1).numpy(), labels)
        rows[place] = np.stack([*of_answers[:3], *of_scores])
        support[place] = of_answers.support
        of_label = np.bincount(labels[np.unique(task.orbits[chosen], return_index=True)[1]], minlength=n_classes)
        average[place] = _averages(rows[place], support[place], float((answers == labels).mean()), of_label)
        has_examples = support[place] > 0
        is_answered = np.bincount(answers[answers >= 0], minlength=n_classes) > 0
        count[place, 1:] = has_examples.sum(), (has_examples & ~is_answered).sum()
    one, name = {"units": "1"}, {"units": "name"}
    of_class = ("split", "class")
    long_names = ("precision", "recall", "F1", "AUC of the class against the rest", "KS of the class against the rest")
    return xr.Dataset(
        {
            measured.lower(): (of_class, rows[:, place], {"long_name": long_names[place]} | one)
            for place, measured in enumerate(MEASURES)
        }
        | {
            "support": (of_class, support, {"long_name": "examples of the class", "units": "examples"}),
            "average": (("split", "averaged", "measure"), average, {"long_name": "average over classes"} | one),
            "count": (("split", "of"), count, {"long_name": "how many classes", "units": "classes"}),
        },
        coords=axes(
            {
                "split": ("split", np.array(SPLITS), {"long_name": "split"} | name),
                "class": ("class", np.arange(n_classes, dtype=np.int32), {"long_name": "class", "units": "index"}),
                "averaged": ("averaged", np.array(AVERAGES), {"long_name": "how it is averaged"} | name),
                "measure": ("measure", np.array(MEASURES), {"long_name": "measure"} | name),
                "of": ("of", np.array(COUNTS), {"long_name": "what is counted"} | name),
            }
        ),
    )


def _averages(
    rows: Float[np.ndarray, "measure classes"],
    support: Int[np.ndarray, " classes"],
    accuracy: float,
    independent: Int[np.ndarray, " classes"],
) -> Float[np.ndarray, "averaged measure"]:
    """The rows of AVERAGES; `independent` is how many examples of each class no symmetry makes of each other."""
    found = np.full((len(AVERAGES), len(MEASURES)), np.nan)
    for place, row in enumerate(rows):
        known = np.isfinite(row)
        if known.any():
            found[0, place] = row[known].mean()
            found[1, place] = np.average(row[known], weights=support[known])
    found[2, :3] = accuracy
    by_chance = [ks_by_chance(int(n)) for n in independent if n]
    found[3] = [1 / len(support)] * 3 + [0.5, np.mean(by_chance)]
    return found


def summary(result: xr.Dataset) -> dict:
    """Of each split at the last step: the accuracy, the macro scores and the weighted F1, and those of a guess; how
    many classes have an F1 below .9, which is the worst (None where none is below), how many are never answered and
    how many have no examples; and the first, the median and the last step from which on a class has an F1 of .9 at
    every later one, each None where there is none. None where a split is not known."""
    told: dict[str, Any] = {"step": int(result.step.values[-1])}
    for split in SPLITS:
        course, last = result.sel(split=split), result.isel(step=-1).sel(split=split)
        if not last.support.values.any():
            told[split] = None
            continue
        average = {name: last.average.sel(averaged=name).values for name in AVERAGES}
        f1 = last.f1.values
        is_low = f1 < KNOWN
        classes, with_examples, never = (int(n) for n in last["count"].values)
        worst = int(np.nanargmin(f1))
        told[split] = {
            "accuracy": float(average["micro"][0]),
            "macro": dict(zip(MEASURES, map(float, average["macro"]), strict=True)),
            "weighted_F1": float(average["weighted"][2]),
            "guess": dict(zip(MEASURES, map(float, average["guess"]), strict=True)),
            "classes": with_examples,
            "below": int(is_low.sum()),
            "worst": {"class": worst, "F1": float(f1[worst]), "examples": int(last.support.values[worst])}
            if is_low.any()
            else None,
            "never_answered": never,
            "without_examples": classes - with_examples,
            "known_from": _known_from(course.f1.values, result.step.values),
        }
    return told


def _known_from(f1: Float[np.ndarray, "step class"], steps: Int[np.ndarray, " step"]) -> dict[str, int | None]:
    """The first, the median and the last of the steps from which on classes have an F1 of .9 and keep it."""
    f1 = f1[:, np.isfinite(f1).any(0)]
    kept = np.flip(np.logical_and.accumulate(np.flip(f1 >= KNOWN, 0), 0), 0)
    since = np.sort(np.where(kept.any(0), kept.argmax(0), len(steps)))
    at = {"first": since[0], "median": since[(len(since) - 1) // 2], "last": since[-1]} if len(since) else {}
    return {
        name: int(steps[at[name]]) if at and at[name] < len(steps) else None for name in ("first", "median", "last")
    }


def in_words(found: Mapping) -> list[str]:
    """Of each split the averages beside a guess, the classes that are not known, and since when the others are."""
    lines = []
    for split in SPLITS:
        name = split.replace("_", " ")
        if (one := found[split]) is None:
            lines.append(f"{name}: not known, or without examples")
            continue
        beside = ", ".join(
            f"{measure} {as_number(one['macro'][measure])} (a guess: {as_number(one['guess'][measure])})"
            for measure in ("F1", "AUC", "KS")
            if one["macro"][measure] is not None and math.isfinite(one["macro"][measure])
        )
        lines.append(f"{name}, step {found['step']:,}: accuracy {as_percent(one['accuracy'])}; macro {beside}")
        lines.append(f"  {_classes_in_words(one)}")
        if (since := one["known_from"])["first"] is not None:
            middle, last = as_step(since["median"]), as_step(since["last"])
            lines.append(
                f"  F1 stays at {KNOWN:g} or more: first class from step {since['first']:,}, half of the classes "
                f"{middle}, last {last}"
            )
    return lines


def _classes_in_words(one: Mapping) -> str:
    text = f"of {one['classes']} classes with examples {one['below']} have an F1 below {KNOWN:g}"
    if (worst := one["worst"]) is not None:
        text += f", worst {worst['class']} ({worst['F1']:.2f}, of {worst['examples']} examples)"
    text += f"; {one['never_answered']} are never answered"
    return text + (f"; {one['without_examples']} more have no examples" if one["without_examples"] else "")


def plot(result: xr.Dataset):
    """F1 of every class over training, on held-out and on training examples; and macro F1, AUC and KS beside what
    guesses have."""
    panels = ("F1 of each class, held out", "F1 of each class, train", "Macro scores, held out", "Macro scores, train")
    figure = new_panels("Class scores", panels, reference=REFERENCE, row_height=320, vertical_spacing=0.15)
    steps, classes = result.step.values, result["class"].values
    scale = {"cmin": 0, "cmax": 1, "colorscale": SEQUENTIAL}
    scale["colorbar"] = {"title": {"text": "F1", "font": {"size": 12}}, "thickness": 12, "len": 0.42, "y": 0.8}
    figure.update_layout(coloraxis=scale)
    for column, split in enumerate(reversed(SPLITS), start=1):
        one = result.sel(split=split)
        figure.add_heatmap(
            z=one.f1.values.T,
            x=steps,
            y=classes,
            coloraxis="coloraxis",
            hovertemplate="class %{y}, step %{x:,}: F1 %{z:.2f}<extra></extra>",
            hoverongaps=False,
            row=1,
            col=column,
        )
        for place, name in enumerate(("F1", "AUC", "KS")):
            for averaged, look in {"macro": {"width": 1.8}, "guess": {"width": 1, "dash": "dot"}}.items():
                figure.add_scatter(
                    x=steps,
                    y=one.average.sel(averaged=averaged, measure=name).values,
                    name=name if averaged == "macro" else f"{name}, a guess",
                    legendgroup=name + averaged,
                    showlegend=column == 1,
                    mode="lines" if len(steps) > 1 else "lines+markers",
                    line={"color": PALETTE[place], **look},
                    row=2,
                    col=column,
                )
        figure.update_yaxes(title_text="class" if column == 1 else None, row=1, col=column)
        percent_axis(figure, row=2, col=column)
        figure.update_yaxes(tickformat=".1f", row=2, col=column)
    figure.update_xaxes(title_text="step (updates)")
    figure.update_layout(legend={"y": 0.4, "yanchor": "top"}, plot_bgcolor="white")
    return figure
