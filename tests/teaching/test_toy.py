"""The toy: gradients against finite differences, metrics against the library's, optima against their closed forms."""

import numpy as np
import pytest

from cillab import figures
from cillab.core.errors import InvalidRequestError
from cillab.geometry import etf, nc1, nc2, nc3
from cillab.geometry.rows import centre, cosine_matrix
from cillab.teaching.toy import simulate
from cillab.teaching.toy_model import objective


@pytest.mark.parametrize("loss", ["ce", "mse", "dr"])
@pytest.mark.parametrize("model", ["free", "network"])
def test_gradients_are_those_of_the_loss(loss, model) -> None:
    rng = np.random.default_rng(3)
    labels, inputs = np.array([0, 0, 0, 1, 2, 2]), rng.normal(size=(6, 5))
    values = {"weight": rng.normal(size=(3, 4)), "bias": rng.normal(size=3)}
    if model == "free":
        values["features"], inputs = rng.normal(size=(6, 4)), None
    else:
        values |= {"first": rng.normal(size=(7, 5)), "first_bias": rng.normal(size=7)}
        values |= {"second": rng.normal(size=(4, 7)), "second_bias": rng.normal(size=4)}
    _, gradient = objective(values, inputs, labels, loss, 0.07, learned=True)
    assert set(gradient) == set(values)
    for name, slope in gradient.items():
        numeric = np.zeros_like(slope)
        for at in np.ndindex(slope.shape):
            ends = []
            for shift in (1e-6, -1e-6):
                moved = {key: value.copy() for key, value in values.items()}
                moved[name][at] += shift
                ends.append(objective(moved, inputs, labels, loss, 0.07, learned=True)[0])
            numeric[at] = (ends[0] - ends[1]) / 2e-6
        np.testing.assert_allclose(slope, numeric, atol=1e-7, err_msg=name)


def test_metrics_are_those_of_the_library() -> None:
    toy = simulate(4, 5, per_class=6, steps=15, frames=3, seed=4)
    features, weight, labels = toy.features[-1], toy.weight[-1], toy.labels
    means = np.stack([features[labels == c].mean(axis=0) for c in range(4)])
    residual = features - means[labels]
    within = residual.T @ residual / len(labels)
    assert toy.nc1[-1] == pytest.approx(nc1.nc1_pinv(within, centre(means)).value)
    assert toy.nc2[-1] == pytest.approx(nc2.maximal_angle(means))
    assert toy.equinorm[-1] == pytest.approx(nc2.equinorm(means).value)
    assert toy.nc3[-1] == pytest.approx(nc3.nc3(weight, means).distance)
    length = np.linalg.norm(centre(means), axis=1).mean()
    np.testing.assert_allclose(centre(toy.ideal[-1]), length * etf.nearest_etf(means), atol=1e-12)


def test_cross_entropy_ends_in_a_simplex_frame() -> None:
    toy = simulate(4, 3, loss="ce", decay=5e-3)
    assert toy.nc1[0] > 1
    assert toy.nc1[-1] < 1e-12
    assert toy.nc2[0] > 0.1
    assert max(toy.nc2[-1], toy.equinorm[-1], toy.nc3[-1]) < 1e-4


@pytest.mark.parametrize("decay", [0.01, 0.06, 0.3])
@pytest.mark.parametrize("per_class", [3, 12])
def test_squared_error_reaches_its_closed_form(decay, per_class) -> None:
    """W W^T = max(0, 1 - K decay) (I - 11^T / K): singular values of the centred targets, thresholded."""
    toy = simulate(4, 5, per_class, loss="mse", decay=decay, steps=1000, frames=2)
    wanted = max(0.0, 1 - 4 * decay) * (np.eye(4) - 0.25)
    np.testing.assert_allclose(toy.weight[-1] @ toy.weight[-1].T, wanted, atol=1e-4)


def test_dot_regression_puts_every_image_on_its_vertex() -> None:
    toy = simulate(4, 6, loss="dr", head="etf", decay=0.3)
    aligned = (toy.features[-1] * toy.weight[-1][toy.labels]).sum(axis=1)
    assert aligned.min() > 0.97  # the pull fades with the cube of the angle
    np.testing.assert_allclose(np.linalg.norm(toy.features[-1], axis=1), 1)
    np.testing.assert_array_equal(toy.weight[0], toy.weight[-1])


def test_imbalance_pulls_minority_rows_together() -> None:
    def minority(ratio: float) -> float:
        return float(cosine_matrix(simulate(4, 3, 100, imbalance=ratio, steps=400, frames=2).weight[-1])[2, 3])

    assert minority(1.0) == pytest.approx(-1 / 3, abs=1e-3)
    assert minority(1.0) + 0.1 < minority(10.0)
    assert minority(100.0) > 0.9


def test_a_new_task_breaks_a_learnt_frame_and_not_a_fixed_one() -> None:
    learned = simulate(3, 3, added=1, steps=400, frames=5)
    fixed = simulate(3, 3, added=1, head="etf", steps=400, frames=5)
    replayed = simulate(3, 3, added=1, old_data=True, steps=400, frames=5)
    end = int((learned.task == 0).sum()) - 1
    assert learned.nc2[end] < 1e-3
    assert learned.accuracy(0)[end] == 1
    assert learned.accuracy(0)[-1] == 0
    assert learned.nc2[-1] > 0.1
    for toy in (fixed, replayed):
        assert toy.accuracy(0)[-1] == toy.accuracy(1)[-1] == 1
        assert toy.nc2[-1] < 0.02
    assert np.isnan(learned.features[end, learned.labels == 3]).all()
    assert np.isfinite(learned.features[end + 1]).all()
    # without old data nothing pulls at the free features of old images
    np.testing.assert_array_equal(fixed.features[end][fixed.labels < 3], fixed.features[-1][fixed.labels < 3])


def test_a_shared_network_forgets_even_under_a_fixed_frame() -> None:
    assert simulate(3, 3, added=1, head="etf", model="network", frames=2).accuracy(0)[-1] < 0.5
    assert simulate(3, 3, added=1, head="etf", model="network", old_data=True, frames=2).accuracy()[-1] == 1


def test_every_knob_of_the_page_stays_finite_and_goes_downhill() -> None:
    for loss, head in (("ce", "learned"), ("ce", "etf"), ("mse", "learned"), ("mse", "etf"), ("dr", "etf")):
        for model in ("free", "network"):
            for decay in (1e-4, 0.1):
                knobs = {"loss": loss, "head": head, "model": model, "decay": decay, "imbalance": 30.0, "added": 2}
                toy = simulate(8, 9, 30, steps=60, frames=4, **knobs)
                assert np.isfinite(toy.loss).all()
                assert (np.diff(toy.loss[toy.task == 0]) <= 0).all()
                assert toy.loss[3] < 0.9 * toy.loss[0]
                assert np.isfinite(toy.features[-1]).all()


def test_the_seed_decides_everything() -> None:
    one, same, other = (simulate(steps=5, frames=2, seed=s).features for s in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_impossible_requests_are_refused() -> None:
    with pytest.raises(InvalidRequestError, match='needs head="etf"'):
        simulate(loss="dr")
    with pytest.raises(InvalidRequestError, match="5 classes needs dim >= 4, got 3"):
        simulate(4, 3, head="etf", added=1)
    with pytest.raises(InvalidRequestError, match="imbalance must be at least 1"):
        simulate(imbalance=0.5)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_figure_holds_the_frames(theme) -> None:
    space = simulate(3, 3, added=1, steps=20, frames=4)
    picture = figures.toy(space, 2, theme=theme)
    assert len(picture.figure.frames) == len(space.step) == 8
    shown = np.stack([picture.figure.frames[7].data[3][axis] for axis in "xyz"], axis=1)
    np.testing.assert_allclose(shown, space.means[7] @ space.axes(), atol=1e-6)
    assert "old images" not in picture.sentence
    assert "old images are answered rightly at" in figures.toy(space, theme=theme).sentence
    flat = figures.toy(simulate(6, 8, steps=20, frames=3), theme=theme, play=False)
    assert not flat.figure.frames
    assert all(trace.type == "scatter" for trace in flat.figure.data)


def test_axes_are_orthonormal_and_the_ideal_is_a_frame_around_the_means() -> None:
    toy = simulate(4, 9, steps=20, frames=2)
    np.testing.assert_allclose(toy.axes(2).T @ toy.axes(2), np.eye(2), atol=1e-12)
    assert nc2.maximal_angle(toy.ideal[-1]) < 1e-12
    assert nc2.equinorm(toy.ideal[-1]).value < 1e-12
    np.testing.assert_allclose(toy.ideal[-1].mean(axis=0), toy.means[-1].mean(axis=0), atol=1e-12)
    assert np.isnan(simulate(5, 3, steps=2, frames=2).ideal).all()  # five classes have no room in three dimensions
