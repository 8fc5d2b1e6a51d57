"""What a pass leaves behind: nothing. After success, after any exception, from any thread."""

import hashlib
import random
import threading
from dataclasses import dataclass

import pytest
import torch
from conftest import specimen, tiny_model

from npt_viz.capture.running import NoAttention, changed, forward_pass
from npt_viz.errors import NptVizError

PROMPT = torch.tensor([[0, 72, 103, 31, 31, 200, 5]])


@dataclass(frozen=True)
class Bomb:
    """A change that goes off in the middle of the forward pass."""

    error: type[BaseException]
    targets: tuple[str, ...] = ("up",)
    attention: str = "beside"

    def change(self, target, attention, x, unmodulated):
        raise self.error("in the middle of a layer")


@dataclass(frozen=True)
class WrongShape:
    targets: tuple[str, ...] = ("gate",)
    attention: str = "withheld"

    def change(self, target, attention, x, unmodulated):
        return unmodulated[..., :-1]


def traces(model):
    """Everything a hook or an edit could leave in the model."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.hf.state_dict().items()):
        digest.update(name.encode() + tensor.float().numpy().tobytes())
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    modules = [
        (
            name,
            id(module),
            module.training,
            "forward" in vars(module),
            *(len(getattr(module, h)) for h in hooks),
        )
        for name, module in model.hf.named_modules()
    ]
    parameters = [(id(p), p.requires_grad, p.grad is None) for p in model.hf.parameters()]
    return digest.hexdigest(), modules, parameters, model.hf.config.to_dict()


def is_free(lock) -> bool:
    """Whether another thread could take the lock."""
    found = []

    def take():
        found.append(lock.acquire(blocking=False))
        if found[0]:
            lock.release()

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    return found[0]


@pytest.fixture
def model():
    return tiny_model()


def test_inside_the_block_hooks_are_there_and_afterwards_they_are_not(model):
    before = traces(model)
    with changed(model, [{2: specimen(model, "N5")}], positions="trained"):
        assert traces(model)[1] != before[1]
        assert not is_free(model.lock)
    assert traces(model) == before
    assert is_free(model.lock)


@pytest.mark.parametrize("error", [ValueError, NptVizError, KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("positions", ["deployed", "trained"])
def test_an_exception_in_the_middle_of_a_layer_leaves_nothing(model, error, positions):
    before, base = traces(model), model.hf(PROMPT).logits
    lanes = [{}, {1: specimen(model, "N3", 1), 3: Bomb(error)}]
    with pytest.raises(error, match="in the middle of a layer"):
        forward_pass(model, PROMPT, lanes, record=[0, 1, 4], positions=positions)
    assert traces(model) == before
    assert is_free(model.lock)
    assert torch.equal(model.hf(PROMPT).logits, base)


def test_an_exception_in_the_callers_block_leaves_nothing(model):
    before = traces(model)
    with pytest.raises(KeyboardInterrupt), changed(model, [{2: specimen(model, "N5")}], positions="trained"):
        raise KeyboardInterrupt
    assert traces(model) == before
    assert is_free(model.lock)


def test_a_lane_that_cannot_be_set_up_leaves_nothing(model):
    before = traces(model)
    lane = {1: specimen(model, "N1", 1), 5: specimen(model, "N1", 5)}
    with pytest.raises(NptVizError, match="layer 5 does not exist: tiny has layers 0 to 4"):
        forward_pass(model, PROMPT, [lane], positions="trained")
    with pytest.raises(NptVizError, match="layer -1 does not exist"):
        forward_pass(model, PROMPT, record=[0, -1])
    assert traces(model) == before
    assert is_free(model.lock)


def test_a_pass_that_stops_early_leaves_nothing(model):
    before, base = traces(model), model.hf(PROMPT).logits
    forward_pass(
        model, PROMPT, [{}, {1: specimen(model, "N3", 1)}], record=[1], positions="trained", stop_after=2
    )
    assert traces(model) == before
    assert is_free(model.lock)
    assert torch.equal(model.hf(PROMPT).logits, base)


def test_a_hundred_mixed_operations_leave_the_model_as_it_was(model):
    choose = random.Random(0)
    before, base = traces(model), model.hf(PROMPT).logits
    variants = ("N1", "N2", "N3", "N5", "S0", "S1-later", "T1")

    def a_lane():
        layers = choose.sample(range(5), choose.randint(0, 3))
        kinds = [NoAttention(), *(specimen(model, choose.choice(variants), seed=i) for i in range(2))]
        return {layer: choose.choice(kinds) for layer in layers}

    def a_pass():
        forward_pass(
            model,
            PROMPT,
            [a_lane() for _ in range(choose.randint(1, 4))],
            record=choose.sample(range(5), 2),
            positions=choose.choice(["deployed", "trained"]),
        )

    def a_generation():
        with changed(model, [a_lane()]):
            model.hf.generate(
                PROMPT,
                attention_mask=torch.ones_like(PROMPT),
                max_new_tokens=3,
                do_sample=False,
                pad_token_id=1,
            )

    def a_failure():
        bad = choose.choice([Bomb(ValueError), Bomb(KeyboardInterrupt), WrongShape()])
        with pytest.raises((ValueError, KeyboardInterrupt, RuntimeError)):
            forward_pass(model, PROMPT, [a_lane(), {**a_lane(), choose.randrange(5): bad}], record=[1])

    def a_bad_layer():
        with pytest.raises(NptVizError):
            forward_pass(model, PROMPT, [a_lane(), {7: NoAttention()}])

    for _ in range(100):
        choose.choice([a_pass, a_pass, a_generation, a_failure, a_bad_layer])()
    assert traces(model) == before
    assert is_free(model.lock)
    assert torch.equal(model.hf(PROMPT).logits, base)


def test_a_pass_waits_for_another_threads_lane(model):
    base = forward_pass(model, PROMPT).final
    found = []
    other = threading.Thread(target=lambda: found.append(forward_pass(model, PROMPT).final))
    with changed(model, [{2: specimen(model, "N1")}]):
        other.start()
        other.join(timeout=0.3)
        assert not found
        assert other.is_alive()
    other.join(timeout=30)
    assert torch.equal(found[0], base)


def test_two_threads_on_one_model_see_their_own_lanes_only(model):
    lanes = [{1: specimen(model, "N3", 1)}, {2: specimen(model, "T1", 2), 4: NoAttention()}]
    alone = [forward_pass(model, PROMPT, [lane], record=[4]) for lane in lanes]
    foreign = []

    def work(mine):
        for _ in range(25):
            found = forward_pass(model, PROMPT, [lanes[mine]], record=[4])
            same = torch.equal(found.final, alone[mine].final)
            if not (same and torch.equal(found.layers[4].hidden, alone[mine].layers[4].hidden)):
                foreign.append(mine)

    threads = [threading.Thread(target=work, args=(i,)) for i in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert foreign == []


def test_an_adapter_is_not_changed_by_running_it(model):
    adapter = specimen(model, "N5")
    before = {name: p.clone() for name, p in adapter.state_dict().items()}
    forward_pass(model, PROMPT, [{2: adapter}], record=[2])
    for name, parameter in adapter.state_dict().items():
        assert torch.equal(parameter, before[name])
