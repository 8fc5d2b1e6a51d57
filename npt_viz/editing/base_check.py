"""Check that an update was made on a given base model."""

from npt_viz.editing.updates import Update
from npt_viz.errors import NptVizError
from npt_viz.model.base import BaseModel


def check_base(model: BaseModel, update: Update) -> None:
    """Raise NptVizError where a layer, a shape or a fingerprint of the update is not that of the base model."""
    beyond = [place for place in update.places if place.layer >= model.n_layers]
    if beyond:
        raise NptVizError(
            f"the update changes layer {beyond[0].layer}, but {model.name} has layers 0 to {model.n_layers - 1}; "
            "open the base model that it was made on"
        )
    for place, factors in update.factors.items():
        shape = (model.d_ffn, model.d_model) if place.target != "down" else (model.d_model, model.d_ffn)
        if (factors.v_b.shape[1], factors.v_a.shape[1]) != shape:
            raise NptVizError(
                f"the update of {place.parameter} has shape {(factors.v_b.shape[1], factors.v_a.shape[1])}, but "
                f"{model.name} has {shape}; open the base model that it was made on"
            )
    if not update.base:
        return
    fingerprint = model.fingerprint(update.layers)
    wrong = [
        layer for layer, digest in fingerprint["layers"].items() if digest != update.base["layers"].get(layer)
    ]
    if wrong or fingerprint["config"] != update.base["config"]:
        where = f"layer {wrong[0]}" if wrong else "the config"
        raise NptVizError(
            f"the update was made on another base model: {where} of {model.name} has another fingerprint; "
            "open the base model that it was made on"
        )
