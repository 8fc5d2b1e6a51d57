"""Do v_b and v_a carry information from token to token, or collapse?"""

from npt_viz import ui
from npt_viz.results.directions import ComponentShares, Directions
from npt_viz.ui.inspect.directions import controls, panels, state

ui.require_app()


def body(view: ui.View) -> None:
    ui.target_choice(view, state.TARGET, is_labelled=False)
    result = state.directions_of_view(view)
    if not isinstance(result, Directions):
        return
    panels.against_random(view, result)
    sections = {
        "Map": lambda: panels.direction_map(view, *controls.vectors(view)),
        "Exact patch": lambda: panels.agreement(view, result),
        "Alignment": lambda: panels.alignment(view, result),
        "Units": lambda: panels.units(view, result),
        "Next tokens": lambda: panels.vocabulary(view, result),
    }
    if isinstance(result.components, ComponentShares):
        sections["Components"] = lambda: panels.components(view, result)
    ui.details(sections, key="directions_section")
    ui.downloads(
        view, lambda: panels.frame(view, result), key="directions", choices=lambda: panels.choices(view)
    )


ui.inspect_page(
    "Directions", "Do v_b and v_a carry information from token to token, or collapse?", panels.answer, body
)
