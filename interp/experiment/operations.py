"""Operations: the tables that a task can be about, and the changes of the inputs that leave their answers. numpy only.

Over the residues 0 … p − 1 are sums, differences, products, quotients and polynomials, and mixtures of two of these, of
which the parity of one input decides which answers (Power et al. 2022, arXiv:2201.02177, appendix A.1.1, and the
authors' code). Over the p = n! permutations of n things are their products: element i is the i-th in lexicographic
order, 0 the identity, and ab is first a, then b, as in the authors' code. "random" is no formula; its table is the
task's own.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from functools import cache
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int

from interp.errors import InputError

Operation = Literal[
    "add",
    "subtract",
    "multiply",
    "divide",
    "x2+y2",
    "x2+xy+y2",
    "x2+xy+y2+x",
    "x3+xy",
    "x3+xy2+y",
    "divide-or-subtract",
    "add-or-multiply",
    "add-or-subtract",
    "permutations-ab",
    "permutations-aba",
    "permutations-aba-1",
    "random",
]
# A change of the inputs: exchanging them, or changing their signs.
Symmetry = Literal["mirror", "negate a", "negate b", "negate both", "mirror and negate both"]

_Table = Callable[[np.ndarray, np.ndarray, int], np.ndarray]


@cache
def inverses(p: int) -> Int[np.ndarray, " p"]:
    """x⁻¹ modulo p of every residue, and −1 of those that are no unit. Do not write to it: it is shared.

    >>> inverses(6).tolist()
    [-1, 1, -1, -1, -1, 5]
    """
    return np.array([pow(x, -1, p) if math.gcd(x, p) == 1 else -1 for x in range(p)])


def _quotient(a: np.ndarray, b: np.ndarray, p: int) -> np.ndarray:
    return np.where(inverses(p)[b] < 0, -1, a * inverses(p)[b] % p)


def _ab(a: np.ndarray, b: np.ndarray, p: int) -> np.ndarray:
    elements = permutations(p)
    return _place(np.take_along_axis(elements[b], elements[a], axis=1))


def _inverse(a: np.ndarray, p: int) -> np.ndarray:
    return _place(np.argsort(permutations(p)[a], axis=1))


_TABLES: dict[str, _Table] = {
    "add": lambda a, b, p: (a + b) % p,
    "subtract": lambda a, b, p: (a - b) % p,
    "multiply": lambda a, b, p: (a * b) % p,
    "divide": _quotient,
    "x2+y2": lambda a, b, p: (a * a + b * b) % p,
    "x2+xy+y2": lambda a, b, p: (a * a + a * b + b * b) % p,
    "x2+xy+y2+x": lambda a, b, p: (a * a + a * b + b * b + a) % p,
    "x3+xy": lambda a, b, p: (a * a * a + a * b) % p,
    "x3+xy2+y": lambda a, b, p: (a * a * a + a * b * b + b) % p,
    "permutations-ab": _ab,
    "permutations-aba": lambda a, b, p: _ab(_ab(a, b, p), a, p),
    "permutations-aba-1": lambda a, b, p: _ab(_ab(a, b, p), _inverse(a, p), p),
}
COMMUTATIVE = frozenset({"add", "multiply", "x2+y2", "x2+xy+y2"})
# The input whose parity decides, the operation where it is even, and where it is odd.
MIXTURES: dict[str, tuple[Literal["a", "b"], Operation, Operation]] = {
    "divide-or-subtract": ("b", "subtract", "divide"),
    "add-or-multiply": ("a", "add", "multiply"),
    "add-or-subtract": ("a", "add", "subtract"),
}
WITH_QUOTIENTS = frozenset({"divide", "divide-or-subtract"})  # which have no answer where b is no unit
PERMUTATIONS = frozenset({"permutations-ab", "permutations-aba", "permutations-aba-1"})

# What leaves the answer to every pair as it is; what is not here has no such change. Both at once is here too where
# each alone is: in a mixture one of them alone can lead to a pair that the other operation answers.
_SYMMETRIES: dict[str, tuple[Symmetry, ...]] = {
    "add": ("mirror",),
    "subtract": ("mirror and negate both",),
    "multiply": ("mirror", "negate both", "mirror and negate both"),
    "divide": ("negate both",),
    "x2+y2": ("mirror", "negate a", "negate b", "negate both", "mirror and negate both"),
    "x2+xy+y2": ("mirror", "negate both", "mirror and negate both"),
}


def check_size(operation: str, p: int) -> None:
    """Raises InputError where an operation on permutations is asked for, and p is not the number of those of three
    things or more.

    >>> check_size("permutations-ab", 24)
    """
    sizes = [math.factorial(n) for n in range(3, 7)]
    if operation in PERMUTATIONS and p not in sizes:
        listed = ", ".join(f"{size} (S_{n})" for n, size in enumerate(sizes, start=3))
        raise InputError(
            f"{operation} is over the n! permutations of n things, so task.p is one of {listed}; it is {p}. "
            "S_5, which the literature uses, is --task.p 120"
        )


def domain(operation: str, p: int) -> str:
    """What an operation is over, in words.

    >>> domain("add", 113), domain("permutations-ab", 120)
    ('modulo 113', 'of S_5')
    """
    return f"of S_{len(permutations(p)[0])}" if operation in PERMUTATIONS else f"modulo {p}"


def table(operation: str, a: Int[np.ndarray, " n"], b: Int[np.ndarray, " n"], p: int) -> Int[np.ndarray, " n"]:
    """a ∘ b of every pair, and −1 where it is not defined: a quotient by what is no unit modulo p. Any operation but
    "random".

    >>> a, b = np.array([1, 1, 2, 2]), np.array([2, 3, 2, 3])
    >>> table("divide", a, b, 5).tolist(), table("divide-or-subtract", a, b, 5).tolist()  # 1 − 2, 2 − 2
    ([3, 2, 1, 4], [4, 2, 0, 4])
    >>> table("permutations-ab", a, b, 6).tolist(), table("permutations-ab", b, a, 6).tolist()
    ([3, 2, 0, 5], [4, 5, 0, 1])
    """
    found = np.full(len(a), -1)
    for one, answers in parts(operation, a, b):
        found[answers] = _TABLES[one](a[answers], b[answers], p)
    return found


def parts(
    operation: str, a: Int[np.ndarray, " n"], b: Int[np.ndarray, " n"]
) -> Iterator[tuple[str, Bool[np.ndarray, " n"]]]:
    """The operations that answer, each with the pairs that it answers: of a mixture two, of any other one, with all.

    >>> a, b = np.divmod(np.arange(4), 2)
    >>> [(name, answers.tolist()) for name, answers in parts("add-or-multiply", a, b)]
    [('add', [True, True, False, False]), ('multiply', [False, False, True, True])]
    """
    if operation not in MIXTURES:
        yield operation, np.ones(len(a), dtype=bool)
        return
    decides, even, odd = MIXTURES[operation]
    is_even = (a if decides == "a" else b) % 2 == 0
    yield even, is_even
    yield odd, ~is_even


def images(
    operation: str, symmetric: bool, a: Int[np.ndarray, " n"], b: Int[np.ndarray, " n"], p: int
) -> dict[Symmetry, Int[np.ndarray, " n"]]:
    """Of all pairs in row-major order the indices a·p + b of the pairs that each symmetry makes of them. Where one
    operation of a mixture answers a pair and the other its image, this is no symmetry, and the pair stands for itself.
    What makes no other pair of any is not there. `symmetric`: whether a random table is.

    >>> a, b = np.divmod(np.arange(9), 3)
    >>> images("add", False, a, b, 3)["mirror"].tolist()
    [0, 3, 6, 1, 4, 7, 2, 5, 8]
    >>> images("add-or-subtract", False, a, b, 3)["mirror"].tolist()  # 0 + 2 = 2 + 0, and 0 + 1 is not 1 − 0
    [0, 1, 6, 3, 4, 5, 2, 7, 8]
    """
    own = a * p + b
    changes: dict[Symmetry, np.ndarray] = {
        "mirror": b * p + a,
        "negate a": -a % p * p + b,
        "negate b": a * p + -b % p,
        "negate both": -a % p * p + -b % p,
        "mirror and negate both": -b % p * p + -a % p,
    }
    found: dict[Symmetry, np.ndarray] = {name: own.copy() for name in changes}
    for one, answers in parts(operation, a, b):
        for name in ("mirror",) if one == "random" and symmetric else _SYMMETRIES.get(one, ()):
            stays = answers & answers[changes[name]]
            found[name][stays] = changes[name][stays]
    return {name: of for name, of in found.items() if (of != own).any()}


@cache
def permutations(p: int) -> Int[np.ndarray, "p n"]:
    """The p = n! permutations of 0 … n − 1 in lexicographic order.

    >>> permutations(6).tolist()
    [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]
    """
    n = next(n for n in itertools.count(1) if math.factorial(n) >= p)
    found = np.array(list(itertools.permutations(range(n))))
    found.flags.writeable = False
    return found


def _place(elements: Int[np.ndarray, "m n"]) -> Int[np.ndarray, " m"]:
    """The places of permutations in lexicographic order, which is that of their digits in base n."""
    n = elements.shape[1]
    weights = n ** np.arange(n)[::-1]
    return np.searchsorted(permutations(math.factorial(n)) @ weights, elements @ weights)
