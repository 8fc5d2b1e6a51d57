"""Parts measured by workers on Ray, on this machine or on a cluster: each holds the model once. The only home of ray.

A part is whole or not there, and depends on the corpus and the settings alone; so a worker that is killed is replaced,
its part is measured again, and the result is the same.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from npt_viz.adapter import LayerAdapter
from npt_viz.capture.opening import open_checkpoint
from npt_viz.editing.making.from_source import adapters_fingerprint
from npt_viz.errors import NptVizError
from npt_viz.model.base import BaseModel
from npt_viz.model.opening import open_model
from npt_viz.scanning.executor import Done, Executor
from npt_viz.scanning.measuring import Measurer, Task
from npt_viz.scanning.summary import to_bytes
from npt_viz.scanning.windows import Part

ATTEMPTS = 3
"""Workers that a part may end before the scan ends: a part that takes too much memory kills every worker."""

STORE_BYTES = 2**27
"""Of Ray's object store where it is started here: parts are small."""


@dataclass(frozen=True, kw_only=True)
class Opened:
    """What every worker opens by itself: names, because a model is not sent."""

    model: str
    checkpoint: str
    """A path or hub id that every machine has."""

    semantics: str | None = None
    dtype: str = "auto"
    device: str = "auto"


def on_ray(
    opened: Opened, *, workers: int = 2, address: str | None = None, gpus: float = 0.0
) -> Callable[[Measurer], "OnRay"]:
    """An `executor` of `scan` that measures on Ray.

    workers: processes, each with the model in memory. address: of a running cluster (`auto` is the one that this machine
    belongs to); None starts Ray here. gpus: of a worker.
    Raises NptVizError where Ray is not installed, or there is no cluster at the address.
    """
    if workers < 1:
        raise NptVizError(f"workers must be at least 1, got {workers}")
    return lambda measurer: OnRay(measurer, opened, workers=workers, address=address, gpus=gpus)


class OnRay(Executor):
    """Measures parts by actors, one part at a time each."""

    def __init__(
        self, measurer: Measurer, opened: Opened, *, workers: int, address: str | None, gpus: float
    ) -> None:
        self._ray = _ray()
        self._measurer, self._opened = measurer, opened
        self._workers, self._address, self._gpus = workers, address, gpus

    def run(self, parts: Iterable[Part]) -> Iterator[Done]:
        """See Executor. A worker that is killed is replaced, up to ATTEMPTS times for one part."""
        ray = self._ray
        started_here = not ray.is_initialized()
        if started_here:
            self._start()
        waiting, again = iter(parts), []
        actors: list[Any] = []
        try:
            made = self._maker()
            actors += [made() for _ in range(self._workers)]
            free, running, lost = [*actors], {}, {}
            while True:
                while free and (part := again.pop() if again else next(waiting, None)) is not None:
                    actor = free.pop()
                    running[actor.measured.remote(part)] = (actor, part)
                if not running:
                    return
                done, _ = ray.wait(list(running), num_returns=1)
                actor, part = running.pop(done[0])
                try:
                    content = ray.get(done[0])
                except ray.exceptions.RayTaskError as error:
                    raise _sentence(error) from None
                except ray.exceptions.RayError:
                    lost[part.number] = lost.get(part.number, 0) + 1
                    if lost[part.number] == ATTEMPTS:
                        raise NptVizError(
                            f"part {part.number} ended {ATTEMPTS} workers; look at Ray's logs, often memory: scan with a shorter "
                            "window or fewer workers. Finished parts are kept"
                        ) from None
                    # A new one: that which was killed takes nothing while it is started anew.
                    again.append(part)
                    actors[actors.index(actor)] = another = made()
                    free.append(another)
                    continue
                free.append(actor)
                yield Done(part, content)
        finally:
            for actor in actors:
                ray.kill(actor)
            if started_here:
                ray.shutdown()

    def _start(self) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        here: dict[str, Any] = dict(
            num_cpus=self._workers, object_store_memory=STORE_BYTES, include_dashboard=False
        )
        try:
            self._ray.init(
                address=self._address or "local",
                log_to_driver=False,
                logging_level="ERROR",
                **({} if self._address else here),
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise NptVizError(
                f"there is no Ray at {self._address or 'this machine'} ({str(error).splitlines()[0]:.120}); start it "
                "with `ray start --head`, or leave the address out"
            ) from None

    def _maker(self) -> Callable[[], Any]:
        """Makes a worker."""
        kind = self._ray.remote(_Worker).options(num_cpus=1, num_gpus=self._gpus)
        seal = _seal(self._measurer.model, self._measurer.adapters)
        return lambda: kind.remote(self._opened, self._measurer.task, seal, torch.get_num_threads())


class _Worker:
    """One process with the model."""

    def __init__(self, opened: Opened, task: Task, seal: str, threads: int) -> None:
        # The same number of threads: sums in another order have other last bits.
        torch.set_num_threads(threads)
        self._opened, self._task, self._seal = opened, task, seal
        self._measurer: Measurer | None = None

    def measured(self, part: Part) -> bytes:
        """The summary of a part, as the bytes of its file."""
        if self._measurer is None:
            # Here and not before: what it says, a task can hand on.
            self._measurer = self._made()
        return to_bytes(self._measurer.summary(part))

    def _made(self) -> Measurer:
        opened, task = self._opened, self._task
        model = open_model(opened.model, dtype=opened.dtype, device=opened.device)
        checkpoint = open_checkpoint(opened.checkpoint, model, opened.semantics)
        adapters = {layer: checkpoint.adapter(layer) for layer in task.layers}
        if _seal(model, adapters) != self._seal:
            raise NptVizError(
                f"a worker has another model or checkpoint under the names {opened.model} and {opened.checkpoint}; give paths "
                "that are the same files on every machine"
            )
        return Measurer(model, adapters, task)


def _seal(model: BaseModel, adapters: Mapping[int, LayerAdapter]) -> str:
    """Text that is the same for the same weights."""
    return f"{model.fingerprint(list(adapters))} {adapters_fingerprint(adapters)}"


def _sentence(error: Any) -> NptVizError:
    cause = getattr(error, "cause", error)
    if isinstance(cause, NptVizError):
        return NptVizError(str(cause))
    return NptVizError(
        f"a worker failed ({type(cause).__name__}: {str(cause).splitlines()[0]:.200}); finished parts are kept"
    )


def _ray() -> Any:
    try:
        import ray
    except ModuleNotFoundError:
        raise NptVizError(
            'this needs ray, which is not installed: pip install "npt_viz[cluster]", or scan without workers'
        ) from None
    return ray
