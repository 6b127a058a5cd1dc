import numpy as np
import pytest

from Utils import completion
from Utils.completion import CompletionError, complete


def low_rank(m, n, rank, missing, seed=0):
    rng = np.random.default_rng(seed)
    whole = 0.5 + 0.1 * rng.standard_normal((m, rank)) @ rng.standard_normal((rank, n))
    observed = rng.random((m, n)) >= missing
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
    """With its own decomposition the solver loops for ever on some of these."""
    _, values, observed = low_rank(*shape, 2, 0.0)
    observed[0, 0] = False
    assert np.isfinite(complete(values, observed)).all()


def test_nothing_missing():
    values = np.ones((3, 2))
    assert complete(values, np.ones((3, 2), bool)) is values


def test_same_as_the_original_decomposition():
    from matrix_completion import svt_solve

    _, values, observed = low_rank(40, 12, 3, 0.2)
    expected = svt_solve(values, observed.astype(float))
    np.testing.assert_allclose(complete(values, observed)[~observed], expected[~observed], atol=1e-6)


def test_failures_are_one_kind(monkeypatch):
    def failing(*_):
        raise np.linalg.LinAlgError("SVD did not converge")

    monkeypatch.setattr(completion, "_leading_svd", failing)
    with pytest.raises(CompletionError, match="did not converge"):
        complete(np.ones((3, 2)), np.eye(3, 2, dtype=bool))


def test_leading_svd():
    rng = np.random.default_rng(0)
    for shape in ((7, 4), (4, 7)):
        matrix = rng.standard_normal(shape)
        left, values, right = completion._leading_svd(matrix, 6, "")
        np.testing.assert_allclose(values[:4], np.linalg.svd(matrix)[1], atol=1e-12)
        assert values[4:].tolist() == [0, 0]
        np.testing.assert_allclose(left @ np.diag(values) @ right, matrix, atol=1e-12)
