"""What stands for a training step: `python work.py MICROSECONDS` prints how many matrix products take so long."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np

SIDE = 64
TRIED = 2000


def make_work(products: int) -> Callable[[], None]:
    """A call that multiplies `products` times; as most of a training step, it does not hold Python's lock."""
    matrix = np.ones((SIDE, SIDE), dtype=np.float32)

    def work() -> None:
        for _ in range(products):
            matrix @ matrix

    return work


def count_products(microseconds: float) -> int:
    if not microseconds:
        return 0
    make_work(TRIED)()
    begun = time.perf_counter()
    make_work(TRIED)()
    return max(1, round(TRIED * microseconds / 1e6 / (time.perf_counter() - begun)))


if __name__ == "__main__":
    print(count_products(float(sys.argv[1])))
