"""The same work on many items, on all cores."""

import collections
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as wait_for
from typing import Any, TypeVar

import cv2

from Utils.runtime.errors import UserError
from Utils.runtime.process import set_up_worker

Item = TypeVar("Item")
Result = TypeVar("Result")
CHUNKS_PER_WORKER = 16  # small enough that no worker idles for long at the end

_shared: Any = None  # in a worker process: what all calls have in common


def parallel_map(
    function: Callable[[Any, Item], Result],
    shared: Any,
    items: Sequence[Item],
    workers: int,
    chunk: int | None = None,
) -> Iterator[tuple[int, Result]]:
    """Yield (i, function(shared, items[i])) in order of completion.

    `function` is one of a module; `shared` goes to each worker process once. With fewer than two workers all
    is done in this process. What `function` raises is raised here. Workers end with this process, however
    it ends. Raises UserError where a worker is killed, as happens when memory runs out.
    """
    if workers < 2 or len(items) < 2:
        yield from ((i, function(shared, item)) for i, item in enumerate(items))
        return
    # A forked worker inherits OpenCV's threads as a number alone and would wait for them for ever, so there are
    # none while workers start; and in the workers there are to be none: the processes fill the cores.
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    chunk = chunk or max(1, min(64, len(items) // (workers * CHUNKS_PER_WORKER)))
    executor = ProcessPoolExecutor(workers, initializer=_start_worker, initargs=(shared,))
    try:
        starts = range(0, len(items), chunk)
        for done in as_completed([executor.submit(_work, function, i, items[i : i + chunk]) for i in starts]):
            yield from done.result()
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process was killed, perhaps for want of memory; use a smaller --num_workers"
        ) from error
    except BaseException:  # also where the caller wants no more: what the workers are at is not waited for
        for worker in multiprocessing.active_children():
            worker.kill()
        raise
    finally:
        executor.shutdown(cancel_futures=True)
        cv2.setNumThreads(threads)


def _start_worker(shared: Any) -> None:
    global _shared
    _shared = shared
    set_up_worker()
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:  # that of a worker always is there
        wait_for([parent.sentinel])
        os._exit(1)


def _work(function: Callable, start: int, items: Sequence) -> list[tuple[int, Any]]:
    return [(start + i, function(_shared, item)) for i, item in enumerate(items)]


def ahead(function: Callable[[Item], Result], items: Iterable[Item], threads: int, depth: int) -> Iterator[Result]:
    """function(item) of each item, in their order, by threads that are at most `depth` items ahead of whoever asks.

    For work that leaves Python's lock, such as decoding pictures; what waits is bounded by `depth`. What `function`
    raises is raised here. No threads: each when it is asked for.
    """
    if threads < 1:
        yield from map(function, items)
        return
    waiting: collections.deque[Future[Result]] = collections.deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= depth:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
