"""The data of the second cluster: what its labels name is there, in the test days only."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import zstandard

SECOND = Path(__file__).parents[1] / "data" / "second_cluster"


def audit_ids(file: str) -> Iterator[str]:
    """The auditID of each line, in its order."""
    with (SECOND / file).open("rb") as compressed:
        for line in io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(compressed), "utf-8"):
            yield line.partition('"auditID":"')[2].partition('"')[0]


def test_labels_name_requests_of_the_test_days_and_none_of_training() -> None:
    """Every label has an event, and training is free of attacks."""
    labels = [json.loads(line) for line in (SECOND / "labels.jsonl").read_text().splitlines()]
    attacks = {label["auditID"] for label in labels}

    assert len(attacks) == len(labels)
    assert attacks <= set(audit_ids("test.jsonl.zst"))
    assert attacks.isdisjoint(audit_ids("train.jsonl.zst"))


def test_every_attack_of_the_second_cluster_is_run_twice() -> None:
    """Each family has a first and a second campaign."""
    labels = [json.loads(line) for line in (SECOND / "labels.jsonl").read_text().splitlines()]
    campaigns = {label["campaign"] for label in labels}
    families = {campaign.partition("#")[0] for campaign in campaigns}

    assert campaigns == {f"{family}#{run}" for family in families for run in (0, 1)}
