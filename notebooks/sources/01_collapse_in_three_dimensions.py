# %% [markdown]
# # Why do the classes of a trained network end up as a tetrahedron?
#
# **You will** write the force that moves features, let gradient descent move twelve points in space until a perfect frame stands
# there, and derive its angle. Then you break it in four ways: too few dimensions, no weight decay, unequal classes, and a class
# that comes late.
# **Time** under 20 s on a CPU, 40 minutes for a reader. **Needs** nothing but vectors and the softmax. No network, no images, no
# GPU: everything happens in three dimensions, where it can be seen.

# %%
from checks.chapter_01 import check_feature_gradient, check_mean_cosine
from checks.photographs import photographs, protocol
from cillab import figures
from cillab.geometry import etf
from cillab.teaching import scorecard, simulate, sketch

import numpy as np

# %% [markdown]
# ## 1. What pulls a feature?
#
# A deep network is flexible enough to put the feature $h$ of a training image nearly anywhere. So forget the network and let the
# features themselves be what is learnt (the *unconstrained features model*; Mixon, Parshall & Pi 2020, Zhu et al., NeurIPS 2021,
# arXiv:2105.02375). The head gives class $c$ the score $w_c \cdot h$, the softmax turns scores into probabilities $p_c$, and the
# loss is $-\log p_y$ for the right class $y$.
#
# > **Predict.** Along which vectors does the gradient move $h$? Which of them matter most: those of classes that $h$ is far
# > from, or of those it is mistaken for?
#
# $$\frac{\partial}{\partial h}\big(-\log p_y\big) = \sum_c (p_c - [c = y])\, w_c \tag{1.1}$$
#
# ### Exercise 1 (15 minutes, medium)
#
# <details><summary>Hint</summary>
#
# `features @ weight.T` gives all scores at once, one row per image. Turn each row into probabilities, subtract 1 at the right
# class, and multiply by the rows of `weight`.
#
# </details>


# %% tags=["exercise"]
def feature_gradient(features: np.ndarray, weight: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The gradient above for every row of `features`; `weight` has a row per class, `labels` are its row numbers."""
    raise NotImplementedError


# %% tags=["check"]
check_feature_gradient(feature_gradient)


# %% tags=["solution"]
# Solution of exercise 1. Subtracting the largest score changes no probability and prevents overflow.
def feature_gradient(features: np.ndarray, weight: np.ndarray, labels: np.ndarray) -> np.ndarray:
    scores = features @ weight.T
    chances = np.exp(scores - scores.max(axis=1, keepdims=True))
    chances /= chances.sum(axis=1, keepdims=True)
    chances[np.arange(len(labels)), labels] -= 1
    return chances @ weight


assert check_feature_gradient(feature_gradient)

# %% [markdown]
# ## 2. Where do they come to rest?
#
# Twelve points in space, three classes, everything random. Head and features both follow their gradients, and both decay a
# little towards zero. (The gradient of the head is the same thing with the roles exchanged: $\sum_i (p_c - [c = y_i])\, h_i$,
# here divided by 4, the number of images of a class, so that both move at a like pace.)
#
# > **Predict.** Describe the final picture before you run it: where are the four points of one class? What is the angle
# > between two classes? Where do the rows of the head point?

# %%
rng = np.random.default_rng(0)
labels = np.repeat(np.arange(3), 4)
features, weight = rng.normal(size=(12, 3)) * 0.5, rng.normal(size=(3, 3)) * 0.3
for _ in range(3000):
    chances = np.exp(features @ weight.T)
    error = chances / chances.sum(axis=1, keepdims=True) - np.eye(3)[labels]  # p - e
    pull = feature_gradient(features, weight, labels)
    weight = weight - 0.2 * (error.T @ features / 4 + 0.02 * weight)
    features = features - 0.2 * (pull + 0.02 * features)
means = np.stack([features[labels == c].mean(axis=0) for c in range(3)])
unit = means / np.linalg.norm(means, axis=1, keepdims=True)
print(np.round(unit @ unit.T, 4))

# %% [markdown]
# **What you saw.** Every pair of classes has the cosine $-0.5$: 120°, a star of three rays in a plane. You wrote the force yourself, so
# nothing was put in but the loss and the decay. The library's toy does the same with more care, and draws it. Press *play*, or
# drag the slider; the open marks are the nearest perfect frame.

# %%
# Figure 1.1. Three classes find their triangle.
three = simulate(classes=3, dim=3, frames=24)
assert np.allclose(three.cosines[-1][~np.eye(3, dtype=bool)], -0.5, atol=1e-4)
figures.toy(three)

# %% [markdown]
# **The four signs of neural collapse** (Papyan, Han & Donoho 2020) are all in that picture. Points of a class fall onto each
# other (NC1), and their means take equal angles and lengths (NC2). The rows of the head point at the means (NC3), and the head
# decides like the nearest mean (NC4).
#
# ## 3. Why this angle, and what about four classes?
#
# > **Predict.** Three classes took 120°. What will four take in space? And what is the largest angle that $K$ directions can
# > *all* have with each other?
#
# Let $u_1, \dots, u_K$ be unit vectors, and $s$ the length of their sum. Multiply out:
# $s^2 = \big\|\sum_c u_c\big\|^2 = K + \sum_{c \ne k} u_c \cdot u_k.$
#
# ### Exercise 2 (10 minutes, easy)
#
# <details><summary>Hint</summary>
#
# The sum over ordered pairs has $K(K-1)$ terms, and it is $s^2 - K$.
#
# </details>


# %% tags=["exercise"]
def mean_cosine(k: int, length: float) -> float:
    """Mean of the cosines over all pairs of k unit vectors whose sum has this length."""
    raise NotImplementedError


# %% tags=["check"]
check_mean_cosine(mean_cosine)


# %% tags=["solution"]
# Solution of exercise 2: k (k - 1) ordered pairs share length^2 - k.
def mean_cosine(k: int, length: float) -> float:
    return (length**2 - k) / (k * (k - 1))


assert check_mean_cosine(mean_cosine)

# %% [markdown]
# **Why this is the end.** A length is not negative, so the mean cosine cannot be below $-1/(K-1)$, and it gets there exactly when
# the vectors sum to zero. If all pairs are to be alike, that is the best there is: the **simplex**.

# %%
# Figure 1.2. Four classes find their tetrahedron.
four = simulate(classes=4, dim=3, frames=24)
print(
    f"four classes: cosines {np.round(four.cosines[-1][0, 1:], 4)}, ideal {mean_cosine(4, 0):.4f} = {etf.ideal_cosine(4):.4f}"
)
figures.toy(four)

# %% [markdown]
# **What you saw.** A tetrahedron. With $K$ classes it needs $K - 1$ dimensions, and networks have hundreds.
#
# ## 4. What breaks it?
#
# > **Predict** for each, before you look: do points still fall onto each other (NC1)? Are the angles still equal (NC2)?
# >
# > 1. four classes in only **two** dimensions
# > 2. **no weight decay**
# > 3. two of the four classes have **twelve times fewer** images

# %%
broken = {
    "as it should be": four,
    "two dimensions": simulate(classes=4, dim=2),
    "no weight decay": simulate(classes=4, dim=3, decay=0.0),
    "unequal classes": simulate(classes=4, dim=3, imbalance=12),
}
for name, toy in broken.items():
    pairs = toy.cosines[-1][np.triu_indices(4, 1)]
    print(
        f"{name:>16}: NC1 {toy.nc1[-1]:.0e}, NC2 {toy.nc2[-1]:.3f}, cosines {pairs.min():.2f} to {pairs.max():.2f}, ",
        end="",
    )
    print(f"right {toy.accuracy()[-1]:.0%}")

# %%
# Figure 1.3. Four classes in a plane: a square.
assert np.allclose(np.sort(broken["two dimensions"].cosines[-1][0]), [-1, 0, 0, 1], atol=1e-3)
assert broken["no weight decay"].accuracy()[-1] == 1 and broken["no weight decay"].nc2[-1] > 0.3  # right, not collapsed
far = {name: toy.nc2[-1] for name, toy in broken.items()}
# With all three conditions a simplex, without one of them not.
assert min(far.values()) == far["as it should be"] < 0.01
figures.toy(broken["two dimensions"], play=False)

# %% [markdown]
# **What you saw.**
#
# 1. In a plane four classes make a square: points collapse as before, but not all pairs can be at the same angle.
# 2. Without decay nothing ever holds the lengths back. Every image is answered rightly long before the frame is there, and
#    the frame comes slowly, if at all: the angles are still far off after 600 steps. *Right answers are not collapse.*
# 3. Unequal classes collapse too, but to another figure: the two small classes (the last two) move together, the large ones
#    apart. With still fewer images they would merge altogether (*minority collapse*; Fang, He, Long & Su, PNAS 2021). Task by
#    task learning is full of unequal classes: the old ones have none of the images. How it goes with the ratio:

# %%
# Figure 1.4. Unequal classes: cosines of large and of small classes.
ratios = (1, 2, 4, 8, 12)
ends = [simulate(classes=4, dim=3, imbalance=ratio).cosines[-1] for ratio in ratios]
curves = {"two large classes": [c[0, 1] for c in ends], "two small classes": [c[2, 3] for c in ends]}
assert (np.diff(curves["two small classes"]) > 0).all() and (np.diff(curves["two large classes"]) < 0).all()
sketch.lines(ratios, curves, x_title="times fewer images", y_title="cosine", levels={"simplex": -1 / 3})

# %% [markdown]
# ## 5. And when a class comes late?
#
# Three classes are learnt to the end. Then a fourth arrives, **without** images of the first three.
#
# > **Predict.** The old features are at rest and get no gradient: no image of theirs is shown. The head, though, is shared.
# > What share of the old images is still answered rightly?

# %%
late = {
    "learned head, new images only": simulate(classes=3, dim=3, added=1, frames=24),
    "learned head, old images kept": simulate(classes=3, dim=3, added=1, old_data=True),
    "fixed simplex, new images only": simulate(classes=3, dim=3, added=1, head="etf"),
    "the same, features of a network": simulate(classes=3, dim=3, added=1, head="etf", model="network"),
}
for name, toy in late.items():
    print(f"{name:>31}: old {toy.accuracy(0)[-1]:>4.0%}, new {toy.accuracy(1)[-1]:>4.0%}, NC2 {toy.nc2[-1]:.3f}")
old_of = [toy.accuracy(0)[-1] for toy in late.values()]
assert old_of[:3] == [0, 1, 1]  # free features: the head alone decides
assert old_of[3] < 0.5  # features of one network move together, whatever the head

# %%
# Figure 1.5. A fourth class comes late, without old images.
toy = late["learned head, new images only"]
then, old = (toy.task == 0).sum() - 1, toy.tasks[toy.labels] == 0
print(f"old features moved by {np.abs(toy.features[-1, old] - toy.features[then, old]).max():.0e} at most")
figures.toy(toy)

# %% [markdown]
# **What you saw.** Not one old *feature* moved, and every old image is wrong. The rows of the head did it: whatever is not the
# new class is wrong for each image shown, so old rows are pushed away and the new one grows. With the old images kept, the
# triangle opens into a tetrahedron. With a head that was fixed at a simplex of four from the start no row of the head gives way.
# **Free** features, which no image of another class can touch, then keep every old answer.
#
# **Why this is half of the answer.** The last row is the warning. There the features are the output of one small network that all
# images share, and the head is the same fixed simplex. Old images lose their answers, because the weights that move the new
# images move the old ones too. *A fixed head removes one cause of forgetting, the rows that drift. The other cause, features that
# share weights, stays.*
#
# Two remedies follow, and the rest of this course studies both: bring old classes back (stored images, stored statistics), or
# decide the geometry beforehand **and** keep the features of old classes where they are.
#
# **How far must an old class turn** to make room? The fixed head answers this without any training: its vertices never move,
# but seen from the centre of *four* classes instead of three they have other directions.

# %%
frame = etf.simplex_etf(4, 3, np.random.default_rng(0))
of_three = frame[:3] - frame[:3].mean(axis=0)
cosine = (of_three * frame[:3]).sum(axis=1) / np.linalg.norm(of_three, axis=1)
print("measured:", np.degrees(np.arccos(cosine)).round(4), " formula:", round(np.degrees(etf.growth_angle(3, 4)), 4))
assert np.allclose(np.degrees(np.arccos(cosine)), 19.4712, atol=1e-4)

# %% [markdown]
# 19.47°, for each of them. Notebook [05](05_growing_frames.ipynb) derives it.
#
# **Play.** Settings of your own.


# %%
# Figure 1.6. A toy with settings of your own.
def play(classes: int = 4, dim: int = 3, imbalance: float = 1, decay: float = 5e-3, network: bool = False) -> None:
    model = "network" if network else "free"
    toy = simulate(classes, dim, imbalance=imbalance, decay=decay, model=model, frames=12)
    display(figures.toy(toy, play=False))


try:
    from ipywidgets import FloatLogSlider, IntSlider, interact
except ImportError:
    print("The sliders need ipywidgets.")
else:
    sliders = {"classes": IntSlider(4, 2, 8), "dim": IntSlider(3, 2, 8), "imbalance": IntSlider(1, 1, 20)}
    interact(play, decay=FloatLogSlider(5e-3, min=-5, max=-1), **sliders)

# %% [markdown]
# ## 6. And on photographs?
#
# A real network cannot put every feature where it likes. How near does one come that was never trained on these classes? Recorded: the
# cosines of all 4,950 pairs of class means of CIFAR-100, in the features of a small frozen ViT, seen from their centre.
#
# > **Predict.** The mean of these cosines is nearly $-1/99$. How far do single pairs lie from it? Which pairs lie furthest?

# %%
# Figure 1.7. Photographs: cosines of pairs of class means.
real = photographs("01")
centres = [round(edge + 0.05, 2) for edge in real["edges"][:-1]]
for one, other, cosine in real["nearest"]:
    print(f"cosine {cosine:.2f}: {one} and {other}")
print(f"mean {real['mean']:.3f}, standard deviation {real['spread']:.2f}; NC1 quotient {real['nc1']:.2f}")
print(protocol())
assert abs(real["mean"] + 1 / 99) < 0.01 and real["spread"] > 0.1  # right on average, and no simplex
sketch.bars(
    [f"{c:+.2f}" for c in centres], {"pairs": real["share"]}, x_title="cosine", y_title="share of pairs", percent=True
)

# %% [markdown]
# **What you saw.** The average is that of a simplex, as it must be for vectors that sum to zero and have nearly equal lengths. The
# pairs are not: things that look alike lie close together. **Why.** These features were trained on other classes, and nothing has pushed
# these hundred apart. The toy shows where training *would* take them.
#
# The same with ViT-B/16, for those who have it and CIFAR-100 (0.5 GB to download):

# %% tags=["real-data"]
BIG = False  # True: run this cell
if BIG:
    import cillab
    from cillab import geometry, teaching

    cifar = cillab.stream("cifar100", train_per_class=100, test_per_class=10)
    real = teaching.frozen_features(cifar, cillab.backbone("timm:vit_base_patch16_224.augreg_in21k"))
    found = geometry.collapse.collapse(geometry.moments.Moments.of(real.x, real.y))
    print(f"NC1 {found.nc1_quotient:.2f}, mean |cos + 1/99| {found.nc2_maximal_angle:.3f}")

# %%
scorecard(globals())

# %% [markdown]
# In the app: `make app`, then [Toy collapse](http://localhost:8501/toy_collapse?toy_classes=3&toy_added=1) opens with the late
# class, and
# [Step through](http://localhost:8501/step_through?run=demo-min&step=9) shows the real thing.
#
# ### Open exercise (45 minutes)
# Find settings of the toy in which the final angles differ from the simplex although all classes are equal and decay is on.
# Explain the figure that you get.
#
# There is no check. *Rubric:*
#
# * the setting can be run again by another person (1 point);
# * the deviation is measured, not only seen (1);
# * the explanation says which of the three conditions fails, or shows that it is a fourth one (2).
#
# ## Take-aways
#
# 1. Cross-entropy pulls each feature to its row of the head and pushes it from the rows that it is mistaken for. With weight
#    decay, classes of equal size and at least $K - 1$ dimensions this force ends in a simplex; without one of the three it does not.
# 2. $-1/(K-1)$ is the least mean cosine that $K$ directions can have.
# 3. A class that comes late can wipe out old answers without moving a single old feature. A fixed head prevents that, and does
#    not prevent a network from moving old features.
