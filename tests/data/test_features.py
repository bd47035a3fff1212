import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dakit.data.features import feature_chunks, fit_pca, gather, nearest, nearest_with_reuse, share
from dakit.data.sets import TensorImages
from dakit.errors import DakitError

CPU = torch.device("cpu")


def one_group(pool, anchors):
    return {
        "pool_groups": torch.zeros(len(pool), dtype=torch.int64),
        "anchor_groups": torch.zeros(len(anchors), dtype=torch.int64),
    }


def all_distances(anchors, pool):
    """Float64 ``(A, N)`` from the definition."""
    difference = np.float64(anchors)[:, None] - np.float64(pool)[None]
    return np.sqrt((difference**2).sum(-1))


def greedy(distances, t, r):
    """Every pair in the order of (distance, anchor, index), on the whole matrix."""
    pairs = sorted((distances[a, n], a, n) for a in range(distances.shape[0]) for n in range(distances.shape[1]))
    rows, used = [[] for _ in distances], [0] * distances.shape[1]
    for distance, a, n in pairs:
        if np.isfinite(distance) and len(rows[a]) < t and used[n] < r:
            rows[a].append(n)
            used[n] += 1
    return rows


# ------------------------------------------------------------------------------------ streaming
def test_chunks_hold_every_image_once_in_order_and_no_gradient():
    pixels = np.arange(10, dtype=np.uint8).repeat(12).reshape(10, 3, 2, 2)
    layer = nn.Conv2d(3, 1, 1, bias=False)
    nn.init.ones_(layer.weight)
    sizes, rows = [], []
    for chunk in feature_chunks(TensorImages(pixels), lambda x: layer(x.float()), device=CPU, batch=4):
        assert not chunk.requires_grad
        assert torch.is_grad_enabled()  # a generator must not leave its no_grad with the caller
        sizes.append(len(chunk))
        rows.append(chunk)
    assert sizes == [4, 4, 2]
    assert torch.cat(rows).tolist() == [[3.0 * i] * 4 for i in range(10)]


def test_an_empty_set_has_no_chunks():
    images = TensorImages(np.zeros((0, 3, 2, 2), np.uint8))
    assert list(feature_chunks(images, lambda x: x, device=CPU)) == []


@pytest.mark.parametrize("images", [0, 1, 7, 8, 9, 41])
@pytest.mark.parametrize("processes", [1, 2, 5])
def test_shares_are_whole_chunks_and_hold_every_image_once(monkeypatch, processes, images):
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    shares = []
    for rank in range(processes):
        monkeypatch.setenv("RANK", str(rank))
        shares.append(share(images, 4))
    assert [i for one in shares for i in one] == list(range(images))
    assert {one.start % 4 for one in shares if one} <= {0}
    chunks = [-(-len(one) // 4) for one in shares]
    assert max(chunks) - min(chunks) <= 1


def test_gather_is_cat_and_counts_the_rows():
    rows = torch.arange(15.0).view(5, 3)
    assert torch.equal(gather(iter(rows.split(2)), 5), rows)
    with pytest.raises(ValueError, match="expected 6 rows, got 5"):
        gather(rows.split(2), 6)
    with pytest.raises(ValueError, match="expected 1 rows, got 0"):
        gather([], 1)


# ------------------------------------------------------------------------------------------ PCA
def test_pca_from_the_gram_matrix_is_sklearns_up_to_sign():
    from sklearn.decomposition import PCA as Reference

    generator = torch.Generator().manual_seed(0)
    scales = torch.linspace(5, 0.5, 200)
    sample = torch.randn(40, 200, generator=generator) * scales + 7
    others = torch.randn(9, 200, generator=generator) * scales + 7
    ours = fit_pca(sample.clone(), 6)
    reference = Reference(6, svd_solver="full").fit(sample.double().numpy())
    signs = np.sign((ours.axes.T.numpy() * reference.components_).sum(1))
    np.testing.assert_allclose(ours.axes.T.numpy() * signs[:, None], reference.components_, atol=2e-5)
    expected = reference.transform(others.double().numpy()) * signs
    np.testing.assert_allclose(ours(others).numpy(), expected, atol=2e-4)


def test_pca_drops_directions_in_which_nothing_varies():
    generator = torch.Generator().manual_seed(1)
    plane = torch.randn(30, 2, generator=generator) @ torch.randn(2, 50, generator=generator)
    pca = fit_pca(plane.clone(), 10)
    assert pca.axes.shape == (50, 2)
    torch.testing.assert_close(pca.axes.T @ pca.axes, torch.eye(2), atol=1e-5, rtol=0)
    projected = pca(plane).numpy()
    np.testing.assert_allclose(all_distances(projected, projected), all_distances(plane, plane), atol=1e-4)


def test_pca_of_equal_images_is_refused():
    with pytest.raises(DakitError, match="all 4 images sampled for the PCA have the same features"):
        fit_pca(torch.full((4, 9), 3.0), 2)


# -------------------------------------------------------------------------------------- nearest
@pytest.mark.parametrize("keep", [1, 5, 60])
def test_nearest_is_brute_force_whatever_the_chunks(keep):
    generator = torch.Generator().manual_seed(2)
    pool, anchors = torch.randn(60, 30, generator=generator), torch.randn(7, 30, generator=generator)
    full = all_distances(anchors, pool)
    order = full.argsort(1)[:, :keep]
    for size in (1, 7, 60):
        indices, distances = nearest(pool.split(size), anchors, keep, **one_group(pool, anchors))
        np.testing.assert_array_equal(indices.numpy(), order)
        np.testing.assert_allclose(distances.numpy(), np.take_along_axis(full, order, 1), rtol=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    pool=st.lists(st.tuples(st.integers(-2, 2), st.integers(-2, 2)), min_size=1, max_size=14),
    anchors=st.lists(st.tuples(st.integers(-2, 2), st.integers(-2, 2)), min_size=1, max_size=4),
    keep=st.integers(1, 6),
    size=st.integers(1, 5),
)
def test_equal_distances_go_to_the_lower_index(pool, anchors, keep, size):
    # whole numbers: many ties, and float32 is exact but for the root, which builds of torch and NumPy round differently
    rows, points = torch.tensor(pool, dtype=torch.float32), torch.tensor(anchors, dtype=torch.float32)
    indices, distances = nearest(rows.split(size), points, keep, **one_group(rows, points))
    full = all_distances(points, rows)
    expected = full.argsort(1, kind="stable")[:, :keep]
    np.testing.assert_array_equal(indices.numpy(), expected)
    np.testing.assert_allclose(distances.numpy(), np.take_along_axis(full, expected, 1), rtol=1e-15)


def test_groups_never_mix_and_short_rows_are_padded():
    pool = torch.tensor([[0.0], [1], [2], [3]])
    indices, distances = nearest(
        pool.split(3),
        torch.tensor([[0.0], [0.0]]),
        3,
        pool_groups=torch.tensor([1, 0, 0, 0]),
        anchor_groups=torch.tensor([0, 1]),
    )
    assert indices.tolist() == [[1, 2, 3], [0, -1, -1]]
    assert distances.tolist() == [[1, 2, 3], [0, np.inf, np.inf]]


def test_an_equal_image_is_at_distance_near_zero_and_never_nan():
    row = torch.rand(1, 5000, generator=torch.Generator().manual_seed(3)) * 100
    _, distances = nearest([row.repeat(33, 1)], row, 33, **one_group(range(33), row))
    assert distances.isfinite().all()
    assert distances.max() < 2e-3 * row.norm()


# --------------------------------------------------------------------------------------- reuse
@pytest.mark.parametrize(("t", "r"), [(1, 1), (3, 1), (3, 2), (2, 5), (5, 1)])
@pytest.mark.parametrize("spread", [0.05, 1.0])  # anchors close together compete for the same images
def test_reuse_is_greedy_on_the_full_matrix(t, r, spread):
    generator = torch.Generator().manual_seed(4)
    pool, anchors = torch.randn(90, 4, generator=generator), spread * torch.randn(12, 4, generator=generator)
    full = all_distances(anchors, pool)
    for size in (1, 11, 90):
        indices, distances, _ = nearest_with_reuse(
            pool.split(size), anchors, t, max_reuse=r, **one_group(pool, anchors)
        )
        assert indices.tolist() == greedy(full, t, r)
        np.testing.assert_allclose(distances, np.take_along_axis(full, indices.numpy(), 1), rtol=1e-4)


def test_reuse_is_greedy_within_groups_too():
    generator = torch.Generator().manual_seed(5)
    pool, anchors = torch.randn(60, 3, generator=generator), 0.1 * torch.randn(10, 3, generator=generator)
    groups = {"pool_groups": torch.arange(60) % 3, "anchor_groups": torch.arange(10) % 2}
    full = all_distances(anchors, pool)
    full[(groups["anchor_groups"][:, None] != groups["pool_groups"]).numpy()] = np.inf
    indices, _, _ = nearest_with_reuse(pool.split(16), anchors, 4, max_reuse=1, **groups)
    assert indices.tolist() == greedy(full, 4, 1)


def test_a_hub_is_chosen_by_all_or_once():
    # pool image 0 lies amid the anchors, image 1 + k far out beside anchor k
    angles = torch.arange(5) * 2 * torch.pi / 5
    anchors = torch.stack([angles.cos(), angles.sin()], 1)
    pool = torch.cat([torch.zeros(1, 2), 3 * anchors])
    groups = one_group(pool, anchors)
    plain, _, _ = nearest_with_reuse([pool], anchors, 1, max_reuse=None, **groups)
    assert plain.flatten().tolist() == [0] * 5
    distinct, distances, _ = nearest_with_reuse([pool], anchors, 1, max_reuse=1, **groups)
    assert sorted(distinct.flatten().tolist())[0] == 0
    assert len(set(distinct.flatten().tolist())) == 5
    assert distances.flatten().sort().values.tolist() == pytest.approx([1, 2, 2, 2, 2], abs=1e-6)


def test_the_last_uses_of_a_pool_are_all_found_with_reuse_one():
    # 6 anchors x 2 = 12 images: the pool is used up to the last one
    generator = torch.Generator().manual_seed(6)
    pool, anchors = torch.randn(12, 2, generator=generator), torch.randn(6, 2, generator=generator)
    indices, _, _ = nearest_with_reuse(pool.split(5), anchors, 2, max_reuse=1, **one_group(pool, anchors))
    assert sorted(indices.flatten().tolist()) == list(range(12))
    assert indices.tolist() == greedy(all_distances(anchors, pool), 2, 1)


def test_an_anchor_that_greed_leaves_short_is_named():
    # anchors 0 and 1 use up images 0 and 1, so anchor 2 finds only image 2, and may not have it twice
    pool, anchors = torch.tensor([[0.0], [1], [9]]), torch.tensor([[0.0], [0], [10]])
    with pytest.raises(DakitError, match="leaves anchor 2 with only 1 of 2"):
        nearest_with_reuse([pool], anchors, 2, max_reuse=2, **one_group(pool, anchors))


# --------------------------------------------------------------------------------- found by mutants
@pytest.mark.parametrize("part", [None, range(30)])
def test_other_processes_are_asked_where_each_has_a_part_and_only_there(monkeypatch, part):
    """One that waits for others which do not call this would wait for ever."""
    told = []

    def tell(tensor, process=0):
        told.append(process)
        return tensor

    monkeypatch.setattr("dakit.data.features.processes.told", tell)
    generator = torch.Generator().manual_seed(0)
    pool, anchors = torch.randn(30, 4, generator=generator), torch.randn(3, 4, generator=generator)
    indices, _ = nearest([pool], anchors, 5, part=part, **one_group(pool, anchors))
    assert indices.tolist() == all_distances(anchors, pool).argsort(1)[:, :5].tolist()
    assert told == ([] if part is None else [0, 0])


def test_the_parts_of_three_processes_make_the_nearest_of_all(monkeypatch):
    """What each tells the others is put together in order: of equal distances the lower index is first."""
    generator = torch.Generator().manual_seed(0)
    pool = torch.randint(3, (31, 3), generator=generator).float()  # many are equally far
    anchors = torch.randint(3, (4, 3), generator=generator).float()
    parts = [range(12), range(12, 24), range(24, 31)]

    def ask(part):
        return nearest([pool[part.start : part.stop]], anchors, 5, part=part, **one_group(pool, anchors))

    own, told = [], []

    def keep(tensor, process=0):
        told.append(tensor.clone())
        return tensor

    monkeypatch.setattr("dakit.data.features.processes.told", keep)
    for part in parts:
        told.clear()
        ask(part)
        own.append([*told])  # distances, squared, and indices
    turn = {}

    def tell(tensor, process=0):
        which = turn[process] = turn.get(process, -1) + 1
        return own[process][which].clone()

    monkeypatch.setattr("dakit.data.features.processes.told", tell)
    monkeypatch.setattr("dakit.data.features.processes.count", lambda: 3)
    for part in parts:
        turn.clear()
        indices, distances = ask(part)
        every = all_distances(anchors, pool)
        assert indices.tolist() == every.argsort(1, kind="stable")[:, :5].tolist()
        assert np.allclose(distances, np.sort(every, 1)[:, :5])
