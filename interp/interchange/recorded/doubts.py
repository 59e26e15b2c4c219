"""What the way in which curves were logged gives against what is told from them."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from interp.interchange.recorded.columns import counts_logging
from interp.interchange.recorded.ordering import Ordered
from interp.interchange.recorded.tables import Column, Table

FEWEST_LATER, WIDEST = 3, 2


def goes_on_to(column: Column, ordered: Ordered, steps: Float[np.ndarray, " row"]) -> int | None:
    """The last step of a table, where a curve has no finite value at its last steps, three or more: after an infinite
    one, or for longer than twice the widest gap that it had before. None where it has."""
    last, gaps = ordered.steps[-1], np.diff(ordered.steps)
    later = np.unique(steps[np.isfinite(steps) & (steps > last)])
    if ordered.went_back_to or len(later) < FEWEST_LATER:
        return None
    is_long = len(gaps) > 0 and later[-1] - last > WIDEST * gaps.max()
    return int(later[-1]) if column.infinite or is_long else None


def of_an_early_end(name: str, ordered: Ordered, log_ends: int | None, unit: str) -> Iterator[str]:
    """That a curve ends before the log does (`goes_on_to`)."""
    if log_ends is not None:
        yield (
            f"{name!r} has no finite value after {unit} {ordered.steps[-1]:,.0f}, though the log goes on to {unit} "
            f"{log_ends:,}: training may have diverged there, or the value was no longer logged."
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
