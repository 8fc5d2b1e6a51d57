"""What the look through a base model's weights costs as it opens: `python -m benchmarks.finite`."""

import time

import torch

from npt_viz.model.finite import bad_weight
from npt_viz.model.opening import open_model


def main(name: str = "smollm2-135m") -> None:
    """Print both times, the best of three, in float32 and bfloat16."""
    torch.set_num_threads(1)
    for dtype in ("float32", "bfloat16"):
        opening, looking = [], []
        for _ in range(3):
            started = time.perf_counter()
            model = open_model(name, dtype=dtype, device="cpu")
            opened = time.perf_counter()
            assert bad_weight(model.hf) is None
            opening.append(opened - started)
            looking.append(time.perf_counter() - opened)
        print(
            f"{name} in {dtype}: opened in {min(opening):.2f} s, its weights looked through in {min(looking):.3f} s"
        )


if __name__ == "__main__":
    main()
