# %% [markdown]
# # Can we fix the ideal geometry in advance, when classes keep coming?
#
# **You will** build the ideal frame of $K$ classes and predict to the digit how far each old vertex turns when the frame grows.
# You will turn a frame towards real class means, and see why a frame that is right in theory can be at chance in practice.
# **Time** half a minute on a CPU, 45 minutes for a reader. **Needs** notebooks [02](02_measuring_collapse.ipynb) and
# [03](03_what_pretraining_gives.ipynb).

# %%
import os
from itertools import pairwise

import cillab
from checks.chapter_05 import check_rotation, check_turn, check_vertices
from checks.photographs import photographs
from cillab import teaching
from cillab.geometry import etf, nc3, rows
from cillab.geometry.heads import Head, blended
from cillab.geometry.moments import Moments
from cillab.teaching import scorecard, share_error, sketch

import numpy as np
import torch

# %%
FAST = bool(os.environ.get("CILLAB_FAST"))
rng = np.random.default_rng(0)

# %% [markdown]
# ## 1. What does the ideal look like?
#
# A trained classifier ends, if nothing hinders it, with class means at the vertices of a simplex equiangular tight frame
# (neural collapse; Papyan, Han & Donoho 2020). So why learn the head at all? Write the frame down, freeze it, and let only
# the features move (NC-FSCIL, Yang et al., ICLR 2023). The recipe starts from $K$ orthonormal columns $U$:
#
# $$M = \sqrt{\tfrac{K}{K-1}}\; U \big(I - \tfrac1K \mathbf 1 \mathbf 1^\top\big). \tag{5.1}$$
#
# > **Predict.** Orthonormal vectors have cosine 0. After the mean of all is taken away from each: is the cosine positive or
# > negative? How many dimensions do the $K$ vertices span?
#
# ### Exercise 1 (10 minutes, easy)
#
# <details><summary>Hint</summary>
#
# $U(I - \mathbf 1\mathbf 1^\top/K)$ takes the mean column away from every column. The answer wants vertices as rows.
#
# </details>


# %% tags=["exercise"]
def vertices(basis: np.ndarray) -> np.ndarray:
    """The simplex of K classes from K orthonormal columns [feature, class]: one unit vertex per row."""
    raise NotImplementedError


# %% tags=["check"]
check_vertices(vertices)


# %% tags=["solution"]
# Solution of exercise 1: taking the mean column away is what I - 11^T/K does.
def vertices(basis: np.ndarray) -> np.ndarray:
    k = basis.shape[1]
    return np.sqrt(k / (k - 1)) * (basis - basis.mean(axis=1, keepdims=True)).T


assert check_vertices(vertices)

# %%
# Figure 5.1. Cosines of the vertices of a simplex of ten.
basis = etf.orthonormal_basis(160, 10, rng)
frame = vertices(basis)
print(f"spans {np.linalg.matrix_rank(frame)} dimensions, differs from a simplex by {etf.gram_error(frame):.0e}")
assert np.allclose(frame, etf.etf_from_basis(basis))  # the library's
sketch.heat(frame @ frame.T, x_title="cosines of the ten vertices")

# %% [markdown]
# **What you saw.** Ones on the diagonal, $-1/9$ everywhere else, in 9 dimensions.
#
# ## 2. What happens to the old vertices when ten classes arrive?
#
# Class-incremental learning does not know $K$. The obvious way to grow: keep the columns of $U$, append new orthonormal ones,
# apply the recipe again.
#
# > **Predict.** The old columns are kept bit for bit. Do the old vertices stay where they are? If not: do all turn by the
# > same angle? Is going from 10 to 20 classes worse or better than going from 90 to 100?

# %%
grown = etf.extend_basis(basis, 10, rng)
before, after = etf.etf_from_basis(basis), etf.etf_from_basis(grown)[:10]
turned = np.degrees(np.arccos((before * after).sum(axis=1)))
assert np.allclose(turned, turned[0])  # all by one angle: what is taken away is the same for all
print("columns kept bit for bit:", bool((grown[:, :10] == basis).all()))
print("old vertices turned by, in degrees:", *[f"{angle:.4f}" for angle in turned])
less = basis - basis.mean(axis=1, keepdims=True)  # without the factor sqrt(K / (K - 1))
assert np.allclose((less.T * before).sum(axis=1), np.linalg.norm(less, axis=0))  # the factor turns nothing

# %% [markdown]
# **What you saw.** They all turn, by exactly the same angle, because the mean that is taken away from every column is another one
# now, and it is the same for all. (The factor in front only sets lengths: a number cannot turn a vector.)
#
# **Why this angle.** Let $u_c$ be an old column and $\bar u_1$, $\bar u_2$ the means of the $K_1$ and of all $K_2$ columns. All
# columns are orthonormal, so $u_c \cdot u_c = 1$, $u_c \cdot \bar u_1 = 1/K_1$, $u_c \cdot \bar u_2 = 1/K_2$ and
# $\bar u_1 \cdot \bar u_2 = 1/K_2$. Put these into
#
# $$\cos\theta = \sqrt{\tfrac{K_1}{K_1 - 1}}\sqrt{\tfrac{K_2}{K_2 - 1}}\; (u_c - \bar u_1) \cdot (u_c - \bar u_2). \tag{5.2}$$
#
# ### Exercise 2 (15 minutes, medium)
#
# <details><summary>Hint</summary>
#
# Multiply out $(u_c - \bar u_1) \cdot (u_c - \bar u_2)$ with the four products that the text gives; then multiply by both
# roots. `np.arccos`, then degrees.
#
# </details>


# %% tags=["exercise"]
def turn(k_old: int, k_new: int) -> float:
    """Degrees by which each old vertex turns when the frame grows from k_old to k_new classes."""
    raise NotImplementedError


# %% tags=["check"]
check_turn(turn)


# %% tags=["solution"]
# Solution of exercise 2. The product of the differences is 1 - 1/K1 - 1/K2 + 1/K2 = (K1 - 1)/K1.
def turn(k_old: int, k_new: int) -> float:
    cosine = np.sqrt(k_new * (k_old - 1) / (k_old * (k_new - 1)))
    return float(np.degrees(np.arccos(min(1.0, cosine))))


assert check_turn(turn)


# %%
def turned_by(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Degrees between each old vertex and the same vertex of a larger frame."""
    return np.degrees(np.arccos((old * new[: len(old)]).sum(axis=1).clip(-1, 1)))


SIZES = range(10, 101, 10)
columns = etf.orthonormal_basis(160, 10, rng)
appended = {10: etf.etf_from_basis(columns)}
for k in SIZES[1:]:
    columns = etf.extend_basis(columns, 10, rng)
    appended[k] = etf.etf_from_basis(columns)

# %%
for k in SIZES[:-1]:
    angles = turned_by(appended[k], appended[k + 10])
    print(
        f"{k:>3} -> {k + 10:>3}: measured {angles.mean():.4f}, spread {angles.std():.0e}, formula {turn(k, k + 10):.4f}"
    )
    assert np.allclose(angles, turn(k, k + 10))

# %%
# Figure 5.2. How far old vertices turn when classes arrive.
KS = np.arange(2, 101)
curves = {f"+{more} classes": [turn(int(k), int(k) + more) for k in KS] for more in (1, 5, 10, 50)}
sketch.lines(KS, curves, x_title="classes already learnt", y_title="degrees by which they turn")

# %% [markdown]
# **What you saw.** The first steps turn old vertices far, later ones turn them little. After a base of 50 classes ten more turn them
# by 3.3° only, after a base of ten by 13.3°. (Protocols with a base of half the classes are older than fixed frames. LUCIR, Hou et
# al., CVPR 2019, and PODNet, Douillard et al., ECCV 2020, used them because a network that is trained from scratch needs a large
# first task. The turn was not their reason.)
#
# **Play.** How far in all, and is the sum of the steps more than one big step?

# %%
assert (round(turn(50, 60), 1), round(turn(10, 20), 1)) == (3.3, 13.3)


# %%
# Figure 5.3. The turn of the first vertices: step by step, in sum, and at once.
def path(start: int, increment: int) -> None:
    stops = [*range(start, 100, increment), 100]
    steps = [turn(a, b) for a, b in pairwise(stops)]
    once = [turn(start, b) for b in stops[1:]]
    print(f"{start} -> 100 by {increment}: largest {max(steps):.1f}, sum {sum(steps):.1f}, in one step {once[-1]:.1f}")
    told = {"sum of the steps": np.cumsum(steps), "in one step": once, "this step": steps}
    display(sketch.lines(stops[1:], told, x_title=f"classes, from {start} by {increment}", y_title="degrees"))


path(10, 10)

# %%
try:
    from ipywidgets import IntSlider, interact
except ImportError:
    print("The sliders need ipywidgets.")
else:
    interact(path, start=IntSlider(10, 2, 90), increment=IntSlider(10, 1, 50))

# %% [markdown]
# **The other way out** is to fix a frame of $K_{\max} = 100$ vertices from the start and to hand them out. Nothing ever turns. The
# price: the ten first classes stand at cosines of $-1/99$ instead of $-1/9$, that is at 90.6° instead of 96.4°, and the frame is
# full after 100 classes. Such a capacity is a design choice and not forbidden: it says nothing about *which* classes will come. It
# becomes unfair where it is set to the true number of classes because the data set is known. (Growing: ProNC, arXiv:2505.24254.
# Fixed in advance: NC-FSCIL.)

# %%
full, ten = (np.degrees(np.arccos(-1 / (k - 1))) for k in (100, 10))
print(f"{full:.1f} degrees among 100 classes, {ten:.1f} among ten")
assert (round(full, 1), round(ten, 1)) == (90.6, 96.4)
frame_of_all = etf.simplex_etf(100, 160, np.random.default_rng(1))
for _ in range(
    3
):  # whichever ten vertices are handed out, they stand alike: a capacity does not say which classes come
    handed = rng.choice(100, 10, replace=False)
    assert np.allclose(frame_of_all[handed] @ frame_of_all[handed].T, 100 / 99 * np.eye(10) - 1 / 99)

# %% [markdown]
# ## 3. Where should the frame stand?
#
# The recipe does not say how the frame is oriented. Now take real features: a frozen backbone and 100 classes. A linear head
# gives every class the score $w_c \cdot h + b_c$, and `right` says which test images it answers rightly. Begin with the nearest mean:
# $w_c = \mu_c$ and $b_c = -\tfrac12 \|\mu_c\|^2$ give the class with the smallest $\|h - \mu_c\|$ (multiply it out).

# %%
stream = cillab.stream("shields", split="B0-Inc10", train_per_class=10 if FAST else 40, test_per_class=10)
seen = teaching.frozen_features(stream, cillab.backbone("bundled:vit"))
means = Moments.of(seen.x, seen.y).means()  # mu_c, rows in the order of the stream
test, truth, ids = seen.test_x.numpy(), seen.test_y.numpy(), np.array(stream.order)


def right(head: Head) -> np.ndarray:
    return ids[head.scores(test).argmax(axis=1)] == truth


nearest_mean = Head(means, -0.5 * (means**2).sum(axis=1))
print(f"nearest mean, Euclidean: {right(nearest_mean).mean():.1%}")

# %% [markdown]
# > **Predict.** Use the frame `somewhere`, in random orientation, as the head, with class 1 at vertex 1 and so on. Its angles
# > are ideal. Its accuracy on these features? (The bias moves the origin to the centre of the class means, as everywhere here.)


# %%
def report(frame: np.ndarray) -> float:
    accuracy = right(Head(frame, -frame @ means.mean(axis=0))).mean()
    print(
        f"accuracy {accuracy:.1%}; mean cosine of vertex and class mean {rows.cosine(frame, rows.centre(means)).mean():.3f}"
    )
    return float(accuracy)


somewhere = etf.simplex_etf(100, 160, rng)
assert report(somewhere) < 0.04  # chance is 1 %

# %% [markdown]
# **What you saw.** The accuracy is at chance. Ideal geometry with no relation to the features is worth nothing *until the
# features are trained towards it*, and training that moves all features far is what makes networks forget. So turn the frame
# first, as far as a rotation can take it. That is the **orthogonal Procrustes** problem (Schönemann 1966): among all orthogonal
# $R$ maximise
#
# $$\sum_i \langle R a_i, b_i \rangle = \operatorname{tr}(R\, A^\top B), \qquad B^\top A = P S Q^\top \;\Rightarrow\; R = P Q^\top . \tag{5.3}$$
#
# (Rows of $A$ and $B$ are points. In the basis of the SVD, $\operatorname{tr}$ is a sum of singular values times the diagonal of
# an orthogonal matrix, and none of its entries exceeds 1.)
#
# ### Exercise 3 (15 minutes, hard)
#
# <details><summary>Hint</summary>
#
# `np.linalg.svd(b.T @ a)` returns $P$, $S$ and $Q^\top$. The answer needs only two of them.
#
# </details>


# %% tags=["exercise"]
def rotation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The orthogonal matrix R for which the points a @ R.T agree best with the points b (one point per row)."""
    raise NotImplementedError


# %% tags=["check"]
check_rotation(rotation)


# %% tags=["solution"]
# Solution of exercise 3
def rotation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    left, _, right = np.linalg.svd(b.T @ a)
    return left @ right


assert check_rotation(rotation)

# %%
directions = rows.centre(means) / np.linalg.norm(rows.centre(means), axis=1, keepdims=True)
turned = somewhere @ rotation(somewhere, directions).T
nearest = etf.nearest_etf(means)  # the library's, without a frame to begin with
print(f"yours and the library's differ by {np.abs(turned - nearest).max():.0e}")
print(f"still a simplex, to {etf.gram_error(turned):.0e}")
assert abs(report(turned) - right(nearest_mean).mean()) < 0.1

# %% [markdown]
# **What you saw.** The same 100 vertices, only turned: from chance to where the nearest mean stands, without training. This is
# the starting point of methods that put a frame near the means they find. What lies in between?

# %%
# Figure 5.4. Accuracy between class means and simplex.
BLENDS = np.linspace(0, 1, 11)
heads = [blended(nearest_mean, means, share) for share in BLENDS]
hits = [right(head) for head in heads]
duality = [nc3.nc3(head.weight, means).mean_cosine for head in heads]
shares, way = [float(hit.mean()) for hit in hits], "0 = class means as head, 1 = nearest simplex"
errors = {"accuracy": share_error(shares, len(truth))}
sketch.lines(BLENDS, {"accuracy": shares}, x_title=way, y_title="accuracy", percent=True, errors=errors)

# %%
# Figure 5.5. Duality between class means and simplex.
sketch.lines(BLENDS, {"NC3": duality}, x_title=way, y_title="mean cosine of head and class means")

# %%
best = max(range(len(hits)), key=lambda i: hits[i][::2].mean())  # chosen on every second image ...
for name, other in (("the means", 0), ("the simplex", len(hits) - 1)):
    print(f"blend {BLENDS[best]:.1f} against {name}: {teaching.paired(hits[best][1::2], hits[other][1::2])}")

# %% [markdown]
# **What you saw.** The best blend lies where the first number says, near the class means: there rows of close classes are pushed apart
# a little and the head still resembles the means. Is that place real? The blend was chosen on one half of the test images and compared on the other
# half, image by image. An interval that contains 0 says that these images cannot tell.
#
# **And on photographs?** The same walk, recorded on CIFAR-100 with a small frozen ViT.
#
# > **Predict.** The frame in a random orientation, and turned to the class means: at chance, and where?

# %%
# Figure 5.6. Photographs: from class means to the nearest simplex.
real = photographs("05")
curve, places = {"turned towards the means": real["accuracy"]}, {"random orientation": real["somewhere"]}
errors = {name: share_error(values, real["images"]) for name, values in curve.items()}
gap, low, high = real["simplex, minus means"]
print(f"nearest simplex, minus class means: {gap:+.1f} points [{low:+.1f}, {high:+.1f}] on the same photographs")
assert real["somewhere"] < 0.03 < min(real["accuracy"])
title = "accuracy on CIFAR-100"
sketch.lines(real["blends"], curve, x_title=way, y_title=title, percent=True, levels=places, errors=errors)

# %% [markdown]
# **What you saw.** Orientation decides on photographs too. The printed interval says what the simplex itself is worth here against
# the class means, with the same data and no training.
#
# ## 4. Turn towards the means again after every task?
#
# Growing by appended columns ignores where the new class means really are; the nearest frame can be solved anew after every
# task.
#
# > **Predict.** Which turns the old vertices further: appending columns, or solving anew?

# %%
# Figure 5.7. How far old vertices turn: solved anew, and columns appended.
anew = {k: etf.nearest_etf(means[:k]) for k in SIZES}
turns = [turned_by(anew[k], anew[k + 10]) for k in SIZES[:-1]]  # of every old vertex
curves = {"solved anew": [one.mean() for one in turns], "columns appended": [turn(k, k + 10) for k in SIZES[:-1]]}
errors = {"solved anew": [1.96 * one.std(ddof=1) / np.sqrt(len(one)) for one in turns]}
assert min(curves["solved anew"]) > 10  # on average over old targets, in every task
assert (np.array(curves["solved anew"]) > curves["columns appended"]).all()
sketch.lines(SIZES[1:], curves, x_title="classes", y_title="degrees that old vertices turn", errors=errors)


# %%
# Figure 5.8. How well vertices fit class means, as classes arrive.
def fit(frame: np.ndarray) -> float:
    """Mean cosine of the vertices and the class means, as seen from their centre."""
    return float(rows.cosine(frame, rows.centre(means[: len(frame)])).mean())


frames, columns = {10: anew[10]}, etf.basis_of(anew[10], rng)  # the first frame stands where its ten means are
for k in SIZES[1:]:
    columns = etf.extend_basis(columns, 10, rng)
    frames[k] = etf.etf_from_basis(columns)
ways = {"solved anew": anew, "appended to a placed frame": frames, "appended to a random frame": appended}
curves = {name: [fit(frame[k]) for k in SIZES] for name, frame in ways.items()}
assert curves["appended to a placed frame"][0] > 0.8 > curves["appended to a placed frame"][-1] + 0.2
assert np.abs(curves["appended to a random frame"]).max() < 0.1 and (np.diff(curves["solved anew"]) < 0).all()
sketch.lines(SIZES, curves, x_title="classes", y_title="mean cosine of vertex and class mean")

# %% [markdown]
# **What you saw.** Two pictures show one dilemma. Appending turns old vertices least. A first frame in random orientation fits
# nothing. One that is placed on its ten class means begins as well as the best. It then loses fit with every task, because a new
# column points in a random direction and not where its class is. Solving anew keeps the fit, and moves old targets by more
# than ten degrees per task on average. Each method of fixed geometry is an answer to it: pre-allocate and train the features (NC-FSCIL),
# grow (ProNC), or turn again and repair old classes with stored Gaussians. The fit falls with $K$ even for the best frame: 100
# related classes are *not* a simplex to this backbone.
#
# ## 5. Why not just train with cross-entropy towards the frame?
#
# > **Predict.** A feature stands exactly at its vertex. Which losses would still *turn* it, and which would only make it longer?
# > Cross-entropy with the frame as head; cross-entropy of scaled cosines; the dot-regression loss
# > $\tfrac12 (m_y \cdot h/\|h\| - 1)^2$ (NC-FSCIL). And if only ten vertices of a frame of 100 are in use?

# %%
from torch.nn.functional import cross_entropy, normalize

LOSSES = {
    "cross-entropy": lambda h, m, y: cross_entropy(h @ m.T, y),
    "cross-entropy of cosines": lambda h, m, y: cross_entropy(16 * normalize(h) @ m.T, y),
    "dot regression": lambda h, m, y: 0.5 * ((normalize(h) * m[y]).sum(dim=1) - 1).square().mean(),
}


def slopes(loss: str, vertices: np.ndarray) -> tuple[float, float]:
    """Length of the gradient along the features and across them, for features that stand at their own vertices."""
    frame, h = torch.from_numpy(vertices), torch.tensor(vertices, requires_grad=True)
    (slope,) = torch.autograd.grad(LOSSES[loss](h, frame, torch.arange(len(frame))), h)
    along = (slope * frame).sum(dim=1, keepdim=True)
    return float(along.norm()), float((slope - along * frame).norm())


# %%
for name, frame in (("a simplex of ten", appended[10]), ("ten vertices of a simplex of 100", somewhere[:10])):
    found = {loss: slopes(loss, frame) for loss in LOSSES}
    print(name, *[f"{loss:>26}: along {a:.1e}, across {b:.1e}" for loss, (a, b) in found.items()], sep="\n")
    whole = len(frame) == 10 and frame is appended[10]
    assert (found["cross-entropy"][1] < 1e-9) == (found["cross-entropy of cosines"][1] < 1e-9) == whole
    assert max(found["dot regression"]) < 1e-9

# %% [markdown]
# **What you saw.** With a whole simplex as head, cross-entropy does not turn a feature that has arrived.
#
# **Why.** At $h = m_y$ all other classes have the same probability $q$, and $\sum_{c \ne y} m_c = -m_y$. The gradient (1.1) of notebook
# [01](01_collapse_in_three_dimensions.ipynb) is then $q \sum_{c \ne y} m_c - (K-1)\,q\, m_y = -K q\, m_y$: it points along $m_y$
# and asks for a longer feature, for ever. Cosines have no length, so on them the gradient is zero, as that of dot regression.
#
# The losses differ where the competitors are **not** a whole simplex: ten vertices of a frame of 100, the first task of a
# pre-allocated head. The nine others sum to something that is not along $m_y$, and both cross-entropies push the feature off its
# vertex, away from the nine (weakly where a large scale has made the answer sure). Dot regression asks about the own vertex only. It
# is satisfied there, whichever other vertices are in use: a loss
# that *finishes* at the target that was chosen. That is NC-FSCIL's reason for it.
#
# With CIFAR-100 and ViT-B/16, for those who have them (0.5 GB to download):

# %% tags=["real-data"]
BIG = False  # True: run this cell
if BIG:
    cifar = cillab.stream("cifar100", train_per_class=100, test_per_class=50)
    real = teaching.frozen_features(cifar, cillab.backbone("timm:vit_base_patch16_224.augreg_in21k"))
    mu, test, truth, ids = (
        Moments.of(real.x, real.y).means(), real.test_x.numpy(), real.test_y.numpy(), np.array(cifar.order),
    )  # fmt: skip
    begin = Head(mu, -0.5 * (mu**2).sum(axis=1))
    print({share: f"{right(blended(begin, mu, share)).mean():.1%}" for share in (0.0, 0.5, 1.0)})

# %%
scorecard(globals())

# %% [markdown]
# In the app: `make app`, then [the Head lab with a fixed
# simplex](http://localhost:8501/head_lab?run=demo-min&step=9&head=Fixed+simplex+ETF), and
# [Collapse](http://localhost:8501/collapse?run=demo-min&step=9), where the ideal moves task by task.
#
# ### Open exercise (45 minutes)
# Grow the frame so that new columns point where the new class means are, while old columns are kept bit for bit. How far do old
# vertices turn, and how much of the fit of `solved anew` do you keep?
#
# There is no check. *Rubric:*
#
# * orthonormality is asserted (1 point);
# * turn and fit are both measured (1);
# * it is said what the new columns cannot reach, and why (2).
#
# ## Take-aways
#
# 1. When a simplex grows from $K_1$ to $K_2$ classes, every old vertex turns by the same angle,
#    $\cos^2\theta = \frac{K_2 (K_1 - 1)}{K_1 (K_2 - 1)}$, even if every column is kept.
# 2. A frame is only as good as its orientation: the same angles give chance or the accuracy of the nearest mean.
# 3. Fit and stability pull in opposite directions. Ask of every method which of the two it gives up.
