# %% [markdown]
# # How do I write a learner of my own?
#
# **You will** turn the discriminant of chapter 03 into a learner of 25 lines, and let a battery of checks look for the faults that everybody
# makes. You will plant three of them, see which check finds which, and draw a figure that only your learner has.
# **Time** half a minute on a CPU, 45 minutes for a reader. **Needs** notebooks [03](03_what_pretraining_gives.ipynb) (the linear
# discriminant) and [04](04_forgetting.ipynb) (`observe`).

# %%
import os
import tempfile
from pathlib import Path

import cillab
from checks.chapter_13 import check_discriminant, check_summed
from checks.photographs import photographs
from cillab.kit import Classifier, Field, Head, HyperParams, Internal, Method, final, gathered, method
from cillab.teaching import fresh, paired, scorecard, share_error, sketch
from cillab.testing import check_learner

import numpy as np
import torch
from torch import Tensor

# %%
FAST = bool(os.environ.get("CILLAB_FAST"))  # fewer images: the same notebook, noisier numbers

# %%
OUT = Path(tempfile.mkdtemp())  # a folder that stays, such as "runs", lets the app show what you make here
backbone = cillab.backbone("bundled:vit")
stream = cillab.stream("shields", split="B0-Inc10", train_per_class=12 if FAST else 60, test_per_class=10)[:5]
stream

# %% [markdown]
# ## 1. What must a learner remember?
#
# A learner sees the images of one task at a time and may not go back. So whatever its answer needs must be kept in a form that can
# be *added to*. The linear discriminant of chapter 03, equation (3.2), needs the class means and one covariance. Both follow from three sums over
# features $h$: how many images of class $c$ there were, $n_c$; their sum, $s_c = \sum h$; and $G = \sum h h^\top$ over all images.
#
# > **Predict.** A task brings 200 images of 10 classes with 160 features each. How many numbers must be kept? How many after 100
# > tasks?
#
# The state of a learner must obey one more rule. If a task is cancelled half way, the library puts back the tensors that were
# there before it. It keeps *references* to them, not copies. So a state is **replaced**, never written in place: `a = a + b`, not
# `a += b`.
#
# ### Exercise 1 (10 minutes, easy)
# Add a batch to the three sums. `rows` says for every image which row of `counts` and `sums` is its class.
#
# <details><summary>Hint</summary>
#
# `torch.nn.functional.one_hot(rows, len(counts))` is a matrix [image, class] of zeros and ones. Its sum over images counts, and its
# transpose times `h` sums.
#
# </details>


# %% tags=["exercise"]
def summed(counts: Tensor, sums: Tensor, gram: Tensor, h: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """New counts [class], sums [class, feature] and gram [feature, feature]; the old ones stay as they were."""
    raise NotImplementedError


# %% tags=["check"]
check_summed(summed)


# %% tags=["solution"]
# Solution of exercise 1
def summed(counts: Tensor, sums: Tensor, gram: Tensor, h: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    belongs = torch.nn.functional.one_hot(rows, len(counts)).to(h)
    return counts + belongs.sum(dim=0), sums + belongs.T @ h, gram + h.T @ h


assert check_summed(summed)

# %% [markdown]
# **Why sums are enough.** With $\mu_c = s_c / n_c$ and $n = \sum_c n_c$, the covariance around the class means is
#
# $$\Sigma = \frac1n \sum_i (h_i - \mu_{y_i})(h_i - \mu_{y_i})^\top = \frac1n \Big( G - \sum_c n_c\, \mu_c \mu_c^\top \Big), \tag{13.1}$$
#
# because the mixed terms are $\sum_c n_c \mu_c \mu_c^\top$ twice, and once they cancel. So one matrix holds what would otherwise
# need all old images. The head is that of chapter 03, with a shrinkage $\lambda$ times the mean variance on the diagonal:
#
# $$w_c = \Sigma_\lambda^{-1} \mu_c, \qquad b_c = -\tfrac12\, w_c \cdot \mu_c, \qquad
# \Sigma_\lambda = \Sigma + \lambda\, \frac{\operatorname{tr} \Sigma}{D}\, I . \tag{13.2}$$
#
# ### Exercise 2 (15 minutes, medium)
#
# <details><summary>Hint</summary>
#
# Means first. `(counts[:, None] * means).T @ means` is the sum in the formula. Solve with `torch.linalg.solve`, do not invert.
#
# </details>


# %% tags=["exercise"]
def discriminant(counts: Tensor, sums: Tensor, gram: Tensor, shrink: float) -> tuple[Tensor, Tensor]:
    """Weight [class, feature] and bias [class] from the three sums."""
    raise NotImplementedError


# %% tags=["check"]
check_discriminant(discriminant)


# %% tags=["solution"]
# Solution of exercise 2
def discriminant(counts: Tensor, sums: Tensor, gram: Tensor, shrink: float) -> tuple[Tensor, Tensor]:
    means = sums / counts[:, None]
    within = (gram - (counts[:, None] * means).T @ means) / counts.sum()
    within = within + shrink * within.diagonal().mean() * torch.eye(len(within)).to(within)
    weight = torch.linalg.solve(within, means.T).T
    return weight, -0.5 * (weight * means).sum(dim=1)


assert check_discriminant(discriminant)

# %% [markdown]
# ## 2. How does it become a learner?
#
# A learner is made of **parts**. A part knows how to save and load itself; here it is a `Classifier`: it grows by a row for each
# new class, takes in features, and answers with logits.


# %%
class Sums(Classifier):
    """Counts, sums and Gram matrix of all features seen."""

    def __init__(self, dim: int, shrink: float) -> None:
        super().__init__()
        self.shrink, shapes = shrink, {"counts": (0,), "sums": (0, dim), "gram": (dim, dim)}
        for name, shape in {**shapes, "weight": (0, dim), "bias": (0,)}.items():
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))

    def grow(self, arriving: tuple[int, ...]) -> None:
        new = tuple(c for c in arriving if c not in self.classes)
        self.classes, pad = self.classes + new, torch.zeros(len(new), dtype=torch.float64)
        self.counts = torch.cat([self.counts, pad])
        self.sums = torch.cat([self.sums, pad[:, None].expand(-1, self.sums.shape[1])])


# %%
class Discriminant(Sums):
    """What is added, what is answered."""

    def add(self, h: Tensor, labels: Tensor) -> None:
        rows = torch.tensor([self.classes.index(c) for c in labels.tolist()])
        self.counts, self.sums, self.gram = summed(self.counts, self.sums, self.gram, h.double(), rows)
        self.weight, self.bias = discriminant(self.counts, self.sums, self.gram, self.shrink)

    def forward(self, h: Tensor) -> Tensor:
        return (h.double() @ self.weight.T + self.bias).float()

    def rows(self) -> Head:
        return Head(self.weight.float(), self.bias.float())


# %% [markdown]
# The learner itself says which parts it has (`setup`), how it takes in a task (`learn`), and what it wants to show (`internals`).
# `gathered` forwards each image of the task once and yields its progress, hence `yield from`. The base class `Method` writes the
# rest: features, logits, saving, loading, undoing.


# %%
class MineParams(HyperParams):
    """Hyper-parameters of mine."""

    shrink: float = Field(0.05, gt=0, description="Multiple of the mean variance that is added to the covariance.")


class Own(Method[MineParams]):
    def learn(self, task):
        self.classifier.add(*(yield from gathered(self, task)))

    def internals(self):
        own, means = self.classifier, self.classifier.sums / self.classifier.counts[:, None]
        within = (own.gram - (own.counts[:, None] * means).T @ means) / own.counts.sum()
        return {"spectrum": torch.linalg.eigvalsh(within).flip(0)} if len(own.classes) else {}


# %%
SHOWN = Internal("spectrum", "f64 [D]", "eigenvalues of the covariance within classes")
SAID = {"paper": "chapter 13", "evidence": "exercise", "family": "closed form", "when": "To learn how one is written."}


@method("mine", **SAID, internals=(SHOWN,))
@final
class Mine(Own, Method[MineParams]):
    """Linear discriminant whose three sums grow with the tasks."""

    def setup(self) -> None:
        self.classifier = Discriminant(self.backbone.feature_dim, self.params.shrink)


# %%
learner = cillab.learner("mine", backbone, shrink=0.05)
placed = stream.on(backbone)
for task in placed[:2]:
    *_, progress = learner.observe(task)
    print(f"task {task.index + 1}: {progress.done} images, knows {len(learner.seen)} classes")

# %% [markdown]
# **What you saw.** It is a learner like any other: `cillab.learner("mine")` finds it by its name, and command line, app and tables
# would too, if it stood in an installed package ([how](../docs/build_a_learner.md)).
#
# ## 3. Is it right?
#
# Accuracy does not say so. A learner with a serious fault can look good: one that knows how many classes will come, one that
# cannot be resumed, one whose answers depend on the batch. The **battery** asks for such things, on six classes in three tasks.
#
# > **Predict.** We plant three faults. Fault A keeps the Gram matrix as a plain attribute, which nobody saves. Fault B makes room for
# > classes that may come. Fault C adds a little noise to the features, from torch's global generator. Which questions of the
# > battery will find them? Would accuracy?

# %%
for name, outcome in check_learner("mine").items():
    print(f"{outcome:>7}  {name}")


# %%
class Unsaved(Discriminant):
    def __init__(self, dim: int, shrink: float) -> None:
        super().__init__(dim, shrink)
        del self.gram
        self.gram = torch.zeros(dim, dim, dtype=torch.float64)  # an attribute, not a buffer


class Roomy(Discriminant):
    def grow(self, arriving: tuple[int, ...]) -> None:
        super().grow(arriving + tuple(range(1000, 1094)))  # room for classes that may come
        self.counts = self.counts.clamp(min=1)  # so that nothing is divided by 0


# %%
class Noisy(Discriminant):
    def add(self, h: Tensor, labels: Tensor) -> None:
        super().add(h + 1e-3 * torch.randn_like(h), labels)


@method("fault-a", **SAID, internals=(SHOWN,))
class A(Own, Method[MineParams]):
    """Fault A."""

    def setup(self) -> None:
        self.classifier = Unsaved(self.backbone.feature_dim, self.params.shrink)


# %%
@method("fault-b", **SAID, internals=(SHOWN,))
class B(Own, Method[MineParams]):
    """Fault B."""

    def setup(self) -> None:
        self.classifier = Roomy(self.backbone.feature_dim, self.params.shrink)


@method("fault-c", **SAID, internals=(SHOWN,))
class C(Own, Method[MineParams]):
    """Fault C."""

    def setup(self) -> None:
        self.classifier = Noisy(self.backbone.feature_dim, self.params.shrink)


# %%
found = {}
for name in ("fault-a", "fault-b", "fault-c"):
    try:
        check_learner(name)
    except AssertionError as error:
        found[name] = str(error)
print(*found.values(), sep="\n")
assert len(found) == 3 and "save_load" in found["fault-a"] and "logits have shape" in found["fault-b"]

# %%
shares, test = {}, placed[:2].test()
for name in ("mine", *found):
    one = cillab.learner(name, backbone)
    for task in placed[:2]:
        list(one.observe(task))
    known = [one.classifier.classes.index(c) for c in one.seen]  # without the columns that fault B invented
    with torch.no_grad():
        best = one.logits(test.images)[:, known].argmax(dim=1)
    shares[name] = float((torch.tensor(one.seen)[best] == test.labels).float().mean())
print(*[f"{name:>8}: {share:.1%} after two tasks" for name, share in shares.items()], sep="\n")
assert max(shares.values()) - min(shares.values()) < 0.03

# %% [markdown]
# **What you saw.** Each fault is found, and each by a question about *behaviour*, not about accuracy.
#
# **Why.** A is found where a learner is saved after a task, loaded and continued: its Gram matrix begins at zero again. B is found
# because columns appear for classes that nobody has seen; in a real comparison that would be knowledge of the future. C is found
# because two learners that were taught alike differ; nobody could repeat its numbers. (The question that noticed it is about evaluation:
# it teaches two learners alike, looks at one of them only, and finds them different.) All three have nearly the accuracy of `mine`, as
# long as nothing is interrupted and nobody looks at the columns that B invented.
#
# ## 4. Is it any good?
#
# > **Predict.** Chapter 03 found many points between nearest mean and discriminant with all classes at once. How much of that is
# > left when the classes come in five tasks?

# %%
right, runs = {}, {}
for name in ("simplecil", "mine"):
    lab = cillab.Lab(stream, cillab.learner(name, backbone), fresh(OUT / name), cams=False)
    list(lab)
    shot, runs[name] = lab.run.snapshot(-1), lab.run
    right[name] = np.asarray(shot["predictions"]) == lab.run.probe.labels
    print(f"{name:>9}: A_last {lab.run.result.a_last:.1%}, A_avg {lab.run.result.a_avg:.1%}")
print(f"mine, minus simplecil: {paired(right['mine'], right['simplecil'])}")

# %%
whole = cillab.learner("mine", backbone)
joint = cillab.stream("shields", split="B0-Inc50", train_per_class=12 if FAST else 60, test_per_class=10)[:1].on(
    backbone
)
list(whole.observe(joint[0]))
own = cillab.learner("mine", backbone)
for task in placed:
    list(own.observe(task))
order = [own.seen.index(c) for c in whole.seen]
gap = float((own.classifier.weight[order] - whole.classifier.weight).abs().max() / whole.classifier.weight.abs().max())
print(f"head after five tasks and head of one task of 50 classes differ by {gap:.0e} of the largest weight")
assert gap < 1e-6 and set(own.seen) == set(whole.seen)

# %% [markdown]
# **What you saw.** All of it is left: the head after five tasks is the head of all classes at once, to rounding. **Why.** Sums do not
# know in which order they were added (chapters 03 and 06).
#
# **And on photographs?** The same two heads, recorded on CIFAR-100 with a small frozen ViT in ten tasks.
#
# > **Predict.** With twenty photographs per class: is the discriminant ahead from the first task on?

# %%
# Figure 13.1. Photographs: nearest mean and your learner, task by task.
real = photographs("13")
tasks = np.arange(1, 11)
errors = {n: share_error(v, 1) / np.sqrt(real["images per task"] * tasks) for n, v in real["accuracy"].items()}
gap, low, high = real["mine, minus nearest mean"]
print(f"mine, minus nearest mean, after ten tasks: {gap:+.1f} points [{low:+.1f}, {high:+.1f}]")
first, last = ({name: values[at] for name, values in real["accuracy"].items()} for at in (0, -1))
assert low > 0 and first["mine"] < first["nearest mean"] and last["mine"] > last["nearest mean"]
title = "accuracy on seen classes, CIFAR-100"
sketch.lines(tasks, real["accuracy"], x_title="task", y_title=title, percent=True, errors=errors)

# %% [markdown]
# **What you saw.** On photographs the discriminant is *behind* after the first task and ahead at the end. **Why.** A covariance of 192
# dimensions is badly known from the 200 photographs of the first task (exercise 2 gives it $\lambda$ for that), and every task adds
# photographs to its sums. Both curves fall, because rivals arrive (chapter [03](03_what_pretraining_gives.ipynb)).
#
# ## 5. What does only my learner show?
#
# What `internals` returns is written with every snapshot. A figure is a function of the run.
#
# > **Predict.** The eigenvalues of the covariance within classes, after task 1 and after task 5: does the spectrum rise, fall, or
# > change its shape?

# %%
# Figure 13.2. Spectrum within classes after the first and after the last task.
AT = (0, len(stream) - 1)
shots = {f"after task {t + 1}": np.asarray(runs["mine"].snapshot(t)["internals/spectrum"]) for t in AT}
axes = {"x_title": "direction, widest first", "y_title": "variance within classes", "log_y": True}
sketch.lines(np.arange(1, 101), {name: values[:100] for name, values in shots.items()}, **axes)

# %%
first, last = shots.values()
tail = slice(80, None)
wide, narrow = last[0] / first[0] - 1, last[tail].sum() / first[tail].sum() - 1
print(f"the widest direction changes by {wide:+.0%}, directions beyond 80 together by {narrow:+.0%}")
assert narrow > abs(wide)

# %% [markdown]
# **What you saw.** With one task the narrow directions are measured too small, since few images were seen; they grow as tasks come.
# The wide ones are known early. This is the reason for $\lambda$: it puts a floor under directions that are not known yet.
#
# With CIFAR-100 and ViT-B/16, for those who have them (0.5 GB to download):

# %% tags=["real-data"]
BIG = False  # True: run this cell
if BIG:
    vit = cillab.backbone("timm:vit_base_patch16_224.augreg_in21k")
    cifar = cillab.stream("cifar100", train_per_class=100, test_per_class=50).on(vit)
    big = cillab.learner("mine", vit)
    for task in cifar:
        list(big.observe(task))
    test = cifar.test()
    with torch.no_grad():
        given = torch.tensor(big.seen)[big.logits(test.images).argmax(1).cpu()]
    print(f"{float((given == test.labels.cpu()).float().mean()):.1%}")

# %%
scorecard(globals())

# %% [markdown]
# `cillab new learner NAME` writes the files of a package with a learner, its test and its entry point. With `OUT = Path("runs")`
# above, your run stands in the app: `make app`, then [Step through](http://localhost:8501/step_through).
#
# ### Open exercise (90 minutes)
# Write a learner with a covariance *per class* (shrunk towards the common one), pass the battery, and compare it with `mine`.
#
# There is no check. *Rubric:*
#
# * the battery passes without an exception (1 point);
# * the equation is tested against a plain loop (1);
# * both shrinkages are chosen on held-out training images (1);
# * the difference comes with a paired interval, whatever its sign (1).
#
# ## Take-aways
#
# 1. What a learner keeps must be addable. Sums are, and they make the order of the tasks irrelevant.
# 2. A learner is a few equations on shared parts. State is replaced, never written in place.
# 3. Accuracy does not show that a learner is right. Ask about behaviour: cancel it, save it, repeat it, hide the future.
