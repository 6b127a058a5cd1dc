"""The same work on many items, on all cores."""

import collections
import contextlib
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing.connection import wait as wait_for
from typing import Any, TypeVar

import cv2

from Utils.runtime.errors import UserError
from Utils.runtime.process import set_up_worker

Item = TypeVar("Item")
Result = TypeVar("Result")
CHUNKS_PER_WORKER = 16  # small enough that no worker idles for long at the end

_shared: Any = None  # a worker process's copy of what all calls share


def parallel_map(
    function: Callable[[Any, Item], Result],
    shared: Any,
    items: Sequence[Item],
    workers: int,
    chunk: int | None = None,
) -> Iterator[tuple[int, Result]]:
    """Yield (i, function(shared, items[i])) in order.

    `function` belongs to a module; each worker process receives `shared` once. Fewer than two workers: this process
    does the work. Errors of `function` are raised here. Workers end with this process, however it ends. Raises
    UserError if a worker is killed, for example when memory runs out.
    """
    if workers < 2 or len(items) < 2:
        yield from ((i, function(shared, item)) for i, item in enumerate(items))
        return
    # A forked worker would wait for ever for OpenCV's threads, which it does not inherit.
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    chunk = chunk or max(1, min(64, len(items) // (workers * CHUNKS_PER_WORKER)))
    with starting(workers):
        executor = ProcessPoolExecutor(workers, initializer=_start_worker, initargs=(shared,))
    try:
        with starting(workers):
            results = executor.map(partial(_work, function), items, chunksize=chunk)
        yield from enumerate(results)
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process was killed, perhaps because memory ran out; use a smaller --num_workers"
        ) from error
    except BaseException:  # also if the caller stops early: do not wait for the workers
        for worker in multiprocessing.active_children():
            worker.kill()
        raise
    finally:
        executor.shutdown(cancel_futures=True)
        cv2.setNumThreads(threads)


@contextlib.contextmanager
def starting(workers: int) -> Iterator[None]:
    """UserError if the system refuses what worker processes need, such as semaphores, which lie in /dev/shm."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{workers} worker processes cannot be started ({error.strerror}); use a smaller --num_workers, or give "
            f"a container more shared memory"
        ) from error


def _start_worker(shared: Any) -> None:
    global _shared
    _shared = shared
    set_up_worker()
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:  # always, in a worker
        wait_for([parent.sentinel])
        os._exit(1)


def _work(function: Callable, item: Any) -> Any:
    return function(_shared, item)


def ahead(function: Callable[[Item], Result], items: Iterable[Item], threads: int, depth: int) -> Iterator[Result]:
    """function(item) of each item, in order, by threads that run at most `depth` items ahead of the caller.

    For work that releases Python's lock, such as decoding pictures. Errors of `function` are raised here. With 0
    threads the caller's thread does the work.
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
