"""Home examines the checkpoint and links each finding to the page that shows its evidence."""


def texts(app) -> str:
    return "\n".join(each.value for each in app.markdown).replace("\\", "")


def test_home_shows_what_is_wrong_and_what_to_try(app):
    home = app()
    assert not home.exception and not home.error
    assert "#### Health" in texts(home)
    assert "**Try:**" in texts(home), "random adapters are far from healthy"
    links = [each.proto for each in home.get("page_link")]
    assert any(link.label == "See it on Reconstruction" for link in links)
