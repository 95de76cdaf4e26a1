# %% [markdown]
# # What changes when images are few, classes unequal, tasks blurred, and the stream never ends?
#
# **You will** put three settings of continual learning on one page, learn new classes from five images each, and repair a head that
# neglects rare classes. You will blur the borders of tasks until there are none, and go through 300 tasks.
# **Time** under a minute on a CPU, 50 minutes for a reader. **Needs** notebooks [03](03_what_pretraining_gives.ipynb) (nearest mean
# and discriminant) and [06](06_analytic_heads.ipynb) (ridge). All heads read the same frozen features.

# %%
import os

import cillab
from checks.chapter_18 import check_harmonic, check_til_and_cil, check_weighted_ridge
from checks.photographs import photographs
from cillab import teaching
from cillab.teaching import paired, scorecard, share_error, sketch

import numpy as np
import torch

FAST = bool(os.environ.get("CILLAB_FAST"))  # fewer images: the same notebook, noisier numbers

# %%
EACH = 20 if FAST else 60  # training images per class
stream = cillab.stream("shields", split="B0-Inc10", train_per_class=EACH, test_per_class=10 if FAST else 20)
backbone = cillab.backbone("bundled:vit")
seen = teaching.frozen_features(stream, backbone)
place = {c: i for i, c in enumerate(stream.order)}  # classes are numbered in the order of the stream
x, new = seen.x.double().numpy(), seen.test_x.double().numpy()
y, truth = (np.array([place[c] for c in ids.tolist()]) for ids in (seen.y, seen.test_y))
task_of = np.arange(100) // 10
print(f"{len(x)} training and {len(new)} test images of 100 classes in ten tasks")

# %% [markdown]
# ## 1. Which question is asked: which class, in which task, or in which look?
#
# | | a test image comes with | the answer is |
# |---|---|---|
# | **TIL**, task-incremental | the number of its task | one of the classes of that task |
# | **DIL**, domain-incremental | nothing | one of the same few classes, in a new look |
# | **CIL**, class-incremental | nothing | one of all classes seen |
#
# (van de Ven, Tuytelaars & Tolias, Nature Machine Intelligence 2022.)
#
# > **Predict.** One head, one set of scores. How far apart are its accuracies as TIL and as CIL after ten tasks?
#
# ### Exercise 1 (10 minutes, easy)
#
# <details><summary>Hint</summary>
#
# For TIL, scores of classes of other tasks count as $-\infty$: `np.where(task_of[None] == task_of[truth][:, None], scores, -np.inf)`.
#
# </details>


# %% tags=["exercise"]
def til_and_cil(scores: np.ndarray, truth: np.ndarray, task_of: np.ndarray) -> tuple[float, float]:
    """Accuracy with the task given and without; scores are [image, class], `task_of` gives the task of every class."""
    raise NotImplementedError


# %% tags=["check"]
check_til_and_cil(til_and_cil)


# %% tags=["solution"]
# Solution of exercise 1
def til_and_cil(scores: np.ndarray, truth: np.ndarray, task_of: np.ndarray) -> tuple[float, float]:
    told = np.where(task_of[None] == task_of[truth][:, None], scores, -np.inf)
    return float((told.argmax(axis=1) == truth).mean()), float((scores.argmax(axis=1) == truth).mean())


assert check_til_and_cil(til_and_cil)


# %%
def means_of(rows: np.ndarray, classes: int = 100) -> np.ndarray:
    """Mean of the training images in `rows`, one per class."""
    return np.stack([x[rows][y[rows] == c].mean(axis=0) for c in range(classes)])


def near(means: np.ndarray) -> np.ndarray:
    """Scores of the test images: cosine with the means, seen from the average mean."""
    middle = means.mean(axis=0)
    return (new - middle) @ ((means - middle) / np.linalg.norm(means - middle, axis=1, keepdims=True)).T


# %%
# Figure 18.1. One head, asked as TIL and as CIL.
everything = np.arange(len(y))
means, til, cil = means_of(everything), [], []
for t in range(1, 11):
    here = truth < 10 * t
    both = til_and_cil(near(means[: 10 * t])[here], truth[here], task_of[: 10 * t])
    til.append(both[0])
    cil.append(both[1])
curves, images = {"TIL: the task is told": til, "CIL: it is not": cil}, len(truth) // 10 * np.arange(1, 11)
errors = {name: share_error(curve, 1) / np.sqrt(images) for name, curve in curves.items()}
sketch.lines(np.arange(1, 11), curves, x_title="tasks seen", y_title="accuracy", percent=True, errors=errors)

# %%
scores = near(means)
task_right = task_of[scores.argmax(axis=1)] == task_of[truth]
within_task = (scores.argmax(axis=1) == truth)[task_right].mean()
print(f"task found {task_right.mean():.1%}; class right where the task is found {within_task:.1%}")
assert np.isclose(task_right.mean() * within_task, cil[-1])
assert til[-1] > cil[-1] + 0.1

# %% [markdown]
# **What you saw.** TIL stays high and CIL falls, with the same scores. **Why.** CIL has to find the task as well. Its accuracy is the
# share of images whose task is found, times the share of right classes among them (Kim et al., NeurIPS 2022); the second factor is
# like TIL. A method that was shown to work in TIL has not been shown to work in CIL. DIL is asked in the next cell: the same
# twenty classes, first as they are, then with colours turned round.

# %%
small = cillab.stream("shields", split="B0-Inc20", train_per_class=10, test_per_class=10)[:1].on(backbone)
few, test = small.train(0), small.test()
looks = {"as it is": lambda images: images, "colours turned": lambda images: images[:, [1, 2, 0]]}


# %%
answers = {}
with torch.no_grad():
    of = {
        n: (backbone(f(few.images)).double().numpy(), backbone(f(test.images)).double().numpy())
        for n, f in looks.items()
    }
labels, asked, classes = few.labels.numpy(), test.labels.numpy(), np.unique(few.labels.numpy())
centres = {name: np.stack([train[labels == c].mean(axis=0) for c in classes]) for name, (train, _) in of.items()}
for known in (["as it is"], list(looks)):
    every = np.concatenate([centres[name] for name in known])
    for name, (_, images) in of.items():
        found = classes[((images[:, None] - every[None]) ** 2).sum(axis=2).argmin(axis=1) % len(classes)]
        answers[len(known), name] = found == asked
print(f"colours turned, two means minus one: {paired(answers[2, 'colours turned'], answers[1, 'colours turned'])}")
assert answers[2, "colours turned"].mean() > answers[1, "colours turned"].mean()

# %%
# Figure 18.2. One or two means per class, test images in two looks.
both = {f"{n} mean{'s' if n > 1 else ''} per class": [answers[n, look].mean() for look in looks] for n in (1, 2)}
errors = {name: share_error(values, len(asked)) for name, values in both.items()}
names = [f"test images: {look}" for look in looks]
sketch.bars(names, both, y_title="accuracy among 20 classes", percent=True, errors=errors)

# %% [markdown]
# **What you saw.** In a new look the old means are worse, and a second mean per class repairs it. Nothing had to be forgotten for
# that: in DIL the classes stay and a class may be several clouds.
#
# ## 2. Five images per class?
#
# *Few-shot class-incremental learning* (Tao et al., CVPR 2020) has a base of 60 classes with many images, then eight sessions of five
# new classes with five images each.
#
# > **Predict.** Two heads: nearest mean, and the discriminant of chapter 03 with its covariance from the base alone. Which is better on
# > base classes, which on new ones? And which single number will tell?
#
# 60 of the 100 classes are old and well known, so plain accuracy hides the new ones. With accuracies $a$ on base classes and $b$ on
# new ones, all 100 competing, the **harmonic mean** is $H = 2ab/(a+b)$.
#
# ### Exercise 2 (5 minutes, easy)
#
# <details><summary>Hint</summary>
#
# Two zeros divide by zero: say 0 there.
#
# </details>


# %% tags=["exercise"]
def harmonic(a: float, b: float) -> float:
    """H of two accuracies; 0 where one of them is."""
    raise NotImplementedError


# %% tags=["check"]
check_harmonic(harmonic)


# %% tags=["solution"]
# Solution of exercise 2
def harmonic(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a * b > 0 else 0.0


assert check_harmonic(harmonic)

# %%
order_in_class = np.concatenate([np.arange((y == c).sum()) for c in range(100)])  # images stand class by class
rank = np.empty(len(y), int)
rank[np.argsort(y, kind="stable")] = order_in_class
session = (y < 60) | (rank < 5)  # all images of the base, five of every other class
base = y < 60
means = means_of(np.flatnonzero(session))
away = x[base] - means[y[base]]
within = away.T @ away / base.sum()
within += 0.05 * np.trace(within) / len(within) * np.eye(len(within))
weight = np.linalg.solve(within, means.T).T
heads = {"nearest mean": near(means), "discriminant": new @ weight.T - 0.5 * (weight * means).sum(axis=1)}
of_one = np.trace(np.linalg.solve(within, away.T @ away / base.sum()))  # of one image, in the metric of the head
noise = of_one / np.bincount(y[session])  # of a mean
heads["discriminant, corrected"] = heads["discriminant"] + 0.5 * noise

# %%
right = {name: scores.argmax(axis=1) == truth for name, scores in heads.items()}
old_or_new = {name: (one[truth < 60].mean(), one[truth >= 60].mean()) for name, one in right.items()}
table = {
    "all": [one.mean() for one in right.values()],
    "base": [a for a, _ in old_or_new.values()],
    "new": [b for _, b in old_or_new.values()],
    "H": [harmonic(a, b) for a, b in old_or_new.values()],
}
fresh = truth >= 60
for name in ("discriminant", "discriminant, corrected"):
    for group, here in (("base", ~fresh), ("new", fresh)):
        print(f"{name}, minus nearest mean, {group} classes: {paired(right[name][here], right['nearest mean'][here])}")

# %%
# Figure 18.3. Five images of a new class: three heads on all, base and new classes, and H.
assert table["new"][2] > table["new"][1] and table["H"][2] > table["H"][1]
assert table["all"][1] > table["all"][0] and table["base"][1] > table["base"][0] and table["new"][1] < table["new"][0]
assert max(table["H"]) == table["H"][2]
count = {"all": len(truth), "base": int((truth < 60).sum()), "new": int((truth >= 60).sum())}
bars = {name: share_error(table[name], images) for name, images in count.items()}
sketch.bars(list(right), table, y_title="accuracy among 100 classes; H", percent=True, errors=bars)

# %% [markdown]
# **What you saw.** The discriminant is the better head on all classes and on base classes, and *worse on new ones*. Accuracy on all
# does not show it, and $H$ alone need not either: a gain on base classes can outweigh the loss on new ones. So look at the two
# accuracies as well. (The third head has the largest $H$. $H$ has no whisker: it is no share of images.)
#
# **Why.** The mean of five images is noisy. In the metric $\Sigma^{-1}$ its squared length is too large, by $D/n_c$ on average, and
# the bias $-\tfrac12 \mu_c^\top \Sigma^{-1} \mu_c$ punishes a class for it. That hits classes with few images only. The third head
# gives back what is expected, $+\tfrac12 D/n_c$ (with shrinkage, $\operatorname{tr}(\Sigma_\lambda^{-1}\Sigma)$ in place of $D$).
# Then the covariance of the base helps classes that it never saw: how images of a class vary (pose, light, paint) is much the same
# for all classes, and five images cannot show it. Report base, new and $H$.
#
# **And on photographs?** The same three heads, recorded on CIFAR-100 with a small frozen ViT: 60 base classes with all images, 40 new ones
# with five.
#
# > **Predict.** Is the plain discriminant worse on new classes there too?

# %%
# Figure 18.4. Photographs: three heads with five images of a new class.
real = photographs("18")
shown = {name: [row[name] for row in real["table"].values()] for name in ("all", "base", "new", "H")}
errors = {name: share_error(shown[name], images) for name, images in real["images"].items()}
for name, (gap, low, high) in real["new, minus nearest mean"].items():
    print(f"{name}, minus nearest mean, new classes: {gap:+.1f} points [{low:+.1f}, {high:+.1f}]")
assert shown["new"][1] < shown["new"][0] < shown["new"][2] and shown["H"][2] == max(shown["H"])
title = "CIFAR-100, 100 classes; H"
sketch.bars(list(real["table"]), shown, y_title=title, percent=True, errors=errors)

# %% [markdown]
# **What you saw.** The same on photographs: the plain discriminant wins on base classes and loses on new ones, and the correction puts it
# ahead there. It pays with base classes, so look at $H$.
#
# ## 3. Ten times fewer images of some classes?
#
# > **Predict.** A ridge, equation (6.1), on a long tail: the first class has all images, the last a tenth of them. Test images are
# > balanced. Which classes lose?
#
# Least squares counts images, so a class with many images weighs more. Give every image the weight $v_i$, for instance $1/n_{y_i}$:
#
# $$W = \arg\min_W \sum_i v_i \|\phi_i W - y_i\|^2 + \gamma \|W\|_F^2 = (\Phi^\top V \Phi + \gamma I)^{-1} \Phi^\top V Y,
# \qquad V = \operatorname{diag}(v). \tag{18.1}$$
#
# ### Exercise 3 (10 minutes, medium)
#
# <details><summary>Hint</summary>
#
# `phi * v[:, None]` weighs the rows; no diagonal matrix is needed.
#
# </details>


# %% tags=["exercise"]
def weighted_ridge(phi: np.ndarray, y: np.ndarray, v: np.ndarray, gamma: float) -> np.ndarray:
    """W [feature, class] of the equation above; `y` is [image, class]."""
    raise NotImplementedError


# %% tags=["check"]
check_weighted_ridge(weighted_ridge)


# %% tags=["solution"]
# Solution of exercise 3
def weighted_ridge(phi: np.ndarray, y: np.ndarray, v: np.ndarray, gamma: float) -> np.ndarray:
    weighed = phi * v[:, None]
    return np.linalg.solve(weighed.T @ phi + gamma * np.eye(phi.shape[1]), weighed.T @ y)


assert check_weighted_ridge(weighted_ridge)

# %%
counts = np.round(EACH * 0.1 ** (np.arange(100) / 99)).astype(int)  # from all images to a tenth
tail = rank < counts[y]
phi = x[tail]
onehot, equal = np.eye(100)[y[tail]], np.ones(tail.sum())
ridges = {"ridge": equal, "ridge, weighted by 1/n": equal / counts[y[tail]] * counts.mean()}
found = {}
for name, v in ridges.items():  # a bias without penalty: centre by the weighted means, add that of the targets again
    centre, target = (np.average(part, axis=0, weights=v) for part in (phi, onehot))
    scores = (new - centre) @ weighted_ridge(phi - centre, onehot - target, v, 10.0) + target
    found[name] = scores.argmax(axis=1) == truth
found["nearest mean"] = near(means_of(np.flatnonzero(tail))).argmax(axis=1) == truth

# %%
# Figure 18.5. A long tail: head, medium and tail.
thirds = {"head": truth < 33, "medium": (truth >= 33) & (truth < 67), "tail": truth >= 67}
bars = {name: [one[which].mean() for which in thirds.values()] for name, one in found.items()}
for name, which in thirds.items():
    print(f"{name:>7}, weighted minus plain: {paired(found['ridge, weighted by 1/n'][which], found['ridge'][which])}")
assert bars["ridge, weighted by 1/n"][2] > bars["ridge"][2] + 0.02 and bars["ridge"][2] < bars["ridge"][0] - 0.1
errors = {n: share_error(b, len(truth) // 3) for n, b in bars.items()}
sketch.bars(list(thirds), bars, y_title="accuracy", percent=True, errors=errors)

# %% [markdown]
# **What you saw.** The plain ridge loses the tail. Weights bring much of it back, and the printed lines say how much, and what the head
# pays for it. **Why.** With few images a class is a small part of the squared error, and its row stays short. Task-by-task learning is
# a long tail in time: old classes have no images at all. That is why the same remedies (weights, class means, balanced draws of stored statistics) appear in both fields.
#
# ## 4. And if tasks have no borders?
#
# In *Si-Blurry* (Moon et al., ICCV 2023) a part of the classes is disjoint, the others appear in every task, some more in one. We
# make three streams of the same images: class by class, blurred, and shuffled. Two learners go through each once: a linear head
# that takes one gradient step per batch, and the sums of a ridge.
#
# > **Predict.** For which learner does the order matter? Which stream is the hardest?


# %%
def blurred(share: float, rng: np.random.Generator) -> np.ndarray:
    """An order of all images: class by class, but a share of them, drawn at random, anywhere."""
    when = y + rng.random(len(y))
    anywhere = rng.random(len(y)) < share
    when[anywhere] = 100 * rng.random(anywhere.sum())
    return np.argsort(when)


# %%
rng = np.random.default_rng(0)
streams = {
    "class by class": blurred(0.0, rng),
    "half of the images anywhere": blurred(0.5, rng),
    "shuffled": blurred(1.0, rng),
}
scale = x.std()


# %%
def by_steps(order: np.ndarray, rate: float = 0.5) -> tuple[list[float], np.ndarray]:
    """Accuracy among all 100 classes, ten times on the way, of a softmax head with one step per 20 images."""
    weight, curve, batches = np.zeros((100, x.shape[1])), [], np.array_split(order, len(order) // 20)
    for number, rows in enumerate(batches, start=1):
        scores = x[rows] / scale @ weight.T
        chances = np.exp(scores - scores.max(axis=1, keepdims=True))
        error = chances / chances.sum(axis=1, keepdims=True) - np.eye(100)[y[rows]]
        weight -= rate * error.T @ (x[rows] / scale) / len(rows)
        if number % (len(batches) // 10) == 0:
            curve.append(float(((new / scale @ weight.T).argmax(axis=1) == truth).mean()))
    return curve[:10], weight


# %%
# Figure 18.6. A head of gradient steps in three orders of the same images.
steps = {name: by_steps(order)[0] for name, order in streams.items()}
errors = {name: share_error(curve, len(truth)) for name, curve in steps.items()}
axes = {"x_title": "per cent of the stream", "y_title": "accuracy, 100 classes"}
sketch.lines(np.arange(10, 101, 10), steps, **axes, percent=True, errors=errors)

# %%
summed = {name: (x[order].T @ x[order], x[order].T @ np.eye(100)[y[order]]) for name, order in streams.items()}
ridges = {n: np.linalg.solve(g + 10 * np.eye(len(g)), c) for n, (g, c) in summed.items()}
reference = ridges["shuffled"]
for name, matrix in ridges.items():
    of_sums = ((new @ matrix).argmax(axis=1) == truth).mean()
    print(f"{name:>27}: steps end at {steps[name][-1]:.1%}, sums at {of_sums:.1%};", end=" ")
    print(f"heads of the sums differ by {np.abs(matrix - reference).max():.0e}")
    assert np.allclose(matrix, reference, atol=1e-8)
assert steps["class by class"][-1] < steps["half of the images anywhere"][-1] < steps["shuffled"][-1] + 0.05
assert steps["class by class"][-1] < steps["half of the images anywhere"][-1] - 0.05

# %% [markdown]
# **What you saw.** For the learner of steps, class by class is the worst order, and blur helps: the blurred images are
# replay that costs nothing. For the sums there is no order. **Why.** A step answers the last batch; a sum remembers all of them
# alike. A benchmark with blur is therefore *easier* for methods of steps, and a comparison must say how much blur there was.
# *Online* means that each image is seen once, as here; learners with many epochs per task are not online.
#
# ## 5. And after 300 tasks?
#
# > **Predict.** Every class comes three times, in 300 tasks. What grows: the memory of the sums? The error of recursive least
# > squares in single precision (chapter 06)? The memory of a method with one adapter per task?

# %%
tasks = [np.flatnonzero((y == c) & (rank % 3 == third)) for third in range(3) for c in rng.permutation(100)]
inverse, weight = np.eye(x.shape[1], dtype=np.float32) / 10, np.zeros((x.shape[1], 100), np.float32)
gram, cross, errors = np.zeros((x.shape[1],) * 2), np.zeros((x.shape[1], 100)), []
for number, rows in enumerate(tasks, start=1):
    phi, target = x[rows].astype(np.float32), np.eye(100, dtype=np.float32)[y[rows]]
    known = phi @ inverse
    inverse = inverse - known.T @ np.linalg.solve(np.eye(len(phi), dtype=np.float32) + known @ phi.T, known)
    weight = weight + inverse @ phi.T @ (target - phi @ weight)
    gram, cross = gram + x[rows].T @ x[rows], cross + x[rows].T @ np.eye(100)[y[rows]]
    if number % 30 == 0:
        exact = np.linalg.solve(gram + 10 * np.eye(len(gram)), cross)
        errors.append(float(np.abs(weight - exact).max() / np.abs(exact).max()))

# %%
# Figure 18.7. Error of the recursion in single precision over 300 tasks.
print(f"after {len(tasks)} tasks the sums are the joint solution to {np.abs(exact - reference).max():.0e}")
assert np.allclose(exact, reference, atol=1e-8) and errors[-1] > 1e-7
axes = {"x_title": "tasks", "y_title": "error of the head, relative", "log_y": True}
sketch.lines(np.arange(30, 301, 30), {"recursion in float32": errors}, **axes)

# %%
# Figure 18.8. What is kept after ten to 300 tasks.
d, k, rank_of = 768, 1000, 64  # ViT-B/16, a thousand classes, bottleneck of an adapter in each of 12 blocks
grows = {
    "sums of a ridge": [(d * d + d * k) / 1e6] * 4,
    "two images a class": [2 * k * 3 * 224 * 224 / 4 / 1e6] * 4,
    "one adapter per task": [tasks * 12 * 2 * d * rank_of / 1e6 for tasks in (10, 30, 100, 300)],
}
crossing = grows["two images a class"][0] / (12 * 2 * d * rank_of / 1e6)
print(f"from {crossing:.0f} tasks on the adapters need more than the images")
sketch.lines((10, 30, 100, 300), grows, x_title="tasks", y_title="millions of float32 numbers", log_x=True, log_y=True)

# %% [markdown]
# **What you saw.** The sums neither grow nor drift. The recursion keeps an error of single precision, small here because $\gamma$ is
# large. An adapter per task grows without end, and costs more than storing images would have from the printed number of tasks on.
# (Images count a quarter of a float32 per byte.) "Without exemplars" is no argument by itself: compare what is kept.
#
# With CIFAR-100 and ViT-B/16, for those who have them (0.5 GB to download), section 2 with a larger network:

# %% tags=["real-data"]
BIG = False  # True: run this cell
if BIG:
    cifar = cillab.stream("cifar100", train_per_class=EACH, test_per_class=20)
    real = teaching.frozen_features(cifar, cillab.backbone("timm:vit_base_patch16_224.augreg_in21k"))
    place = {c: i for i, c in enumerate(cifar.order)}
    x, new = real.x.double().numpy(), real.test_x.double().numpy()
    y, truth = (np.array([place[c] for c in ids.tolist()]) for ids in (real.y, real.test_y))
    hits = near(means_of(np.flatnonzero((y < 60) | (rank < 5)))).argmax(axis=1) == truth
    print(f"base {hits[truth < 60].mean():.1%}, new {hits[truth >= 60].mean():.1%}")

# %%
scorecard(globals())

# %% [markdown]
# In the app: `make app`, then [Train](http://localhost:8501/train) with the scenario *few-shot* and an imbalance;
# [Compare](http://localhost:8501/compare) shows head, medium and tail.
#
# ### Open exercise (60 minutes)
# Choose one of the four difficulties and make it twice as hard. Which of the heads of this chapter breaks first, and what would you
# store to prevent it?
#
# There is no check. *Rubric:*
#
# * the difficulty is a number that can be turned (1 point);
# * the breaking point is found with intervals (2);
# * the cost of the remedy is stated in numbers kept (1).
#
# ## Take-aways
#
# 1. TIL, DIL and CIL are different questions. CIL is TIL times finding the task.
# 2. Few images need the spread of others; rare classes need weights. Report base, new and $H$; head, medium and tail.
# 3. Order hurts learners of steps. Sums have no order, do not grow with tasks, and want double precision.
