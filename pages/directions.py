"""Do v_b and v_a carry information from token to token, or collapse?"""

from npt_viz import ui
from npt_viz.results.directions import Directions
from npt_viz.ui.inspect.directions import controls, panels, state

ui.require_app()


def body(view: ui.View) -> None:
    vectors = controls.choices(view)
    result = state.directions_of_view(view)
    if isinstance(result, Directions):
        panels.map_and_spread(view, *vectors)
        panels.verdicts(result)
        panels.alignment_and_agreement(view, result)
        panels.components(view, result)
        panels.units_and_vocabulary(view, result)
        ui.window_note(view)
        ui.downloads(view, lambda: panels.frame(view, result), key="directions", then=panels.python(view))


ui.inspect_page(
    "Directions", "Do v_b and v_a carry information from token to token, or collapse?", panels.answer, body
)
