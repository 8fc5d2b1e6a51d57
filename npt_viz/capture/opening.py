"""Open and convert checkpoints. In `capture`, because one choice of semantics, the probe, runs the model."""

from collections.abc import Mapping
from pathlib import Path

from npt_viz.arguments import checked
from npt_viz.capture.probe import probed
from npt_viz.checkpoint.live import Live, live_checkpoint
from npt_viz.checkpoint.meaning import Choice
from npt_viz.checkpoint.opening import Checkpoint, checkpoint_in
from npt_viz.checkpoint.saving import Converted, save_converted
from npt_viz.errors import NptVizError
from npt_viz.model.base import BaseModel


@checked
def open_checkpoint(
    path: str | Path | Live,
    model: BaseModel | None = None,
    semantics: Choice | Mapping[int, Choice] | None = None,
) -> Checkpoint:
    """Open a checkpoint of any known format; reads names, shapes and configs, no weights.

    path: a weights file, its folder, or a run directory; a hub id, owner/name or owner/name@revision, from the hub's
        cache or downloaded; or adapters in memory (`live_checkpoint`).
    model: the base; where given, the file's dimensions have to fit it.
    semantics: None reads or infers it; "probe" runs the model to see which attention path the weights fit; for the
        other choices, for all layers or by layer, see `Choice`.
    Raises NptVizError when the file is missing, damaged, unsafe, unknown, incomplete, or of another shape, and for
    "probe" without a model.
    """
    is_probe = isinstance(semantics, str) and semantics.lower() == "probe"
    if is_probe and model is None:
        raise NptVizError(
            f"{path if isinstance(path, str | Path) else 'live adapters'}: semantics probe runs the base model, and none was given; give the model (--model), or choose a "
            "variant by name"
        )
    if not isinstance(path, str | Path):
        live = live_checkpoint(path, model, None if is_probe else semantics)
        return probed(live, model) if is_probe and model is not None else live
    checkpoint = checkpoint_in(path, model)
    try:
        if is_probe and model is not None:
            return probed(checkpoint, model)
        return checkpoint if semantics is None else checkpoint.with_semantics(semantics)
    except BaseException:
        checkpoint.close()
        raise


@checked
def convert(
    source: str | Path,
    destination: str | Path,
    to: str = "native",
    *,
    model: BaseModel | None = None,
    semantics: Choice | Mapping[int, Choice] | None = None,
    overwrite: bool = False,
) -> Converted:
    """Write any checkpoint that opens as the native format, or as format A; every stored value keeps its bits.

    to: native or A.
    model: the base; where given, its fingerprint goes into the native file.
    semantics: as in `open_checkpoint`.
    Raises NptVizError where the source does not open or format A has no keys for it.
    """
    checkpoint = open_checkpoint(source, model, semantics)
    try:
        return save_converted(checkpoint, destination, to, overwrite=overwrite)
    finally:
        checkpoint.close()
