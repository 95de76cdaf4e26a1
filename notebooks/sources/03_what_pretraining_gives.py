# %% [markdown]
# # What does a pre-trained backbone already give?
#
# **You will** classify 100 classes that came in ten tasks without one gradient step, and prove that the order of the tasks cannot
# matter. You will find about ten points of accuracy in a covariance matrix, and see which classes geometry says will be confused.
# **Time** a minute on a CPU, 40 minutes for a reader. **Needs** notebook [02](02_measuring_collapse.ipynb) for NC1.
# Everything here is the baseline: whatever a method of class-incremental learning claims, it claims *above* this.

# %%
import os
import tempfile
from pathlib import Path

import cillab
from checks.chapter_03 import check_lda, check_merge, check_nearest_mean
from cillab import figures, teaching
from cillab.geometry import collapse
from cillab.geometry.moments import Moments
from cillab.teaching import scorecard, share_error, sketch

import numpy as np
import torch

FAST = bool(os.environ.get("CILLAB_FAST"))  # fewer images: the same notebook, noisier numbers

# %%
backbone = cillab.backbone("bundled:vit")
stream = cillab.stream("shields", split="B0-Inc10", train_per_class=20 if FAST else 100, test_per_class=20)
seen = teaching.frozen_features(stream, backbone)
x, y, new, truth = (part.numpy() for part in seen[:4])
print(f"{len(x)} training and {len(new)} test images of {len(stream.order)} classes, {x.shape[1]} features each")

# %% [markdown]
# ## 1. What is the simplest classifier that could work?
#
# Each image is now a point with 160 coordinates. The backbone has seen other coats of arms, never these 100. Take the mean
# feature of each class, and give a new image to the class whose mean points most in its direction:
#
# $$\mu_c = \frac1{n_c}\sum_{i: y_i = c} f(x_i), \qquad \hat y(x) = \arg\max_c \cos(f(x), \mu_c). \tag{3.1}$$
#
# > **Predict.** Guessing gets 1 %. What does this get: 5 %, 30 %, 70 %, 95 %?
#
# ### Exercise 1 (10 minutes, easy)
# `np.unique(y)` gives the class ids in ascending order.
#
# <details><summary>Hint</summary>
#
# `np.unique(y)` gives the classes; one mean per class, each divided by its length; the largest product with `new` wins.
# Translate positions back to class ids.
#
# </details>


# %% tags=["exercise"]
def nearest_mean(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Class id for every row of `new`: the class whose mean feature has the largest cosine with it."""
    raise NotImplementedError


# %% tags=["check"]
check_nearest_mean(nearest_mean)


# %% tags=["solution"]
# Solution of exercise 1. The length of `new` does not change which cosine is largest.
def nearest_mean(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> np.ndarray:
    classes = np.unique(y)
    means = np.stack([x[y == c].mean(axis=0) for c in classes])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    return classes.take((new @ means.T).argmax(axis=1))


assert check_nearest_mean(nearest_mean)

# %%
mine = nearest_mean(x, y, new)
print(f"{(mine == truth).mean():.1%} of the test images, chance is {1 / len(stream.order):.0%}")

# %% [markdown]
# **What you saw.** Most of the work was done before the first class arrived. In the literature this classifier is **SimpleCIL** (Zhou
# et al., IJCV 2024). Its authors showed that with a strong backbone it beats many methods that train.
#
# ## 2. Can it learn in tasks?
#
# A learner is asked to `observe` one task at a time. It yields its progress, and what it learnt takes effect when the
# iterator is exhausted. Here is the whole loop of class-incremental learning, by hand:

# %%
placed = stream.on(backbone)
learner = cillab.learner("simplecil", backbone)
for task in placed:
    *_, progress = learner.observe(task)  # each item says how far it is: a progress bar would go here
    test = placed[: task.index + 1].test()  # all classes seen so far
    with torch.no_grad():
        chosen = torch.tensor(learner.seen)[learner.logits(test.images).argmax(dim=1).cpu()]
    right = float((chosen == test.labels.cpu()).float().mean())
    print(f"after task {task.index + 1:>2}: {len(learner.seen):>3} classes, {right:.1%}  ({progress.total} images)")

# %%
print(f"joint, all classes at once: {(mine == truth).mean():.2%}; in ten tasks: {right:.2%}")
assert abs((mine == truth).mean() - right) < 0.002  # float32 against float64: a tie may fall the other way

# %% [markdown]
# **What you saw.** Ten tasks, and the same classifier as if all images had been there at once. Nothing was forgotten, and no
# image was kept. Accuracy still fell from task to task. Why?
#
# ## 3. Does the order of the classes matter?
#
# > **Predict.** Shuffle the class order, or learn 50 classes first and then 10 at a time, or all in one task. Which of
# > $A_{\text{last}}$ and $A_{\text{avg}}$ change?


# %%
def learn(split: str, seed: int) -> tuple[torch.Tensor, list[float]]:
    """Head of simplecil with rows by class id, and its accuracy on seen classes after each task."""
    other = cillab.stream("shields", split, seed=seed, train_per_class=20 if FAST else 100, test_per_class=20)
    other, one = other.on(backbone), cillab.learner("simplecil", backbone)
    curve = []
    for task in other:
        list(one.observe(task))
        test = other[: task.index + 1].test()
        with torch.no_grad():
            best = torch.tensor(one.seen)[one.logits(test.images).argmax(dim=1).cpu()]
        curve.append(float((best == test.labels.cpu()).float().mean()))
    return one.head().weight[torch.tensor(one.seen).argsort()], curve


# %%
asked = [("B0-Inc10", 1993), ("B0-Inc10", 1), ("B0-Inc10", 2), ("B50-Inc10", 1993), ("B0-Inc100", 1993)]
results = [learn(split, seed) for split, seed in asked]
for (split, seed), (head, curve) in zip(asked, results, strict=True):
    gap = float((head - results[0][0]).abs().max())
    print(f"{split:>9} seed {seed:>4}: A_last {curve[-1]:.2%}, A_avg {np.mean(curve):.2%}, heads differ by {gap:.0e}")
    assert gap < 1e-5
a_last, a_avg = [curve[-1] for _, curve in results], [np.mean(curve) for _, curve in results]
assert np.ptp(a_last) < 0.002 and np.ptp(a_avg) > 0.05 and np.ptp(a_avg[:3]) > 0.01  # [:3]: class orders alone

# %% [markdown]
# **What you saw.** $A_{\text{last}}$ does not move, and the heads agree to rounding. $A_{\text{avg}}$ moves by points: it asks
# which classes had to be told apart on the way. So *a difference in $A_{\text{avg}}$ between two papers with different class
# orders or splits may mean nothing at all*. $A_{\text{last}}$ of such a method, on the other hand, tests an implementation: if
# yours depends on the order, it has a bug.
#
# **Why.** A mean is a sum and a count, and sums do not know in which order they were added.
#
# ### Exercise 2 (5 minutes, easy)
# Class 68 returns in a later task with more images. Update its mean without the old images.
#
# <details><summary>Hint</summary>
#
# A mean times its count is a sum. Sums can be added.
#
# </details>


# %% tags=["exercise"]
def merge(n: int, mean: np.ndarray, m: int, other: np.ndarray) -> np.ndarray:
    """Mean of n + m images, from the mean of the first n and the mean of the other m."""
    raise NotImplementedError


# %% tags=["check"]
check_merge(merge)


# %% tags=["solution"]
# Solution of exercise 2
def merge(n: int, mean: np.ndarray, m: int, other: np.ndarray) -> np.ndarray:
    return (n * mean + m * other) / (n + m)


assert check_merge(merge)

# %% [markdown]
# The covariance can be merged too (Chan, Golub & LeVeque 1982), and `Moments` does it: half of the images, merged with
# the other half, against all at once.

# %%
half = torch.arange(len(seen.x)) % 2 == 0
two = Moments.of(seen.x[half], seen.y[half]).merged(Moments.of(seen.x[~half], seen.y[~half]))
whole = Moments.of(seen.x, seen.y)
print(f"pooled covariances differ by {np.abs(two.pooled_within() - whole.pooled_within()).max():.0e}")

# %% [markdown]
# ## 4. Then why does accuracy fall?
#
# > **Predict.** The accuracy matrix of this learner: will a column (one task, as others arrive) be constant?

# %%
# Figure 3.1. Accuracy of a learner whose features never move.
lab = cillab.Lab(stream, cillab.learner("simplecil", backbone), out=Path(tempfile.mkdtemp()) / "simplecil")
for _ in lab:
    pass
figures.accuracy_matrix(lab.run)

# %% [markdown]
# **What you saw.** Columns fall although no feature and no mean ever changes. **Why.** Every new class is one more way to be
# wrong: **crowding**. The usual formula counts it as "forgetting". How much it costs depends on the features *and on the head*:
# section 5 measures it for two heads on the same features. The first question to ask of a forgetting number is how much of it
# simplecil has too.

# %%
from cillab.geometry import accuracy

matrix = lab.run.accuracy_matrix()
assert accuracy.forgetting_chaudhry(matrix) > 0.05
print(f"forgetting of a learner that forgets nothing: {accuracy.forgetting_chaudhry(matrix):.1%}")

# %% [markdown]
# ## 5. Is the nearest mean the best reading of these features?
#
# > **Predict.** Same features, no training: how much is there to gain by a better linear read-out? One point, five, ten?
#
# The nearest mean treats all directions alike. But images of one class vary much more in some directions (pose, paint,
# light) than in others. Measure distances in units of that variation, with one covariance $\Sigma$ for all classes:
#
# $$-\tfrac12 (h - \mu_c)^\top \Sigma^{-1} (h - \mu_c) = \underbrace{(\Sigma^{-1}\mu_c)}_{w_c} \cdot h
# \underbrace{{} - \tfrac12 \mu_c^\top \Sigma^{-1} \mu_c}_{b_c} + \text{a term that is the same for all } c. \tag{3.2}$$
#
# This is linear discriminant analysis (Fisher 1936). Note what is *not* needed: old images, gradients, the order.
#
# ### Exercise 3 (15 minutes, medium)
#
# <details><summary>Hint</summary>
#
# `np.linalg.solve(within, means.T)` solves for all classes at once. The bias is minus half the product of each row with its
# mean.
#
# </details>


# %% tags=["exercise"]
def lda(means: np.ndarray, within: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weight [class, feature] and bias [class] of the linear head above."""
    raise NotImplementedError


# %% tags=["check"]
check_lda(lda)


# %% tags=["solution"]
# Solution of exercise 3: solve, do not invert.
def lda(means: np.ndarray, within: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    weight = np.linalg.solve(within, means.T).T
    return weight, -0.5 * (weight * means).sum(axis=1)


assert check_lda(lda)

# %%
means, within = whole.means(), whole.pooled_within()
ids = np.array(whole.classes)


def score(shrink: float) -> float:
    """Accuracy of lda with Sigma + shrink * (its mean eigenvalue) * I."""
    eye = np.eye(len(within)) * np.trace(within) / len(within)
    weight, bias = lda(means, within + shrink * eye)
    return float((ids[(new @ weight.T + bias).argmax(axis=1)] == truth).mean())


# %%
# Figure 3.2. Five readings of the same frozen features.
from cillab.geometry.retention import ridge_probe

centre = means.mean(axis=0)
euclid = ids[((new[:, None] - means[None]) ** 2).sum(axis=2).argmin(axis=1)]
ridge = ridge_probe(seen.x, seen.y, 1e-3).predict(seen.test_x)
found = {
    "nearest mean, cosine": (mine == truth).mean(),
    "cosine, centred": (nearest_mean(x - centre, y, new - centre) == truth).mean(),
    "nearest mean, Euclidean": (euclid == truth).mean(),
    "ridge": (ridge == truth).mean(),
    "LDA": score(0.01),
}
shares = [float(value) for value in found.values()]
bars = {"accuracy": share_error(shares, len(truth))}
sketch.bars(list(found), {"accuracy": shares}, y_title="accuracy, 100 classes", percent=True, errors=bars)

# %% [markdown]
# **What you saw.** One covariance matrix gets about ten points more out of the same frozen features.
# These points have nothing to do with continual learning, but a method that is compared with the nearest mean only will claim
# them. Crowding depends on the head too. Here are the first ten classes, among themselves and among all 100:

# %%
gain = found["LDA"] - found["nearest mean, cosine"]
print(f"LDA, minus nearest mean: {100 * gain:+.1f} points")
assert 0.07 < gain < 0.13
weight, bias = lda(means, within + 0.01 * np.eye(len(within)) * np.trace(within) / len(within))
scores = {"nearest mean": new @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T, "LDA": new @ weight.T + bias}
early, mine_too = np.isin(ids, stream.classes[0]), np.isin(truth, stream.classes[0])
price = {}
for name, given in scores.items():
    few = (ids[early].take(given[mine_too][:, early].argmax(axis=1)) == truth[mine_too]).mean()
    many = (ids.take(given[mine_too].argmax(axis=1)) == truth[mine_too]).mean()
    price[name] = few - many
    print(f"{name:>12}: {few:.1%} among 10 classes, {many:.1%} among 100; crowding costs {few - many:.1%}")
assert price["LDA"] < price["nearest mean"]

# %% [markdown]
# The head that knows the covariance pays less for the same 90 rivals. Crowding is therefore no constant of the data: compare a
# method's forgetting with what *its own* head loses on features that stand still.
#
# $\Sigma$ must be invertible, and with few images it is badly known; adding a multiple of the identity (shrinkage) helps.
# At infinite shrinkage LDA becomes the Euclidean nearest mean.

# %%
# Figure 3.3. Accuracy of the discriminant over its shrinkage.
AMOUNTS = [1e-4, 1e-3, 1e-2, 0.1, 1, 10, 100]
level = {"nearest mean, Euclidean": float((euclid == truth).mean())}
curve = {"LDA": [score(a) for a in AMOUNTS]}
bars = {"LDA": share_error(curve["LDA"], len(truth))}


def at_shrinkage(shrink: float) -> None:
    here = level | {f"LDA at {shrink:.3g}": score(shrink)}
    axis = {"x_title": "shrinkage", "y_title": "accuracy"}
    display(sketch.lines(AMOUNTS, curve, **axis, levels=here, log_x=True, percent=True, errors=bars))


at_shrinkage(0.01)

# %%
try:
    from ipywidgets import FloatLogSlider, interact
except ImportError:
    print("The slider needs ipywidgets.")
else:
    slider = FloatLogSlider(value=0.01, min=-4, max=2, step=0.25, description="shrinkage", continuous_update=False)
    interact(at_shrinkage, shrink=slider)

# %% [markdown]
# **And on photographs?** The same gap between two heads on one frozen network, recorded on CIFAR-100 with a small ViT
# ([numbers](../docs/results/cifar100.md); `acil` is a ridge on random features, chapter 06).

# %%
# Figure 3.4. Photographs: two heads on one frozen network.
RECORDED = {"simplecil": (52.8, 0.0), "acil": (59.5, 0.2)}
ends, half = ({"A_last": [pair[side] / 100 for pair in RECORDED.values()]} for side in (0, 1))
low = ends["A_last"][1] - half["A_last"][1]
print(f"acil, minus simplecil: {100 * np.diff(ends['A_last'])[0]:+.1f} points")
assert low > ends["A_last"][0] + 0.05  # simplecil is the same in every class order
sketch.bars(list(RECORDED), ends, y_title="CIFAR-100, DeiT-tiny", percent=True, errors=half)

# %% [markdown]
# **What you saw.** On photographs, too, a better head is worth several points on features that nobody has trained on these classes.
# (The whisker is over three class orders; `simplecil` is the same in each.)
#
# ## 6. Can geometry say which classes will be confused?
#
# CDNV (Galanti, György & Hutter 2022) compares the spread of two classes with the distance of their means,
# $V(a, b) = (v_a + v_b) / (2\|\mu_a - \mu_b\|^2)$.
#
# > **Predict.** It is measured on training images only. Will the pairs with the largest values be those that are mixed
# > up on test images?

# %%
pairs = np.nan_to_num(collapse.collapse(whole).pair_cdnv)
mixed = np.array([[((truth == a) & (mine == b)).sum() for b in ids] for a in ids])
mixed = mixed + mixed.T
top = np.dstack(np.unravel_index((-np.triu(pairs, 1)).ravel().argsort()[:5], pairs.shape))[0]
for a, b in top:
    names = " / ".join(stream.class_names[ids[i]] for i in (a, b))
    print(f"CDNV {pairs[a, b]:5.2f}, {mixed[a, b]:>2} of 40 test images mixed up: {names}")
usual = mixed[np.triu_indices(100, 1)].mean()
print(f"average pair: CDNV {pairs[np.triu_indices(100, 1)].mean():.2f}, {usual:.2f} of 40")
assert min(mixed[a, b] for a, b in top) > 5 * usual  # each of the five

# %% [markdown]
# **What you saw.** The pairs that geometry calls close are the ones that are confused, and their names say why. This is what
# the rest of this course is about: learning should pull such classes apart *without* moving the others.
#
# The same with CIFAR-100 and ViT-B/16, for those who have them (0.5 GB to download, a GPU or patience):

# %% tags=["real-data"]
BIG = False  # True: run this cell
if BIG:
    cifar = cillab.stream("cifar100", train_per_class=100, test_per_class=50)
    real = teaching.frozen_features(cifar, cillab.backbone("timm:vit_base_patch16_224.augreg_in21k"))
    x, y, new, truth = (part.numpy() for part in real[:4])
    moments = Moments.of(real.x, real.y)
    means, within, ids = moments.means(), moments.pooled_within(), np.array(moments.classes)
    print(f"nearest mean {(nearest_mean(x, y, new) == truth).mean():.1%}, LDA {score(0.01):.1%}")

# %%
scorecard(globals())

# %% [markdown]
# In the app: `make app`, then [the Head
# lab](http://localhost:8501/head_lab?run=demo-min&step=9&head=Linear+discriminant+%28LDA%29), which reads the
# features of a recorded run with each of these heads. To see the run above there, give its lab a folder that stays,
# `out="runs/simplecil"`, and start the app where `runs` is.
#
# ### Open exercise (45 minutes)
# Build the best read-out of these frozen features that you can, without choosing anything on test images.
#
# There is no check. *Rubric:*
#
# * the choice is made on held-out training images (2 points);
# * the gain over LDA comes with a paired interval (1);
# * what did not help is reported too (1).
#
# ## Take-aways
#
# 1. A frozen backbone and a mean per class is the baseline, and it forgets nothing. Yet its "forgetting" is not 0:
#    crowding counts as forgetting in the usual formula, and a better head pays less of it.
# 2. What is built of sums (means, covariances, Gram matrices) gives the same $A_{\text{last}}$ for every order and split.
#    $A_{\text{avg}}$ does not.
# 3. The same features read with one covariance are worth many points. Compare methods with the best closed form, not
#    the weakest.
