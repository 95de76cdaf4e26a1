# %% [markdown]
# # Is method A better than method B?
#
# **You will** compare two classifiers image by image, and find out which part of a difference is luck of the images and which of the
# training draw. You will watch a choice on test images create accuracy out of nothing, and build leaks that have been published.
# **Time** under a minute on a CPU, 50 minutes for a reader. **Needs** notebook [03](03_what_pretraining_gives.ipynb). Nothing is
# trained here: all heads are in closed form on frozen features, so a hundred repetitions cost seconds.

# %%
import os

import cillab
from checks.chapter_14 import check_difference_of, check_optimism, check_voted
from checks.photographs import photographs as recorded
from cillab import teaching
from cillab.geometry.seeds import paired_difference
from cillab.teaching import scorecard, share_error, sketch

import numpy as np

FAST = bool(os.environ.get("CILLAB_FAST"))  # fewer images: the same notebook, noisier numbers

# %%
POOL = 20 if FAST else 60  # training images per class to draw from
stream = cillab.stream("shields", split="B0-Inc10", train_per_class=POOL, test_per_class=20)
seen = teaching.frozen_features(stream, cillab.backbone("bundled:vit"))
x, y, new, truth = (part.numpy().astype(np.float64) for part in seen[:4])
ids = np.array(stream.order)  # class ids in the order of the stream
task_of = {c: t for t, classes in enumerate(stream.classes) for c in classes}
print(f"{len(x)} training images to draw from, {len(new)} test images, {len(ids)} classes")

# %% [markdown]
# ## 1. On the same images, who is right where the other is wrong?
#
# Two heads: the nearest class mean by cosine (chapter 03), and the same after the mean of all class means was taken away. Both see
# the same five training images per class.


# %%
def draw(seed: int, each: int = 5) -> np.ndarray:
    """Rows of `each` training images per class, drawn at random."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.choice(np.flatnonzero(y == c), each, replace=False) for c in ids])


def answers(rows: np.ndarray, centred: bool, known: np.ndarray = ids) -> np.ndarray:
    """Class ids for all test images, by the nearest mean of the training images in `rows`, among the classes `known`."""
    means = np.stack([x[rows][y[rows] == c].mean(axis=0) for c in known])
    middle = means.mean(axis=0) if centred else 0.0
    unit = (means - middle) / np.linalg.norm(means - middle, axis=1, keepdims=True)
    return known[((new - middle) @ unit.T).argmax(axis=1)]


# %%
right = {name: answers(draw(0), name == "centred") == truth for name in ("plain", "centred")}
shares = {name: float(one.mean()) for name, one in right.items()}
half = share_error(list(shares.values()), len(truth))
print(*[f"{name:>8}: {share:.1%} +- {h:.1%}" for (name, share), h in zip(shares.items(), half, strict=True)], sep="\n")

# %% [markdown]
# > **Predict.** The two intervals overlap. Does that mean that the difference may be chance?
#
# On image $i$ the difference is $d_i = a_i - b_i$: 1 if only A is right, $-1$ if only B is, 0 where they agree. Its mean is the
# difference of the two accuracies, and with $n$ images its standard error is $s_d / \sqrt n$, where $s_d$ is the standard deviation
# of the $d_i$ (divisor $n-1$).
#
# ### Exercise 1 (10 minutes, easy)
#
# <details><summary>Hint</summary>
#
# Booleans do not subtract: make them numbers first. `np.std(..., ddof=1)` divides by $n-1$.
#
# </details>


# %% tags=["exercise"]
def difference_of(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Mean of d and its standard error, from right answers (true or false) of A and of B on the same images."""
    raise NotImplementedError


# %% tags=["check"]
check_difference_of(difference_of)


# %% tags=["solution"]
# Solution of exercise 1
def difference_of(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    d = a.astype(float) - b.astype(float)
    return float(d.mean()), float(d.std(ddof=1) / np.sqrt(len(d)))


assert check_difference_of(difference_of)

# %%
mean, error = difference_of(right["centred"], right["plain"])
apart = float(np.sqrt((half**2).sum()) / 1.96)  # as if the two had been asked about different images
print(f"centred minus plain: {mean:+.2%}; standard error {error:.2%} on the same images, {apart:.2%} on different ones")
print(f"the library: {teaching.paired(right['centred'], right['plain'])}")
enough = (1.96 / mean) ** 2 * error**2 * len(truth)
print(
    f"images that make an interval as wide as twice this difference: {enough:,.0f} paired, {enough * (apart / error) ** 2:,.0f} unpaired"
)
assert error < 0.7 * apart

# %% [markdown]
# **What you saw.** The paired error is much smaller than the unpaired one, so overlapping intervals say nothing about this
# difference.
#
# **Why.** Most images are easy for both heads or hard for both. That common part is in both accuracies, and it cancels in $d_i$. Only
# the images on which the heads disagree are left. (`teaching.paired` uses a slightly wider interval, that of Agresti and Min 2005,
# and McNemar's exact test of 1947.)
#
# ## 2. Would it be the same with other training images?
#
# The interval of section 1 answers: *how would this pair of heads do on other test images?* It does not know that other training
# images would have given other heads.
#
# > **Predict.** We draw the five training images per class twelve times. Does the difference vary more or less than the interval over
# > images says?

# %%
DRAWS = range(12)
table = {
    name: np.stack([answers(draw(seed), name == "centred") == truth for seed in DRAWS]) for name in ("plain", "centred")
}
gains = table["centred"].mean(axis=1) - table["plain"].mean(axis=1)
over = paired_difference(table["centred"].mean(axis=1), table["plain"].mean(axis=1))
print("difference per draw, in points:", *[f"{100 * gain:+.1f}" for gain in gains])
print(f"standard deviation over draws {gains.std(ddof=1):.2%}, standard error over images {error:.2%}")
print(f"mean {over.interval.mean:+.2%}, 95 % interval over draws [{over.interval.low:+.2%}, {over.interval.high:+.2%}]")

# %%
# Figure 14.1. The difference in twelve draws of the training images.
each = [1.96 * difference_of(a, b)[1] for a, b in zip(table["centred"], table["plain"], strict=True)]
names, bars, axis = [f"draw {seed + 1}" for seed in DRAWS], {"centred minus plain": gains}, "difference in accuracy"
sketch.bars(names, bars, y_title=axis, percent=True, errors={"centred minus plain": each})

# %% [markdown]
# **What you saw.** Each bar of Figure 14.1 is one experiment as it would be published, with its interval over images. The bars differ from each
# other as well. The last line averages over draws; its interval covers other draws, but not other test images, which were the
# same twelve times. A claim about the *method* needs repetitions: draws of the training images here, class orders and seeds for
# learners that depend on them (`cillab table --seeds` pairs runs by seed). A claim about two *trained models* needs images only.
#
# Now photographs: $A_{\text{last}}$ in per cent of two learners on CIFAR-100, three class orders, as recorded in
# [results](../docs/results/cifar100.md). Three pairs are few, and Student's $t$ knows it.

# %%
# Figure 14.2. Photographs: two learners in three class orders.
orders, photographs = (1993, 1994, 1995), {"acil": [59.5, 59.4, 59.6], "min": [61.7, 63.3, 61.8]}
gain = paired_difference(photographs["min"], photographs["acil"])
print(
    f"min minus acil: {gain.interval.mean:+.1f} points [{gain.interval.low:+.1f}, {gain.interval.high:+.1f}] over orders"
)
assert gain.wins == 3 and 0 < gain.interval.low < 1
shares = {name: np.array(values) / 100 for name, values in photographs.items()}
errors = {name: share_error(values, 5000) for name, values in shares.items()}  # 50 test images a class
sketch.bars([f"order {one}" for one in orders], shares, y_title="A_last on CIFAR-100", percent=True, errors=errors)

# %% [markdown]
# The twelve draws of five images per class were made on photographs as well, with the features of the same small ViT, frozen.

# %%
# Figure 14.3. Photographs: the difference in twelve draws of the training images.
real = recorded("14")
gains, lows, highs = np.array(real["centred, minus plain"]).T / 100
half = {"centred minus plain": (highs - lows) / 2}
print(f"mean {gains.mean():+.2%}, standard deviation over draws {gains.std(ddof=1):.2%};", end=" ")
unpaired = real["unpaired half-width"] / 100
print(f"half of an interval: {half['centred minus plain'].mean():.2%} paired, {unpaired:.2%} unpaired")
assert (
    half["centred minus plain"].mean() < 0.7 * unpaired and highs.min() < 0 < gains.max() and abs(gains.mean()) < 0.01
)
bars, title = {"centred minus plain": gains}, "difference on CIFAR-100"
sketch.bars(names, bars, y_title=title, percent=True, errors=half)

# %% [markdown]
# **What you saw.** The paired interval is much narrower than the unpaired one on photographs too. And the lesson of Figure 14.1 is sharper here:
# single draws exclude 0 on one side, others lie on the other side, and the mean says that the centring brings nothing. Whoever publishes
# one draw can have either sign.

# %% [markdown]
# ## 3. What does a choice on the test images cost?
#
# > **Predict.** Forty heads are equally good: each reads its own random half of the features. You report the best of the forty. By
# > how many points is its accuracy too high?
#
# ### Exercise 2 (15 minutes, medium)
# Measure it. Choose the best candidate on some of the test images, and compare it there with itself on the others.
#
# <details><summary>Hint</summary>
#
# `right[:, chosen_on].mean(axis=1).argmax()` is the row of the best candidate. Then two means of that one row.
#
# </details>


# %% tags=["exercise"]
def optimism(right: np.ndarray, chosen_on: np.ndarray) -> float:
    """Accuracy of the candidate that is best on the images `chosen_on`, there, minus its accuracy on all other images.

    `right` is [candidate, image], true or false; `chosen_on` is true for the images that the choice is made on.
    """
    raise NotImplementedError


# %% tags=["check"]
check_optimism(optimism)


# %% tags=["solution"]
# Solution of exercise 2
def optimism(right: np.ndarray, chosen_on: np.ndarray) -> float:
    best = right[:, chosen_on].mean(axis=1).argmax()
    return float(right[best, chosen_on].mean() - right[best, ~chosen_on].mean())


assert check_optimism(optimism)

# %%
rng, rows = np.random.default_rng(0), draw(0)
means = np.stack([x[rows][y[rows] == c].mean(axis=0) for c in ids])
middle, candidates = means.mean(axis=0), []
for _ in range(40):
    some = rng.choice(x.shape[1], x.shape[1] // 2, replace=False)
    part = (means - middle)[:, some]
    unit = part / np.linalg.norm(part, axis=1, keepdims=True)
    candidates.append(ids[((new - middle)[:, some] @ unit.T).argmax(axis=1)] == truth)
candidates = np.array(candidates)

# %%
# Figure 14.4. Optimism of a choice over the number of candidates.
COUNTS = (1, 2, 5, 10, 20, 40)
trials = []
for count in COUNTS:
    halves = [rng.permutation(len(truth)) < len(truth) // 10 for _ in range(200)]  # 200 test images to choose on
    trials.append([optimism(candidates[rng.permutation(40)[:count]], half) for half in halves])
gained = {"too high by": np.mean(trials, axis=1)}
errors = {"too high by": 1.96 * np.std(trials, axis=1, ddof=1) / np.sqrt(200)}
first, *_, last = gained["too high by"]
print(f"choosing among {COUNTS[-1]} on {len(truth) // 10} images: {last:+.1%} that is not there on other images")
assert abs(first) < 0.01 < last
axes = {"x_title": "candidates tried", "y_title": "accuracy that is not there", "log_x": True}
sketch.lines(COUNTS, gained, **axes, percent=True, errors=errors)

# %% [markdown]
# **What you saw.** With one candidate there is nothing to choose and no optimism. With forty equal ones the winner looks better
# than it is, and the surplus is gone on other images. **Why.** The maximum of noisy numbers is above their mean; the more numbers
# and the fewer images, the further. Hyper-parameters, numbers of epochs, templates and steps to stop at are all candidates.
# Choose on held-out *training* images (`held-out:` in front of a data set does so), and touch the test images once.
#
# ## 4. Did the backbone know the classes already?
#
# "Pre-trained on ImageNet-21k, tested on ImageNet-R" is no test of new classes. Let us build the effect. A *pre-training* learns
# a projection from half of the classes (their discriminant directions, from training images). Then we test on these 50 classes,
# and on the other 50.
#
# > **Predict.** The projection never saw a test image. Is it unfair to test it on classes that it was made from?

# %%
rng = np.random.default_rng(0)
half_of = rng.permutation(ids)
known, unknown = half_of[:50], half_of[50:]
mine = np.isin(y, known)
centres = np.stack([x[y == c].mean(axis=0) for c in known])
within = np.cov((x[mine] - centres[[list(known).index(c) for c in y[mine]]]).T)
values, vectors = np.linalg.eigh(within + 0.05 * np.trace(within) / len(within) * np.eye(len(within)))
white = vectors / np.sqrt(values)
across = np.linalg.svd((centres - centres.mean(axis=0)) @ white, full_matrices=False)[2][:30].T
project = white @ across  # 30 directions that tell the 50 known classes apart


# %%
def nearest(classes: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Right or wrong for the test images of these classes alone, by the nearest mean of projected features."""
    here = np.isin(truth, classes)
    means = np.stack([x[y == c].mean(axis=0) for c in classes]) @ matrix
    middle = means.mean(axis=0)
    unit = (means - middle) / np.linalg.norm(means - middle, axis=1, keepdims=True)
    return classes[((new[here] @ matrix - middle) @ unit.T).argmax(axis=1)] == truth[here]


found = {}
for name, classes in (("classes of the pre-training", known), ("other classes", unknown)):
    plain, projected = (nearest(classes, matrix) for matrix in (np.eye(x.shape[1]), project))
    found[name] = teaching.paired(projected, plain)
    print(f"{name:>27}: {plain.mean():.1%} -> {projected.mean():.1%}; {found[name]}")
assert found["classes of the pre-training"].difference > found["other classes"].difference + 0.02

# %% [markdown]
# **What you saw.** The same projection, and a much larger gain on the classes that it was made from. No test image was seen, and yet
# the number says nothing about *new* classes. Ask of every backbone which data it saw, and of every gain whether it holds on
# classes that it cannot have seen.
#
# ## 5. Who else is in the batch?
#
# Some prompt methods choose a prompt per *batch* at test time: each image votes for the prompts that fit it, and the batch uses
# the winners. Let us do this with tasks: each image votes for the task whose mean feature is nearest, and is then classified among
# the ten classes of the task that is used.
#
# > **Predict.** Test images usually lie on disk sorted by class. With batches of 20 in that order, what does a majority vote do to
# > accuracy? And with shuffled batches?
#
# ### Exercise 3 (10 minutes, medium)
#
# <details><summary>Hint</summary>
#
# Go through the votes in pieces of `size`. `np.bincount(piece).argmax()` is the most frequent vote, the smallest in a tie.
#
# </details>


# %% tags=["exercise"]
def voted(votes: np.ndarray, size: int) -> np.ndarray:
    """For every image the most frequent vote in its batch of `size` images, in the order given; the smallest in a tie."""
    raise NotImplementedError


# %% tags=["check"]
check_voted(voted)


# %% tags=["solution"]
# Solution of exercise 3
def voted(votes: np.ndarray, size: int) -> np.ndarray:
    pieces = [votes[start : start + size] for start in range(0, len(votes), size)]
    return np.concatenate([np.full(len(piece), np.bincount(piece).argmax()) for piece in pieces])


assert check_voted(voted)

# %%
means = np.stack([x[y == c].mean(axis=0) for c in ids])
middle = means.mean(axis=0)
unit = (means - middle) / np.linalg.norm(means - middle, axis=1, keepdims=True)
scores, task = (new - middle) @ unit.T, np.array([task_of[c] for c in ids])
votes = task[scores.argmax(axis=1)]  # the task of the class that an image fits best


def among(chosen: np.ndarray, order: np.ndarray) -> float:
    """Accuracy when image order[i] is classified among the classes of task chosen[i]."""
    allowed = np.where(task[None] == chosen[:, None], scores[order], -np.inf)
    return float((ids[allowed.argmax(axis=1)] == truth[order]).mean())


# %%
# Figure 14.5. A vote over the batch: alone, sorted, shuffled.
sorted_by_class, shuffled = np.argsort(truth, kind="stable"), np.random.default_rng(0).permutation(len(truth))
honest = among(votes, np.arange(len(truth)))
leak = {
    "each image for itself": honest,
    "batches of 20, by class": among(voted(votes[sorted_by_class], 20), sorted_by_class),
    "batches of 20, shuffled": among(voted(votes[shuffled], 20), shuffled),
}
assert leak["batches of 20, by class"] > honest + 0.03 and leak["batches of 20, shuffled"] < 0.5 * honest
shares = {"accuracy": list(leak.values())}
errors = {name: share_error(values, len(truth)) for name, values in shares.items()}
sketch.bars(list(leak), shares, y_title="accuracy", percent=True, errors=errors)

# %% [markdown]
# **What you saw.** The vote in sorted batches wins many points, in shuffled ones it destroys accuracy. **Why.** All images of a
# sorted batch are of one class, so the vote tells each image what its neighbours are: the labels leak through the order of the
# files. A method must give the same answer whatever the batch; the battery of chapter 13 asks just that. (The released code of
# L2P and of some that followed votes per batch.) Other leaks: statistics of the test batch in a normalisation layer, a task label
# at test time, a class order that was chosen for its result.
#
# ## 6. Can an average of accuracies lie?
#
# > **Predict.** One head, one set of features, no learning at all. We only cut the classes into tasks of 5, 10 or 20, or begin with
# > 50. How far apart are the values of $A_{\text{avg}}$?

# %%
# Figure 14.6. Two summaries of one head, over four ways to cut the classes into tasks.
rows, curves = np.arange(len(y)), {}
for name, first, step in (("B0-Inc5", 5, 5), ("B0-Inc10", 10, 10), ("B0-Inc20", 20, 20), ("B50-Inc10", 50, 10)):
    sizes = range(first, 101, step)
    known = [ids[:size] for size in sizes]
    curves[name] = [float((answers(rows, True, some) == truth)[np.isin(truth, some)].mean()) for some in known]
a_avg, a_last = {n: float(np.mean(c)) for n, c in curves.items()}, {n: c[-1] for n, c in curves.items()}
assert len(set(a_last.values())) == 1 and max(a_avg.values()) > min(a_avg.values()) + 0.02
sketch.bars(
    list(curves), {"A_avg": list(a_avg.values()), "A_last": list(a_last.values())}, y_title="accuracy", percent=True
)

# %% [markdown]
# **What you saw.** $A_{\text{last}}$ is one number, because nothing depends on the split. $A_{\text{avg}}$ moves by points.
# **Why.** It averages over the *times of asking*, and early times have few classes. More and smaller tasks add early, easy
# questions. Two values of $A_{\text{avg}}$ can be compared within one split and one class order only.
#
# With CIFAR-100 and ViT-B/16, for those who have them (0.5 GB to download), sections 1 and 5 with photographs:

# %% tags=["real-data"]
BIG = False  # True: run this cell
if BIG:
    cifar = cillab.stream("cifar100", train_per_class=POOL, test_per_class=20)
    real = teaching.frozen_features(cifar, cillab.backbone("timm:vit_base_patch16_224.augreg_in21k"))
    x, y, new, truth = (part.numpy().astype(np.float64) for part in real[:4])
    ids = np.array(cifar.order)
    print(teaching.paired(answers(draw(0), True) == truth, answers(draw(0), False) == truth))

# %%
scorecard(globals())

# %% [markdown]
# In the app: `make app`, then [Compare](http://localhost:8501/compare), which pairs runs by seed and says which of them may be
# ranked.
#
# ### Open exercise (60 minutes)
# Take a claim of one method over another from a paper that you know. Write down what would have to be known to believe it, and
# which of that the paper says.
#
# There is no check. *Rubric:*
#
# * number of test images, class orders and seeds, and whether the comparison is paired (2 points);
# * where hyper-parameters were chosen (1);
# * what the backbone had seen (1);
# * one further experiment that could refute the claim (1).
#
# ## Take-aways
#
# 1. Compare on the same images, image by image. Repeat over training draws and class orders if the claim is about a method.
# 2. A choice on test images makes a number too good, the more so the more was tried. Choose on held-out training images.
# 3. Ask what the backbone knew, who else was in the batch, and which split an average was taken over.
