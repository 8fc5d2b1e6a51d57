"""Do v_b and v_a carry information from token to token, or collapse?"""

from npt_viz import ui
from npt_viz.results.directions import Directions
from npt_viz.ui.inspect import direction_panels, directions

ui.require_app()

view = ui.inspect_page(
    "Directions", "Do v_b and v_a carry information from token to token, or collapse?", directions.answer
)
vectors = direction_panels.choices(view)
found = directions.found(view)
if isinstance(found, Directions):
    direction_panels.map_and_spread(view, *vectors)
    direction_panels.verdicts(found)
    direction_panels.alignment_and_agreement(view, found)
    direction_panels.components(view, found)
    direction_panels.units_and_vocabulary(view, found)
    ui.window_note(view)
    ui.downloads(view, lambda: directions.frame(view, found), key="directions", then=directions.python(view))
