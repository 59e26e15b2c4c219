"""A page in which nothing runs but what we wrote, and nothing is loaded from anywhere."""

import hashlib
import secrets
from collections.abc import Callable, Iterable

# What plotly draws by functions that it writes as it goes (through regl), which a page has to allow.
WRITES_CODE = frozenset(("parcoords", "scattergl", "scatterpolargl", "splom"))


def sealed(page: Callable[[str, str], str], kinds: Iterable[str] = ()) -> str:
    """A page of HTML, made by `page(policy, nonce)`: the text of its Content-Security-Policy, and what its own script
    elements carry as their `nonce`. The nonce is a digest of all that the page holds: a script that somebody smuggled
    into it would have to hold its own digest. `kinds` are those of the traces of its figures.

    >>> html = sealed(lambda policy, nonce: f"<meta content={policy!r}><script nonce={nonce}>1</script>")
    >>> html.partition("nonce-")[2][:32] == html.partition("nonce=")[2][:32]
    True
    """
    stand_in = secrets.token_hex(16)  # nobody can have written it anywhere
    text = page(_policy(stand_in, bool(WRITES_CODE.intersection(kinds))), stand_in)
    digest = hashlib.sha256(text.replace(stand_in, "").encode()).hexdigest()[:32]
    return text.replace(stand_in, digest)


def _policy(nonce: str, writes_code: bool) -> str:
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src 'nonce-{nonce}'" + " 'unsafe-eval'" * writes_code,
            "style-src 'unsafe-inline'",
            "img-src data: blob:",  # as which plotly saves a picture of a figure
            "font-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
