"""Small damages to the bytes of a file, drawn at random."""

import random

PAGE = 4096


def place_in(content: bytes, chance: random.Random) -> int:
    """A place at the beginning (of safetensors in the header), anywhere, or at the end, each as often."""
    n = len(content)
    header = 8 + int.from_bytes(content[:8], "little")
    first = header if header < n else min(n, 64)
    return chance.choice((chance.randrange(first), chance.randrange(n), n - 1 - chance.randrange(min(n, 64))))


def damaged(content: bytes, chance: random.Random) -> tuple[str, bytes]:
    """What was done to it, in words, and what became of it: never the same."""
    while True:
        how, at = (
            chance.choice(("bit", "bit", "bit", "swap", "cut", "line", "twice", "page")),
            place_in(content, chance),
        )
        changed = bytearray(content)
        if how == "bit":
            bit = chance.randrange(8)
            changed[at] ^= 1 << bit
            words = f"bit {bit} of byte {at:,} flipped"
        elif how == "swap":
            other = place_in(content, chance)
            changed[at], changed[other] = changed[other], changed[at]
            words = f"bytes {at:,} and {other:,} swapped"
        elif how == "cut":
            del changed[at:]
            words = f"cut off at byte {at:,}"
        elif how == "page":
            begin = at // PAGE * PAGE
            changed[begin : begin + PAGE] = bytes(len(changed[begin : begin + PAGE]))
            words = f"the page at byte {begin:,} zeroed"
        else:
            begin = content.rfind(b"\n", 0, at) + 1
            end = content.find(b"\n", at) + 1 or len(content)
            changed[begin:end] = content[begin:end] * (2 if how == "twice" else 0)
            words = f"the line at byte {begin:,} {'doubled' if how == 'twice' else 'removed'}"
        if changed != content:
            return words, bytes(changed)
