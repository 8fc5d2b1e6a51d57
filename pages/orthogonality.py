"""Does v_a point into the directions that all tokens share?"""

from npt_viz import ui
from npt_viz.results.orthogonality import LayerOrthogonality
from npt_viz.ui.inspect.orthogonality import controls, panels, state

ui.require_app()


def body(view: ui.View) -> None:
    controls.choices(view)
    result = state.layer_result(view)
    if isinstance(result, LayerOrthogonality):
        panels.curve_and_spectrum(view, result)
        panels.profile_and_angles(view, result)
        panels.published(result)
        panels.all_layers(view)
        ui.window_note(view)
        ui.downloads(view, lambda: panels.frame(view, result), key="orthogonality", then=panels.python(view))


ui.inspect_page(
    "Orthogonality", "Does v_a point into the directions that all tokens share?", panels.answer, body
)
