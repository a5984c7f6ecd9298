"""mask(): no secret survives in what is shown of a record that could not be used."""

import base64
import json
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.redact import mask

SHORTEST_LEAK: Final = 8  # so many characters of a secret in a row are a leak


def _jwt(body: bytes) -> str:
    head, payload, signature = (
        base64.urlsafe_b64encode(part).rstrip(b"=").decode()
        for part in (b'{"alg":"RS256"}', b'{"sub":"x"}' + body, body)
    )
    return f"{head}.{payload}.{signature}"


def _pem(body: bytes) -> str:
    return f"-----BEGIN RSA PRIVATE KEY-----\n{base64.encodebytes(body).decode()}-----END RSA PRIVATE KEY-----\n"


random_bytes = st.binary(min_size=24, max_size=60)
secrets = st.one_of(
    random_bytes.map(_jwt),
    random_bytes.map(_pem),
    random_bytes.map(lambda body: base64.b64encode(body).decode()),
    random_bytes.map(bytes.hex),
    st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", min_size=16, max_size=16).map("AKIA".__add__),
    st.text(min_size=SHORTEST_LEAK).map(lambda text: f"hunter2 {text} \"quoted\\\" {{'a': "),
)
# Keys and numbers are shown, so they are too short here to be taken for part of a secret.
keys = st.text("abcdefghijklmnopqrstuvwxyz./-_", min_size=1, max_size=SHORTEST_LEAK - 1)
numbers = st.one_of(st.integers(-999, 999), st.sampled_from([-0.5, 1e-9, 2e16, float("inf"), float("nan")]))
scalars = st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=20))


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, str]:
    """A secret, and JSON that has it in the place of a value somewhere."""
    secret = draw(secrets)
    document: Any = secret
    for _ in range(draw(st.integers(1, 4))):
        before, after = draw(st.lists(scalars, max_size=3)), draw(st.lists(scalars, max_size=3))
        if draw(st.booleans()):
            document = [*before, document, *after]
        else:
            names = draw(st.lists(keys, min_size=7, max_size=7, unique=True))
            document = dict(zip(names, [*before, document, *after], strict=False))
    text = json.dumps(document, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 2])))
    return secret, text


def written(secret: str) -> set[str]:
    """A secret as JSON writes it."""
    return {json.dumps(secret, ensure_ascii=ensure_ascii)[1:-1] for ensure_ascii in (True, False)}


def leaks(secret: str, shown: str) -> bool:
    """Whether part of a secret can be read."""
    forms = {secret, *written(secret)}
    windows = {form[start : start + SHORTEST_LEAK] for form in forms for start in range(len(form) - SHORTEST_LEAK + 1)}
    return any(window in shown for window in windows)


@given(case=documents(), data=st.data())
def test_no_value_survives_wherever_the_text_is_cut_off(case: tuple[str, str], data: st.DataObject) -> None:
    """An excerpt ends anywhere: within a value, an escape or a character."""
    secret, text = case
    payload = text.encode("utf-8", "surrogatepass")
    cut = data.draw(st.integers(0, len(payload)))
    assert not leaks(secret, mask(payload[:cut].decode(errors="replace")))


@given(case=documents(), data=st.data())
def test_no_value_survives_wherever_the_text_begins(case: tuple[str, str], data: st.DataObject) -> None:
    """A record may begin within an event, as after a log's rotation: what looks like outside of quotes is inside."""
    secret, text = case
    (end,) = {text.index(form) + len(form) for form in written(secret) if form in text}
    begin = data.draw(st.integers(0, end))
    assert not leaks(secret, mask(text[begin:]))


@given(secret=st.one_of(random_bytes.map(_jwt), random_bytes.map(_pem), random_bytes.map(bytes.hex)))
def test_secrets_are_known_in_plain_text(secret: str) -> None:
    """By their form, whatever stands around them."""
    assert not leaks(secret, mask(f"E1123 request failed, got {secret} instead of it"))


@given(text=st.text())
def test_any_text_can_be_masked(text: str) -> None:
    """It never fails, and does not make a text much longer."""
    assert len(mask(text)) <= 5 * len(text) + 5


@given(document=st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(keys, inner), max_leaves=10))
def test_whole_json_keeps_its_shape(document: Any) -> None:
    """Keys, numbers and literals stay, strings become stars."""

    def starred(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: starred(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [starred(inner) for inner in value]
        return "***" if isinstance(value, str) else value

    if isinstance(document, dict | list):
        assert mask(json.dumps(document)) == json.dumps(starred(document))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('{"a": {"password": "hunter2", "n": 12}}', '{"a": {"password": "***", "n": 12}}'),
        ('{"password": "hunt', '{"password": "***"'),
        ('{"pass', '{"***"'),
        ('{"message": "{\\"password\\": \\"hunter2\\"}"}', '{"message": "***"}'),
        ('{"message": "{"password": "hunter2"}"}', '{"message": "***"***"***"***"***"}'),
        ('unter2", "password": "hunter2"}', '***"***"***"***"***"***"'),
        ('failed to get "hunter2": no such key', 'failed to get "***"***'),
        ("user=bob password=hunter2 and more", "user=bob password=***"),
        ("apiVersion: v1\ntoken: hunter2\nkind: Event", "apiVersion: v1\ntoken:***\nkind: Event"),
        ("Authorization: Bearer hunter2", "Authorization: Bearer ***"),
        ("not found", "not found"),
        ("", ""),
    ],
)
def test_examples(text: str, shown: str) -> None:
    """What a person sees of typical dead letters."""
    assert mask(text) == shown
