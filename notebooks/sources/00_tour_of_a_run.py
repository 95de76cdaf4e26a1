# %% [markdown]
# # What happens to a classifier that learns ten classes at a time?
#
# **You will** open a recorded run, read its accuracy matrix, say how much was forgotten and in which sense, and name the
# four quantities of neural collapse.
# **Time** under 30 s on a CPU, 20 minutes for a reader. **Needs** nothing else: no training, no download, no GPU.
# **Pattern** of each section: a question, *your prediction*, the run, what you saw, why, an exercise, a check.

# %%
import numpy as np

import cillab
from cillab import figures
from cillab.demo import demo_runs
from cillab.teaching import check_etf_cosine, check_forgetting, check_summaries

FOLDERS = demo_runs()
sorted(FOLDERS)

# %% [markdown]
# ## 1. What is a run?
#
# A run is a folder that one program wrote and any number may read: this notebook, the app, the command line. It says what
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
# The stream is cut into tasks. After each task the learner must choose among **all** classes seen so far, and it is not
# told which task an image comes from. After each task a *probe* looked at it and wrote a *snapshot*: features, predictions,
# class means, the head.

# %%
snapshot = run.snapshot(run.steps[-1])
{name: snapshot.shape(name) for name in ("features", "predictions", "means/now", "confusion")}

# %% [markdown]
# ## 2. How much is left of the first task?
#
# Row *t*, column *j* of the accuracy matrix: after task *t*, the accuracy on test images of task *j*.
#
# > **Predict** before you run the next cell: how much of its first accuracy does task 1 still have at the end? Will the
# > column fall all at once or bit by bit?

# %%
figures.accuracy_matrix(run)

# %% [markdown]
# **What you saw.** The diagonal is what each task had when it was new. Reading a column downwards is the life of a task.
#
# **Why it falls, even if no weight changes.** With more classes there are more ways to be wrong: the same features face
# more rivals. That is not forgetting in the sense of something lost, and a single number cannot tell the two apart. Hence
# several numbers:
#
# $$A_T = \text{accuracy over all classes seen after task } T, \qquad
# A_{\text{last}} = A_{T_{\max}}, \qquad \bar A = \text{mean of } A_1, \dots, A_{T_{\max}}$$
#
# ### Exercise 1
# All tasks have the same number of test images here. Write the two summaries from the matrix. Entries above the diagonal
# are NaN.


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
# The usual measure asks of each old task how far it fell from its best:
#
# $$F = \frac{1}{T-1} \sum_{j<T} \Big( \max_{t<T} R_{t,j} - R_{T,j} \Big)$$
#
# ### Exercise 2


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

# %%
figures.accuracy(run)

# %% [markdown]
# **What you saw.** A learner that never moves its features can still lose accuracy on old classes, and a learner that
# learns little has little to forget. Always read forgetting beside the diagonal.
#
# ## 4. Where do the classes lie?
#
# Each class has a mean feature. If a classifier could place $K$ classes freely, it would put their means as far apart as
# possible, all pairs alike: a **simplex equiangular tight frame** (ETF). Measured from their common centre, such means sum
# to zero.
#
# > **Predict.** What is the cosine between any two of $K$ such vectors? Start with $K = 2$ and $K = 3$ on paper.
#
# ### Exercise 3


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
print(f"ideal cosine of {len(snapshot['seen'])} classes: {etf_cosine(len(snapshot['seen'])):.4f}")
figures.angles(run)

# %% [markdown]
# **What you saw.** The cosines spread around the ideal value, with a tail to the right: classes that share a shape or a
# colour have similar features, and a frozen or nearly frozen backbone keeps it so. Note that the ideal *moves*: with every
# task $K$ grows.
#
# ## 5. The four names of collapse
#
# | | says | ideal |
# |---|---|---|
# | **NC1** | images of a class lie close to its mean, compared with the distances between means | 0 |
# | **NC2** | centred means have equal lengths and equal angles | spread 0 |
# | **NC3** | the rows of the head point where the class means point | distance 0 |
# | **NC4** | the head decides as the nearest class mean would | agreement 1 |
#
# > **Predict.** Over the tasks of this run, does NC1 go up or down? Which of the four has nothing to do with the head?

# %%
figures.collapse(run)

# %% [markdown]
# **Step through it.** The slider needs ipywidgets; without it you see the last step.


# %%
def show_step(index: int) -> None:
    picture = figures.cosine(run, step=run.steps[index])
    print(picture.sentence)
    display(picture.figure)


try:
    from ipywidgets import IntSlider, interact
except ImportError:
    show_step(len(run.steps) - 1)
else:
    last = len(run.steps) - 1
    interact(show_step, index=IntSlider(last, 0, last, description="step", continuous_update=False))

# %% [markdown]
# **What would change this?** Open the app and look at the same run with another learner beside it:
#
#     make app        # or: cillab app
#
# then [Step through](http://localhost:8501/step_through). Train your own in two minutes:
#
#     cillab run --data shields --split B0-Inc10 --backbone bundled:vit --learner simplecil --out runs/mine
#
# and put `runs/mine` where this notebook opens the demo: `cillab.Run("runs/mine")`.
#
# ## Take-aways
#
# 1. One matrix, many summaries: say which one you mean, and read forgetting beside what was learnt.
# 2. Accuracy on old classes falls for two reasons: features that moved, and rivals that arrived.
# 3. Collapse has four parts, and its ideal, $-1/(K-1)$, moves with every task.
