import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from Utils.completion import complete


def low_rank(m, n, rank, missing, seed=0):
    """A matrix of the rank, the same with missing points (pairs of columns) filled by means, and what is observed."""
    rng = np.random.default_rng(seed)
    whole = 0.5 + 0.1 * rng.standard_normal((m, rank)) @ rng.standard_normal((rank, n))
    observed = np.repeat(rng.random((m, -(-n // 2))) >= missing, 2, axis=1)[:, :n]
    means = np.where(observed, whole, 0).sum(axis=0) / observed.sum(axis=0)
    return whole, np.where(observed, whole, means), observed


def test_missing_values_come_from_the_others():
    whole, values, observed = low_rank(60, 20, 2, 0.15)
    filled = complete(values, observed)
    np.testing.assert_array_equal(filled[observed], values[observed])
    gaps = ~observed
    assert np.abs(filled - whole)[gaps].mean() < 0.4 * np.abs(values - whole)[gaps].mean()
    np.testing.assert_array_equal(filled, complete(values, observed))


@pytest.mark.parametrize("shape", [(6, 2), (2, 6), (3, 3), (1, 4), (30, 2)])
def test_small_matrices_end(shape):
    """The package's solver loops forever on some of these."""
    _, values, observed = low_rank(*shape, 2, 0.0)
    observed[0, 0] = False
    assert np.isfinite(complete(values, observed)).all()


def test_nothing_missing():
    values = np.ones((3, 2))
    assert complete(values, np.ones((3, 2), bool)) is values


@pytest.mark.parametrize(("shape", "rank", "missing"), [((40, 12), 3, 0.2), ((30, 60), 4, 0.1)])
def test_same_as_the_package(shape, rank, missing):
    """matrix_completion.svt_solve, which METHOD.md names."""
    from matrix_completion import svt_solve

    _, values, observed = low_rank(*shape, rank, missing)
    with threadpool_limits(1, "blas"):
        expected = svt_solve(values, observed.astype(float))
    np.testing.assert_allclose(complete(values, observed)[~observed], expected[~observed], atol=1e-6)


def test_what_does_not_converge_is_said():
    values = np.ones((3, 2))
    for unknown in (values * np.inf, values * np.nan):
        with pytest.raises(np.linalg.LinAlgError, match="not converge"):
            complete(unknown, np.eye(3, 2, dtype=bool))
