"""mask(): takes out of a text what may be secret, for excerpts of records that could not be used."""

import re
from typing import Final

_HIDDEN: Final = "***"
# The end of the text ends a string too, for an excerpt is cut anywhere, even within an escape.
_STRING: Final = re.compile(r'"(?P<content>(?:[^"\\]++|\\.)*+)(?:"|\\?\Z)', re.DOTALL)
# What JSON has between two strings: punctuation, and numbers and literals that have punctuation on both sides.
_LITERAL: Final = r"(?:-?\d[\d.eE+-]*|true|false|null|-?Infinity|NaN)"
_BETWEEN: Final = re.compile(rf"\ufeff?\s*(?:[][{{}},:]\s*(?:{_LITERAL}\s*(?=[]}},]))?)*")
_BEFORE_KEY: Final = re.compile(r"[{,]\s*\Z")
_AFTER_KEY: Final = re.compile(r"\s*:")
# Then the text's first quote is not the first of a string, but ends one whose beginning is cut off.
_AFTER_STRING: Final = re.compile(r"\s*(?:[]},:]|\Z)")

_KNOWN_SECRET: Final = re.compile(
    r"""-----BEGIN .*?(?:-----END [^-]*-----|\Z)  # PEM, also without its end
    | eyJ[\w-]{5,}[\w.-]*  # JWT: a JSON object in base64
    | \b(?:A3T[A-Z0-9]|AKIA|AGPA|AIDA|AIPA|ANPA|ANVA|AROA|ASIA)[A-Z0-9]{8,}  # ids of AWS keys""",
    re.DOTALL | re.VERBOSE,
)
_AFTER_SCHEME: Final = re.compile(r"\b(bearer|basic)\s+\S+", re.IGNORECASE)
_AFTER_NAME: Final = re.compile(
    r"((?:pass(?:word|wd|phrase)?|pwd|token|secret|credentials?|(?:api|access|private)[-_ ]?key)['\w-]*\s*[=:]).+",
    re.IGNORECASE,
)
_LONG_RUN: Final = re.compile(r"[A-Za-z0-9+/_-]{20,}={0,2}")  # base64 of 15 bytes, hex of 10


def mask(text: str) -> str:
    """Hide every JSON string that is no key, and in other text all that looks like a secret.

    Made for text that is cut off, or is no JSON at all: what cannot be told to be harmless is hidden. In text with
    quotes that is no JSON nothing is shown but its beginning, because there inside and outside of quotes are unsure.
    """
    shown = []
    end = 0
    for string in _STRING.finditer(text):
        before = text[end : string.start()]
        opens = before[-1:].isspace() and not _AFTER_STRING.match(string["content"])
        shown.append(_mask_outside(before, is_beginning=end == 0 and opens))
        is_key = _BETWEEN.fullmatch(before) and _BEFORE_KEY.search(before) and _AFTER_KEY.match(text, string.end())
        shown.append(f'"{_KNOWN_SECRET.sub(_HIDDEN, string["content"]) if is_key else _HIDDEN}"')
        end = string.end()
    shown.append(_mask_outside(text[end:], is_beginning=end == 0))
    return "".join(shown)


def _mask_outside(text: str, *, is_beginning: bool) -> str:
    if _BETWEEN.fullmatch(text):
        return text
    return _mask_plain(text) if is_beginning else _HIDDEN


def _mask_plain(text: str) -> str:
    return _LONG_RUN.sub(_HIDDEN, mask_secrets(text))


def mask_secrets(text: str) -> str:
    """Hide what is known to be a secret by its form or by the name before it; names and paths stay whole.

    Made for what an alert shows of a request: object names, user agents, command lines.
    """
    text = _KNOWN_SECRET.sub(_HIDDEN, text)
    text = _AFTER_SCHEME.sub(rf"\1 {_HIDDEN}", text)
    return _AFTER_NAME.sub(rf"\1{_HIDDEN}", text)
