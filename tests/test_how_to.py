"""The how-to pages do what they say: their code is run as it stands."""

import re
from pathlib import Path

import numpy as np
import pytest

from npt_viz.training.losses import TERMS, presets
from npt_viz.training.student import Student

PAGE = Path(__file__).resolve().parents[1] / "docs" / "how-to" / "add-a-loss.md"
TEXTS = [" ".join(str(i * k % 97) for i in range(25)) for k in range(1, 15)]


@pytest.fixture
def added(monkeypatch):
    """What the page's code defines; its loss is in the table until the test ends."""
    # Seen by monkeypatch, so that the table is as before afterwards.
    monkeypatch.setitem(TERMS, "magnitude", None)
    monkeypatch.delitem(TERMS, "magnitude")
    names: dict = {}
    for block in re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S):
        exec(compile(block, str(PAGE), "exec"), names)
    yield names
    TERMS.pop("magnitude", None)


def test_the_page_adds_one_function_and_one_line(added):
    assert "magnitude" in TERMS and TERMS["magnitude"].corrected is not None


def test_the_loss_trains_and_is_recorded(added, tiny_llama):
    shares = list(added["trained"](tiny_llama, TEXTS, 2))
    assert len(shares) == 3 and all(set(each) == {"direct", "magnitude"} for each in shares)
    assert all(0 < each["magnitude"] < 1 for each in shares)


def test_alone_it_is_learned(added, tiny_llama):
    import npt_viz

    spec = npt_viz.AdapterSpec(layers=(2,), targets=("gate", "up"), rank=5)
    steps = list(npt_viz.train(tiny_llama, spec, TEXTS, "magnitude", steps=60, batch_tokens=64, warmup=5))
    found = [step.layers[2].terms["magnitude"] for step in steps]
    assert np.mean(found[-10:]) < 0.7 * np.mean(found[:10])
    assert steps[0].layers[2].grad_norms["magnitude"] > 0


def test_the_test_on_the_page_passes_and_can_fail(added):
    test = added["test_magnitude_is_the_squared_log_ratio_of_the_lengths"]
    test()
    added["magnitude"] = lambda output, target: (output - target).square().mean()
    with pytest.raises(AssertionError):
        test()


def test_it_is_a_toggle_on_the_training_page_and_a_preset_leaves_it_off(added, app):
    page = app("training")
    assert not page.exception
    toggle = page.toggle(key="training_on_magnitude")
    assert toggle.label == "magnitude" and not toggle.value
    assert "right length" in toggle.help
    toggle.set_value(True).run()
    assert page.number_input(key="training_weight_magnitude").value == pytest.approx(0.1)
    assert "magnitude" in presets.each_alone()


def test_every_field_the_page_names_is_there():
    named = set(re.findall(r"`s\.(\w+)", PAGE.read_text(encoding="utf-8")))
    known = {*Student.__dataclass_fields__, *vars(Student)}
    assert named and named <= known


def test_the_code_for_ones_own_training_runs_as_it_stands(tiny_llama, tmp_path, monkeypatch):
    import torch

    import npt_viz

    page = PAGE.with_name("look-into-your-own-training.md").read_text(encoding="utf-8")
    torch.manual_seed(1)
    factors = [torch.nn.Parameter(0.3 * torch.randn(shape)) for shape in ((24, 7), (7, 24), (7, 31))]
    names = dict(zip(("W_down", "W_a_up", "W_b_up"), factors, strict=True)) | {
        "npt_viz": npt_viz,
        "model": tiny_llama.hf,
        "tokenizer": tiny_llama.tokenizer,
        "batches": range(100),
        "objective": lambda batch: factors[2].square().mean(),
        "optimiser": torch.optim.SGD(factors, lr=1e-3),
    }
    monkeypatch.chdir(tmp_path)
    for block in re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S):
        exec(compile(block, "page", "exec"), names)
    run = npt_viz.read_run("runs/mine")
    assert run.last_step == 100 and run.layers[2].measured("heldout/recovered")[0].tolist() == [50, 100]
