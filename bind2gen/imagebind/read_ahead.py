"""Files read ahead in threads while those before them are being transformed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch


def read_ahead(calls: list[Callable[[], Any]]) -> Iterator[Callable[[], Any]]:
    """Make some calls before they are asked for, in as many threads as torch may use; each item gives its result."""
    workers = min(torch.get_num_threads(), len(calls))
    if workers < 2:
        yield from calls
        return
    pool, waiting = ThreadPoolExecutor(workers), deque()
    try:
        for call in calls:
            waiting.append(pool.submit(call))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result
        while waiting:
            yield waiting.popleft().result
    finally:
        pool.shutdown(cancel_futures=True)
