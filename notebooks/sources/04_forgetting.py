# %% [markdown]
# # Where does the accuracy go when a network learns something new?
#
# **You will** step a learner by hand and stop it half way, and train a network on six tasks. Then you change *one word* at task
# 4, watch it forget nearly everything, and find out how much of that was gone.
# **Time** one to two minutes on a CPU, 45 minutes for a reader. **Needs** notebooks [00](00_tour_of_a_run.ipynb) (accuracy
# matrix) and [03](03_what_pretraining_gives.ipynb) (crowding).

# %%
import os
import tempfile
from pathlib import Path

import cillab
from checks.chapter_04 import check_backward_transfer, check_pull, check_three_parts
from checks.photographs import photographs
from cillab import figures
from cillab.geometry import accuracy
from cillab.teaching import fresh, paired, scorecard, share_error, sketch

import numpy as np
import torch

# %%
FAST = bool(os.environ.get("CILLAB_FAST"))  # few images and steps: the same notebook, rougher numbers
OUT = Path(tempfile.mkdtemp())  # a folder that stays, such as "runs", lets the app show what you make here

# %%
stream = cillab.stream(
    "shields", split="B0-Inc10", train_per_class=10 if FAST else 40, test_per_class=10 if FAST else 20
)[:6]
backbone = cillab.backbone("bundled:vit")
HOW = {"epochs": 2, "batch_size": 20} if FAST else {"epochs": 3, "batch_size": 48}
stream

# %% [markdown]
# `finetune` is the simplest learner that trains: all weights of the network and a linear head follow the gradient of
# cross-entropy on the newest task. No old image is kept. It is here to forget.
#
# ## 1. What is a learning step, and can it be undone?
#
# `observe` is an iterator. Each item is one step of the optimiser and says how far it is.
#
# > **Predict.** We take three steps on the second task and then close the iterator. What has the learner learnt by then: three
# > steps' worth, or nothing?

# %%
placed = stream.on(backbone)
learner = cillab.learner("finetune", backbone, **HOW)
losses = [progress.loss for progress in learner.observe(placed[0])]
print(f"{len(losses)} steps, loss from {losses[0]:.2f} to {losses[-1]:.2f}; knows {len(learner.seen)} classes")

# %%
images = placed[0:1].test().images
with torch.no_grad():
    before = learner.logits(images)
observing = learner.observe(placed[1])
for _ in range(3):
    progress = next(observing)
observing.close()
with torch.no_grad():
    after = learner.logits(images)
print(f"{progress.done} of {progress.total} images seen; knows {len(learner.seen)} classes;", end=" ")
print("unchanged bit for bit" if torch.equal(before, after) else "changed")

# %% [markdown]
# **What you saw.** It has learnt nothing: the answers are unchanged bit for bit. **Why.** What a learner observes takes effect
# when the iterator is exhausted, and closing it early undoes everything. So *cancel* is safe in the app, and a run that was
# killed can go on after its last whole task.
#
# ## 2. What is left after six tasks?
#
# A `Lab` does the loop of notebook 03 for any learner: learn, look, write a snapshot and a checkpoint.
#
# > **Predict.** How much of task 1 is left after six tasks: all, half, nothing? Guessing among 60 classes gets 1.7 %.

# %%
lab = cillab.Lab(stream, cillab.learner("finetune", backbone, **HOW), fresh(OUT / "local"))
for step in lab:
    old = "" if step.accuracy.old is None else f", old classes {step.accuracy.old:.1%}"
    print(f"task {step.task + 1}: new classes {step.accuracy.new:.1%}{old}, NC1 {step.collapse.nc1:.2f}")

# %%
# Figure 4.1. Accuracy on every task, after every task.
kept = lab.run.accuracy_matrix()
assert kept[-1, 0] > 0.2  # far from chance
assert (np.diag(kept)[:-1] - kept[-1, :-1]).mean() > 0.05  # and worse than when it was new
figures.accuracy_matrix(lab.run)

# %% [markdown]
# **What you saw.** New classes are learnt each time (the diagonal), and old ones get worse (read a column downwards). Every
# weight was free to move, yet the first task is far from chance. Why not nothing? One setting of this learner, which we
# come to in section 4.
#
# ## 3. How much was forgotten?
#
# You know forgetting after Chaudhry et al. (ECCV 2018) from notebook 00: best accuracy before the last task, minus now.
# **Backward transfer** (GEM; Lopez-Paz & Ranzato, NeurIPS 2017) compares with the moment of learning instead,
#
# $$\text{BWT} = \frac1{T-1}\sum_{j<T-1} \big( R_{T-1,j} - R_{j,j} \big), \qquad j, t = 0, \dots, T-1. \tag{4.1}$$
#
# > **Predict.** Can forgetting be positive while backward transfer is zero? When are the two the same, up to the sign?
#
# ### Exercise 1 (5 minutes, easy)
#
# <details><summary>Hint</summary>
#
# `np.diag(matrix)` is what each task had when it was new. Leave out the last task on both sides.
#
# </details>


# %% tags=["exercise"]
def backward_transfer(matrix: np.ndarray) -> float:
    """BWT of an accuracy matrix; entries above the diagonal are NaN."""
    raise NotImplementedError


# %% tags=["check"]
check_backward_transfer(backward_transfer)


# %% tags=["solution"]
# Solution of exercise 1
def backward_transfer(matrix: np.ndarray) -> float:
    return float((matrix[-1, :-1] - np.diag(matrix)[:-1]).mean())


assert check_backward_transfer(backward_transfer)

# %%
# Figure 4.2. Nine summaries of one matrix, and the two parts of an answer.
matrix = lab.run.accuracy_matrix()
assert np.isclose(backward_transfer(matrix), accuracy.bwt_gem(matrix))
picture = figures.variants(lab.run)
print(picture.sentence)
picture

# %% [markdown]
# **What you saw.** Nine names for one matrix, some apart by many points. Forgetting and backward transfer agree up to the sign
# when every task is at its best right after it was learnt. A task that first rises and then falls back to where it began has
# forgetting above zero and a backward transfer of zero. PILOT's forgetting counts the last row in the maximum and can never be
# negative. *A paper that writes "forgetting" without a formula has not said which.*
#
# On the right: an image is right if its task is right **and** its class within the task (Kim et al., NeurIPS 2022,
# arXiv:2211.02633). Look which of the two falls.
#
# ## 4. What does one word change?
#
# The head has one row per class. In the softmax of cross-entropy, which classes compete while the newest task is learnt? The
# run above used only the ten *of the task* (`competitors="local"`, as in PILOT). The natural thing would be *all classes seen*.
# No image of an old class is there, though: for every image that the learner sees, each old class is wrong.
#
# > **Predict.** We fork the run after task 4: same weights, same images, only `competitors="seen"` from then on. Accuracy on
# > new classes? On old ones?

# %%
fork = lab.fork(3, fresh(OUT / "seen"), competitors="seen")
for step in fork:
    print(f"task {step.task + 1}: new classes {step.accuracy.new:.1%}, old classes {step.accuracy.old:.1%}")

# %%
frozen = lab.fork(3, fresh(OUT / "frozen"), backbone_lr=1e-9)  # and one in which the backbone as good as stops
list(frozen)
runs = {"local (as it was)": lab.run, "seen": fork.run, "local, backbone stopped": frozen.run}
old, new = ([run.metrics().over(f"accuracy/{age}", run.steps)[-1] for run in runs.values()] for age in ("old", "new"))
assert old[0] > old[1] and new[1] > new[0]  # competitors decide, and no old image was needed to prevent the loss
before = lab.run.metrics().over("accuracy/seen", lab.run.steps)[3]  # at the fork
assert old[1] < 0.5 * before and abs(old[2] - old[0]) < 0.5 * abs(old[1] - old[0])  # most is lost; stopping is not it

# %%
# Figure 4.3. One word changes: old and new classes after six tasks.
count = len(lab.run.probe.labels) // 60  # images of a class that the probe holds
ends = {"old classes": old, "new classes": new}
errors = {"old classes": share_error(old, 50 * count), "new classes": share_error(new, 10 * count)}
sketch.bars(list(runs), ends, y_title="accuracy after task 6", percent=True, errors=errors)

# %%
answers = {name: np.asarray(run.snapshot(-1)["predictions"]) for name, run in runs.items()}
is_old, hits = lab.run.probe.tasks < 5, {name: given == lab.run.probe.labels for name, given in answers.items()}
for name in list(runs)[1:]:
    print(f"{name}, minus local, old classes: {paired(hits[name][is_old], hits['local (as it was)'][is_old])}")

# %% [markdown]
# **What you saw.** With all classes in the softmax, new classes are answered better and old ones lose most of what they had,
# within two tasks. The run with the backbone stopped is much nearer to the one where it went on; the printed lines say how near, on the
# same images. Is it the features that were lost in `seen`, or something else? Let us not guess.
#
# ### Where do the answers go?
# The confusion matrix of a snapshot has a row per true class and a column per answer.
#
# ### Exercise 2 (10 minutes, medium)
#
# <details><summary>Hint</summary>
#
# Rows of the confusion matrix are true classes, columns are answers. `task_of_class == task_of_class.max()` marks the newest
# task.
#
# </details>


# %% tags=["exercise"]
def pull(confusion: np.ndarray, task_of_class: np.ndarray) -> float:
    """Of all test images of old classes, the share that is given to a class of the newest task."""
    raise NotImplementedError


# %% tags=["check"]
check_pull(pull)


# %% tags=["solution"]
# Solution of exercise 2
def pull(confusion: np.ndarray, task_of_class: np.ndarray) -> float:
    new = task_of_class == task_of_class.max()
    return float(confusion[~new][:, new].sum() / confusion[~new].sum())


assert check_pull(pull)


# %%
# Figure 4.4. Old images that are called new, task by task.
def pulls(run: cillab.Run) -> list[float]:
    shots = [run.snapshot(step) for step in run.steps[1:]]
    return [pull(np.asarray(shot["confusion"]), np.asarray(shot["task_of_class"])) for shot in shots]


called = {name: pulls(run) for name, run in runs.items()}
errors = {name: share_error(shares, 1) / np.sqrt(10 * count * np.arange(1, 6)) for name, shares in called.items()}
axes = {"x_title": "task", "y_title": "old images called new"}
sketch.lines(np.arange(2, 7), called, **axes, percent=True, errors=errors)

# %% [markdown]
# **Why.** While a new task is learnt, the gradient of cross-entropy with respect to the logit of an old class $c$ is its
# probability, $\partial L / \partial z_c = p_c \ge 0$, on *every* image. So the scores of old classes are pushed down
# on every step, and nothing ever pushes them up. With local competitors the loss gives old rows no gradient at all.


# %%
def scores(run: cillab.Run) -> np.ndarray:
    """Mean score that the classes of each task get on every probe image of the first five tasks [image, task]."""
    shot = run.snapshot(-1)
    age, logits = np.asarray(shot["task_of_class"]), np.asarray(shot["logits"], dtype=np.float64)
    old = np.isin(run.probe.labels, np.asarray(shot["seen"])[age < 5])
    return np.stack([logits[old][:, age == task].mean(axis=1) for task in range(6)], axis=1)


# %%
# Figure 4.5. Scores that old images give to the classes of every task.
by_task, tables = (
    [f"classes of task {task + 1}" for task in range(6)],
    {name: scores(run) for name, run in runs.items()},
)
middle = {name: table.mean(axis=0) for name, table in tables.items()}
spread = {name: 1.96 * table.std(axis=0, ddof=1) / np.sqrt(len(table)) for name, table in tables.items()}
assert middle["seen"][4:].min() > middle["seen"][:4].max()  # the two tasks since the fork
sketch.bars(by_task, middle, y_title="mean score on old images", errors=spread)

# %% [markdown]
# On images that belong to the first five tasks, the classes learnt since the fork get the higher scores in `seen`, whatever the
# image shows. (Whiskers: 1.96 standard errors over these images.)
#
# ## 5. Was anything really gone?
#
# > **Predict.** Take the features of the learner that answers next to nothing about old classes, and fit a *fresh* linear
# > head on them (with training images of all classes: an oracle). How many of the old classes does it find?
#
# Every snapshot holds the answers of such a fresh ridge: `accuracy/fresh` choosing among all classes seen by now,
# `accuracy/fresh_then` only among those that were there when the task was learnt. With them the loss of a task falls into three:
#
# | part | what is compared | means |
# |---|---|---|
# | **deep** | fresh head, classes of then: then and now | a ridge no longer finds it in the features |
# | **crowding** | fresh head now: classes of then, and all | the price of more classes |
# | **shallow** | what the learner's own head lost beyond both | a ridge finds it, the own head does not |
#
# (Deep against shallow forgetting: Lanzillotta et al., arXiv:2512.07400. Crowding kept apart is this library's refinement.)
#
# ### Exercise 3 (10 minutes, medium)
#
# <details><summary>Hint</summary>
#
# Deep and crowding are differences of two fresh heads. Shallow is what is left of `head_then - head_now`.
#
# </details>


# %% tags=["exercise"]
def three_parts(
    head_then: float, head_now: float, few_then: float, few_now: float, all_now: float
) -> tuple[float, float, float]:
    """Deep, crowding and shallow part of head_then - head_now; `few` and `all` are fresh heads."""
    raise NotImplementedError


# %% tags=["check"]
check_three_parts(three_parts)


# %% tags=["solution"]
# Solution of exercise 3
def three_parts(
    head_then: float, head_now: float, few_then: float, few_now: float, all_now: float
) -> tuple[float, float, float]:
    deep, crowding = few_then - few_now, few_now - all_now
    return deep, crowding, head_then - head_now - deep - crowding


assert check_three_parts(three_parts)


# %%
# Figure 4.6. What old tasks lost: deep, crowding, shallow.
def lost(run: cillab.Run, at: int = 5) -> np.ndarray:
    """Mean over the tasks before `at` of the three parts of what they lost until then."""
    now, parts = run.snapshot(at), []
    for task in range(at):
        then = run.snapshot(task)
        few = [float(shot["accuracy/fresh_then"][task]) for shot in (then, now)]
        heads = [float(shot["accuracy/row"][task]) for shot in (then, now)]
        parts.append(three_parts(*heads, *few, float(now["accuracy/fresh"][task])))
    return np.mean(parts, axis=0)


table = np.stack([lost(run) for run in runs.values()], axis=1)
names = ("deep: a ridge no longer finds it", "crowding: more classes", "shallow: lost by the head only")
assert table[2, 1] > 0.5 * table[:, 1].sum()  # in the run with `seen` more than half is shallow
sketch.bars(list(runs), dict(zip(names, table, strict=True)), y_title="lost by an old task", stacked=True, percent=True)

# %%
# Figure 4.7. The fresh head over time, in the run with all classes as competitors.
picture = figures.retention(fork.run)  # the same by task, and the fresh head over time
print(picture.sentence)
picture

# %% [markdown]
# **What you saw.** In the run with `seen` most of what was "forgotten" is **shallow**: the features still tell the old classes
# apart, but the head never names them. Where a head learns from new classes alone, suspect this first.
#
# Two cautions. *First*, the fresh head was fitted on old images. It measures what is there; it does not say that a learner
# without these images could get it back. What needs no old image at all is prevention: local competitors from the start. A repair
# needs something that was kept: class means, the sums of a ridge, or a few images. *Second*, "deep" is what **this probe** does
# not find, a ridge on the last features. Another probe finds another amount. Here is the nearest class mean, on the same
# snapshots:


# %%
def nearest_mean(shot: cillab.runs.Snapshot, run: cillab.Run, few: int, task: int) -> float:
    """Accuracy on probe images of `task`, by the means of now, among the first `few` classes seen."""
    mine, means = run.probe.tasks == task, np.float64(shot["means/now"])[:few]
    distance = ((np.float64(shot["features"])[mine][:, None] - means[None]) ** 2).sum(axis=2)
    return float((np.asarray(shot["seen"])[distance.argmin(axis=1)] == run.probe.labels[mine]).mean())


deep = {"ridge": [], "nearest mean": []}
for run in runs.values():
    now, pairs = run.snapshot(5), [(run.snapshot(task), task) for task in range(5)]
    moved = [nearest_mean(then, run, 10 * (t + 1), t) - nearest_mean(now, run, 10 * (t + 1), t) for then, t in pairs]
    deep["nearest mean"].append(float(np.mean(moved)))
    deep["ridge"].append(float(lost(run)[0]))
print(*[f"{probe}: " + ", ".join(f"{value:+.1%}" for value in values) for probe, values in deep.items()], sep="\n")
assert not np.allclose(deep["ridge"], deep["nearest mean"], atol=0.002)  # "deep" depends on the probe

# %% [markdown]
# (One number per run, in the order of the bars above.) A deep part of zero says that this probe lost nothing, and a large one says
# that it no longer finds it; neither says that the information is gone. *Forgetting is three losses in one number. Ask which one
# before you choose a remedy.*
#
# **Step through it.** Confusion after each task, old classes top left.


# %%
# Figure 4.8. Confusion after each task.
def at_task(index: int) -> None:
    picture = figures.confusion(fork.run, step=index)
    print(picture.sentence)
    display(picture)


try:
    from ipywidgets import IntSlider, interact
except ImportError:
    at_task(5)
else:
    interact(at_task, index=IntSlider(5, 0, 5, description="step", continuous_update=False))

# %% [markdown]
# **And on photographs?** Recorded on CIFAR-100 with a small *frozen* ViT: a linear softmax head learns ten tasks by gradient steps,
# once with local competitors and once with all classes seen. Features stand still, so nothing can be deep.
#
# > **Predict.** How much do the two heads lose on the 90 old classes against a fresh ridge on the same features?

# %%
# Figure 4.9. Photographs: two heads and a fresh one on features that stand still.
real = photographs("04")
kinds = {"local": "local competitors", "seen": "all classes seen", "fresh": "fresh ridge (an oracle)"}
ends = {f"{age} classes": [real[kind][age] for kind in kinds] for age in ("old", "new")}
errors = {name: share_error(v, n) for (name, v), n in zip(ends.items(), real["images"], strict=True)}
for kind in ("local", "seen"):
    gap, low, high = real[kind]["fresh, minus own, old"]
    print(f"{kinds[kind]}: fresh minus own, old classes {gap:+.1f} points [{low:+.1f}, {high:+.1f}];", end=" ")
    print(f"{real[kind]['old called new']:.0%} of old photographs are called new")
assert real["seen"]["old"] < real["local"]["old"] - 0.1 and real["local"]["fresh, minus own, old"][1] > 0
sketch.bars(list(kinds.values()), ends, y_title="CIFAR-100, DeiT-tiny", percent=True, errors=errors)

# %% [markdown]
# **What you saw.** The same on photographs: with all classes seen many old ones are called new, although a ridge finds them in features that
# never moved. Local competitors prevent most of it, and a head that compares all classes is better still. **Why.** With local
# competitors rows of different tasks never meet (chapter [17](17_aligning_with_remembered_gaussians.ipynb) mends that).
#
# With CIFAR-100 and ViT-B/16, for those who have them and a GPU (0.5 GB to download, some ten minutes):

# %% tags=["real-data"]
BIG = False  # True: run this cell
if BIG:
    cifar = cillab.stream("cifar100", train_per_class=100, test_per_class=50)[:6]
    vit = cillab.backbone("timm:vit_base_patch16_224.augreg_in21k")
    real = cillab.Lab(cifar, cillab.learner("finetune", vit, epochs=3, backbone_lr=1e-4), fresh(OUT / "cifar100"))
    for _ in real:
        pass
    print(dict(zip(("deep", "crowding", "shallow"), lost(real.run).round(3).tolist(), strict=True)))

# %%
scorecard(globals())

# %% [markdown]
# In the app: `make app`, then [what the recorded fine-tuning
# lost](http://localhost:8501/drift?run=demo-finetune&step=9&drift=Forgetting), ten tasks long. With `OUT = Path("runs")` above,
# your own three runs stand there too.
#
# ### Open exercise (60 minutes)
# Take the forked run with `seen` and repair its head with as little stored data as you can. How many images, or which
# statistics, bring back half of what was shallow?
#
# There is no check. *Rubric:*
#
# * the cost is stated in numbers or images per class (1 point);
# * old and new classes are reported apart (1);
# * the repair is compared with local competitors from the start (2).
#
# ## Take-aways
#
# 1. `observe` changes a learner only when exhausted; a run can be stopped, resumed, and forked at any task.
# 2. Forgetting has formulas, not a formula; name the one you use.
# 3. What looks like a wiped memory is often a head that never names the old classes. Fit a fresh head before you speak of lost
#    features, say which probe it was, and subtract crowding before you speak of forgetting.
