import numpy as np

from Networks.consensus.agreement import agree

SHAPE = np.array([(0.3, 0.3), (0.7, 0.3), (0.5, 0.5), (0.4, 0.7), (0.6, 0.7), (0.5, 0.25)])


def pictures(count=200, seed=0):
    """Places (n, 6, 2) of a shape that is shifted and turned in each picture."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(-0.4, 0.4, count)
    turn = np.stack([np.stack([np.cos(angle), -np.sin(angle)], 1), np.stack([np.sin(angle), np.cos(angle)], 1)], 1)
    return rng, np.einsum("nab,kb->nka", turn, SHAPE - 0.5) + 0.5 + rng.uniform(-0.08, 0.08, (count, 1, 2))


def test_of_two_places_that_look_alike_the_one_is_chosen_where_the_others_expect_it():
    """Clusters 0 and 1 are a left and a right eye that look the same: both are candidates of both."""
    rng, places = pictures()
    candidates = np.stack([places, places[:, [1, 0, 3, 4, 2, 2]]], axis=2)
    similarity = np.full(candidates.shape[:3], 0.8)
    similarity[:, 2:, 1] = 0.2
    swapped = rng.random(len(places)) < 0.3  # here the wrong eye looks a little better
    similarity[:, :2, 1] = 0.79
    similarity[swapped, :2, 0], similarity[swapped, :2, 1] = 0.79, 0.8
    order = np.argsort(-similarity, axis=2, kind="stable")
    candidates = np.take_along_axis(candidates, order[..., None], 2)
    similarity = np.take_along_axis(similarity, order, 2)

    found = agree(candidates, similarity)

    chosen = np.take_along_axis(candidates, found.chosen[:, :, None, None], 2)[:, :, 0]
    wrong_before = (np.abs(candidates[:, :2, 0] - places[:, :2]).max(axis=2) > 1e-6).mean()
    wrong = (np.abs(chosen - places).max(axis=2) > 1e-6).mean()
    assert wrong_before > 0.25
    assert wrong < 0.01


def test_a_place_that_the_others_do_not_expect_costs_more():
    _, places = pictures()
    candidates = places[:, :, None].copy()
    candidates[:20, 3, 0] = (0.05, 0.05)  # far off, and nothing else to choose
    found = agree(candidates, np.full(candidates.shape[:3], 0.8))
    assert found.cost[:20, 3].min() > found.cost[20:].max() + 1


def test_a_better_look_costs_less():
    _, places = pictures()
    similarity = np.full((*places.shape[:2], 1), 0.8)
    similarity[0, 0] = 0.95
    found = agree(places[:, :, None], similarity)
    assert found.cost[0, 0] < found.cost[1:, 0].min() - 0.5


def test_no_pictures():
    found = agree(np.zeros((0, 4, 2, 2)), np.zeros((0, 4, 2)))
    assert found.chosen.shape == (0, 4)


def test_where_few_clusters_agree_all_count_as_less_sure():
    """In picture 0 three clusters are where they belong, and nothing is seen of the others."""
    _, places = pictures()
    candidates = places[:, :, None].copy()
    candidates[0, 3:, 0] = [(0.02, 0.9), (0.95, 0.04), (0.9, 0.95)]
    similarity = np.full(candidates.shape[:3], 0.8)
    similarity[0, 3:] = 0.2
    found = agree(candidates, similarity)
    assert found.cost[0, :3].min() > found.cost[1:, :3].max() + 0.5


def test_many_pictures_are_handled_as_few(monkeypatch):
    rng, places = pictures()
    candidates = places[:, :, None] + rng.normal(0, 0.05, (*places.shape[:2], 3, 2))
    similarity = rng.uniform(0.4, 0.9, candidates.shape[:3])
    whole = agree(candidates, similarity)
    monkeypatch.setattr("Networks.consensus.agreement._PICTURES_AT_ONCE", 7)
    pieces = agree(candidates, similarity)
    assert (pieces.chosen == whole.chosen).all()
    assert (pieces.cost == whole.cost).all()
