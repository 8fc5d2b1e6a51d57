"""Recipe: a ledger as a JSON file with the factors, their origins and the base's fingerprint.

The factors are in it, so a ledger comes back bit for bit on any machine, without its checkpoints.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from npt_viz.adapter import TARGETS
from npt_viz.arguments import checked
from npt_viz.checkpoint import Checkpoint
from npt_viz.editing.base_check import check_base
from npt_viz.editing.making.from_source import checkpoint_fingerprint
from npt_viz.editing.updates import Factors, Origin, Place, Update
from npt_viz.errors import NptVizError
from npt_viz.identity import text_in
from npt_viz.model.base import BaseModel
from npt_viz.places import typed_path

FORMAT = "npt_viz edits"
VERSION = 1
RECIPE_FILE = "npt_edits.json"
_LISTS = {"layers": int, "tokens": int, "glyphs": str, "components": int, "details": str}
"""The fields of an origin that are lists, and of what; all others but the weight are text."""


def recipe_text(model: BaseModel, updates: Sequence[Update]) -> str:
    """Recipe of some updates as JSON, with a hash over its content."""
    layers = sorted({layer for update in updates for layer in update.layers})
    content = {
        "format": FORMAT,
        "format_version": VERSION,
        "base": {"name": model.name, "fingerprint": model.fingerprint(layers)},
        "edits": [_written(update) for update in updates],
    }
    return (
        json.dumps(content | {"seal": _seal(content)}, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    )


@checked
def updates_from_recipe(
    path: str | Path,
    model: BaseModel,
    checkpoint: Checkpoint | None = None,
    *,
    digests: Sequence[str] | None = None,
) -> list[Update]:
    """Read the updates of a recipe file or an exported folder.

    checkpoint: where given, every edit has to come from it.
    digests: `Update.digest()` of those that are wanted, in the order in which they come back; all of the file by default.
    Raises NptVizError for another base or checkpoint, for a file that was changed after it was saved, and for a digest
    that the file does not have.
    """
    path = typed_path(path)
    path = path / RECIPE_FILE if path.is_dir() else path
    text = text_in(path, "a recipe file or an exported folder")
    updates = updates_from_text(text, str(path), model, checkpoint)
    if digests is None:
        return updates
    by_digest = {update.digest(): update for update in updates}
    if missing := [digest for digest in digests if digest not in by_digest]:
        raise NptVizError(
            f"{path}: has no update {missing[0]} among its {len(updates)}; export the ledger that has it as a recipe"
        )
    return [by_digest[digest] for digest in digests]


def updates_from_text(
    text: str, where: str, model: BaseModel, checkpoint: Checkpoint | None = None
) -> list[Update]:
    """Read the updates in the content of a recipe file. where: its name, for messages."""
    content = _checked(text, where)
    updates = []
    for number, edit in enumerate(content["edits"], 1):
        try:
            update = _read(edit)
            check_base(model, update)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, binascii.Error) as error:
            raise NptVizError(
                f"{where}: edit {number} is damaged ({type(error).__name__}: {error}); save the recipe again"
            ) from None
        except NptVizError as error:
            raise NptVizError(f"{where}: edit {number}: {error}") from None
        if checkpoint is not None:
            _check_checkpoint(update, checkpoint, f"{where}: edit {number}")
        updates.append(update)
    return updates


def _checked(text: str, where: str) -> dict:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NptVizError(f"{where}: is no JSON ({error}); save the recipe again") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise NptVizError(f"{where}: is no recipe of npt_viz; give the {RECIPE_FILE} of an export")
    if content.get("format_version") != VERSION:
        raise NptVizError(
            f"{where}: format_version is {content.get('format_version')!r} and this npt_viz reads {VERSION}; update npt_viz"
        )
    seal = content.pop("seal", None)
    if seal != _seal(content) or not isinstance(content.get("edits"), list):
        raise NptVizError(
            f"{where}: was changed after it was saved, so its numbers no longer belong together; "
            "replay the recipe as it was saved and change the edits in npt_viz"
        )
    return content


def _check_checkpoint(update: Update, checkpoint: Checkpoint, where: str) -> None:
    for origin in update.origins:
        has = set(origin.layers) <= set(checkpoint.layers)
        if has and checkpoint_fingerprint(checkpoint, origin.layers) == origin.checkpoint_fingerprint:
            continue
        raise NptVizError(
            f"{where} was made with the checkpoint {origin.checkpoint} ({origin.checkpoint_fingerprint}), and "
            f"{checkpoint.name} is not it; open that checkpoint, or replay without one"
        )


def _written(update: Update) -> dict:
    return {
        "alpha": float(update.alpha),
        "base": update.base,
        "origins": [asdict(origin) for origin in update.origins],
        "factors": {
            f"{place.layer}.{place.target}": {"v_a": _packed(parts.v_a), "v_b": _packed(parts.v_b)}
            for place, parts in update.factors.items()
        },
    }


def _read(edit: Mapping) -> Update:
    factors = {}
    for name, parts in edit["factors"].items():
        layer, _, target = name.partition(".")
        if target not in TARGETS:
            raise ValueError(f"{name!r} names no projection")
        factors[Place(int(layer), target)] = Factors(_unpacked(parts["v_a"]), _unpacked(parts["v_b"]))
    base = edit["base"]
    if not isinstance(base["config"], str) or not isinstance(base["layers"], Mapping):
        raise TypeError("base is no fingerprint")
    origins = tuple(_origin(written) for written in edit["origins"])
    return Update(factors=factors, alpha=edit["alpha"], base=base, origins=origins)


def _origin(written: Mapping) -> Origin:
    """Checked field by field: what is wrong here would only show where a page prints it."""
    values: dict[str, Any] = {
        field.name: written[field.name] for field in fields(Origin) if field.name in written
    }
    for name, value in values.items():
        if (item := _LISTS.get(name)) is None:
            good = isinstance(value, int | float if name == "weight" else str)
        else:
            optional = name == "components" and value is None
            good = optional or (isinstance(value, list) and all(isinstance(each, item) for each in value))
        if not good:
            raise TypeError(f"{name} is {value!r:.40}")
    lists: dict[str, Any] = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    return Origin(**values | lists)


def _packed(values: np.ndarray) -> dict:
    return {
        "shape": list(values.shape),
        "float32": base64.b64encode(values.astype("<f4").tobytes()).decode("ascii"),
    }


def _unpacked(packed: Mapping) -> np.ndarray:
    values = np.frombuffer(base64.b64decode(packed["float32"], validate=True), dtype="<f4")
    return values.reshape(packed["shape"]).astype(np.float32)


def _seal(content: Mapping) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=True).encode()).hexdigest()
