"""Store: a model on disk, and back, without running anything that a file says.

`trees.npz` holds the trees as arrays and what their scores mean; `model.skops` the same forest as scikit-learn's own
object, which nobody who only scores reads, see `fit.estimator`; `baselines.msgpack.zst` the baselines; `training.json`
how each feature was distributed in training; `features.json` the manifest: the ordered features, the versions, the seed
and the digest of each file.
"""

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import zstandard
from pydantic import BaseModel, ConfigDict, ValidationError

from detector.baseline import IDENTITIES_MAX, Baselines
from detector.errors import ModelError
from detector.features import load as load_features
from detector.features import risk_column
from detector.model.forest import LEAST_RISK_SCALE_BITS, Calibration, Forest, Risk, Scaling
from detector.model.histogram import Histogram
from detector.model.trees import Trees, read_arrays

_FORMAT: Final = 2
_FOREST: Final = "model.skops"
_BASELINES: Final = "baselines.msgpack.zst"
_TRAINING: Final = "training.json"
_TREES: Final = "trees.npz"
_FILES: Final = (_FOREST, _TREES, _BASELINES, _TRAINING)
_MANIFEST: Final = "features.json"
_CARD: Final = "card.md"
_BASELINE_BYTES_MAX: Final = 2 << 30


class Manifest(BaseModel):
    """What a model says of itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int
    name: str
    version: str
    scikit_learn: str
    features: tuple[str, ...]
    seed: int
    first_time: datetime
    last_time: datetime
    days: float
    calibration_days: float
    requests: int
    windows: int
    identities: int
    left_out: dict[str, int]
    """Events that did not teach, by the reason."""
    silent: tuple[tuple[date, date], ...]
    """First and last of days on which no event was logged."""
    constant: tuple[str, ...]
    """Features that had one value only, and so tell nothing."""
    centre: tuple[float, ...]
    span: tuple[float, ...]
    files: dict[str, str]
    """SHA-256 of each file beside this one."""


class Model(msgspec.Struct, frozen=True):
    """A model, loaded."""

    manifest: Manifest
    forest: Forest
    baselines: Baselines
    histograms: tuple[Histogram, ...]
    """How each feature was distributed in training, in the order of the features."""
    digest: str

    @property
    def label(self) -> str:
        """Name, version and hash, as they stand in alerts."""
        return f"{self.manifest.name}/{self.manifest.version}@{self.digest[:12]}"


def save(
    directory: Path,
    forest: Forest,
    baselines: Baselines,
    histograms: Sequence[Histogram],
    about: Mapping[str, object],
) -> Manifest:
    """Write a model; `about` holds the manifest's name, version, seed, times and counts.

    Raises:
        ModelError: the folder cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / _FOREST).write_bytes(forest.stored)
        means = {"calibration": forest.calibration.raw, "risk": forest.risk.calibration.raw}
        np.savez_compressed(directory / _TREES, allow_pickle=False, **forest.trees.arrays(), **means)
        packed = zstandard.ZstdCompressor(level=9).compress(msgspec.msgpack.encode(baselines, order="deterministic"))
        (directory / _BASELINES).write_bytes(packed)
        names = [feature.name for feature in load_features()]
        lines = (f"{json.dumps(n)}: {msgspec.json.encode(h).decode()}" for n, h in zip(names, histograms, strict=True))
        (directory / _TRAINING).write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
        manifest = Manifest.model_validate(
            {
                "format": _FORMAT,
                "scikit_learn": version("scikit-learn"),
                "features": tuple(names),
                "constant": tuple(n for n, h in zip(names, histograms, strict=True) if h.constant),
                "centre": tuple(forest.scaling.centre),
                "span": tuple(forest.scaling.span),
                "calibration_days": forest.calibration.days,
                "windows": sum(histograms[0].counts),
                "identities": len(baselines.identities),
                "files": {name: _digest(directory / name) for name in _FILES},
                **about,
            }
        )
        (directory / _MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
        (directory / _CARD).write_text(card(manifest), encoding="utf-8")
    except OSError as error:
        raise ModelError(f"{directory} cannot be written: {error.strerror}") from error
    return manifest


def load(directory: Path) -> Model:
    """Read a model.

    Raises:
        ModelError: a file is missing, changed, or made for another version; the message says what to do.
    """
    manifest_path = directory / _MANIFEST
    try:
        text = manifest_path.read_text(encoding="utf-8")
        manifest = Manifest.model_validate_json(text)
    except FileNotFoundError as error:
        raise ModelError(
            f"{directory} holds no model: {_MANIFEST} is missing; `detector model train` makes one"
        ) from error
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        raise ModelError(
            f"{manifest_path} cannot be used: {str(error).splitlines()[0]}; train the model anew"
        ) from error
    _require_fitting(manifest, directory)
    for name, digest in manifest.files.items():
        if not (directory / name).is_file() or _digest(directory / name) != digest:
            raise ModelError(
                f"{directory / name} is missing or not the file that the manifest names; copy the model anew"
            )
    digest = hashlib.sha256(json.dumps(manifest.files, sort_keys=True).encode()).hexdigest()
    try:
        with (directory / _TREES).open("rb") as file:
            arrays = read_arrays(file)
        raw, signals = arrays.pop("calibration"), arrays.pop("risk")
        trees = Trees(**arrays)  # type: ignore[arg-type]  # of the types that were stored
        baselines = msgspec.msgpack.decode(_unpacked(directory / _BASELINES), type=Baselines)
        histograms = msgspec.json.decode((directory / _TRAINING).read_bytes(), type=dict[str, Histogram])
        ordered = tuple(histograms[name] for name in manifest.features)
        _require_skops(directory / _FOREST)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"{directory} cannot be loaded: {type(error).__name__}; train the model anew") from error
    days = manifest.calibration_days
    risk = Risk(risk_column(), Calibration(signals.astype(np.float64), days, LEAST_RISK_SCALE_BITS))
    scaling = Scaling(np.array(manifest.centre), np.array(manifest.span))
    forest = Forest(trees, scaling, Calibration(raw.astype(np.float64), days), risk)
    return Model(manifest, forest, baselines, ordered, digest)


def _require_skops(path: Path) -> None:
    """Refuse a forest that is no file of skops, such as a pickle; nothing of it is run, here or ever."""
    with zipfile.ZipFile(path) as packed:
        schema = packed.read("schema.json")
    if b'"IsolationForest"' not in schema:
        raise ModelError(f"{path} holds no isolation forest; train the model anew")


def _unpacked(path: Path) -> bytes:
    with path.open("rb") as file:
        unpacked = zstandard.ZstdDecompressor().stream_reader(file).read(_BASELINE_BYTES_MAX + 1)
    if len(unpacked) > _BASELINE_BYTES_MAX:
        raise ModelError(f"{path} holds more than {_BASELINE_BYTES_MAX:,} bytes of baselines; train the model anew")
    return unpacked


def _require_fitting(manifest: Manifest, directory: Path) -> None:
    if manifest.format != _FORMAT or set(manifest.files) != set(_FILES):
        raise ModelError(
            f"{directory} has format {manifest.format}, this version reads {_FORMAT}; train the model anew"
        )
    features = tuple(feature.name for feature in load_features())
    if manifest.features != features:
        differing = sorted(set(manifest.features) ^ set(features)) or ["their order"]
        raise ModelError(f"{directory} was trained with other features ({', '.join(differing[:5])}); train it anew")
    if manifest.scikit_learn.split(".")[:2] != version("scikit-learn").split(".")[:2]:
        raise ModelError(
            f"{directory} was trained with scikit-learn {manifest.scikit_learn}, this is {version('scikit-learn')}: "
            "their trees may differ; train the model anew"
        )


def card(manifest: Manifest) -> str:
    """The model card."""
    features = "\n".join(f"| `{feature.name}` | {feature.unit} | {feature.about} |" for feature in load_features())
    span = f"{manifest.first_time:%Y-%m-%d %H:%M} to {manifest.last_time:%Y-%m-%d %H:%M} UTC"
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in sorted(manifest.left_out.items())) or "none"
    silent = ", ".join(f"{first} to {last}" for first, last in manifest.silent) or "none"
    learned = f"{manifest.windows:,}, of {manifest.days:.1f} days after a first day that only taught the baselines"
    return f"""# {manifest.name} {manifest.version}

Isolation forest over {len(manifest.features)} features of what one identity did in an hour, with the baselines that
they are measured against.

| | |
|---|---|
| data | {manifest.requests:,} requests from {span} |
| left out | {left_out} |
| days without an event | {silent} |
| identities | {manifest.identities:,} |
| windows the forest learned from | {learned} |
| features that had one value only | {", ".join(manifest.constant) or "none"} |
| scikit-learn | {manifest.scikit_learn}, seed {manifest.seed} |

The score of a window is 1 / (1 + n), where n is the number of alerts a day (one for an identity and day) that the last
{manifest.calibration_days:.1f} days of the training would have given at that strangeness.
Limits: it knows one cluster; what an intruder did before or during the training counts as usual; an identity known for
less than half a day is judged by its peers. It remembers {IDENTITIES_MAX:,} identities; of more, those that are
least known are forgotten. A feature that had one value only in training tells nothing.

| feature | unit | what it measures |
|---|---|---|
{features}
"""


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
