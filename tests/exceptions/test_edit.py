"""Adding an entry keeps all that stands in the file, or changes nothing."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.errors import DetectorError, RuleError, UsageError
from detector.exceptions.edit import append, as_yaml, new_id
from detector.exceptions.load import load, parse
from tests.exceptions.build import entry


def test_comments_and_layout_stay(tmp_path: Path) -> None:
    """And the mode of the file, and a link to it."""
    path, link = tmp_path / "exceptions.yml", tmp_path / "link.yml"
    before = "# ours\n" + as_yaml(entry()).replace("owner:", "owner:  ").removesuffix("\n") + "  # until then"
    path.write_text(before, encoding="utf-8")
    path.chmod(0o640)
    link.symlink_to(path)
    added = entry(id="another", scope={"objectRef.namespace": ["shop", "web"], "responseStatus.code": 200})
    append(link, added)
    assert path.read_text(encoding="utf-8").startswith(before)
    assert load(path, None, shipped=False) == [entry(), added]
    assert link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o640
    assert sorted(tmp_path.iterdir()) == [path, link]


@pytest.mark.parametrize("before", [None, "", "# nothing yet\n"])
def test_the_first_entry_is_added_too(tmp_path: Path, before: str | None) -> None:
    """To a file that is not there, or holds none."""
    path = tmp_path / "exceptions.yml"
    if before is not None:
        path.write_text(before, encoding="utf-8")
    append(path, entry())
    assert load(path, None, shipped=False) == [entry()]


@pytest.mark.parametrize(
    ("before", "error"),
    [
        ("- id: [\n", RuleError),
        ("- id: a\n", RuleError),
        ("{}\n", RuleError),
        ("[]\n", UsageError),
        ("  " + as_yaml(entry(id="first")).replace("\n", "\n  "), UsageError),
        (as_yaml(entry(id="first")) + "---\n", RuleError),
    ],
)
def test_a_file_that_cannot_take_it_is_left_as_it_is(tmp_path: Path, before: str, error: type[DetectorError]) -> None:
    """A faulty one, or one whose list is laid out in another way."""
    path = tmp_path / "exceptions.yml"
    path.write_text(before, encoding="utf-8")
    with pytest.raises(error):
        append(path, entry())
    assert path.read_text(encoding="utf-8") == before


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    """With the path."""
    with pytest.raises(UsageError, match=r"none/exceptions\.yml cannot be written"):
        append(tmp_path / "none" / "exceptions.yml", entry())


@given(
    reason=st.text(min_size=1).filter(lambda text: text.strip()),
    names=st.lists(st.sampled_from(["ana@example.test", "yes", "1", "a: b", "- c", "#d", "é"]), min_size=1, max_size=2),
)
def test_what_is_written_is_read_back(reason: str, names: list[str]) -> None:
    """Whatever the texts hold, a reader of YAML sees them as they were given."""
    written = entry(identity=names, reason=reason, scope={"objectRef.name": ["true", "1", "x y"]})
    assert [each for each, _ in parse(as_yaml(written).encode(), Path("x"), [], shipped=False)] == [written]


def test_an_id_is_made_of_names_and_is_new() -> None:
    """As often as it is asked for."""
    taken: list[str] = []
    for _ in range(3):
        taken.append(new_id("Exec: a Pod", "system:serviceaccount:ci:deployer", taken))
    assert taken == ["deployer-exec-a-pod", "deployer-exec-a-pod-2", "deployer-exec-a-pod-3"]
    assert entry(id=new_id("规", "*", [])).id == "exception"
    assert len(entry(id=new_id("x" * 300, "y", [])).id) <= 100
