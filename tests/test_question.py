"""A question refuses nonsense, and no function runs on a mode or on positions that do not exist."""

import pytest
import torch
from conftest import specimen
from jaxtyping import config

from npt_viz.analysis.attribution import attribution
from npt_viz.analysis.downstream import downstream
from npt_viz.analysis.orthogonality import orthogonality, reference_vectors
from npt_viz.analysis.reconstruction import reconstruction
from npt_viz.capture.inspection import inspect
from npt_viz.capture.layer_trace import lane_of, traces
from npt_viz.capture.running import changed, forward_pass
from npt_viz.checkpoint import Checkpoint
from npt_viz.errors import NptVizError
from npt_viz.question import Question, as_question
from npt_viz.results.attribution import Quantity
from npt_viz.training.spec import AdapterSpec

IDS = [0, 72, 103, 31, 31, 200, 5]


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"mode": "propagate"}, "mode 'propagate' does not exist; choose local or propagated"),
        ({"positions": "trained_"}, "positions 'trained_' do not exist; choose deployed or trained"),
        ({"layers": ()}, "no layer was chosen"),
        ({"bos": "yes"}, "bos 'yes' does not exist"),
        ({"bos": 1}, "bos 1 does not exist"),
        ({"prompt": b"abc"}, "the prompt is bytes"),
        ({"bos": True}, "bos=True does not go with token ids"),
        ({"chat": True}, "the chat template takes text and got token ids"),
        ({"prompt": "a", "chat": True, "bos": False}, "bos=False does not go with the chat template"),
    ],
)
def test_nonsense_is_refused_in_one_sentence(settings, rule):
    with pytest.raises(NptVizError, match=rule):
        Question(**{"prompt": IDS} | settings)


def test_layers_are_ordered_and_ids_are_plain():
    question = Question(prompt=IDS, layers=(3, 1, 3))
    assert question.layers == (1, 3) and question.prompt == tuple(IDS)
    assert hash(question) == hash(Question(prompt=tuple(IDS), layers=[1, 3]))


def test_a_setting_beside_a_question_is_refused_unless_it_is_the_default():
    question = Question(prompt="a", mode="propagated")
    assert as_question(question, mode="local", chat=False) is question
    with pytest.raises(NptVizError, match="positions='trained' is given beside a Question"):
        as_question(question, positions="trained")


@pytest.fixture
def checkpoint(tiny_llama):
    return Checkpoint.from_adapters({2: specimen(tiny_llama, "N4")}, tiny_llama, "specimen")


@pytest.fixture
def without_type_checks():
    """As users have it: the tests' own checks of Literal types would answer first."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


def test_positions_that_do_not_exist_run_nowhere(tiny_llama, checkpoint, without_type_checks):
    lane = {2: checkpoint.adapter(2)}
    quantity = Quantity(kind="scalar", token=3, layer=2, target="gate")
    wrong = "trained_"
    runs = [
        lambda: inspect(tiny_llama, checkpoint, IDS, positions=wrong),
        lambda: attribution(tiny_llama, checkpoint, IDS, quantity, positions=wrong),
        lambda: forward_pass(tiny_llama, torch.tensor([IDS]), [lane], positions=wrong),
        lambda: traces(tiny_llama, lane, IDS, positions=wrong),
        lambda: downstream(tiny_llama, checkpoint, [IDS], positions=wrong),
        lambda: reference_vectors(tiny_llama, checkpoint, ["some text"], positions=wrong),
    ]
    for run in runs:
        with pytest.raises(NptVizError, match="positions 'trained_' do not exist"):
            run()
    with (
        pytest.raises(NptVizError, match="positions"),
        changed(tiny_llama, [lane], positions=wrong),
    ):
        raise AssertionError("the block ran")


def test_modes_that_do_not_exist_run_nowhere(tiny_llama, checkpoint, without_type_checks):
    quantity = Quantity(kind="scalar", token=3, layer=2, target="gate")
    wrong = "propagate"
    runs = [
        lambda: inspect(tiny_llama, checkpoint, IDS, mode=wrong),
        lambda: attribution(tiny_llama, checkpoint, IDS, quantity, mode=wrong),
        lambda: lane_of(wrong),
        lambda: reference_vectors(tiny_llama, checkpoint, ["some text"], mode=wrong),
    ]
    for run in runs:
        with pytest.raises(NptVizError, match="mode 'propagate' does not exist"):
            run()


def test_a_prompt_of_two_tokens_has_the_same_sinks_on_every_page(tiny_llama, checkpoint):
    """The first token is forty times larger than the second: its norm is twice the mean of both, and 40 times the lower one."""
    hook = tiny_llama.hf.model.embed_tokens.register_forward_hook(
        lambda module, args, output: torch.cat([40 * output[:, :1], output[:, 1:]], dim=1)
    )
    try:
        for mode in ("local", "propagated"):
            assert inspect(tiny_llama, checkpoint, IDS[1:3], mode=mode).is_sink.tolist() == [True, False]
        assert reconstruction(tiny_llama, checkpoint, IDS[1:3]).is_sink.tolist() == [True, False]
        assert traces(tiny_llama, {2: checkpoint.adapter(2)}, IDS[1:3]).is_sink.tolist() == [True, False]
    finally:
        hook.remove()


@pytest.mark.parametrize("top_k", [0, -1])
def test_at_least_one_top_token_is_asked_for(tiny_llama, checkpoint, top_k):
    with pytest.raises(NptVizError, match=f"top_k is {top_k}"):
        inspect(tiny_llama, checkpoint, IDS, top_k=top_k)


def test_axes_that_do_not_exist_are_refused(tiny_llama, checkpoint, without_type_checks):
    for run in (
        lambda: reference_vectors(tiny_llama, checkpoint, ["some text"], of="q"),
        lambda: orthogonality(tiny_llama, checkpoint, inspect(tiny_llama, checkpoint, IDS), of="q"),
    ):
        with pytest.raises(NptVizError, match=r"of 'q' do(es)? not exist; choose h or input"):
            run()


@pytest.mark.parametrize(
    ("settings", "rule"),
    [({"targets": ("gate", "gate")}, "name one target twice"), ({"rank": 2.5}, "whole numbers, got 2.5")],
)
def test_a_spec_of_nonsense_is_refused(settings, rule, without_type_checks):
    with pytest.raises(NptVizError, match=rule):
        AdapterSpec(**{"layers": (2,), "targets": ("gate",), "rank": 3} | settings)
