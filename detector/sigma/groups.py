"""Groups: whose requests a stateful rule looks at together."""

from collections.abc import Sequence
from itertools import islice, product
from typing import Final

from detector.activity import Activity
from detector.identity import IdentityKind
from detector.sigma.fields import HIDDEN, Field
from detector.sigma.memory import GroupKey
from detector.sigma.values import text_of

_COMBINATIONS_MAX: Final = 32  # of one request; a binding with a thousand subjects must not cost a thousand groups
_TEXT_MAX: Final = 512
_UNNAMED: Final = (IdentityKind.ANONYMOUS, IdentityKind.UNAUTHENTICATED)


def accountable(activity: Activity) -> GroupKey:
    """The identity, and of requests without a name the address behind which whoever made them sits."""
    identity = activity.identity
    return (identity.name[:_TEXT_MAX], activity.addresses.source_ip if identity.kind in _UNNAMED else "")


def combinations(fields: Sequence[Field], activity: Activity) -> list[GroupKey]:
    """Every combination of the fields' values; none where a field is absent or was kept from us.

    What has no value belongs to nobody: requests that lack a field have nothing in common by that.
    """
    single: list[str] = []
    for field in fields:
        found = field.read(activity)
        # Nearly always each field has one value, and it is a text.
        if len(found) != 1 or type(found[0]) is not str:
            return list(islice(product(*(_texts(field, activity) for field in fields)), _COMBINATIONS_MAX))
        if not found[0]:
            return []
        single.append(found[0][:_TEXT_MAX])
    return [tuple(single)]


def _texts(field: Field, activity: Activity) -> list[str]:
    found = field.read(activity)
    if found is HIDDEN:
        return []
    texts = (text_of(value)[:_TEXT_MAX] for value in found if value is not None)
    return [text for text in dict.fromkeys(texts) if text]
