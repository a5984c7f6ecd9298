"""Printable: text that a client chose, made safe for a terminal, a log or a page."""

from typing import Final

# Control characters, bidirectional and zero-width marks: they would act on the reader's screen instead of being shown.
_UNPRINTABLE: Final = {
    **dict.fromkeys([*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, 0xFEFF], " "),
    **dict.fromkeys(
        [
            *(0xAD, 0x61C, 0x180E),  # soft hyphen, Arabic letter mark, Mongolian vowel separator
            *range(0x200B, 0x2010),
            *range(0x202A, 0x202F),
            *range(0x2060, 0x2070),
            *range(0xFFF9, 0xFFFC),  # interlinear annotation
            *range(0xE0000, 0xE0080),  # tags, which spell out ASCII unseen
        ],
        None,
    ),
}


def printable(text: str) -> str:
    """Replace what would act on a screen by a space, and drop marks that have no width."""
    return text.translate(_UNPRINTABLE)
