"""What the way in which curves were logged gives against what is told from them."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from interp.interchange.recorded.columns import counts_logging
from interp.interchange.recorded.ordering import Ordered
from interp.interchange.recorded.tables import Column, Table

FEWEST_LATER, WIDEST = 3, 2


def ends_early(
    name: str, column: Column, ordered: Ordered, steps: Float[np.ndarray, " row"], unit: str
) -> Iterator[str]:
    """That a curve has no finite value at the last steps of its table, three or more: after an infinite one, or for
    longer than twice the widest gap that it had before."""
    last = ordered.steps[-1]
    later = np.unique(steps[np.isfinite(steps) & (steps > last)])
    if ordered.went_back_to or len(later) < FEWEST_LATER:
        return
    gaps = np.diff(ordered.steps)
    if column.infinite or (len(gaps) and later[-1] - last > WIDEST * gaps.max()):
        yield (
            f"{name!r} has no finite value after {unit} {last:,.0f}, though the log goes on to {unit} "
            f"{later[-1]:,.0f}: training may have diverged there, or the value was no longer logged."
        )


def of_counting(table: Table, by: str, unit: str, first: float) -> Iterator[str]:
    """What steps may count in place of updates of the weights."""
    if counts_logging(by, table):
        yield (
            f"Steps are those of {by!r}, which counts calls of the logger, not updates of the weights: ratios hold "
            "only where the same number of updates lies between two calls."
        )
    if unit == "epoch" and first == 0:
        yield (
            f"{by!r} counts from 0: if its first row was taken after one epoch of training, as Keras and Lightning log "
            "it, every epoch told here is one later."
        )
