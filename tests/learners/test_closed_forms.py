"""Learners in closed form: order, increments and batches do not matter, and each is its equations."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import Tensor

from cillab.core.contract import Task
from cillab.core.errors import InvalidRequestError
from cillab.learners import make_learner
from cillab.learners.checks import RelabelledTask, accuracy, learn, logits
from cillab.learners.fetril import FeTrIL, translated
from cillab.learners.teen import Calibrated
from cillab.parts.heads import columns_of
from cillab.parts.least_squares import POWERS
from tests.learners import tiny

ORDER_FREE = {
    "lda": {},
    "fecam": {},
    "g-acil": {"expansion": 128, "gamma": 1.0},
    "acil": {"expansion": 128, "gamma": 1.0},
    "klda": {"expansion": 128, "gamma": 0.01},
    "ranpac": {"adapt": "none", "expansion": 128, "gamma": 1.0},
}


class Pieces(Task):
    """Some images of some tasks, as a task of their own."""

    def __init__(self, index: int, images: Tensor, labels: Tensor) -> None:
        self.index, self._images, self._labels = index, images, labels
        self.classes = tuple(dict.fromkeys(labels.tolist()))
        self.class_names = {c: f"pattern {c}" for c in self.classes}

    def __len__(self) -> int:
        return len(self._labels)

    def batches(self, batch_size: int, shuffle: torch.Generator | None = None):
        order = torch.arange(len(self)) if shuffle is None else torch.randperm(len(self), generator=shuffle)
        for chosen in order.split(batch_size):
            yield self._images[chosen], self._labels[chosen]


def everything() -> tuple[Tensor, Tensor]:
    batches = [batch for task in tiny.tasks() for batch in task.batches(100)]
    return torch.cat([images for images, _ in batches]), torch.cat([labels for _, labels in batches])


def by_class(learner, images: Tensor) -> Tensor:
    """Logits with columns in the order of class ids."""
    return logits(learner, images)[:, torch.tensor(learner.seen).argsort()]


@pytest.mark.parametrize("name", ORDER_FREE)
@pytest.mark.parametrize("way", ["reversed", "one task", "blurry"])
def test_order_increments_and_batches_do_not_matter(name: str, way: str) -> None:
    """All tasks backwards, in one, or in random pieces in which every class comes back."""
    bench = tiny.bench(name, **ORDER_FREE[name])
    straight, other = bench.taught(), bench.learner()
    images, labels = everything()
    match way:
        case "reversed":
            tasks = list(reversed(bench.tasks))
        case "one task":
            tasks = [Pieces(0, images, labels)]
        case _:
            order = torch.randperm(len(images), generator=torch.Generator().manual_seed(3))
            tasks = [Pieces(i, images[some], labels[some]) for i, some in enumerate(order.split(11))]
    for task in tasks:
        learn(other, task)
    expected, found = by_class(straight, bench.images), by_class(other, bench.images)
    assert float((expected - found).abs().max() / expected.abs().max()) < 1e-3


def test_lda_is_scikit_learns_on_the_same_features() -> None:
    bench = tiny.bench("lda", shrinkage=0.1, prior=True)
    learner, (images, labels) = bench.taught(), everything()
    with torch.no_grad():
        train, test = bench.backbone(images).double().numpy(), bench.backbone(bench.images).double().numpy()
    oracle = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.1).fit(train, labels.numpy())
    found = by_class(learner, bench.images).log_softmax(dim=1)
    np.testing.assert_allclose(found, oracle.predict_log_proba(test), rtol=1e-3, atol=1e-2)


def test_g_acil_is_the_recursion_with_returning_classes() -> None:
    """R, W after every batch by the matrix inversion lemma, columns padded for new classes, float64."""
    bench = tiny.bench("g-acil", expansion=64, gamma=1.0)
    learner, (images, labels) = bench.learner(), everything()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(3))
    phi, y = [], []
    for i, some in enumerate(order.split(11)):
        learn(learner, Pieces(i, images[some], labels[some]))
        with torch.no_grad():
            phi.append(learner.expand(bench.backbone(images[some])).double())
        y.append(F.one_hot(labels[some], 6).double())
    inverse, weight = torch.eye(64, dtype=torch.float64), torch.zeros(64, 6, dtype=torch.float64)
    for x, target in zip(phi, y, strict=True):
        gain = torch.linalg.inv(torch.eye(len(x), dtype=torch.float64) + x @ inverse @ x.T)
        inverse = inverse - inverse @ x.T @ gain @ x @ inverse
        weight = weight + inverse @ x.T @ (target - x @ weight)
    found = learner.classifier.weight[:, torch.tensor(learner.seen).argsort()].double()
    assert float((found - weight).abs().max()) < 1e-5  # kept as float32


# RanPAC


@pytest.mark.parametrize("adapt", ["ssf", "adapter", "none"])
def test_ranpacs_penalty_is_the_best_of_seventeen_solves(adapt: str) -> None:
    bench = tiny.bench("ranpac", adapt=adapt)
    learner = bench.taught(1)
    gram, cross = learner.classifier.gram, learner.classifier.cross
    task = bench.tasks[1]
    with torch.no_grad():
        h = torch.cat([learner.features(images) for images, _ in task.batches(100)])
    labels = torch.cat([labels for _, labels in task.batches(100)])
    order = torch.randperm(len(h), generator=learner.draws("held", 1))
    phi, y = learner.expand(h[order]).double(), F.one_hot(labels[order], 4).double()
    kept = round(0.8 * len(h))
    errors = []
    for gamma in POWERS:
        system = gram + phi[:kept].T @ phi[:kept] + gamma * torch.eye(len(gram), dtype=torch.float64)
        weight = torch.linalg.solve(system, F.pad(cross, (0, 2)) + phi[:kept].T @ y[:kept])
        errors.append(float((phi[kept:] @ weight - y[kept:]).square().sum()))
    learn(learner, task)
    assert float(learner.internals()["ridge/gamma"]) == pytest.approx(POWERS[int(np.argmin(errors))])


def test_only_the_first_session_moves_ranpac_and_fsa() -> None:
    for name, quick in (("ranpac", {}), ("fsa", {"first.lr": 0.05})):
        bench = tiny.bench(name, **quick)
        learner = bench.taught(1)
        with torch.no_grad():
            plain, before = bench.backbone(bench.images), learner.features(bench.images)
        learn(learner, bench.tasks[1])
        with torch.no_grad():
            assert torch.equal(learner.features(bench.images), before)
        assert not torch.allclose(plain, before, atol=1e-4)


def test_fsa_without_a_session_is_lda() -> None:
    fsa = tiny.bench("fsa", **{"first.epochs": 0, "ridge": 1.0}).taught()
    bench = tiny.bench("lda", shrinkage=0.0, ridge=1.0)
    assert torch.equal(logits(fsa, bench.images), logits(bench.taught(), bench.images))


def test_all_weights_of_fsa_have_a_rate_of_their_own() -> None:
    def rate(**values) -> float:
        return make_learner("fsa", tiny.backbone(), **values).params.first.lr

    assert (rate(), rate(body="full"), rate(body="full", lr=0.3)) == (0.01, 1e-4, 0.3)


# FeCAM


@pytest.mark.parametrize("name", ["lda", "klda"])
def test_one_image_of_each_class_is_a_first_session_and_the_nearest_one_answers(name: str) -> None:
    learner, task = make_learner(name, tiny.backbone(), **ORDER_FREE[name]), tiny.TinyTask(0, (0, 1, 2), 1)
    learn(learner, task)
    images, labels = next(iter(task.batches(3)))
    scores = logits(learner, images)
    assert scores.isfinite().all() and scores.argmax(dim=1).tolist() == labels.tolist()
    learn(learner, tiny.TinyTask(1, (3, 4), 12))  # and it learns on
    learn(make_learner(name, tiny.backbone(), **ORDER_FREE[name]), tiny.TinyTask(0, (0,), 1))


def test_shares_beyond_one_are_refused() -> None:
    for name, bad in (("fsa", {"shrinkage": 1.5}), ("ranpac", {"held": 1.5}), ("ranpac", {"held": 1.0})):
        with pytest.raises(InvalidRequestError):
            make_learner(name, tiny.backbone(), **bad)


def test_recipes_of_fecam_differ_and_a_large_shrinkage_is_nearest_mean() -> None:
    """With R_c nearly the identity the distance is that of unit vectors, so decisions are those of the cosine."""
    bench = tiny.bench("fecam", normalise="after", shrink=1e6)
    nearest = tiny.bench("simplecil").taught()
    found = logits(bench.taught(), bench.images)
    expected = 2 * logits(nearest, bench.images) - 2  # -|h - mu|^2 of unit vectors
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    own = logits(tiny.bench("fecam").taught(), bench.images)
    assert not torch.allclose(own, logits(tiny.bench("fecam", correlate=False).taught(), bench.images))


@pytest.mark.parametrize("kind", ["full", "pooled", "diagonal", "low-rank"])
def test_every_covariance_of_fecam_learns(kind: str) -> None:
    bench = tiny.bench("fecam", covariance=kind, rank=4)
    assert accuracy(bench.taught(), bench) > 0.5


# KLDA


def test_a_wide_kernel_decides_as_lda_does() -> None:
    """With small gamma phi is linear in h, up to a rotation: LDA on M directions of which 32 have a variance.

    The same multiple of the identity in both needs a / (1 - a) / M = 0.05 / 0.95 / 32.
    """
    lda = tiny.bench("lda", shrinkage=0.05).taught()
    bench = tiny.bench("klda", expansion=4096, gamma=1e-4, shrinkage=6.737 / 7.737)
    klda, many = bench.taught(), bench.images
    assert float((logits(klda, many).argmax(1) == logits(lda, many).argmax(1)).double().mean()) > 0.9


def test_one_member_is_klda_and_several_average_posteriors() -> None:
    bench = tiny.bench("klda", gamma=0.01)
    one, three = bench.taught(), bench.taught(members=3)
    scores = [head(three.features(bench.images)) for head in three.classifier.heads]
    assert torch.equal(scores[0], logits(one, bench.images))
    mean = torch.stack(scores).softmax(dim=2).mean(dim=0)
    torch.testing.assert_close(logits(three, bench.images).exp(), mean, atol=1e-5, rtol=1e-3)


def test_the_width_of_the_kernel_is_chosen_once() -> None:
    bench = tiny.bench("klda")
    learner = bench.taught(1)
    gamma = float(learner.internals()["kernel/gamma"])
    learn(learner, bench.tasks[1])
    assert float(learner.internals()["kernel/gamma"]) == gamma != 1.0


# FeTrIL


def pseudo(learner: FeTrIL, h: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """All features that stand for the classes of a task and before it, and these classes."""
    own, mu = columns_of(labels, learner.seen), learner.mu(h)
    rows, y = learner.pairs(own, mu)
    return translated(h[rows], mu[own[rows]], mu[y], y != own[rows]), torch.tensor(learner.seen)[y]


def test_pseudo_features_of_fetril_by_hand() -> None:
    learner = make_learner("fetril", tiny.backbone())
    draws = torch.Generator().manual_seed(0)
    old, new = torch.randn(8, 32, generator=draws) + 2, torch.randn(9, 32, generator=draws) - 1
    old_labels, labels = torch.tensor([4] * 5 + [9] * 3), torch.tensor([2] * 4 + [7] * 5)
    learner.means.add(old, old_labels)
    learner.means.add(new, labels)
    learner.roster.classes = (4, 9, 2, 7)
    h, owners = pseudo(learner, new, labels)
    assert torch.equal(h[:9], new) and torch.equal(owners[:9], labels)
    at = 9
    for p in (4, 9):
        mean = old[old_labels == p].mean(dim=0)
        means = {n: new[labels == n].mean(dim=0) for n in (2, 7)}
        near = max(means, key=lambda n: float(F.cosine_similarity(mean, means[n], dim=0)))
        mine = new[labels == near]
        torch.testing.assert_close(h[at : at + len(mine)], mine - means[near] + mean, rtol=1e-4, atol=1e-5)
        assert (owners[at : at + len(mine)] == p).all()
        at += len(mine)
    assert at == len(h)


def test_every_pseudo_feature_of_a_class_has_its_mean() -> None:
    bench = tiny.bench("fetril")
    learner = bench.taught()
    h = torch.cat([learner.backbone(images) for images, _ in bench.tasks[2].batches(100)])
    labels = torch.cat([labels for _, labels in bench.tasks[2].batches(100)])
    moved, owners = pseudo(learner, h, labels)
    for c, mean in zip(learner.means.classes, learner.means.means(like=h), strict=True):
        torch.testing.assert_close(moved[owners == c].mean(dim=0), mean, rtol=1e-3, atol=1e-4)


def test_pseudo_features_are_made_by_the_step_that_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """FeTrIL kept all of them at once: 1,000 classes of 500 images and 768 numbers were 1.5 GB."""
    rows: list[int] = []
    bench = tiny.bench("fetril")
    learner = bench.learner()
    shape = learner.shape
    monkeypatch.setattr(learner, "shape", lambda h: rows.append(len(h)) or shape(h))
    for task in bench.tasks:
        learn(learner, task)
    assert max(rows) <= learner.params.fit.batch_size


# TEEN


def test_calibration_of_teen_by_hand() -> None:
    head = Calibrated(0.3, 16.0, 5, torch.device("cpu"))
    draws = torch.Generator().manual_seed(0)
    labels = torch.tensor([3, 3, 8, 8, 1, 5])
    h = torch.randn(6, 5, generator=draws) + 1
    head.base = 2
    head.add(h, labels)
    mu = [F.normalize(h[labels == c].mean(dim=0), dim=0) for c in (3, 8, 1, 5)]
    expected = mu[:2]
    for new in mu[2:]:
        weights = torch.tensor([16 * float(new @ base) for base in mu[:2]]).softmax(dim=0)
        v = F.normalize(sum(w * base for w, base in zip(weights, mu[:2], strict=True)), dim=0)
        expected.append(0.7 * new + 0.3 * v)
    torch.testing.assert_close(head.means().float(), torch.stack(expected), rtol=1e-5, atol=1e-6)


def test_teen_without_calibration_is_simplecil() -> None:
    bench = tiny.bench("teen", alpha=0.0)
    torch.testing.assert_close(
        logits(bench.taught(), bench.images), logits(tiny.bench("simplecil").taught(), bench.images)
    )


def test_a_base_class_that_returns_stays_a_base_class() -> None:
    bench = tiny.bench("teen")
    learner = bench.taught(2)
    base = bench.tasks[0].classes
    learn(learner, RelabelledTask(bench.tasks[0], {c: c for c in base}))
    assert learner.classifier.base == 2 and learner.classifier.classes[:2] == base
