# %% [markdown]
# # Can a classifier learn in tasks and forget *exactly* nothing?
#
# **You will** write a classifier that learns ten tasks one after another and ends with the same weights as if it had seen all
# images at once. You will find the digit where that stops being true, and ask a head what would have happened otherwise.
# **Time** half a minute on a CPU, 40 minutes for a reader. **Needs** notebook [03](03_what_pretraining_gives.ipynb).

# %%
import os

import cillab
from checks.chapter_06 import check_passes, check_recursion, check_ridge
from checks.photographs import photographs
from cillab import teaching
from cillab.geometry import nc3
from cillab.geometry.heads import Statistics, blended
from cillab.geometry.moments import Moments
from cillab.teaching import paired, scorecard, share_error, sketch

import numpy as np
import torch

# %%
FAST = bool(os.environ.get("CILLAB_FAST"))  # fewer images: the same notebook, noisier numbers
GAMMA = 10.0

# %%
stream = cillab.stream("shields", split="B0-Inc10", train_per_class=20 if FAST else 100, test_per_class=10)
backbone = cillab.backbone("bundled:vit")
seen = teaching.frozen_features(stream, backbone)
phi, new = seen.x.double().numpy(), seen.test_x.double().numpy()
row = {class_id: place for place, class_id in enumerate(stream.order)}  # classes in the order of the stream
label, truth = (np.array([row[c] for c in ids.tolist()]) for ids in (seen.y, seen.test_y))
onehot = np.eye(len(stream.order))[label]
tasks = np.split(np.arange(len(phi)), len(stream))  # rows of each task
print(f"{len(phi)} images, {phi.shape[1]} features, {len(tasks)} tasks")

# %% [markdown]
# ## 1. What has a closed form?
#
# Let $\Phi$ hold one feature per row and $Y$ a one in the column of the right class. Least squares with a penalty $\gamma$ on the
# size of the weights,
#
# $$W = \arg\min_W \|\Phi W - Y\|_F^2 + \gamma \|W\|_F^2 = (\Phi^\top \Phi + \gamma I)^{-1}\, \Phi^\top Y, \tag{6.1}$$
#
# is *ridge regression*. It is no less a classifier for being a regression: take the largest output.
#
# ### Exercise 1 (5 minutes, easy)
#
# <details><summary>Hint</summary>
#
# `np.linalg.solve(A, B)` solves $AX = B$. Add $\gamma$ to the diagonal of $\Phi^\top\Phi$.
#
# </details>


# %% tags=["exercise"]
def ridge(phi: np.ndarray, y: np.ndarray, gamma: float) -> np.ndarray:
    """W [feature, class] of the equation above."""
    raise NotImplementedError


# %% tags=["check"]
check_ridge(ridge)


# %% tags=["solution"]
# Solution of exercise 1: solve, do not invert.
def ridge(phi: np.ndarray, y: np.ndarray, gamma: float) -> np.ndarray:
    return np.linalg.solve(phi.T @ phi + gamma * np.eye(phi.shape[1]), phi.T @ y)


assert check_ridge(ridge)

# %%
joint = ridge(phi, onehot, GAMMA)
print(f"all classes at once: {((new @ joint).argmax(axis=1) == truth).mean():.1%}")

# %% [markdown]
# ## 2. And in tasks, without old images?
#
# > **Predict.** You see ten classes at a time and may keep no image. How close can you come to `joint`: to a percent, to a
# > digit, exactly?
#
# Look at the formula: images enter only through the sums $\Phi^\top\Phi$ and $\Phi^\top Y$. One could just add up. The classical
# way, **recursive least squares**, keeps the solution itself: $W$ and the inverse $R = (\Phi^\top\Phi + \gamma I)^{-1}$, updated
# by Woodbury's identity when a batch $(\Phi, Y)$ arrives (ACIL, Zhuang et al., NeurIPS 2022):
#
# $$R' = R - R\,\Phi^\top (I + \Phi R\,\Phi^\top)^{-1} \Phi R, \qquad W' = W + R'\,\Phi^\top (Y - \Phi W). \tag{6.2}$$
#
# Read the second one aloud: *correct $W$ by the error it makes on the new images, in the metric of everything seen*.
#
# ### Exercise 2 (20 minutes, hard)
#
# <details><summary>Hint</summary>
#
# Write $S = \Phi R$ first; then $R' = R - S^\top (I + S\Phi^\top)^{-1} S$. The new $W$ uses the new $R'$.
#
# </details>


# %% tags=["exercise"]
def update(inverse: np.ndarray, weight: np.ndarray, phi: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """R' and W' after the images `phi` with targets `y`."""
    raise NotImplementedError


# %% tags=["check"]
check_recursion(update)


# %% tags=["solution"]
# Solution of exercise 2. The matrix to invert has one row per new image, not per feature.
def update(inverse: np.ndarray, weight: np.ndarray, phi: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    seen_by = phi @ inverse
    inverse = inverse - seen_by.T @ np.linalg.solve(np.eye(len(phi)) + seen_by @ phi.T, seen_by)
    return inverse, weight + inverse @ phi.T @ (y - phi @ weight)


assert check_recursion(update)


# %%
def in_tasks(dtype: type, batches: list[np.ndarray], gamma: float = GAMMA) -> np.ndarray:
    """W after the batches one by one, all arithmetic in `dtype`."""
    inverse = (np.eye(phi.shape[1]) / gamma).astype(dtype)
    weight = np.zeros((phi.shape[1], onehot.shape[1]), dtype)
    for rows in batches:
        inverse, weight = update(inverse, weight, phi[rows].astype(dtype), onehot[rows].astype(dtype))
    return weight


recursive = in_tasks(np.float64, tasks)
print(f"largest difference to joint: {np.abs(recursive - joint).max():.0e}, largest weight {np.abs(joint).max():.2f}")
assert np.allclose(recursive, joint, atol=1e-9)

# %% [markdown]
# **What you saw.** The weights are the same, to a dozen digits. **Why.** $R'$ and $W'$ are the closed form of all images seen so
# far, rewritten by an identity; nothing is approximated. A learner can forget *exactly nothing*, if its features stay where they
# are and its loss is quadratic.
#
# > **Predict.** Now in single precision, the numbers that GPUs like best, and for several $\gamma$. A smaller $\gamma$ hardly
# > changes the joint solution. What does it do to the recursion?

# %%
for gamma in (10.0, 0.1, 1e-3):
    exact = ridge(phi, onehot, gamma)
    print(f"gamma {gamma:g}: joint {((new @ exact).argmax(axis=1) == truth).mean():.1%}")
    for dtype in (np.float64, np.float32):
        with np.errstate(all="ignore"):  # numbers may overflow: that is the point
            weight = in_tasks(dtype, tasks, gamma)
            gap, right = np.abs(weight - exact).max(), ((new @ weight).argmax(axis=1) == truth).mean()
        print(f"    in tasks, {dtype.__name__}: {right:.1%}, weights differ by {gap:.0e}")
assert right < ((new @ exact).argmax(axis=1) == truth).mean() / 2  # the last one: single precision, the smallest gamma
assert abs(((new @ exact).argmax(axis=1) == truth).mean() - ((new @ joint).argmax(axis=1) == truth).mean()) < 0.03

# %% [markdown]
# **What you saw.** In double precision all is well. In single precision the same formula is harmless for a large $\gamma$ and loses
# more than half of its accuracy for the smallest, while the joint solution hardly changes. **Why.** The matrix $R$ starts at $I/\gamma$, which is huge. Each update
# subtracts from it a matrix that is nearly equal, and what is left is rounding. A formula that is exact on paper is not therefore
# exact on a machine. The library keeps the *sums* in float64 and factors once after each task, where nothing is subtracted. Its
# learner is `acil`; with `expansion=0` it reads the plain features:

# %%
learner = cillab.learner("acil", backbone, expansion=0, gamma=GAMMA)
placed = stream.on(backbone)
for task in placed:
    *_, last = learner.observe(task)  # the last of its progress reports
with torch.no_grad():
    logits = learner.logits(placed.test().images).double().cpu().numpy()
print(f"largest difference of the logits to joint: {np.abs(logits - new @ joint).max():.0e}")
assert learner.seen == stream.order
assert np.allclose(logits, new @ joint, atol=1e-4)  # the learner answers in float32

# %% [markdown]
# ## 3. What if it sees the images more than once?
#
# MiN (this library's `min`) adds to the same sums in several stages of a task. Suppose all images are added $p$ times.
#
# > **Predict.** With gradient descent, more passes mean a better fit. And here?
#
# ### Exercise 3 (5 minutes, easy)
# Put $p\,\Phi^\top\Phi$ and $p\,\Phi^\top Y$ into the closed form. Which $\gamma'$ gives the same $W$ in one pass?
#
# <details><summary>Hint</summary>
#
# Divide the equation $(p\,\Phi^\top\Phi + \gamma I) W = p\,\Phi^\top Y$ by $p$.
#
# </details>


# %% tags=["exercise"]
def equivalent_gamma(gamma: float, passes: int) -> float:
    """gamma of the one-pass ridge with the same solution as `passes` passes with `gamma`."""
    raise NotImplementedError


# %% tags=["check"]
check_passes(equivalent_gamma)


# %% tags=["solution"]
# Solution of exercise 3: divide (p Phi^T Phi + gamma I) W = p Phi^T Y by p.
def equivalent_gamma(gamma: float, passes: int) -> float:
    return gamma / passes


assert check_passes(equivalent_gamma)

# %%
five_times = in_tasks(np.float64, tasks * 5)
other = ridge(phi, onehot, equivalent_gamma(GAMMA, 5))
print(f"five passes against one with gamma / 5: {np.abs(five_times - other).max():.0e}")
print(f"five passes against one with gamma:     {np.abs(five_times - joint).max():.0e}")
assert np.allclose(five_times, other, atol=1e-9)

# %% [markdown]
# **What you saw.** $p$ passes are $\gamma / p$. So a code that adds its images in every epoch does not have the $\gamma$ that its
# configuration says. When you compare two implementations, count the passes.
#
# ## 4. What if the penalty were another one?
#
# A ridge needs no image once the moments of the features are known: class means and the covariance inside classes. `Statistics`
# holds them and makes a head in milliseconds. Its penalty is relative: $\gamma$ over the number of images times the mean variance.
#
# > **Predict.** As $\gamma$ grows from 0.01 to a million, weights shrink to nothing. Does accuracy go to chance?

# %%
# Figure 6.1. Accuracy, and agreement with the nearest mean, over the penalty.
known = Statistics.measured(Moments.of(phi, label))
unit = len(phi) * known.scale
GAMMAS = [0.01, 0.1, 1, 10, 100, 1e3, 1e4, 1e5, 1e6]
heads = [known.head("ridge", gamma / unit) for gamma in GAMMAS]
chosen, nearest = [head.scores(new).argmax(axis=1) for head in heads], nc3.nearest_mean(new, known.means)
shares = {
    "accuracy": [(one == truth).mean() for one in chosen],
    "NC4: agrees with the nearest mean": [(one == nearest).mean() for one in chosen],
}
errors = {name: share_error(values, len(truth)) for name, values in shares.items()}
axis = {"x_title": "gamma", "log_x": True}
sketch.lines(GAMMAS, shares, y_title="share of the test images", **axis, percent=True, errors=errors)

# %%
# Figure 6.2. Duality of head and class means over the penalty.
duality = [nc3.nc3(head.weight, known.means).mean_cosine for head in heads]
best = max(range(len(heads)), key=lambda i: (chosen[i] == truth)[::2].mean())  # chosen on every second image ...
print(f"gamma {GAMMAS[best]:g}, minus a million: {paired((chosen[best] == truth)[1::2], (chosen[-1] == truth)[1::2])}")
assert duality[-1] > 0.999 > duality[best] and shares["accuracy"][-1] > 0.3
assert paired((chosen[best] == truth)[1::2], (chosen[-1] == truth)[1::2]).low > 0
sketch.lines(GAMMAS, {"NC3": duality}, y_title="mean cosine of head and class means", **axis)

# %% [markdown]
# **What you saw.** It does not go to chance. At large $\gamma$ the inverse becomes $I/\gamma$, so
# $W \to \Phi^\top Y / \gamma$: sums of the features of each class. (`Statistics` centres $\Phi$ and $Y$ first, which is a bias without
# a penalty.) The rows of the head then point *exactly* at the centred class means. NC3 is reached, from below, by a head that has
# learnt nothing but means. Smaller $\gamma$ moves it away from them and is better for it, as the printed line says ($\gamma$ was chosen on one
# half of the images and compared on the other). **Self-duality is not quality**: on features that have not collapsed, the best head is
# not the means.
#
# **Play.** Leave out the classes of the newest task, change $\gamma$, or blend towards the class means. The figure shows the accuracy
# on the classes of every task.


# %%
def what_if(gamma: float = 10.0, blend: float = 0.0, newest: bool = True) -> None:
    kept = 100 if newest else 90  # the newest ten classes have the last rows
    here, asked = label < kept, truth < kept
    few = Moments.of(phi[here], label[here])
    statistics = Statistics.measured(few)
    head = blended(statistics.head("ridge", gamma / here.sum() / statistics.scale), statistics.means, blend)
    right = head.scores(new[asked]).argmax(axis=1) == truth[asked]
    old[newest] = right[truth[asked] < 90]
    by_task = {f"{kept} classes": [right[truth[asked] // 10 == t].mean() for t in range(kept // 10)]}
    errors = {name: share_error(values, 100) for name, values in by_task.items()}
    names = [f"task {t + 1}" for t in range(kept // 10)]
    title = f"accuracy among {kept} classes: {right.mean():.1%}"
    display(sketch.bars(names, by_task, x_title=title, y_title="accuracy", percent=True, errors=errors))


# %%
# Figure 6.3. What if the newest task had not come: accuracy by task.
old: dict[bool, np.ndarray] = {}
what_if()
what_if(newest=False)
print(f"old classes, among 90 minus among 100: {paired(old[False], old[True])}")

# %%
try:
    from ipywidgets import FloatLogSlider, FloatSlider, interact
except ImportError:
    print("The sliders need ipywidgets.")
else:
    interact(what_if, gamma=FloatLogSlider(10, min=-2, max=6), blend=FloatSlider(0, min=0, max=1, step=0.1))

# %% [markdown]
# Without the newest ten classes the old ones have ten rivals less, and nothing else about them has changed: crowding again, seen from the
# other side. Ten rivals of a hundred are few; the printed line says what they cost, and whether these images can tell.
#
# ## 5. Is a linear read-out of 160 features all there is?
#
# A closed form is cheap, so give it more to read: random features $\max(0, h V)$ with a fixed random matrix $V$
# (RanPAC, McDonnell et al., NeurIPS 2023; ACIL too).
#
# > **Predict.** $V$ is random and never trained. Do 64 such features lose? Can 2048 of them beat the 160 they are made of?

# %%
WIDTHS = (64, 160, 512, 1024) if FAST else (64, 160, 512, 1024, 2048)
right = []
for width in WIDTHS:
    mixing = np.random.default_rng(0).normal(size=(phi.shape[1], width)) / np.sqrt(phi.shape[1])
    wide, wide_new = np.maximum(phi @ mixing, 0), np.maximum(new @ mixing, 0)
    right.append((wide_new @ ridge(wide, onehot, GAMMA)).argmax(axis=1) == truth)
plain = (new @ joint).argmax(axis=1) == truth
for place in (0, -1):
    print(f"{WIDTHS[place]} random features, minus plain: {paired(right[place], plain)}")

# %%
# Figure 6.4. A ridge on random features, over their number.
curve, level = {"random features": [one.mean() for one in right]}, {"plain features": plain.mean()}
errors = {name: share_error(values, len(truth)) for name, values in curve.items()}
axis = {"x_title": "width", "y_title": "accuracy", "log_x": True}
assert curve["random features"][0] < plain.mean()
sketch.lines(WIDTHS, curve, **axis, levels=level, percent=True, errors=errors)

# %% [markdown]
# **What you saw.** A narrow random layer loses. The printed lines say what the widest is worth on these images. **Why.** Classes that no hyperplane separates in 160 dimensions
# can be separated in thousands (Cover 1965). The exact recursion still holds, since the layer is fixed before the first image.
# The price is $D^2$ numbers: at $D = 10{,}000$, RanPAC's choice, the matrix $\Phi^\top\Phi$ alone has 100 million.
#
# **And on photographs?** Recorded on CIFAR-100 with a small frozen ViT; $\gamma$ was chosen for each width on a fifth of
# the training images.

# %%
# Figure 6.5. Photographs: a ridge on random features, over their number.
real = photographs("06")
curve, level = {"random features": real["accuracy"]}, {"plain features": real["plain"]}
errors = {name: share_error(values, real["images"]) for name, values in curve.items()}
for which in ("narrowest", "widest"):
    gap, low, high = real[f"{which}, minus plain"]
    print(f"{which} layer, minus plain features: {gap:+.1f} points [{low:+.1f}, {high:+.1f}]")
assert real["narrowest, minus plain"][2] < 0 < real["widest, minus plain"][1]
sketch.lines(real["widths"], curve, **axis, levels=level, percent=True, errors=errors)

# %% [markdown]
# **What you saw.** On photographs too, narrow loses and wide wins, and here both intervals are clear of 0.
#
# **What would change this?** Let the features move. Then the sums of old tasks belong to features that exist no more, and
# exactness is gone: that is where notebooks 07, 08 and 10 begin.
#
# With CIFAR-100 and ViT-B/16, for those who have them (0.5 GB to download):

# %% tags=["real-data"]
BIG = False  # True: run this cell
if BIG:
    cifar = cillab.stream("cifar100", train_per_class=100, test_per_class=50)
    real = teaching.frozen_features(cifar, cillab.backbone("timm:vit_base_patch16_224.augreg_in21k"))
    moments = Moments.of(real.x, real.y)
    big, ids, images = Statistics.measured(moments), np.array(moments.classes), real.test_x.numpy()
    for gamma in (1.0, 100.0, 1e4, 1e6):
        scores = big.head("ridge", gamma / len(real.x) / big.scale).scores(images)
        print(f"gamma {gamma:g}: {(ids[scores.argmax(axis=1)] == real.test_y.numpy()).mean():.1%}")

# %%
scorecard(globals())

# %% [markdown]
# In the app: `make app`, then [the Head lab with a ridge](http://localhost:8501/head_lab?run=demo-min&step=9&head=Ridge) and a slider
# for $\gamma$. (The own head of `min` is such a ridge too, on random features of features with learnt noise.)
#
# ### Open exercise (45 minutes)
# One class is to be *unlearnt*: its images must leave the ridge. Write the downdate, compare it with a fit from scratch, and
# find where it loses digits.
#
# There is no check. *Rubric:*
#
# * exact in float64 against the fit from scratch (2 points);
# * the loss of digits is traced to a subtraction (1);
# * it is said what cannot be unlearnt this way (1).
#
# ## Take-aways
#
# 1. On fixed features, ridge regression in tasks *is* joint ridge regression, to rounding: keep the sums in float64.
# 2. $p$ passes over the data are one pass with $\gamma/p$. Count passes before you compare.
# 3. At large $\gamma$ the head becomes the class means: NC3 says how a head relates to the means, not how good it is.
