"""Other people's words, made fit to be printed. A file's name, a column's, a note in run.json can hold anything: codes
that a terminal obeys, line ends that forge a line, marks that turn the reading order around, a million letters. What
leaves for a terminal, a page or a figure goes through here, once, where it leaves."""

import re
import unicodedata

# So many letters a name may have, so many a line, and so many a paragraph of a page: more than ours ever have.
MOST_OF_A_WORD, MOST_OF_A_LINE, MOST_OF_A_TEXT = 512, 1_000, 3_000
MOST_MARKS = 4  # accents on one letter: more are no language's, and reach over the lines above and below

# They count as letters, or as accents, and show nothing: fillers, joiners and selectors.
_UNSEEN = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")


def printable(text: str) -> str:
    r"""The text on one line and without what a terminal or a browser would obey: everything that is no visible letter
    is written as Python writes it, a byte of a file name that is no text as `\xff`.

    >>> print(printable("run\x1b[2J\nverified\u202e\udcff"))
    run\x1b[2J\nverified\u202e\xff
    """
    if text.isascii() and text.isprintable():
        return text
    shown, marks = [], 0
    for letter in text:
        marks = marks + 1 if unicodedata.category(letter).startswith("M") else 0
        plain = letter == "\xa0" or (letter.isprintable() and marks <= MOST_MARKS and not _UNSEEN.match(letter))
        shown.append(letter if plain else _escaped(letter))
    return "".join(shown)


def _escaped(letter: str) -> str:
    if "\udc80" <= letter <= "\udcff":  # how os.fsdecode keeps a byte that is no text
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return ascii(letter)[1:-1]


def shortened(text: str, most: int = MOST_OF_A_WORD) -> str:
    """The beginning and the end of a text that has more than `most` letters: so many with the mark between them.

    >>> shortened("from the beginning to the end", most=12)
    'from t[…]end'
    """
    if len(text) <= most:
        return text
    room = max(most - len("[…]"), 0)
    end = room // 3
    return f"{text[: room - end]}[…]{text[len(text) - end :]}"


def one_line(text: str, most: int = MOST_OF_A_LINE) -> str:
    r"""Any text as a line to print: `printable`, with words and all of it `shortened`.

    >>> print(one_line("a name\nof two lines"))
    a name\nof two lines
    """
    shown = printable(shortened(text, 3 * most))  # of a million letters most need not be looked at
    return shortened(re.sub(rf"[^ ]{{{MOST_OF_A_WORD + 1},}}", lambda word: shortened(word[0]), shown), most)
