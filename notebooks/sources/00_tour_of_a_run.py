# %% [markdown]
# # What happens to a classifier that learns ten classes at a time?
#
# **You will** open a recorded run, read its accuracy matrix, say how much was forgotten and in which sense, and name the
# four quantities of neural collapse.
# **Time** under 30 s on a CPU, 20 minutes for a reader. **Needs** nothing else: no training, no download, no GPU.
# **Pattern** of each section: a question, *your prediction*, the run, what you saw, why, an exercise, a check.

# %%
import tempfile
from pathlib import Path

import cillab
from checks.chapter_00 import check_etf_cosine, check_forgetting, check_summaries
from cillab import figures
from cillab.demo import demo_runs
from cillab.teaching import scorecard, sketch

import numpy as np

FOLDERS = demo_runs()
sorted(FOLDERS)

# %% [markdown]
# ## 1. What is a run?
#
# A *learner* here has two parts. The **backbone**, a network that was trained beforehand, turns an image into a vector, its
# **feature**. The **head** has one row of weights per class and gives each class a score; the largest score is the answer.
#
# A *run* is a folder that one program wrote and any number may read: this notebook, the app, the command line. It says what
# was learnt, in which order, from which weights. Nothing below loads a model.

# %%
by_learner = {cillab.Run(path).spec["learner"]: cillab.Run(path) for path in FOLDERS.values()}
run = by_learner.get("min") or next(iter(by_learner.values()))
run

# %%
for name in ("learner", "data", "split", "order", "seed", "backbone"):
    print(f"{name:>9}: {run.spec.get(name)}")
print(f"  classes: {len(run.order)}, for example", *[repr(run.class_names[c]) for c in run.order[:2]])

# %% [markdown]
# The stream of classes is cut into tasks. After each task the learner must choose among **all** classes seen so far, and it is
# not told which task an image comes from: that is *class-incremental* learning. After each task a *probe*, always the same
# images, was shown to it, and a *snapshot* was written. It holds the features of these images, the answers, the mean feature of
# each class, and how often which class was taken for which.

# %%
snapshot = run.snapshot(run.steps[-1])
{name: snapshot.shape(name) for name in ("features", "predictions", "means/now", "confusion")}

# %% [markdown]
# ## 2. How much is left of the first task?
#
# Row $t$, column $j$ of the accuracy matrix $R$: after task $t$, the accuracy on test images of task $j$.
#
# > **Predict** before you run the next cell: how much of its first accuracy does the first task still have at the end? Will
# > the column fall all at once or bit by bit?

# %%
# Figure 0.1. Accuracy on every task, after every task.
figures.accuracy_matrix(run)

# %% [markdown]
# **What you saw.** The diagonal is what each task had when it was new. Reading a column downwards is the life of a task.
#
# **Why it falls, even if no weight changes.** With more classes there are more ways to be wrong: the same features face
# more rivals. That is not forgetting in the sense of something lost, and a single number cannot tell the two apart. Hence
# several numbers. Let $A_t$ be the accuracy after task $t$ over all classes seen by then. With $T$ tasks, counted from 0 as in
# the code,
#
# $$A_{\text{last}} = A_{T-1}, \qquad A_{\text{avg}} = \frac1T \sum_{t=0}^{T-1} A_t . \tag{0.1}$$
#
# ($A_{\text{avg}}$ is the *average incremental accuracy* of iCaRL; Rebuffi et al., CVPR 2017.)
#
# ### Exercise 1 (10 minutes, easy)
# All tasks have the same number of test images here, so $A_t$ is the mean of row $t$ as far as it goes. Write the two summaries
# from the matrix. Entries above the diagonal are NaN.
#
# <details><summary>Hint</summary>
#
# Row $t$ has $t+1$ numbers that are not NaN: `row[: t + 1]`. Their mean is $A_t$; collect all $A_t$ first, then both summaries
# are one expression each.
#
# </details>


# %% tags=["exercise"]
def summaries(matrix: np.ndarray) -> tuple[float, float]:
    """A_last and A_avg of an accuracy matrix whose tasks are of equal size."""
    raise NotImplementedError


# %% tags=["check"]
check_summaries(summaries)


# %% tags=["solution"]
# Solution of exercise 1
def summaries(matrix: np.ndarray) -> tuple[float, float]:
    seen = [row[: t + 1].mean() for t, row in enumerate(matrix)]
    return seen[-1], float(np.mean(seen))


assert check_summaries(summaries)

# %% [markdown]
# The same numbers for this run, beside those that the library stored with it:

# %%
matrix = run.accuracy_matrix()
a_last, a_avg = summaries(matrix)
print(f"A_last {a_last:.1%}, A_avg {a_avg:.1%}; stored: {run.result.a_last:.1%}, {run.result.a_avg:.1%}")
assert np.isclose(a_last, run.result.a_last, atol=1e-6)

# %% [markdown]
# ## 3. Was it forgotten, or never learnt?
#
# > **Predict.** Two learners end at the same $A_{\text{last}}$. Can one of them have forgotten much more than the other?
#
# The usual measure (Chaudhry et al., ECCV 2018) asks of each old task how far it fell from its best:
#
# $$F = \frac{1}{T-1} \sum_{j<T-1} \Big( \max_{j \le t < T-1} R_{t,j} - R_{T-1,j} \Big) \tag{0.2}$$
#
# ### Exercise 2 (15 minutes, medium)
# Write it from the matrix. The last row does not take part in the maximum.
#
# <details><summary>Hint</summary>
#
# `np.nanmax(..., axis=0)` takes the best of every column and skips NaN. Which rows and columns may take part? Not the last row,
# and not the newest task.
#
# </details>


# %% tags=["exercise"]
def forgetting(matrix: np.ndarray) -> float:
    """Mean over all tasks but the newest: best accuracy before the last row, minus the last row."""
    raise NotImplementedError


# %% tags=["check"]
check_forgetting(forgetting)


# %% tags=["solution"]
# Solution of exercise 2
def forgetting(matrix: np.ndarray) -> float:
    best = np.nanmax(matrix[:-1, :-1], axis=0)
    return float((best - matrix[-1, :-1]).mean())


assert check_forgetting(forgetting)

# %%
for name, other in by_learner.items():
    result = other.result
    print(f"{name:>9}: A_last {result.a_last:.1%}, forgetting {forgetting(other.accuracy_matrix()):.1%}")
assert np.isclose(forgetting(matrix), run.result.forgetting_chaudhry)  # the library's

# %%
# Figure 0.2. Accuracy on all classes seen, and of old and new classes, task by task.
figures.accuracy(run)

# %% [markdown]
# **And on photographs?** Recorded on CIFAR-100 with a small ViT, ten tasks, three class orders
# ([numbers](../docs/results/cifar100.md), 95 % intervals over orders).

# %%
# Figure 0.3. Photographs: where three learners end, and what they forgot.
RECORDED = {"simplecil": (52.8, 0.0, 11.7, 1.0), "acil": (59.5, 0.2, 11.5, 1.9), "min": (62.3, 2.2, 19.9, 1.7)}
shown = {name: [values[at] / 100 for values in RECORDED.values()] for name, at in (("A_last", 0), ("forgetting", 2))}
half = {name: [values[at] / 100 for values in RECORDED.values()] for name, at in (("A_last", 1), ("forgetting", 3))}
sketch.bars(list(RECORDED), shown, y_title="CIFAR-100, DeiT-tiny", percent=True, errors=half)

# %% [markdown]
# **What you saw.** The learners differ in forgetting as well as in the end, and on the photographs the one that ends highest has also
# forgotten most. **Why forgetting alone misleads.** A learner that
# never moves its features can still lose accuracy on old classes, and a learner that learns little has little to forget. Always
# read forgetting beside the diagonal.
#
# ## 4. Where do the classes lie?
#
# Each class has a mean feature. If a classifier could place $K$ classes freely, it would put their means as far apart as
# possible, all pairs alike: a **simplex equiangular tight frame** (ETF). Measured from their common centre, such means sum
# to zero. (That trained networks come close to this is the finding of Papyan, Han & Donoho, PNAS 2020; notebook
# [01](01_collapse_in_three_dimensions.ipynb) lets you watch it.)
#
# > **Predict.** What is the cosine between any two of $K$ such vectors? Start with $K = 2$ and $K = 3$ on paper.
#
# ### Exercise 3 (10 minutes, medium)
#
# <details><summary>Hint</summary>
#
# The vectors sum to zero. Multiply that sum by one of the vectors: how many of the products are 1, and what are the others?
#
# </details>


# %% tags=["exercise"]
def etf_cosine(k: int) -> float:
    """Cosine between any two vectors of a simplex ETF of k classes."""
    raise NotImplementedError


# %% tags=["check"]
check_etf_cosine(etf_cosine)


# %% tags=["solution"]
# Solution of exercise 3. The vectors v sum to zero, so 0 = v_1 . (v_1 + ... + v_k) = 1 + (k - 1) cos.
def etf_cosine(k: int) -> float:
    return -1 / (k - 1)


assert check_etf_cosine(etf_cosine)

# %%
# Figure 0.4. Cosines between all pairs of class means, and the ideal.
print(f"ideal cosine of {len(snapshot['seen'])} classes: {etf_cosine(len(snapshot['seen'])):.4f}")
figures.angles(run)

# %% [markdown]
# **What you saw.** The cosines spread around the ideal value, with a tail to the right: classes that share a shape or a
# colour have similar features, and a frozen or nearly frozen backbone keeps it so. Note that the ideal *moves*: with every
# task $K$ grows.
#
# **And the images?** Each point is a probe image, in a plane that was fitted once for all tasks: motion on the screen is motion of
# features. First the last task on paper. Then all of them, played, beside a learner that trains its whole backbone on every task
# (`finetune`): press *play*. Space, arrows and the other keys under *?* work once you have clicked into it.
#
# > **Predict.** While nine more tasks are learnt, in which of the two do the images of the first task stay where they are? And
# > which of the two loses more accuracy on them?

# %%
# Figure 0.5. Features of the probe images after the last task, in one plane.
figures.projection(run)

# %%
try:
    from cillab.teaching import player
except ImportError:
    print("The player needs anywidget.")
else:
    display(player(run, by_learner["finetune"], step=0))

# %%
moved: dict[str, float] = {}
for name, one in by_learner.items():
    mine, column = one.probe.tasks == 0, one.accuracy_matrix()[:, 0]
    then, now = (np.float64(one.snapshot(at)["features"])[mine] for at in (0, -1))
    moved[name] = np.linalg.norm(now - then, axis=1).mean() / np.linalg.norm(then, axis=1).mean()
    print(f"{name:>9}: first task {column[0]:.1%} -> {column[-1]:.1%}, moved by {moved[name]:.1%} of their length")
assert 0 < moved["min"] < moved["finetune"] / 2
ends = {name: one.accuracy_matrix()[-1, 0] for name, one in by_learner.items()}
assert ends["finetune"] < ends["min"] and max(moved, key=moved.get) == max(ends, key=ends.get) == "ncptm"

# %% [markdown]
# **What you saw.** On the left features move too, less than half as far as on the right, and still the first task loses accuracy.
# A part of that loss has another cause: the classes that arrive come to lie among its images, *rivals that arrived*. Notebook
# [03](03_what_pretraining_gives.ipynb) shows it for features that do not move at all. On the right features move by a large part
# of their length, and the first task loses more: *features that moved*, or a head that no longer fits them. Notebook
# [04](04_forgetting.ipynb) takes the two apart. Moving is not losing, though: `ncptm` moves the features furthest of all and keeps
# the most, because it moves what they are compared with along (notebook [07b](07b_growing_the_frame.ipynb)).
#
# ## 5. How far have the classes collapsed?
#
# | | says | ideal |
# |---|---|---|
# | **NC1** | images of a class lie close to its mean, compared with the distances between means | 0 |
# | **NC2** | centred means have equal lengths and equal angles | spread 0 |
# | **NC3** | the rows of the head point where the class means point | distance 0 |
# | **NC4** | the head decides as the nearest class mean would | agreement 1 |
#
# (Papyan, Han & Donoho 2020. Notebook [02](02_measuring_collapse.ipynb) gives the formulas and their traps.)
#
# > **Predict.** Over the tasks of this run, does NC1 go up or down? Which two of the four have nothing to do with the head?

# %%
# Figure 0.6. NC1 to NC4 over the tasks.
figures.collapse(run)

# %% [markdown]
# **What you saw.** NC1 rises many times over and NC4 falls, while features move by no more than the part of their length that was
# printed above for `min`. This NC1 divides the
# spread of images by that of class means *in each direction* that the means use, and with every task there are more and weaker
# such directions. A second form of NC1 adds the directions up before it divides:

# %%
forms = {form: run.metrics().over(f"nc/train/{form}", run.steps) for form in ("nc1", "nc1_quotient")}
print(*[f"{form:>12}: " + " ".join(f"{value:.2f}" for value in values) for form, values in forms.items()], sep="\n")
nc4 = run.metrics().over("nc/train/nc4", run.steps)
assert forms["nc1"][-1] > 5 * forms["nc1"][0] and forms["nc1_quotient"][-1] < 2 * forms["nc1_quotient"][0] < 2
assert forms["nc1_quotient"][-1] > 0.3 and nc4[-1] < nc4[0]  # two stories, and no collapse by either

# %% [markdown]
# These are *two numbers of one name*, and they tell different stories: say which one you mean. NC3 is missing because the head of
# `min` does not read the features themselves but a random layer on top. NC1 and NC2 are the two that have nothing to do with the
# head. This run is not collapsed by any of these measures, and nothing in it was trained to be.
#
# **Step through it.** The cosines of all pairs of class means, in the order of the stream: blocks are tasks. The slider needs
# ipywidgets; without it you see the last step.


# %%
# Figure 0.7. Cosines of class means in the order of the stream, step by step.
def show_step(index: int) -> None:
    display(figures.cosine(run, step=run.steps[index]))


try:
    from ipywidgets import IntSlider, interact
except ImportError:
    show_step(len(run.steps) - 1)
else:
    last = len(run.steps) - 1
    interact(show_step, index=IntSlider(last, 0, last, description="step", continuous_update=False))

# %% [markdown]
# **What would change this?** A larger model, real photographs. For those who have CIFAR-100 and ViT-B/16 (both are downloaded once,
# together about 0.5 GB; a GPU or some patience), the same matrix for the nearest class mean:

# %% tags=["real-data"]
BIG = False  # True: run this cell
if BIG:
    cifar = cillab.stream("cifar100", split="B0-Inc10", train_per_class=100, test_per_class=50)
    vit = cillab.backbone("timm:vit_base_patch16_224.augreg_in21k")
    lab = cillab.Lab(cifar, cillab.learner("simplecil", vit), Path(tempfile.mkdtemp()) / "cifar100", cams=False)
    for step in lab:
        print(f"task {step.task + 1}: {step.accuracy.seen:.1%} of the classes seen so far")
    display(figures.accuracy_matrix(lab.run))

# %%
scorecard(globals())

# %% [markdown]
# To put another learner beside this one, open the app:
#
#     make app        # or: cillab app
#
# and go to [Step through](http://localhost:8501/step_through?run=demo-min&step=9). Train your own in two minutes:
#
#     cillab run --data shields --split B0-Inc10 --backbone bundled:vit --learner simplecil --out runs/mine
#
# and put `runs/mine` where this notebook opens the demo: `cillab.Run("runs/mine")`.
#
# ### Open exercise (30 minutes)
# Two runs have the same $A_{\text{last}}$. Which three further numbers and which figure would you ask for before you call one
# of them better, and why each?
#
# There is no check. *Rubric:*
#
# * each number answers a question that $A_{\text{last}}$ leaves open (2 points);
# * at least one is about old against new classes (1);
# * one case is named in which all of them agree and the runs still differ (1).
#
# ## Take-aways
#
# 1. One matrix, many summaries: say which one you mean, and read forgetting beside what was learnt.
# 2. Accuracy on old classes falls for two reasons: features that moved, and rivals that arrived.
# 3. Collapse has four parts, and its ideal, $-1/(K-1)$, moves with every task.
