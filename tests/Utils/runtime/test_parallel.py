import os

import cv2
import numpy as np
import pytest

from Utils.runtime.errors import UserError
from Utils.runtime.parallel import ahead, parallel_map


def _add(shared: int, item: int) -> int:
    if item == 99:
        raise UserError("ninety-nine")
    return shared + item


def _die(shared: None, item: int) -> None:
    os._exit(9)


def _resize(picture: np.ndarray, size: int) -> int:
    return len(cv2.resize(picture, (size, size)))


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_all_results_with_their_places(workers):
    items = list(range(10, 40))
    assert dict(parallel_map(_add, 5, items, workers)) == {i: 15 + i for i in range(30)}


@pytest.mark.parametrize("workers", [1, 2])
def test_errors_of_the_function_arrive(workers):
    with pytest.raises(UserError, match="ninety-nine"):
        list(parallel_map(_add, 5, [1, 99], workers))


def test_a_killed_worker_is_said_in_one_line():
    with pytest.raises(UserError, match="worker process was killed"):
        list(parallel_map(_die, None, [1, 2, 3], 2))


def test_workers_start_after_opencv_has_used_threads():
    picture = np.zeros((2000, 2000, 3), np.uint8)
    cv2.setNumThreads(4)
    cv2.warpAffine(picture, np.eye(2, 3), (2000, 2000))
    assert sorted(parallel_map(_resize, picture, [8, 16, 32], 3)) == [(0, 8), (1, 16), (2, 32)]
    assert cv2.getNumThreads() == 4


def test_nothing_to_do():
    assert list(parallel_map(_add, 5, [], 4)) == []


@pytest.mark.parametrize("threads", [0, 3])
def test_results_ahead_come_in_order_and_few_wait(threads):
    started: list[int] = []

    def double(item: int) -> int:
        started.append(item)
        return 2 * item

    results = ahead(double, iter(range(9)), threads, depth=4)
    assert next(results) == 0
    assert set(started) <= {0, 1, 2, 3}
    assert list(results) == [2, 4, 6, 8, 10, 12, 14, 16]
    assert sorted(started) == list(range(9))
