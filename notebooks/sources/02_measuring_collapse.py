# %% [markdown]
# # How do you measure collapse without fooling yourself?
#
# **You will** see a network "collapse" because you gave it too few images, and take that bias out with a formula. You will find
# the one number of collapse that random labels improve, and know which angles are out of reach when there are more classes than
# dimensions.
# **Time** a minute on a CPU, 40 minutes for a reader. **Needs** notebook [00](00_tour_of_a_run.ipynb) for the names of
# NC1 to NC4. Nothing is trained and nothing downloaded: the backbone below never changes, so whatever moves in this
# notebook is not learning. It is measurement.

# %%
import os

import cillab
from checks.chapter_02 import check_angle_deviation, check_angle_floor, check_unbiased_quotient
from checks.photographs import photographs
from cillab import teaching
from cillab.geometry import collapse, nc2
from cillab.geometry.moments import Moments
from cillab.teaching import scorecard, sketch

import numpy as np
import torch

FAST = bool(os.environ.get("CILLAB_FAST"))  # fewer images: the same notebook, noisier numbers
PER_CLASS = 20 if FAST else 100

# %%
stream = cillab.stream("shields", split="B0-Inc10", train_per_class=PER_CLASS, test_per_class=20)
seen = teaching.frozen_features(stream, cillab.backbone("bundled:vit"))
num_classes, dim = len(stream.order), seen.x.shape[1]
print(f"{len(seen.x)} training images, {num_classes} classes, features of {dim} dimensions")

# %% [markdown]
# `shields` is a world of painted coats of arms; the bundled ViT saw other coats of arms when it was pre-trained.
#
# ## 1. How many images must you measure on?
#
# NC1 compares two spreads. The covariance of images around the mean $\mu_c$ of their class is $\Sigma_W$, that of the $K$ class
# means around their own mean $\mu_G$ is $\Sigma_B$. The trace, $\operatorname{tr}$, adds up the variances of all directions.
# The pseudo-inverse $\Sigma_B^{+}$ leaves out directions in which the means do not differ:
#
# $$\text{NC1}_{\text{quotient}} = \frac{\operatorname{tr}\Sigma_W}{\operatorname{tr}\Sigma_B}, \qquad
# \text{NC1}_{\text{pinv}} = \tfrac1K \operatorname{tr}(\Sigma_W \Sigma_B^{+}). \tag{2.1}$$
#
# The first is from Tirer, Huang & Niles-Weed (ICML 2023), the second from Papyan, Han & Donoho (PNAS 2020). Both are 0 when
# every class is a point.
#
# > **Predict.** Same backbone, same classes; you measure on $n$ = 1, 2, 5, ... images of each class. What is NC1 at
# > $n = 1$? Does it then rise, fall, or only get less noisy?


# %%
def first(n: int, x: torch.Tensor = seen.x, y: torch.Tensor = seen.y) -> collapse.Collapse:
    """All collapse metrics, measured on the first n images of each class."""
    rows = torch.cat([torch.nonzero(y == c)[:n, 0] for c in stream.order])
    return collapse.collapse(Moments.of(x[rows], y[rows]), data="train")


SIZES = [n for n in (1, 2, 3, 5, 10, 20, 50, 100) if n <= PER_CLASS]
measured = [first(n) for n in SIZES]
for n, found in zip(SIZES, measured, strict=True):
    print(f"{n:>4} images a class: quotient {found.nc1_quotient:.3f}, pinv {found.nc1_pinv:6.2f}")
assert measured[0].nc1_pinv < 1e-9 and (np.diff([found.nc1_pinv for found in measured]) > 0).all()  # to the largest n

# %% [markdown]
# Each of these numbers was measured on one choice of images. To see how much the choice matters, five choices are drawn at random for
# each $n$. Whiskers are 1.96 standard deviations over them.


# %%
def traces(rows: torch.Tensor) -> tuple[float, float]:
    """tr Sigma_W and tr Sigma_B of the images in `rows`."""
    moments = Moments.of(seen.x[rows], seen.y[rows])
    return float(moments.pooled_within().trace()), float((nc2.centre(moments.means()) ** 2).sum(axis=1).mean())


draws = torch.Generator().manual_seed(0)
of_class = [torch.nonzero(seen.y == c)[:, 0] for c in stream.order]


def drawn(n: int) -> torch.Tensor:
    return torch.cat([rows[torch.randperm(len(rows), generator=draws)[:n]] for rows in of_class])


# %%
# Figure 2.1. NC1 over the number of images that it is measured on.
again = {n: np.array([traces(drawn(n)) for _ in range(5)]) for n in SIZES}  # [draw, (within, between)]
quotients = {n: pair[:, 0] / pair[:, 1] for n, pair in again.items()}
middle = {"NC1 quotient": [values.mean() for values in quotients.values()]}
spread = {"NC1 quotient": [1.96 * values.std(ddof=1) for values in quotients.values()]}
axes = {"x_title": "images per class", "log_x": True}
assert (np.diff(middle["NC1 quotient"]) > 0).all()  # it rises with every size
sketch.lines(SIZES, middle, y_title="NC1 (0 = collapsed)", **axes, errors=spread)

# %% [markdown]
# **What you saw.** With one image a class *every* network is perfectly collapsed: an image lies exactly at its own mean.
# From there NC1 rises with $n$. A run that measures on 5 images a class looks more collapsed than one that measures on
# 50, and nothing about the features differs.
#
# **Why.** Let $v$ be the true spread of a class and $n$ the number of images. The mean is fitted to the same images, so
# it sits too close to them, and it is itself noisy, so means lie too far apart:
#
# $$\mathbb E[\operatorname{tr}\hat\Sigma_W] = \frac{n-1}{n}\,v, \qquad
# \mathbb E[\operatorname{tr}\hat\Sigma_B] = \operatorname{tr}\Sigma_B + \frac{K-1}{K}\,\frac{v}{n}. \tag{2.2}$$
#
# Both errors push the quotient down. (The factor $\frac{K-1}{K}$: the centre $\mu_G$ is an average of the same noisy
# means and takes its share of the noise with it.)
#
# ### Exercise 1 (15 minutes, medium)
# Solve the two equations of (2.2) for the true quotient $v / \operatorname{tr}\Sigma_B$.
#
# <details><summary>Hint</summary>
#
# First equation: $v$ from the measured within-trace. Second equation: subtract the part that $v$ adds from the measured
# between-trace.
#
# </details>


# %% tags=["exercise"]
def unbiased_quotient(within: float, between: float, n: int, k: int) -> float:
    """tr Sigma_W / tr Sigma_B from what was measured on n > 1 images of each of k classes."""
    raise NotImplementedError


# %% tags=["check"]
check_unbiased_quotient(unbiased_quotient)


# %% tags=["solution"]
# Solution of exercise 1: first the spread, then take its noise out of the distances.
def unbiased_quotient(within: float, between: float, n: int, k: int) -> float:
    spread = within * n / (n - 1)
    return spread / (between - spread * (k - 1) / (k * n))


assert check_unbiased_quotient(unbiased_quotient)

# %% [markdown]
# Does your function flatten the curve? Squared lengths of the centred means give $\operatorname{tr}\hat\Sigma_B$.

# %%
# Figure 2.2. The same, corrected for the number of images.
mended = {n: np.array([unbiased_quotient(w, b, n, num_classes) for w, b in again[n]]) for n in SIZES[1:]}
both = {"as measured": quotients, "corrected": mended}  # one image has no spread to correct
middle = {name: [one[n].mean() for n in SIZES[1:]] for name, one in both.items()}
spread = {name: [1.96 * one[n].std(ddof=1) for n in SIZES[1:]] for name, one in both.items()}
rise = {name: values[-1] / values[0] for name, values in middle.items()}
print(
    *[f"{name}: from the smallest to the largest n by a factor of {value:.2f}" for name, value in rise.items()],
    sep="\n",
)
assert abs(rise["corrected"] - 1) < 0.15 < rise["as measured"] - 1
sketch.lines(SIZES[1:], middle, y_title="NC1 quotient", **axes, errors=spread)

# %% [markdown]
# **What you saw.** The corrected curve is flat from the second image on: the rise was bias. (It holds on average. The whiskers of small
# $n$ are wider, because fewer images were drawn. At the largest $n$ all five draws are the same images.)
#
# **And NC1 pinv?** Look at the printed numbers again: it goes on rising at the largest $n$. It divides by *each* eigenvalue of
# $\Sigma_B$, so the directions in which means hardly differ decide its value, and just there the noise of the means is
# larger than the means. The next cell splits it into its $K - 1$ terms.

# %%
# Figure 2.3. The terms of NC1 pinv, direction by direction.
few, many = measured[SIZES.index(5)].spectral, measured[-1].spectral
terms = {
    f"{n} images a class": part.within / part.eigenvalues / num_classes for n, part in ((5, few), (SIZES[-1], many))
}
order = {"x_title": "direction of the class means, strongest first", "y_title": "its term in NC1 pinv", "log_y": True}
last = {name: values[-10:].sum() / values.sum() for name, values in terms.items()}
print(
    *[f"{name}: the last ten of {num_classes - 1} directions carry {part:.0%}" for name, part in last.items()], sep="\n"
)
sketch.lines(np.arange(1, num_classes), terms, **order)

# %% [markdown]
# The printed shares say how much of the sum the weakest directions carry. For a network at the end of a long training they are as
# strong as the first ones; for any other, NC1 pinv is mostly a statement about the weakest directions and about $n$. Read it beside
# the quotient, and always with $n$.
#
# **Play.** The slider moves $n$. The figure shows the same terms with true and with shuffled labels (section 3 needs them), and the
# legend says the three numbers that come out.

# %%
# Figure 2.4. The terms with true and with shuffled labels, at a number of images of your choice.
shuffled = seen.y[torch.randperm(len(seen.y), generator=torch.Generator().manual_seed(0))]


def at(n: int) -> None:
    curves = {}
    for name, labels in (("true labels", seen.y), ("shuffled", shuffled)):
        c = first(n, y=labels)
        numbers = f"quotient {c.nc1_quotient:.2f}, pinv {c.nc1_pinv:.1f}, angles {c.nc2_maximal_angle:.3f}"
        curves[f"{name}: {numbers}"] = c.spectral.within / c.spectral.eigenvalues / num_classes
    display(sketch.lines(np.arange(1, num_classes), curves, **order))


at(5)

# %%
try:
    from ipywidgets import SelectionSlider, interact
except ImportError:
    print("The slider needs ipywidgets.")
else:
    interact(at, n=SelectionSlider(options=SIZES[1:], value=5, description="images", continuous_update=False))

# %% [markdown]
# ## 2. Is the test set more collapsed than the training set?
#
# > **Predict.** The backbone was never trained on these classes, so training and test images are alike to it. We measure
# > NC1 pinv on all training images and on all test images (20 a class). Equal?

# %%
on_train, on_test = first(PER_CLASS), first(20, seen.test_x, seen.test_y)
fair = first(20)
print(f"train, {PER_CLASS:>3} a class: {on_train.nc1_pinv:.1f}")
print(f"test,   20 a class: {on_test.nc1_pinv:.1f}")
print(f"train,  20 a class: {fair.nc1_pinv:.1f}")
assert FAST or on_test.nc1_pinv < 0.8 * on_train.nc1_pinv  # unequal n
assert abs(on_test.nc1_pinv / fair.nc1_pinv - 1) < 0.1  # equal n

# %% [markdown]
# **What you saw.** With unequal $n$ the test set seems more collapsed, which makes no sense; at equal $n$ the difference is
# gone. (In fast mode both have 20 and the trap is shut.) For a backbone that *was* trained the two differ in earnest:
# collapse is a statement about training images, and how much of it carries over to test images is a question of its own.
# A recorded run shows both, measured at a stated $n$:

# %%
# Figure 2.5. Collapse of a recorded run, on training and on test images.
from cillab.demo import demo_runs

finetuned = next(run for run in map(cillab.Run, demo_runs().values()) if run.spec["learner"] == "finetune")
picture = cillab.figures.collapse(finetuned)
print(picture.sentence, *picture.notes[:2], sep="\n")
picture

# %% [markdown]
# ## 3. What do random labels do to each number?
#
# Deal the labels out at random. Now no class means anything.
#
# > **Predict.** Which of these notice: NC1 (spread), NC2 (equal angles)? Could one of them get *better*?

# %%
FIELDS = {"NC1 quotient": "nc1_quotient", "NC2 lengths": "nc2_equinorm", "NC2 angles": "nc2_maximal_angle"}
true, deals = first(PER_CLASS), []
for seed in range(5):  # five deals: is what we see an accident of one?
    dealt = seen.y[torch.randperm(len(seen.y), generator=torch.Generator().manual_seed(seed))]
    deals.append(first(PER_CLASS, y=dealt))
for name, field in FIELDS.items():
    values = np.array([getattr(one, field) for one in deals])
    print(
        f"{name:>18}: true {getattr(true, field):8.3f}   shuffled {values.mean():8.3f} +- {1.96 * values.std(ddof=1):.3f}"
    )
assert max(one.nc2_maximal_angle for one in deals) < true.nc2_maximal_angle
assert min(one.nc1_quotient for one in deals) > 10 * true.nc1_quotient
assert max(one.nc2_equinorm for one in (true, *deals)) < 0.3

# %%
# Figure 2.6. Cosines of class means with true and with shuffled labels.
bins = np.linspace(-0.5, 1.0, 31)
rows = {"true labels": nc2.cosines(true_means := Moments.of(seen.x, seen.y).means())}
rows["shuffled labels"] = nc2.cosines(Moments.of(seen.x, dealt).means())
share = {n: np.histogram(c[np.triu_indices(num_classes, 1)], bins)[0] / (num_classes * 99 / 2) for n, c in rows.items()}
sketch.lines(
    (bins[1:] + bins[:-1]) / 2, share, x_title="cosine of two class means", y_title="share of pairs", percent=True
)

# %% [markdown]
# **What you saw.** NC1 is more than ten times as large, as it should be. But the angles come *closer* to those of an equiangular frame, in every one of the five
# deals: the cosines lose the tail on the right that related classes make. (Lengths are of little help: their spread is small with
# both.)
#
# **Why.** A mean over random images is pure noise, and directions of noise in many dimensions are nearly orthogonal and of nearly
# equal length. Centred vectors $v_c$ sum to zero, so $0 = \|\sum_c v_c\|^2$. If all have the same length, this says that their
# cosines average to exactly $-1/(K-1)$ (Figure 2.6): on average a perfect frame of nothing. With *unequal* lengths the mean cosine is another one:

# %%
noise = np.random.default_rng(0).normal(size=(num_classes, dim))
long = np.where(np.arange(num_classes) < num_classes // 10, 10.0, 1.0)[:, None]
average = {}
for name, vectors in (("nearly equal lengths", noise), ("a tenth of them ten times as long", long * noise)):
    centred = vectors - vectors.mean(axis=0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    average[name] = (unit @ unit.T)[np.triu_indices(num_classes, 1)].mean()
    print(f"{name:>34}: mean cosine {average[name]:+.5f}, -1/(K-1) is {-1 / (num_classes - 1):+.5f}")
equal, unequal = (abs(value + 1 / (num_classes - 1)) for value in average.values())
assert equal < 1e-4 < unequal

# %% [markdown]
# NC2 never says that classes are apart. Only NC1 tells a frame of classes from a frame of noise, so the two belong together.
#
# ### Exercise 2 (15 minutes, medium)
# Write the deviation from the simplex yourself, as root mean square over pairs (the library's `maximal_angle` takes the
# mean of the absolute values instead):
#
# $$\delta = \sqrt{\operatorname{mean}_{c<k}\Big(\cos(\mu_c - \mu_G,\, \mu_k - \mu_G) + \tfrac1{K-1}\Big)^2}, \qquad
# \mu_G = \tfrac1K \textstyle\sum_c \mu_c. \tag{2.3}$$
#
# <details><summary>Hint</summary>
#
# Subtract the mean of the means, divide each row by its length, take the entries above the diagonal (`np.triu_indices`), then
# square, mean, root.
#
# </details>


# %% tags=["exercise"]
def angle_deviation(means: np.ndarray) -> float:
    """delta of class means, one row per class."""
    raise NotImplementedError


# %% tags=["check"]
check_angle_deviation(angle_deviation)


# %% tags=["solution"]
# Solution of exercise 2: centre, normalise, take each pair once.
def angle_deviation(means: np.ndarray) -> float:
    centred = means - means.mean(axis=0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    cosines = (unit @ unit.T)[np.triu_indices(len(unit), 1)]
    return float(np.sqrt(((cosines + 1 / (len(unit) - 1)) ** 2).mean()))


assert check_angle_deviation(angle_deviation)

# %% [markdown]
# The same from the library's matrix of cosines:

# %%
means = true_means
pairs = nc2.cosines(means)[np.triu_indices(num_classes, 1)]
library = float(np.sqrt(((pairs + 1 / (num_classes - 1)) ** 2).mean()))
print(f"yours {angle_deviation(means):.6f}, library {library:.6f}")
assert np.isclose(angle_deviation(means), library)

# %% [markdown]
# ## 4. What if there are more classes than dimensions?
#
# A simplex of $K$ classes needs $K - 1$ dimensions. We squeeze the class means into $d$ dimensions (their $d$ strongest
# directions) and look at $\delta$.
#
# > **Predict.** 4 classes in a plane: what is the best arrangement, and can all pairs be at the same angle? As $d$ falls
# > from 160 to 2, when does $\delta$ begin to rise?
#
# **Why there is a floor.** Take $K$ unit vectors in $d$ dimensions, with Gram matrix $G$. It has at most $d$ eigenvalues
# that are not zero, and they add up to $K$; so $\|G\|_F^2 \ge K^2/d$, with equality when all $d$ are equal (the frame
# potential; Benedetto & Fickus 2003). The diagonal takes $K$ of it:
#
# $$\operatorname{mean}_{c \ne k} \cos^2_{ck} \;\ge\; \frac{K^2/d - K}{K(K-1)} = \frac{K-d}{d(K-1)}. \tag{2.4}$$
#
# And unit vectors cannot have a mean cosine below $-1/(K-1)$, because the square of their sum is not negative. Expand
# $\delta^2 = \operatorname{mean}\cos^2 + \frac{2}{K-1}\operatorname{mean}\cos + \frac{1}{(K-1)^2}$ and put both in.
#
# ### Exercise 3 (20 minutes, hard)
#
# <details><summary>Hint</summary>
#
# Take the square root last. The mean cosine is at least $-1/(K-1)$, and so the middle term is at least $-2/(K-1)^2$. Where the
# result would be negative, a simplex fits: 0.
#
# </details>


# %% tags=["exercise"]
def angle_floor(k: int, d: int) -> float:
    """The least delta that k unit vectors can have in d dimensions; 0 where a simplex fits."""
    raise NotImplementedError


# %% tags=["check"]
check_angle_floor(angle_floor)


# %% tags=["solution"]
# Solution of exercise 3. At d = k - 1 the two terms cancel: that is where the simplex begins to fit.
def angle_floor(k: int, d: int) -> float:
    return float(np.sqrt(max(0.0, (k - d) / (d * (k - 1)) - 1 / (k - 1) ** 2)))


assert check_angle_floor(angle_floor)

# %%
# Figure 2.7. Deviation from the simplex in few dimensions, and its floor.
centred = means - means.mean(axis=0)
directions = np.linalg.svd(centred, full_matrices=False)[2]
DIMS = [2, 3, 5, 10, 20, 40, 70, 99]
of_features = [angle_deviation(centred @ directions[:d].T) for d in DIMS]
floor = [angle_floor(num_classes, d) for d in DIMS]
both = {"class means in d dimensions": of_features, "floor": floor}
assert all(one < 1.05 * least for one, least in zip(of_features[:2], floor[:2], strict=True))  # 2 and 3 dimensions
assert of_features[4] > 1.4 * floor[4] and of_features[-1] > 0.9 * of_features[4]  # 20 and 99 dimensions
square = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
print(f"four classes in a plane: a square has {angle_deviation(square):.3f}, the floor is {angle_floor(4, 2):.3f}")
assert np.isclose(angle_deviation(square), angle_floor(4, 2)) and round(angle_floor(num_classes, 10), 1) == 0.3
sketch.lines(DIMS, both, x_title="d, dimensions", y_title="δ, root mean square deviation", log_x=True)

# %% [markdown]
# **What you saw.** Four classes in a plane do best as a square, and not all pairs of a square are at the same angle. In 2 or 3
# dimensions the 100 class means are about as good as any arrangement can be: there is hardly a choice. From 20 dimensions on the floor falls away and the means do not follow: they do not *use* the room. So the same
# $\delta$ of 0.3 is nearly the best there is in 10 dimensions and a poor frame in 160. Below $d = K - 1$, read the
# **generalised** NC2 (`gnc2_log_mean`, `gnc2_log_variance`; Liu et al., ICLR 2023, arXiv:2303.06484; Wu & Papyan, NeurIPS 2024,
# arXiv:2405.17767), which asks for directions that are as evenly spread as $d$ allows. `collapse` says so itself:

# %%
squeezed = collapse.collapse(Moments.of(seen.x.double().numpy() @ directions[:20].T, seen.y))
print(*[note for note in squeezed.notes if "simplex" in note], sep="\n")

# %% [markdown]
# ## 5. Why does NC2 jump when a task begins?
#
# Now let the classes arrive ten at a time. The backbone is frozen: **no feature moves at all**.
#
# > **Predict.** Take all pairs of the first ten classes. Does the mean of their cosines change when other classes arrive?
# > Does its distance from the ideal?

# %%
# Figure 2.8. Cosines of the first ten classes while others arrive; no feature moves.
first_ten, target = [], []
for t in range(1, len(stream) + 1):
    so_far = means[: 10 * t]
    cosines = nc2.cosines(so_far)[:10, :10]
    first_ten.append(float(cosines[np.triu_indices(10, 1)].mean()))
    target.append(-1 / (10 * t - 1))
moving = {"pairs of the first ten classes": first_ten, "ideal, -1/(K-1)": target}
assert np.ptp(first_ten) > 0.03 < np.ptp(target)  # both curves move
sketch.lines(np.arange(1, 11), moving, x_title="tasks seen", y_title="mean cosine")

# %% [markdown]
# **What you saw.** Both curves move, and no feature has moved. The ideal moves because $K$ grows. The cosines move because they
# are seen from the centre $\mu_G$, and the centre goes where the new classes are. Neither is forgetting.
#
# NC1 of the first ten classes moves as well, and not through $\mu_G$ alone. Its numerator is their own spread, which is constant.
# Its denominator is $\operatorname{tr}\Sigma_B$ of **all** class means, the new ones included:

# %%
rows = torch.isin(seen.y, torch.tensor(stream.order[:10]))
spread = float(Moments.of(seen.x[rows], seen.y[rows]).pooled_within().trace())
distance = [float((nc2.centre(means[: 10 * t]) ** 2).sum(axis=1).mean()) for t in range(1, len(stream) + 1)]
print(f"spread of the first ten classes {spread:.4f}, after every task the same")
print("tr Sigma_B of the classes seen ", *[f"{value:.4f}" for value in distance])
print("NC1 quotient of the first ten  ", *[f"{spread / value:.4f}" for value in distance])
assert np.ptp(distance) > 0.01 * distance[0]

# %% [markdown]
# **And on photographs?** The two traces of section 1, recorded on CIFAR-100 with a small frozen ViT, five draws of images for each $n$.
# Your `unbiased_quotient` corrects them.
#
# > **Predict.** Is the rise larger or smaller than for shields?

# %%
# Figure 2.9. Photographs: NC1 over the number of images, as measured and corrected.
real = photographs("02")
counts, pair = real["sizes"], np.array(real["traces"])  # [n, draw, (within, between)]
seen_as = {"as measured": pair[..., 0] / pair[..., 1]}
seen_as["corrected"] = np.array(
    [[unbiased_quotient(*one, n, 100) for one in row] for n, row in zip(counts, pair, strict=True)]
)
middle = {name: values.mean(axis=1) for name, values in seen_as.items()}
spread = {name: 1.96 * values.std(axis=1, ddof=1) for name, values in seen_as.items()}
rise = {name: values[-1] / values[0] for name, values in middle.items()}
print(*[f"{name}: n = {counts[-1]} over n = {counts[0]} is {value:.2f}" for name, value in rise.items()], sep="\n")
shields = quotients[20].mean() / quotients[2].mean()
print(f"shields, as measured: {shields:.2f}")
assert abs(rise["corrected"] - 1) < 0.1 and rise["as measured"] > shields > 1.5
sketch.lines(counts, middle, y_title="NC1 quotient, CIFAR-100", **axes, errors=spread)

# %% [markdown]
# **What you saw.** The rise is larger on photographs, and the correction takes it off again. **Why.** Photographs of a class are
# spread more widely, compared with the distances of the means: the quotient is larger. So the noise of the means, $v/n$ in (2.2), is a
# larger part of what is measured as $\operatorname{tr}\hat\Sigma_B$.
#
# **The control.** On a frozen backbone, angles and lengths of old classes (NC2) move only through $\mu_G$, and their NC1 only
# through $\Sigma_B$, which changes with $\mu_G$ and with the new means. The spread of an old class and the distance between two
# old means do not move at all. A plot that shows otherwise has a bug: run it on `simplecil` before you believe it about your own
# method.
#
# **What would change this?** Take the curve of section 1 for a larger model, if you have one here: CIFAR-100 and
# ViT-B/16 (both are downloaded once, together about 0.5 GB; a GPU or some patience).

# %% tags=["real-data"]
BIG = False  # True: run this cell
if BIG:
    cifar = cillab.stream("cifar100", split="B0-Inc10", train_per_class=100, test_per_class=20)
    real = teaching.frozen_features(cifar, cillab.backbone("timm:vit_base_patch16_224.augreg_in21k"))
    sizes = [2, 3, 5, 10, 20, 50, 100]
    curve = [first(n, real.x, real.y).nc1_quotient for n in sizes]  # both worlds have class ids 0 to 99
    display(sketch.lines(sizes, {"ViT-B/16": curve}, x_title="images per class", y_title="NC1 quotient", log_x=True))

# %%
scorecard(globals())

# %% [markdown]
# In the app: `make app`, then
# [Collapse of the finetuned run](http://localhost:8501/collapse?run=demo-finetune&step=9), step by step, with $n$ stated.
#
# ### Open exercise (45 minutes)
# You are to compare collapse of two networks that were measured by two groups, with 50 and with 500 images a class. Write the
# protocol that makes the numbers comparable, and test it on the features of this chapter.
#
# There is no check. *Rubric:*
#
# * equal $n$ or a correction, with a reason (1 point);
# * a control with shuffled labels (1);
# * the test has an outcome that could have gone wrong (2).
#
# ## Take-aways
#
# 1. NC1 grows with the number of images you measure on. State $n$, compare at equal $n$, or correct for it.
# 2. Equal angles are cheap: noise has them. NC2 means something only beside a small NC1.
# 3. The ideal depends on $K$ and $d$: it moves with every task and cannot be reached for $K > d + 1$. Try every claim on
#    frozen features first.
