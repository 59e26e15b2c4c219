"""A comparison in words: the tables that the terminal and the page show."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from textwrap import fill

from interp.analysis import Scale
from interp.explanation.comparison import Comparison, Row
from interp.explanation.run_sentences import VERDICTS
from interp.figures import as_percent, as_step, readable

MOST_DIFFERENT = 12
HOW = (
    "The difference of losses, norms and ranks is |log₁₀| of their ratio (1 beside a zero), of shares and indices "
    "|x − y|, of strengths of circuits |x − y| / max(|x|, |y|): a factor of ten counts as much as a whole. It says how "
    "much a number differs, not whether that matters. Restricted and excluded losses and key shares refer to the key "
    "frequencies of each run, of its last checkpoint that has a circuit."
)


@dataclass(frozen=True)
class Table:
    """A table of texts: its title, the heads of its columns, its rows, and a sentence in place of rows where there are
    none."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    otherwise: str = ""


def _listed(key: list[int]) -> str:
    return f"k = {', '.join(map(str, key))}" if key else "none"


def tables(comparison: Comparison) -> list[Table]:
    """What happened, what was set differently, what differs most, and all numbers by group.

    >>> [table.title for table in tables(Comparison((), {}, (), ()))]
    ['Sides', 'Set differently', 'What differs most']
    """
    labels = tuple(side.label for side in comparison.sides)
    facts = [side.facts for side in comparison.sides]
    story = [
        ("what happened", *(VERDICTS[fact["verdict"]].lower() for fact in facts)),
        ("memorized at step", *(as_step(fact["memorized_at"]) for fact in facts)),
        ("generalized at step", *(as_step(fact["generalized_at"]) for fact in facts)),
        ("state of the checkpoint", *(fact["state"] for fact in facts)),
        ("its key frequencies", *(_listed(fact["key_frequencies"]) for fact in facts)),
    ]
    configured = tuple((name, *map(_setting, values)) for name, values in comparison.configuration.items())
    same = "They are checkpoints of one run." if comparison.same_run else "Task, model and training are the same."
    ranked = [
        (row.label, *_values(row), f"{row.difference:.2f}", in_words(row))
        for row in comparison.ranking[:MOST_DIFFERENT]
    ]
    found = [
        Table("Sides", ("", *labels), tuple(story)),
        Table("Set differently", ("field", *labels), configured, same),
        Table("What differs most", ("number", *labels, "difference", ""), tuple(ranked), "Nothing differs."),
    ]
    for group, rows in groupby(comparison.rows, key=lambda row: row.group):
        found.append(Table(group, ("number", *labels), tuple((row.label, *_values(row)) for row in rows)))
    return found


def plain(comparison: Comparison) -> str:
    """All tables and what was left out, as plain text.

    >>> plain(Comparison((), {}, (), ("The operations differ.",))).endswith("The operations differ.")
    True
    """
    parts = ["\n".join(_lines(table)) for table in tables(comparison)]
    return "\n\n".join([*parts, *(fill(paragraph, 110) for paragraph in closing(comparison))])


def closing(comparison: Comparison) -> list[str]:
    """How differences are measured, and what cannot be compared, a paragraph each.

    >>> closing(Comparison((), {}, (), ("The operations differ.",)))[1:]
    ['The operations differ.']
    """
    return [HOW, *comparison.left_out]


def in_words(row: Row) -> str:
    """The difference of a row as people say it."""
    apart = row.difference or 0.0
    known = [value for value in row.values if value is not None]
    if row.scale == "magnitude":
        return f"a factor of {10**apart:.3g}" if min(known) > 0 else "zero on one side"
    if row.scale == "signed":
        return f"{as_percent(apart, 0)} of the larger"
    return f"{100 * apart:.1f} points" if row.scale == "share" else ""


def value_in_words(scale: Scale, value: float | None) -> str:
    """A number: shares in percent, indices to two decimals, others to four digits; – for what is not known or not
    there."""
    if value is None:
        return "–"
    return {"share": as_percent(value), "index": f"{value:.2f}"}.get(scale, f"{value:.4g}")


def _values(row: Row) -> Iterable[str]:
    return (value_in_words(row.scale, value) for value in row.values)


def _setting(value: object) -> str:
    return "not set" if value is None else readable(value)


def _lines(table: Table) -> Iterable[str]:
    yield table.title
    if not table.rows:
        yield f"  {table.otherwise}"
        return
    cells = [table.head, *table.rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for first, *others in cells:
        line = "  ".join(
            [f"  {first:<{widths[0]}}", *(f"{text:>{width}}" for text, width in zip(others, widths[1:], strict=True))]
        )
        yield line.rstrip()
