"""Other people's words: for any text at all one line, of visible letters, of a bounded length; and ours stay as they
are."""

import os
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.printable import MOST_OF_A_LINE, MOST_OF_A_WORD, one_line, printable, shortened

ANYTHING = st.text(st.characters(exclude_categories=()))  # surrogates too


@given(ANYTHING)
def test_what_is_printable_has_no_letter_that_is_not_seen(text: str):
    shown = printable(text)
    assert shown.replace("\xa0", " ").isprintable()
    assert shown.encode("utf-8").decode("utf-8") == shown
    assert printable(shown) == shown


@given(st.text(st.characters(exclude_categories=("C", "Z", "M"), include_characters=" "), max_size=200))
def test_letters_of_every_language_stay(text: str):
    if not {"\u115f", "\u1160", "\u3164", "\uffa0"} & {*text}:
        assert printable(text) == text


def test_nothing_of_unicode_that_is_a_code_gets_through():
    """Every character there is, one by one: controls, bidirectional and zero-width marks, line and paragraph ends."""
    for number in range(sys.maxunicode + 1):
        letter = chr(number)
        if unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
            assert printable(letter).isascii(), hex(number)
            assert printable(letter).startswith("\\"), hex(number)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("run/step 5", "run/step 5"),
        ("λ → ½, “naïve”, 東京, é", "λ → ½, “naïve”, 東京, é"),
        ("a\x1b[2Jb\x9bc", r"a\x1b[2Jb\x9bc"),
        ("one\ntwo\r\x85\u2028", r"one\ntwo\r\x85\u2028"),
        ("safe\u202egnp.exe", r"safe\u202egnp.exe"),
        ("ab\u200b\ufeff\u2066", r"ab\u200b\ufeff\u2066"),
        ("e" + "\u0301" * 6, "e" + "\u0301" * 4 + r"\u0301\u0301"),
        ("x\U000e0041\ufe0f", r"x\U000e0041\ufe0f"),
        (os.fsdecode(b"caf\xe9"), r"caf\xe9"),
    ],
)
def test_how_it_is_written(text: str, shown: str):
    assert printable(text) == shown


@given(ANYTHING, st.integers(3, 50))
def test_a_shortened_text_begins_and_ends_as_the_whole_did(text: str, most: int):
    shown = shortened(text, most)
    assert (shown == text) == (len(text) <= most)
    assert len(shown) <= most
    end = (most - 3) // 3
    assert shown == text or shown == f"{text[: most - 3 - end]}[…]{text[len(text) - end :]}"


@pytest.mark.parametrize("text", ["a" * 10**6, "\x1b" * 10**6, "word " * 10**6, " " * 10**6, "\u202e \n" * 10**6])
def test_a_line_of_millions_is_some_hundred_letters(text: str):
    line = one_line(text)
    assert len(line) <= MOST_OF_A_LINE
    assert max(map(len, line.split(" "))) <= MOST_OF_A_WORD
    assert "[…]" in line
