"""A model is refused when anything is wrong with its files, with a line that says what to do; nothing in them runs."""

import json
import pickle
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import zstandard
from skops import io as skops_io

from detector.baseline import Baselines
from detector.errors import ModelError
from detector.model import store
from detector.model.fit import estimator
from detector.model.store import load
from tests.model import town


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound model."""
    directory = tmp_path_factory.mktemp("stored")
    town.save(directory)
    return directory


@pytest.fixture
def model(stored: Path, tmp_path: Path) -> Path:
    """A copy of it, to break."""
    return Path(shutil.copytree(stored, tmp_path / "model"))


def forge(directory: Path, name: str, content: bytes) -> None:
    """Replace a file, and let the manifest name it, as somebody who can write to the folder would."""
    (directory / name).write_bytes(content)
    manifest = json.loads((directory / "features.json").read_text())
    manifest["files"][name] = sha256(content).hexdigest()
    (directory / "features.json").write_text(json.dumps(manifest))


class Canary:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self._path,))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_does_not_run(model: Path, protocol: int) -> None:
    """Of any protocol, even with a manifest that names its digest."""
    canary = model / "ran"
    forge(model, "model.skops", pickle.dumps(Canary(canary), protocol))
    with pytest.raises(ModelError, match=r"cannot be loaded: \w+; train the model anew"):
        load(model)
    assert not canary.exists()
    pickle.loads(pickle.dumps(Canary(canary), protocol))  # noqa: S301 the canary is alive
    assert canary.exists()


def test_a_type_that_is_not_allowed_is_refused(model: Path) -> None:
    """Even in the form that skops writes: only what a forest is made of is trusted."""
    content = skops_io.dumps({"forest": Canary(model / "ran")})
    forge(model, "model.skops", content)
    with pytest.raises(ModelError, match="holds no isolation forest"):
        load(model)
    with pytest.raises(ModelError, match="cannot be loaded: Untrusted"):
        estimator(content)
    assert not (model / "ran").exists()


def test_objects_among_the_trees_are_refused(model: Path) -> None:
    """They would be pickles: nothing of them runs."""
    objects = np.empty(1, dtype=object)
    objects[0] = Canary(model / "ran")
    with (model / "trees.npz").open("wb") as file:
        np.savez(file, roots=objects)
    assert not (model / "ran").exists()
    forge(model, "trees.npz", (model / "trees.npz").read_bytes())
    with pytest.raises(ModelError, match=r"cannot be loaded: \w+; train the model anew"):
        load(model)
    assert not (model / "ran").exists()


def test_the_stored_forest_is_that_of_the_trees(model: Path) -> None:
    """Scored by scikit-learn or by the arrays, to 1e-9."""
    forest = load(model).forest
    vectors = np.random.default_rng(5).normal(size=(200, len(forest.scaling.centre))) * 5
    fitted = estimator((model / "model.skops").read_bytes())
    expected = -fitted.score_samples(forest.scaling.apply(vectors))
    assert np.abs(forest.raw_scores(vectors) - expected).max() < 1e-9


@pytest.mark.parametrize(
    ("name", "break_it"),
    [
        ("baselines.msgpack.zst", lambda content: content[: len(content) // 2]),
        ("baselines.msgpack.zst", lambda _: zstandard.compress(b"\xc1")),
        ("baselines.msgpack.zst", lambda _: zstandard.compress(msgspec.msgpack.encode({"identities": 3}))),
        ("model.skops", lambda content: content[: len(content) // 2]),
        ("model.skops", lambda _: b""),
        ("trees.npz", lambda content: content[: len(content) // 2]),
        ("trees.npz", lambda _: b""),
        ("training.json", lambda _: b"{"),
        ("training.json", lambda _: b"{}"),
    ],
    ids=[
        "zst cut",
        "no msgpack",
        "other msgpack",
        "skops cut",
        "skops empty",
        "trees cut",
        "trees empty",
        "no JSON",
        "no features",
    ],
)
def test_a_file_that_is_damaged_is_refused(model: Path, name: str, break_it: Callable[[bytes], bytes]) -> None:
    """Although its digest fits."""
    forge(model, name, break_it((model / name).read_bytes()))
    with pytest.raises(ModelError, match=r"cannot be loaded: \w+; train the model anew"):
        load(model)


@pytest.mark.parametrize("name", ["baselines.msgpack.zst", "model.skops", "trees.npz", "training.json"])
def test_a_file_that_is_missing_or_changed_is_refused(model: Path, name: str) -> None:
    """By its name."""
    with (model / name).open("ab") as file:
        file.write(b"x")
    with pytest.raises(ModelError, match=f"{name} is missing or not the file that the manifest names"):
        load(model)
    (model / name).unlink()
    with pytest.raises(ModelError, match=f"{name} is missing or not the file that the manifest names"):
        load(model)


def test_baselines_that_are_too_large_are_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small file may hold more than fits in memory."""
    monkeypatch.setattr(store, "_BASELINE_BYTES_MAX", 1000)
    with pytest.raises(ModelError, match="holds more than 1,000 bytes of baselines"):
        load(model)


def test_something_that_is_no_forest_is_refused(model: Path) -> None:
    """Although it is of a type that skops trusts."""
    forge(model, "model.skops", skops_io.dumps({"forest": [1, 2], "raw": [0.0], "risk": [0.0]}))
    with pytest.raises(ModelError, match="holds no isolation forest"):
        load(model)


def test_a_folder_or_manifest_of_the_wrong_kind_is_refused(model: Path) -> None:
    """A file in place of the folder, a manifest that is no text."""
    with pytest.raises(ModelError, match="train"):
        load(model / "card.md")
    (model / "features.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ModelError, match="cannot be used"):
        load(model)


def test_an_empty_baseline_is_still_a_model(model: Path) -> None:
    """Nobody is known, which is no damage."""
    forge(model, "baselines.msgpack.zst", zstandard.compress(msgspec.msgpack.encode(Baselines())))
    assert load(model).baselines.identities == {}
