"""Which tokens a stranger's network reads: the prompt, the modulus, and the rows of W_E and columns of W_U that are
residues.

A file tells how many tokens, positions and classes there are, and seldom more. What they leave open is listed here,
the commonest first; running the network decides (`interp.interchange.importing.search`).
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise, permutations
from typing import NamedTuple

from interp.errors import InputError
from interp.experiment import Vocabularies

PROMPTS = ("ab=", "ab", "a+b=", "^ab=", "a+b", "^a+b=", "^ab", "^a+b=$")
MOST_SPECIAL = 6  # tokens that are no residue, where the modulus is not given
MOST_READINGS = 400


class Tokens(NamedTuple):
    """How the residues and the constant tokens of the prompt are numbered in somebody's vocabulary.

    Residue r is their token `first + r` and their class `first_class + r`; `constants` are the numbers of the constant
    tokens, in the order in which they first appear in the prompt.
    """

    prompt: str
    p: int
    vocabularies: Vocabularies = "one"
    first: int = 0
    constants: tuple[int, ...] = ()
    first_class: int = 0

    @property
    def rows(self) -> list[int]:
        """The rows of their W_E that ours is made of."""
        residues = self.p * (2 if self.vocabularies == "two" else 1)
        return [*range(self.first, self.first + residues), *self.constants]

    @property
    def said(self) -> str:
        """In words, such as `a+b=, + is token 11 and = is token 14`."""
        names = list(dict.fromkeys(letter for letter in self.prompt if letter not in "ab"))
        spelled = " and ".join(f"{name!r} is token {at}" for name, at in zip(names, self.constants, strict=True))
        offset = f", residue 0 is token {self.first}" if self.first else ""
        return f"{self.prompt!r}{', ' if spelled else ''}{spelled}{offset}"


def constants_of(prompt: str) -> str:
    """The constant tokens of a prompt, each once, in their order: `a+b=` → `+=`."""
    return "".join(dict.fromkeys(letter for letter in prompt if letter not in "ab"))


def readings_of_tokens(
    d_vocab: int,
    classes: int,
    positions: int | None,
    *,
    p: int | None = None,
    prompt: str | None = None,
    vocabularies: Vocabularies | None = None,
) -> list[Tokens]:
    """Every way to read a vocabulary of `d_vocab` tokens and `classes` outputs, the commonest first, at most 400;
    `positions` are the rows of W_pos, where there is one. What is given is kept to.

    Raises InputError, with the sizes that contradict each other, where there is none.

    >>> readings_of_tokens(12, 11, 3)[0]
    Tokens(prompt='ab=', p=11, vocabularies='one', first=0, constants=(11,), first_class=0)
    >>> readings_of_tokens(15, 15, 4, p=11)[0].said
    "'a+b=', '+' is token 11 and '=' is token 12"
    """
    found = []
    for one in _prompts(positions, prompt):
        of_moduli = [
            list(_numbered(d_vocab, classes, one, modulus, way))
            for modulus, way in _moduli(d_vocab, classes, one, p, vocabularies)
        ]
        # The commonest way of every modulus comes before the rare ways of the likeliest.
        commonest = [ways[0] for ways in of_moduli if ways]
        found.append(list(dict.fromkeys([*commonest, *(tokens for ways in of_moduli for tokens in ways)])))
    if not any(found):
        raise _contradiction(d_vocab, classes, positions, p=p, prompt=prompt, vocabularies=vocabularies)
    # The commonest ways of every prompt come before the rare ways of any.
    steps = (0, 8, 40, MOST_READINGS)
    chunks = (readings[start:stop] for start, stop in pairwise(steps) for readings in found)
    return [tokens for chunk in chunks for tokens in chunk][:MOST_READINGS]


def _prompts(positions: int | None, given: str | None) -> Sequence[str]:
    """The prompts that fit the positions: as long as W_pos, then one shorter (the answer was a token of the sequence),
    then any."""
    if given is not None:
        return (given,) if positions is None or len(given) <= positions else ()
    if positions is None:
        return PROMPTS
    of_length = [prompt for prompt in PROMPTS if len(prompt) == positions]
    shorter = [prompt for prompt in PROMPTS if len(prompt) == positions - 1 and positions > 3]
    rest = [prompt for prompt in PROMPTS if len(prompt) < positions - 1 and positions > 5]
    return [*of_length, *shorter, *rest]


def _moduli(
    d_vocab: int, classes: int, prompt: str, p: int | None, vocabularies: Vocabularies | None
) -> Iterator[tuple[int, Vocabularies]]:
    """The moduli, and whether b has tokens of its own."""
    least = len(constants_of(prompt))
    as_one = classes if not least and d_vocab == classes + 1 else d_vocab - least
    as_two = (d_vocab - least) // 2
    if p is not None:
        two = vocabularies == "two" or (vocabularies is None and d_vocab in (2 * p, 2 * p + least, 2 * p + 1))
        if two and (vocabularies == "two" or d_vocab > p + 1):
            if d_vocab in (2 * p + least, 2 * p + max(least, 1)) and classes in (p, p + 1, d_vocab):
                yield p, "two"
        elif p + least <= d_vocab and classes >= p:
            yield p, "one"
        return
    if vocabularies != "one":
        two = classes in (as_two, as_two + 1) and classes not in (as_one, as_one + 1)
        if (two or vocabularies == "two") and as_two > 1:
            yield as_two, "two"
    if vocabularies == "two":
        return
    for special in range(least, MOST_SPECIAL + 1):
        modulus = d_vocab - special
        # Fewer classes than tokens are the residues, or these and `=`; a class for every token tells nothing.
        if modulus > 1 and (classes == modulus or (classes == d_vocab and special <= max(modulus, least))):
            yield modulus, "one"
    if least and classes == d_vocab - least + 1 < d_vocab:
        yield classes - 1, "one"


def _numbered(d_vocab: int, classes: int, prompt: str, p: int, vocabularies: Vocabularies) -> Iterator[Tokens]:
    """The ways to number them: residues first, then residues last, then with some tokens on either side."""
    residues = p * (2 if vocabularies == "two" else 1)
    special, n = d_vocab - residues, len(constants_of(prompt))
    for first in dict.fromkeys((0, special, *range(1, min(special, MOST_SPECIAL)))):
        others = [*range(first), *range(first + residues, d_vocab)]
        # A class for every token is numbered as the tokens are; fewer classes are residues, and beyond them special.
        starts = (first,) if classes == d_vocab else tuple(dict.fromkeys((0, min(first, classes - p))))
        for start in starts:
            for constants in permutations(others[: MOST_SPECIAL + 2], n):
                yield Tokens(prompt, p, vocabularies, first, constants, start)


def _contradiction(
    d_vocab: int,
    classes: int,
    positions: int | None,
    *,
    p: int | None,
    prompt: str | None,
    vocabularies: Vocabularies | None,
) -> InputError:
    """Why no prompt fits."""
    prompts = _prompts(positions, prompt)
    if not prompts:
        known = ", ".join(f"{one!r} ({len(one)})" for one in sorted(PROMPTS, key=len))
        given = f", and --model.prompt {prompt!r} has {len(prompt)}" if prompt else ""
        return InputError(
            f"W_pos has {positions} positions{given}; the prompts that are known are {known}; give --model.prompt"
        )
    one, least = prompts[0], len(constants_of(prompts[0]))
    if p is None and d_vocab - least < 2:
        return InputError(f"W_E has {d_vocab} tokens, too few for two residues and the prompt {one!r}")
    if p is None:
        expected = d_vocab - least
        return InputError(
            f"W_U has {classes} outputs, expected {expected} (or {expected + 1}, with a class for '=') for p = "
            f"{expected} and {d_vocab} tokens; is --task.p right?"
        )
    two = vocabularies == "two" or (vocabularies is None and d_vocab in (2 * p, 2 * p + least, 2 * p + 1))
    expected = (2 * p if two else p) + least
    if d_vocab < expected or (two and d_vocab > expected):
        return InputError(
            f"W_E has {d_vocab} tokens, expected {expected} for p = {p} and the prompt {one!r}"
            f"{', with two vocabularies' if two else ''}; is --task.p right?"
        )
    return InputError(
        f"W_U has {classes} outputs, expected {p} (or {p + 1}, with a class for '=') for p = {p}; is --task.p right?"
    )
