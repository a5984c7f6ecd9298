"""Text that a client chose cannot act on the reader's screen."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ana@example.test", "ana@example.test"),
        ("Zoë 北京 🦊", "Zoë 北京 🦊"),
        ("\x1b[2Jgone", " [2Jgone"),
        ("one\r\ntwo\tthree", "one  two three"),
        ("\x9b31mred", " 31mred"),
        ("nul\x00", "nul "),
        ("user\u202etxt.exe", "usertxt.exe"),
        ("a\u2066b\u2069c", "abc"),
        ("ad\u200bmin", "admin"),
        ("ad\u00admin", "admin"),
        ("a\u061cb", "ab"),
        ("\ufeffbom", " bom"),
        ("tag\U000e0041\U000e007f", "tag"),
        ("line\u2028break", "line break"),
    ],
)
def test_controls_become_spaces_and_unseen_marks_are_dropped(text: str, shown: str) -> None:
    """Everything that can be seen stays."""
    assert printable(text) == shown


@settings(deadline=None)
@given(st.text())
def test_nothing_that_steers_a_terminal_or_its_text_direction_is_left(text: str) -> None:
    """No control character and no mark of direction."""
    shown = printable(text)
    assert not any(unicodedata.category(character) in {"Cc", "Zl", "Zp"} for character in shown)
    assert not set(shown) & set("\u061c\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    assert printable(shown) == shown
