"""Missing coordinates of landmarks filled by low-rank matrix completion (METHOD.md, section 6)."""

import numpy as np
from threadpoolctl import threadpool_limits

_MOST_ITERATIONS = 1000
_TOLERANCE = 0.01  # of the observed values' norm


def complete(values: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Fill a matrix by singular value thresholding (Cai, Candes and Shen 2010); the observed values stay.

    values: (m, n), already filled with something where observed (m, n) bool is false. Returns (m, n) float64.
    Threshold, step and end are those of `matrix_completion.svt_solve`. Raises LinAlgError if it does not converge.
    """
    if observed.all():
        return values
    if len(values) < values.shape[1]:
        return complete(values.T, observed.T).T
    threshold, step = 5 * sum(values.shape) / 2, 1.2 * values.size / max(observed.sum(), 1)
    dual, filled = np.zeros_like(values), values
    # Hundreds of small products: waiting for a second thread costs more than it gains.
    with threadpool_limits(1, "blas"), np.errstate(all="ignore"):
        for _ in range(_MOST_ITERATIONS):
            # The singular values and right vectors of a tall matrix come from its small Gram matrix.
            squares, right = np.linalg.eigh(dual.T @ dual)
            singular = np.sqrt(squares.clip(min=0))
            large = singular > threshold
            singular, right = singular[large], right[:, large]
            filled = dual @ right * ((singular - threshold) / singular) @ right.T
            error = observed * (values - filled)
            dual += step * error
            if np.linalg.norm(error) < _TOLERANCE * np.linalg.norm(observed * values):
                break
    if not np.isfinite(dual).all():
        raise np.linalg.LinAlgError("it did not converge")
    return np.where(observed, values, filled)
