"""What rules and the sample model find on the test days, which neither was fitted on."""

from functools import cache
from ipaddress import ip_network
from pathlib import Path

import pytest

from detector.activity import activities
from detector.address import Locator
from detector.errors import UsageError
from detector.evaluate import Evaluation, Result, read_labels
from detector.formats import Format
from detector.model.store import load
from detector.normalise import normalise
from detector.sources.file import FileSource
from detector.watermark import Watermark
from tests.pipelines import bundled_rules

ROOT = Path(__file__).parents[2]


@cache
def result(*, with_rules: bool) -> Result:
    """Evaluate on the sample's test days."""
    labels = read_labels(ROOT / "sample_logs" / "labels.jsonl")
    rules = bundled_rules() if with_rules else []
    evaluation = Evaluation(load(ROOT / "models" / "sample" / "1"), rules, labels, alerts_a_day=1.0)
    locator, watermark, decode = Locator([ip_network("127.0.0.1/32")]), Watermark(), Format().decode
    for batch in FileSource([str(ROOT / "sample_logs" / "test.jsonl.zst")]):
        events = normalise(decode(batch.values, batch.positions).events)
        for part, now in watermark.parts("", events, ()):
            evaluation.add(activities(part, locator.locate), now)
    return evaluation.finish()


def test_rules_and_model_find_every_campaign_with_few_false_alerts() -> None:
    """Twenty of twenty, at most three false alerts a day."""
    found = result(with_rules=True)
    assert found.missed == ()
    assert len(found.found) == 20
    assert found.pairs_found >= 38
    assert len(found.false_alerts) / found.days <= 3


def test_the_model_alone_finds_the_quiet_campaigns_before_half_of_their_requests() -> None:
    """Their every request is allowed and ordinary."""
    found = result(with_rules=False)
    quiet = {name: share for name, share in found.found.items() if name.startswith("slow-")}
    assert len(quiet) == 4
    assert all(share < 0.5 for share in quiet.values())
    assert len(found.false_alerts) / found.days <= 1


def test_attacked_windows_are_told_from_benign_ones() -> None:
    """By the scores of all identity-windows."""
    found = result(with_rules=False)
    assert found.roc_auc is not None
    assert found.average_precision is not None
    assert found.roc_auc[0] >= 0.998
    assert found.average_precision[0] >= 0.90


@pytest.mark.parametrize("text", ["{", '{"auditID": "x"}', "[]"])
def test_labels_that_cannot_be_read_are_told_with_their_line(tmp_path: Path, text: str) -> None:
    """File and line."""
    path = tmp_path / "labels"
    path.write_text('{"auditID": "a", "campaign": "c", "technique": "t"}\n' + text + "\n")
    with pytest.raises(UsageError, match=r"labels:2: must be JSON with auditID"):
        read_labels(path)
