"""`detector model` and `detector identity`, from a log to a judgement."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from tests.cli import detector
from tests.model import town
from tests.model.test_model import DAY, intrusion


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some days of usual work, as the API server writes them."""
    path = tmp_path_factory.mktemp("town") / "audit.log"
    path.write_text("".join(json.dumps(event) + "\n" for event in town.ordered(town.usual())))
    return path


@pytest.fixture(scope="module")
def model(log: Path) -> Path:
    """A model trained by the command."""
    done = detector("model", "train", log, "--output", "town/1", cwd=log.parent)
    assert done.returncode == 0, done.stderr
    assert "identities" in done.stderr
    return log.parent / "town" / "1"


def test_a_model_names_itself_after_its_folder(model: Path) -> None:
    """Folder and version stand in every alert that it makes."""
    manifest = json.loads((model / "features.json").read_text())
    assert (manifest["name"], manifest["version"]) == ("town", "1")


def test_show_writes_the_card(model: Path) -> None:
    """The same as beside the model."""
    done = detector("model", "show", model, cwd=model)
    assert (done.returncode, done.stdout) == (0, (model / "card.md").read_text())


def test_evaluate_tells_what_was_found(model: Path, tmp_path: Path) -> None:
    """Campaigns, false alerts and delay as JSON."""
    events = [*intrusion(), town.request(DAY + timedelta(hours=3), "dev-1@corp.example", verb="list")]
    (tmp_path / "day.log").write_text("".join(json.dumps(event) + "\n" for event in events))
    labels = [{"auditID": event["auditID"], "campaign": "theft", "technique": "secrets"} for event in intrusion()]
    (tmp_path / "labels").write_text("".join(json.dumps(label) + "\n" for label in labels))
    arguments = ("day.log", "--labels", "labels", "--rules", "none", "--json")
    done = detector("model", "evaluate", model, *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["campaigns"], result["campaigns_found"], result["missed"]) == (1, 1, [])
    assert result["delay_share_of_requests"]["theft"] <= 1.0


def test_identity_shows_habits(model: Path) -> None:
    """With the windows in which each was seen."""
    name = "dev-0@corp.example"
    done = detector("identity", "show", name, "--model", model, "--output-format", "json", cwd=model)
    namespaces = [row["usual"] for row in json.loads(done.stdout) if row["habit"] == "namespace"]
    assert (done.returncode, namespaces) == (0, ["shop"])


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["model", "show", "nothing"], 3, "`detector model train` makes one"),
        (["replay", "x.log", "--model", "nothing"], 3, "`detector model train` makes one"),
        (["identity", "show", "x"], 2, "give --model DIR"),
        (["model", "train", "x.log", "--output", "out/1"], 3, "too little to learn from"),
    ],
)
def test_a_model_that_cannot_be_had_is_told_in_a_line(
    tmp_path: Path, arguments: list[str], code: int, told: str
) -> None:
    """With the exit code of the contract."""
    (tmp_path / "x.log").write_text(json.dumps(town.request(DAY, "ana@example.test")) + "\n")
    done = detector(*arguments, cwd=tmp_path)
    assert done.returncode == code
    assert told in done.stderr
