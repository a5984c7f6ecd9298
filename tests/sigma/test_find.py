"""Which rule a person means."""

from pathlib import Path

import pytest

from detector.errors import UsageError
from detector.sigma.find import find
from detector.sigma.load import BUNDLED, load

RULES = load(BUNDLED)
FILE = BUNDLED / "kubernetes_audit_pod_privileged.yml"
ID = "8ce8ea69-547a-4a8f-9e48-0be4b651ce15"


@pytest.mark.parametrize(
    "text",
    [
        ID,
        ID.upper(),
        ID[:8],
        "Privileged Container",
        "privileged container",
        "pod_privileged",
        "pod-privileged",
        FILE.stem,
    ],
)
def test_a_rule_is_found_by_what_people_call_it(text: str) -> None:
    """Id or its first digits, title in any case, file name with and without what all share."""
    assert [rule.metadata.id for rule in find(RULES, text)] == [ID]


def test_a_file_gives_its_own_rules() -> None:
    """Whatever else is loaded."""
    assert [rule.metadata.id for rule in find([], str(FILE))] == [ID]


def test_an_unknown_rule_is_refused_with_the_nearest() -> None:
    """A typing error costs one look."""
    with pytest.raises(UsageError, match=r"no rule is called pod_privilege \(did you mean 'Privileged Container'\?\)"):
        find(RULES, "pod_privilege")
    with pytest.raises(UsageError, match="no rule is called qqqq; `detector rules list`"):
        find(RULES, "qqqq")


def test_a_beginning_that_several_ids_share_is_refused(tmp_path: Path) -> None:
    """Not the first is taken."""
    text = FILE.read_text()
    (tmp_path / "a.yml").write_text(text)
    (tmp_path / "b.yml").write_text(text.replace(ID, f"{ID[:-2]}16").replace("title: Privileged", "title: Other"))
    with pytest.raises(UsageError, match="the beginning of 2 rules' ids"):
        find(load(tmp_path), ID[:8])
