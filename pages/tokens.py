"""What does the modulation do at this token?"""

from npt_viz import ui

ui.require_app()

view = ui.inspect_page("Tokens", "What does the modulation do at this token?", ui.answers.tokens)

ui.profile(view, key="tokens_profile")
ui.layer_token_map(view, key="tokens_map")
ui.window_note(view)
ui.pinned_token(view)
ui.downloads(view, view.run.to_frame, key="tokens")
