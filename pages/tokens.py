"""What does the modulation do at this token?"""

from npt_viz import ui

ui.require_app()


def body(view: ui.View) -> None:
    ui.more_of_the_token(view)
    ui.downloads(view, key="tokens", choices=lambda: {"layer": view.layer, "keep_sinks": view.with_sinks})


ui.inspect_page(
    "Tokens",
    "What does the modulation do at this token?",
    ui.answers.tokens,
    body,
    beside=ui.pinned_token,
    charts=False,
)
