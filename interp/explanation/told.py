"""An explanation as it is told: light, so that one that was kept is told again at once."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from textwrap import wrap
from typing import Any

from interp.figures import as_count, notebook

WIDTH, MOST_LINES, LEAST_ROOM = 100, 12, 2


@dataclass(frozen=True)
class Fact:
    """One measured value of the story: what, how much, and where it comes from."""

    label: str
    value: str
    analysis: str


@dataclass(frozen=True)
class Explanation:
    """A verdict for a run and a state for one of its checkpoints, with the numbers (documented in docs/guide.md), the
    main facts, what is to be said first (`brief`; `str` gives at most twelve lines), all of it in paragraphs, what
    speaks against it, and what cannot be said (`long`); and a sentence for each analysis that was asked for before and
    that no story needs (`requested`), of the whole run whichever checkpoint is explained.

    >>> fact = Fact("key frequencies", "k = 2, 5", "embedding_spectrum")
    >>> explanation = Explanation({}, "It grokked.", (fact,), (("Circuit: k = 2, 5.",),), ("It adds.",), (), ())
    >>> print(explanation)
    It grokked.
    Circuit: k = 2, 5.
    Against it: nothing found.
    >>> explanation.long.splitlines()[1]
    '  key frequencies  k = 2, 5'
    """

    numbers: dict[str, Any]
    headline: str
    facts: tuple[Fact, ...]
    brief: tuple[tuple[str, ...], ...]
    paragraphs: tuple[str, ...]
    against: tuple[str, ...]
    unsaid: tuple[str, ...]
    requested: tuple[str, ...] = field(default=(), kw_only=True)

    _repr_html_ = notebook.of_explanation

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> "Explanation":
        """The explanation of which `as_json` is what is told.

        >>> fact = Fact("key frequencies", "k = 2, 5", "embedding_spectrum")
        >>> explanation = Explanation({"a": 1}, "It grokked.", (fact,), (("Circuit.",),), ("It adds.",), (), ())
        >>> Explanation.from_json(explanation.as_json) == explanation
        True
        """
        return cls(
            numbers=told["numbers"],
            headline=told["headline"],
            facts=tuple(Fact(**fact) for fact in told["facts"]),
            brief=tuple(map(tuple, told["brief"])),
            paragraphs=tuple(told["paragraphs"]),
            against=tuple(told["against"]),
            unsaid=tuple(told["unsaid"]),
            requested=tuple(told["requested"]),
        )

    @property
    def as_json(self) -> dict[str, Any]:
        """All of it as values of JSON."""
        return asdict(self)

    def __str__(self) -> str:
        texts = [(self.headline,), *self.brief]
        for shortened in range(len(texts) + 1):  # shorter wordings, one by one, until there is room for the doubts
            told = [*(wordings[-1] for wordings in texts[:shortened]), *(wordings[0] for wordings in texts[shortened:])]
            if sum(len(_lines(text)) for text in told) + LEAST_ROOM <= MOST_LINES:
                break
        else:
            told = [wordings[-1] for wordings in texts]
        lines = [line for text in told for line in _lines(text)][: MOST_LINES - 1]
        return "\n".join([*lines, *self._doubts_within(MOST_LINES - len(lines))])

    def _doubts_within(self, room: int) -> list[str]:
        """As many of the doubts as fit, the first ones, and how many there are beside."""
        shown = [f"Against it: {as_count(len(self.against), 'sentence')} (--long)."]
        if not self.against:
            return ["Against it: nothing found."]
        for count in range(1, len(self.against) + 1):
            left = len(self.against) - count
            more = f" ({left} more: --long)" if left else ""
            lines = _lines(f"Against it: {' '.join(self.against[:count])}{more}")
            if len(lines) > room:
                break
            shown = lines
        return shown

    @property
    def long(self) -> str:
        """All that there is to say."""
        width = max(len(fact.label) for fact in self.facts)
        table = [f"  {fact.label:<{width}}  {fact.value}" for fact in self.facts]
        doubts = [line for sentence in self.against for line in _lines(f"- {sentence}", "  ")]
        text = [line for paragraph in self.paragraphs for line in _lines(paragraph, hanging="")]
        unsaid = [line for sentence in self.unsaid for line in _lines(f"- {sentence}", "  ")]
        requested = [line for sentence in self.requested for line in _lines(f"- {sentence}", "  ")]
        return "\n".join(
            [
                *_lines(self.headline, hanging=""),
                *table,
                "",
                *text,
                "",
                *(["What else was measured:", *requested, ""] if requested else []),
                "What speaks against it:",
                *(doubts or ["  nothing found"]),
                "",
                "What this cannot say:",
                *unsaid,
            ]
        )


def _lines(text: str, indent: str = "", hanging: str = "  ") -> list[str]:
    """A text in lines; "k = 12" and "67 %" stay on one."""
    together = re.sub(r"k = (?=\d)|(?<=\d) (?=%)", lambda found: found[0].replace(" ", "\xa0"), text)
    lines = wrap(together, WIDTH, initial_indent=indent, subsequent_indent=indent + hanging)
    return [line.replace("\xa0", " ") for line in lines]
