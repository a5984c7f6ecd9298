"""What rules and model find on the test days of two clusters, which neither was fitted on."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import cache
from ipaddress import ip_network
from pathlib import Path

import pytest

from detector.activity import Activity, activities
from detector.address import Locator
from detector.errors import UsageError
from detector.evaluate import Evaluation, Result, read_labels
from detector.formats import Format
from detector.model.store import Model, load, save
from detector.model.train import Training
from detector.normalise import normalise
from detector.sigma.engine import Engine
from detector.sigma.load import CompiledRule
from detector.sources.file import FileSource
from detector.watermark import Watermark
from tests.pipelines import bundled_rules

ROOT = Path(__file__).parents[2]


def read(path: Path) -> Iterator[tuple[list[Activity], datetime | None]]:
    """The activities of a log, part by part, with the time that is reached after each."""
    locator, watermark, decode = Locator([ip_network("127.0.0.1/32")]), Watermark(), Format().decode
    for batch in FileSource([str(path)]):
        events = normalise(decode(batch.values, batch.positions).events)
        for part, now in watermark.parts("", events, ()):
            yield activities(part, locator.locate), now


def evaluated(model: Model, logs: Path, rules: Sequence[CompiledRule]) -> Result:
    """Evaluate on the test days of a folder, at one false alert a day."""
    evaluation = Evaluation(model, rules, read_labels(logs / "labels.jsonl"), alerts_a_day=1.0)
    for acts, now in read(logs / "test.jsonl.zst"):
        evaluation.add(acts, now)
    return evaluation.finish()


@cache
def result(*, with_rules: bool) -> Result:
    """Evaluate on the sample's test days."""
    rules = bundled_rules() if with_rules else []
    return evaluated(load(ROOT / "models" / "sample" / "1"), ROOT / "sample_logs", rules)


def trained(logs: Path, directory: Path) -> Model:
    """Train on the training days of a folder."""
    rules = bundled_rules()
    engine, training = Engine(rules), Training(7, rules=[rule.metadata.name for rule in rules])
    for acts, now in read(logs / "train.jsonl.zst"):
        training.add(acts, engine.match(acts), now)
    forest, state = training.finish()
    save(directory, forest, state.baselines, training.histograms, {"name": "second", "version": "1", **training.about})
    return load(directory)


def test_on_another_cluster_most_campaigns_are_found_with_few_false_alerts(tmp_path: Path) -> None:
    """Other people, rhythms and attacks, of which a third do only what is allowed and ordinary."""
    logs = ROOT / "tests" / "data" / "second_cluster"
    found = evaluated(trained(logs, tmp_path), logs, bundled_rules())
    assert len(found.found) >= 45
    assert len(found.found) + len(found.missed) == 62
    assert len(found.false_alerts) / found.days <= 1.5
    assert found.roc_auc is not None
    assert found.roc_auc[0] >= 0.99


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
