"""What training many networks will cost, in words."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from interp.sweeps import Cost


def cost_in_words(cost: "Cost", keep: str, device: str = "cpu", *, on_cluster: bool = False) -> list[str]:
    """Lines on what is still to be done."""
    from interp.figures import as_count, as_size

    if not cost.n_left:
        return ["nothing is left to train"]
    networks, n = as_count(cost.n_timed, "network"), cost.n_processes
    processes = "1 process" if n == 1 else f"{n} processes"
    on_cpu = device == "cpu"
    each = "of a thread and a core each" if on_cpu else "with networks of one shape side by side"
    where = f"this machine, on {'its CPU' if on_cpu else device}" + ", not on the cluster" * on_cluster
    kept = {"all": "all checkpoints", "ends": "first and last checkpoints", "metrics": "metrics alone"}[keep]
    return [
        f"about {_duration(cost.hours)} for the {cost.n_left:,} left, in {processes} {each}",
        f"  timed: steps of {networks} of the grid, each a few times, now, on {where}; without what writing takes",
        f"about {as_size(cost.n_bytes)} on disk for all of them, keeping {kept}",
    ]


def _duration(hours: tuple[float, float]) -> str:
    """From the least to the most, in a unit that fits."""
    unit, name = (1, "hours") if hours[1] >= 2 else (60, "minutes") if hours[1] * 60 >= 2 else (3600, "seconds")
    least, most = (f"{end * unit:,.2g}" if end * unit < 100 else f"{end * unit:,.0f}" for end in hours)
    return f"{least} {name}" if least == most else f"{least} to {most} {name}"
