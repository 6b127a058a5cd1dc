"""Missing coordinates of landmarks filled by low-rank matrix completion (the paper, evaluation)."""

import contextlib
import io
import warnings
from collections.abc import Iterator

import numpy as np
from threadpoolctl import threadpool_limits


class CompletionError(Exception):
    """The solver gave no usable matrix; the message says why."""


def complete(values: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Fill a matrix by singular value thresholding (Cai, Candes and Shen 2010); the observed values stay.

    values: (m, n), already filled with something where observed (m, n) bool is false. Returns (m, n) float64.
    Raises CompletionError where the package is missing, or the result is not finite.
    """
    if observed.all():
        return values
    with (
        _svd_by_gram_matrix() as svt_solve,
        threadpool_limits(1, "blas"),  # hundreds of small products: waiting for a second thread costs more
        warnings.catch_warnings(),
        np.errstate(all="ignore"),
    ):
        warnings.simplefilter("ignore")
        try:
            filled = svt_solve(values, observed.astype(np.float64))
        except (np.linalg.LinAlgError, ArithmeticError, ValueError) as error:
            raise CompletionError(str(error)) from error
    if not np.isfinite(filled).all():
        raise CompletionError("it did not converge")
    return np.where(observed, values, filled)


@contextlib.contextmanager
def _svd_by_gram_matrix() -> Iterator:
    """matrix_completion.svt_solve with a faster and repeatable decomposition, and nothing printed.

    The package's own starts from random vectors, takes most of the solver's time, and gives at most
    min(m, n) - 1 values, with which the solver loops for ever where all of them are large.
    """
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            from matrix_completion import svt_solver  # slow to import: it brings cvxpy
        except ImportError as error:
            raise CompletionError(f"matrix_completion cannot be imported: {error}") from error
        original = svt_solver._my_svd
        svt_solver._my_svd = _leading_svd
        try:
            yield svt_solver.svt_solve
        finally:
            svt_solver._my_svd = original


def _leading_svd(matrix: np.ndarray, count: int, _: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The `count` largest singular values and vectors of (m, n), m >= n or not; zeros beyond the rank."""
    if matrix.shape[0] < matrix.shape[1]:
        left, values, right = _leading_svd(matrix.T, count, _)
        return right.T, values, left.T
    squares, vectors = np.linalg.eigh(matrix.T @ matrix)
    values = np.sqrt(squares[::-1][:count].clip(min=0))
    right = vectors.T[::-1][:count]
    left = matrix @ right.T / np.where(values > 0, values, 1)
    beyond = count - len(values)
    return np.pad(left, ((0, 0), (0, beyond))), np.pad(values, (0, beyond)), np.pad(right, ((0, beyond), (0, 0)))
