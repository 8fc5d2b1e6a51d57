"""Views made by hand: five tokens, the first a sink, and layers with chosen shares recovered."""

import numpy as np

from npt_viz.question import Question
from npt_viz.results.inspection import Inspection, LayerInspection, Token
from npt_viz.ui.cache.opened import Asked, Selection
from npt_viz.ui.widgets.view import View

N_TOKENS = 5
SINK = np.array([True, False, False, False, False])


def layer(number: int, recovered) -> LayerInspection:
    column = np.linspace(0.1, 0.5, N_TOKENS)
    named = {"gate": column}
    return LayerInspection(
        layer=number,
        variant="N1",
        scalars={"gate": column[:, None]},
        dots_with_h={"gate": 3 * column[:, None]},
        component_norms={"gate": column[:, None]},
        component_effects={"gate": column[:, None]},
        update_norms=named,
        changes=named,
        recovered=np.array(recovered, float),
        **dict.fromkeys(
            ("relative_error", "cosine", "magnitude_ratio", "hidden_norm", "attention_norm"), column
        ),
    )


def view(*layers: LayerInspection, chosen: int = 7, left_out: bool = True, glyph: str = "␣cat") -> View:
    source = Selection("m", "", "auto", "auto", "c", "", "")
    run = Inspection(
        prompt="",
        model="m",
        checkpoint="c",
        mode="local",
        positions="deployed",
        pieces=tuple(Token(glyph if i == 3 else "a", "text", i, "") for i in range(N_TOKENS)),
        layers={each.layer: each for each in layers},
        is_sink=SINK,
        kl=np.array([0.0, 0.1, 0.05, 0.31, 0.2]),
    )
    asked = Asked(source, Question(prompt=""))
    return View(asked, run, chosen, 0, "recovered", not left_out, "light")
