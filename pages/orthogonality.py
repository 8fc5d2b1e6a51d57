"""Does v_a point into the directions that all tokens share?"""

from npt_viz import ui
from npt_viz.results.orthogonality import LayerOrthogonality
from npt_viz.ui.inspect.orthogonality import controls, panels, state

ui.require_app()


def body(view: ui.View) -> None:
    controls.choices(view)
    result = state.layer_result(view)
    if not isinstance(result, LayerOrthogonality):
        return
    panels.against_random(view, result)
    sections = {
        "Every q": lambda: panels.curve_and_spectrum(view, result),
        "Tokens": lambda: panels.profile(view, result),
        "Angles": lambda: panels.angles(view, result),
        "Published number": lambda: panels.published(result),
    }
    if len(view.layers) > 1:
        sections["Every layer"] = lambda: panels.all_layers(view)
    ui.details(sections, key="orthogonality_section")
    ui.downloads(
        view, lambda: panels.frame(view, result), key="orthogonality", choices=lambda: panels.choices(view)
    )


ui.inspect_page(
    "Orthogonality", "Does v_a point into the directions that all tokens share?", panels.answer, body
)
