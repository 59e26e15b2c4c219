"""Label noise. Which training labels does the network contradict, and are those the wrong ones?

Two judges give every class of a training example a number: the *network*, its logits for that example; and, of a table,
the *held-out pairs*, the mean of the network's logits, centred over the classes, over the held-out pairs that have the
same right answer, and of which no label was trained on (`Task.held_out_mask`). The lead of a label is its number less
the largest one of another class. A label is *flagged* where its lead is below 0.

Where labels were made wrong on purpose (`task.label_noise`) it is known which they are, and

    precision   wrong labels among the flagged ones
    recall      flagged ones among the wrong labels
    AUC         P(lead of a wrong label < lead of a right one) + ½ P(they are equal): ½ knows nothing, 1 all

Networks know right labels before they memorize wrong ones (Arpit et al. 2017), so that the network's own answers are
worth most at some step on the way. Which one, somebody who does not know what is wrong can choose by the least loss on
validation examples, or where there are none on test examples: these have right labels. When everything is memorized
nothing is flagged. Held-out pairs can still tell, where the network answers them: beside them stands how many it knows,
`held_out_accuracy`. Where it is low, these flags mean nothing: a network that had memorized a table and no more flagged
nearly every label, with an AUC of ¼ and not ½, perhaps because each answer stands once in a row and a column, so that
what it learned of these speaks against the right answer of a pair between.

It cannot tell a wrong label from a right one that is hard: without label noise, what is flagged is wrong to flag. And
whoever knows the right answers of a table, as is needed to put held-out pairs together, need not ask a network which
labels are wrong: of a table it is told whether the network, where it was not taught, knows better.
"""

import json

import numpy as np
import torch
import xarray as xr
from jaxtyping import Bool, Float
from scipy.stats import rankdata
from torch import Tensor

from interp.analysis import axes
from interp.experiment import Task
from interp.figures import PALETTE, new_panels, percent_axis, threshold_line
from interp.mathematics.held_out import FEWEST_HELD_OUT
from interp.runs import Checkpoint

REFERENCE = "Arpit et al. 2017, arXiv:1706.05394; out-of-sample judges after Northcutt et al. 2021, arXiv:1911.00068"
ASKS = "answers"
READS = ()
ON_REQUEST = True  # few runs have label noise
MOST_STEPS = 60
SCALES = {}  # its numbers are not compared
JUDGES = ("network", "held-out pairs")
MOST_LISTED = 20


def measure(checkpoint: Checkpoint) -> xr.Dataset:
    """`lead` [judge, example] in logits, NaN for what was not trained on, and where no held-out pair has the right
    answer of an example; how many labels are `flagged` [judge], with
    `precision`, `recall` and `auc` [judge]; `chosen_by`, the mean cross-entropy on validation examples, or where there
    are none on test examples; and `held_out_accuracy`, without which nothing is to be made of the held-out pairs.

    NaN where a judge has nothing to say (of vectors, of several operations, and of fewer than 20 independent held-out
    pairs, the held-out pairs have not), where nothing is flagged (precision), and where labels are all right or all
    wrong (AUC; all right: recall).

    >>> import interp
    >>> from interp.testing import LookupTable, circuit_checkpoint, circuit_neurons
    >>> task, table = interp.Task(31, label_noise=0.2, train_fraction=0.4), LookupTable(strength=40.0)
    >>> found = measure(circuit_checkpoint(task, circuit_neurons([2, 5]), strength=1.0, lookup=table))
    >>> len(task.noisy_indices), found.flagged.values.tolist(), float(found.auc[1])  # all is memorized, and known
    (76, [0.0, 76.0], 1.0)
    """
    task = checkpoint.task
    logits = checkpoint.logits.flatten(0, -2)
    is_train = task.mask("train")
    lead = np.full((len(JUDGES), len(is_train)), np.nan, dtype=np.float32)
    if is_train.any():
        trained = torch.from_numpy(np.flatnonzero(is_train))
        labels = torch.from_numpy(task.labels)[trained]
        for row, votes in enumerate((logits[trained].double(), _votes_of_held_out(checkpoint, logits, trained))):
            if votes is not None:
                lead[row, is_train] = _leads(votes, labels).numpy()
    is_wrong = np.zeros(len(is_train), dtype=bool)
    is_wrong[task.noisy_indices] = True
    split = "validation" if task.mask("validation").any() else "test"
    scores = np.array([_scores(of, is_wrong[is_train]) for of in lead[:, is_train]]).reshape(len(JUDGES), 4)
    one, by = {"units": "1"}, "judge"
    return xr.Dataset(
        {
            "lead": ((by, "example"), lead, {"long_name": "lead of the label", "units": "logits"}),
            "flagged": (by, scores[:, 0], {"long_name": "flagged labels"} | one),
            "precision": (by, scores[:, 1], {"long_name": "wrong labels among the flagged"} | one),
            "recall": (by, scores[:, 2], {"long_name": "flagged among the wrong labels"} | one),
            "auc": (by, scores[:, 3], {"long_name": "wrong labels told from right ones (AUC)"} | one),
            "chosen_by": ((), checkpoint.loss(split), {"long_name": f"{split} loss", "units": "nats"}),
            "held_out_accuracy": ((), checkpoint.accuracy("held_out"), {"long_name": "held-out accuracy"} | one),
        },
        coords=axes(
            {
                "judge": ("judge", np.array(JUDGES), {"long_name": "judge", "units": "name"}),
                "example": (
                    "example",
                    np.arange(len(is_train), dtype=np.int32),
                    {"long_name": "example", "units": "index"},
                ),
            }
        ),
        attrs={
            "trained": int(is_train.sum()),
            "wrong": int(is_wrong.sum()),
            "chosen_by": split,
            "shape": json.dumps(task.shape),
        },
    )


def summary(result: xr.Dataset) -> dict:
    """How many labels were `trained` on, and how many of them are `wrong` on purpose; of each judge that has something
    to say, at the `last` step, at that of `least_loss` (on validation or test examples: `chosen_by`) and at that of the
    `highest_auc`, which only who knows the wrong labels can choose: the step, how many labels are flagged, precision,
    recall and AUC, and the held-out accuracy; and the examples that are most contradicted at the step of least loss,
    (a, b) of a table, 20 at most. Null where unknown."""
    told = {name: result.attrs[name] for name in ("trained", "wrong", "chosen_by")}
    losses = result.chosen_by.values
    chosen = int(np.nanargmin(losses)) if np.isfinite(losses).any() else None
    for judge in JUDGES:
        of, name = result.sel(judge=judge), judge.replace("-", "_").replace(" ", "_")
        if not np.isfinite(of.flagged.values).any():
            told[name] = None
            continue
        aucs = of.auc.values
        best = int(np.nanargmax(aucs)) if np.isfinite(aucs).any() else None
        at = {"last": len(losses) - 1, "least_loss": chosen, "highest_auc": best}
        told[name] = {moment: _moment(of, place) for moment, place in at.items()}
        told[name]["most_contradicted"] = [] if chosen is None else _listed(of.isel(step=chosen))
    return told


def in_words(summary: dict) -> list[str]:
    """What is flagged, and whether that is what is wrong."""
    lines = [f"{summary['trained']:,} labels trained on, {summary['wrong']:,} of them wrong on purpose"]
    titles = {
        "last": "at the last step",
        "least_loss": f"at that of the least {summary['chosen_by']} loss",
        "highest_auc": "at that of the highest AUC, chosen by who knows what is wrong",
    }
    for judge in JUDGES:
        told = summary[judge.replace("-", "_").replace(" ", "_")]
        if told is None:
            continue
        for moment, title in titles.items():
            if (of := told[moment]) is not None:
                text = f"{judge}, {title}, {of['step']:,}: {_in_words(of, summary['wrong'])}"
                if judge != "network" and of["held_out_accuracy"] is not None:
                    text += f"; of them the network knows {of['held_out_accuracy']:.1%}"
                lines.append(text)
        if told["most_contradicted"]:
            examples = ", ".join(_example(one) for one in told["most_contradicted"])
            lines.append(f"{judge}, most contradicted at the step of least loss: {examples}")
    return lines


def plot(result: xr.Dataset):
    """Flagged labels, AUC, precision and recall of each judge over training."""
    panels = {"flagged": "Flagged labels", "auc": "AUC", "precision": "Precision", "recall": "Recall"}
    figure = new_panels("Label noise", list(panels.values()), reference=REFERENCE, vertical_spacing=0.17)
    steps = result.step.values
    for place, name in enumerate(panels):
        row, column = divmod(place, 2)
        for judge, color in zip(JUDGES, (PALETTE[0], PALETTE[2]), strict=True):
            of = result[name].sel(judge=judge).values
            if not np.isfinite(result.flagged.sel(judge=judge).values).any():
                continue
            mode = "lines" if len(steps) > 1 else "lines+markers"
            figure.add_scatter(
                x=steps,
                y=of,
                name=judge,
                mode=mode,
                line={"color": color, "width": 2},
                legendgroup=judge,
                showlegend=not place,
                row=row + 1,
                col=column + 1,
            )
        if name != "flagged":
            percent_axis(figure, row=row + 1, col=column + 1)
    threshold_line(figure, float(result.attrs["wrong"]), row=1, column=1, label="wrong on purpose")
    threshold_line(figure, 0.5, row=1, column=2, label="knows nothing")
    figure.update_yaxes(rangemode="tozero", title_text="labels", row=1, col=1)
    figure.update_yaxes(tickformat=".2f", row=1, col=2)
    figure.update_xaxes(title_text="step (updates)")
    return figure


def _votes_of_held_out(
    checkpoint: Checkpoint, logits: Float[Tensor, "n classes"], trained: Tensor
) -> Float[Tensor, "train classes"] | None:
    """For every training pair the mean centred logits of the held-out pairs that have its right answer, NaN where there
    are none; None where too few pairs are held out, or the examples are no pairs of one table."""
    task = checkpoint.task
    if not isinstance(task, Task) or not task.split_known or task.n_held_out < FEWEST_HELD_OUT:
        return None
    held_out = torch.from_numpy(np.flatnonzero(task.mask("held_out")))
    answers = torch.from_numpy(task.true_labels)
    values = logits[held_out].double()
    sums = values.new_zeros(logits.shape[1], logits.shape[1])
    sums.index_add_(0, answers[held_out], values - values.mean(1, keepdim=True))
    counts = torch.bincount(answers[held_out], minlength=len(sums))[:, None]
    return (sums / counts)[answers[trained]]


def _leads(votes: Float[Tensor, "n classes"], labels: Tensor) -> Float[Tensor, " n"]:
    """The number of the label less the largest one of another class."""
    of_label = votes.gather(1, labels[:, None])[:, 0]
    return of_label - votes.scatter(1, labels[:, None], -torch.inf).amax(1)


def _scores(lead: Float[np.ndarray, " n"], is_wrong: Bool[np.ndarray, " n"]) -> tuple[float, float, float, float]:
    """How many are flagged, precision, recall and AUC; all NaN where no example is judged."""
    known = np.isfinite(lead)
    if not known.any():
        return np.nan, np.nan, np.nan, np.nan
    flagged = known & (lead < 0)
    hits, n_flagged, n_wrong = (int(of.sum()) for of in (flagged & is_wrong, flagged, is_wrong))
    precision = hits / n_flagged if n_flagged else np.nan
    return n_flagged, precision, hits / n_wrong if n_wrong else np.nan, auc(lead[known], is_wrong[known])


def auc(lead: Float[np.ndarray, " n"], is_wrong: Bool[np.ndarray, " n"]) -> float:
    """P(lead of a wrong label < lead of a right one) + ½ P(equal), by ranks (Mann and Whitney 1947); NaN where there
    are none of one kind.

    >>> auc(np.array([-1.0, 2.0, 2.0, 3.0]), np.array([True, True, False, False]))
    0.875
    """
    n_wrong, n_right = int(is_wrong.sum()), int((~is_wrong).sum())
    if not n_wrong or not n_right:
        return np.nan
    above = float(rankdata(lead)[~is_wrong].sum()) - n_right * (n_right + 1) / 2
    return float(above / (n_wrong * n_right))


def _moment(of: xr.Dataset, place: int | None) -> dict | None:
    if place is None:
        return None
    at = of.isel(step=place)
    flagged = float(at.flagged)
    scores = {name: float(at[name]) for name in ("precision", "recall", "auc", "held_out_accuracy")}
    return {"step": int(at.step), "flagged": int(flagged) if np.isfinite(flagged) else None} | scores


def _listed(at: xr.Dataset) -> list[list[int]]:
    """The flagged examples of one judge at one step, the most contradicted first."""
    lead = at.lead.values
    flagged = np.flatnonzero(np.isfinite(lead) & (lead < 0))
    order = flagged[np.argsort(lead[flagged], kind="stable")][:MOST_LISTED]
    places = np.unravel_index(order, json.loads(at.attrs["shape"]))
    return np.stack(places, 1).tolist()


def _in_words(of: dict, n_wrong: int) -> str:
    if of["flagged"] is None:
        return "nothing is known"
    text = f"{of['flagged']:,} flagged"
    if not n_wrong:
        return text + (", none of them wrong" if of["flagged"] else "")
    for name in ("precision", "recall"):
        if of[name] is not None:
            text += f", {name} {of[name]:.1%}"
    return text + (f", AUC {of['auc']:.3f}" if of["auc"] is not None else "")


def _example(place: list[int]) -> str:
    return str(place[0]) if len(place) == 1 else f"({', '.join(map(str, place))})"
