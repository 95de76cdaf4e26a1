# %% [markdown]
# # How do I get my own images, and my own method, into all this?
#
# **You will** make a data set out of a folder, run two learners on it, put them into one table, and write a report that opens
# anywhere. You will also write a run folder *by hand*, so that any program in any language can be looked at with the same
# figures.
# **Time** half a minute on a CPU, 30 minutes for a reader. **Needs** notebook [00](00_tour_of_a_run.ipynb).

# %%
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import cillab
from checks.chapter_12 import check_census, check_row
from cillab import figures, teaching
from cillab.report import write_report
from cillab.runs import Protocol, RunInfo, RunWriter, step_id
from cillab.runs.table import table
from cillab.teaching import fresh, scorecard, share_error, sketch

import numpy as np
from PIL import Image

# %%
FAST = bool(os.environ.get("CILLAB_FAST"))  # fewer images
OUT = Path(tempfile.mkdtemp())  # a folder that stays, such as "mine", lets the app show what you make here
TRAIN, TEST = (8, 4) if FAST else (30, 10)

# %% [markdown]
# ## 1. What is a data set?
#
# A folder. One folder per class, in `train` and `test` (or only one level, then a fifth is held out). Names of folders are names
# of classes, so write them as you would in a caption: text encoders read them. Here six classes of rendered shields play *your
# photographs*; to make it real, they get three sizes and two formats.

# %%
from cillab.streams import shields

CHOSEN = range(40, 46)  # six of one family: they share most of what they are made of
data = fresh(OUT / "shields")
for class_id in CHOSEN:
    for split, count in (("train", TRAIN), ("test", TEST)):
        folder = data / split / shields.CLASSES[class_id].name
        folder.mkdir(parents=True)
        for i in range(count):
            size = (64, 80, 120)[i % 3]
            picture = shields.class_images(class_id, split, i + 1, size=size).images[-1]
            ending = "png" if i % 2 else "jpg"
            Image.fromarray(picture.transpose(1, 2, 0)).save(folder / f"{i:03d}.{ending}")

# %% [markdown]
# ### Exercise 1 (10 minutes, easy)
# Before any training: count. An empty class or a folder of thumbnails explains many odd results.
#
# <details><summary>Hint</summary>
#
# `path.suffix.lower()` knows about capitals, and hidden files begin with a dot.
#
# </details>


# %% tags=["exercise"]
def census(folder: Path) -> dict[str, int]:
    """Training images per class: files in folder/train/CLASS that end in .png, .jpg or .jpeg, without hidden ones."""
    raise NotImplementedError


# %% tags=["check"]
check_census(census)


# %% tags=["solution"]
# Solution of exercise 1
def census(folder: Path) -> dict[str, int]:
    def is_image(path: Path) -> bool:
        return path.suffix.lower() in (".png", ".jpg", ".jpeg") and not path.name.startswith(".")

    return {one.name: sum(map(is_image, one.iterdir())) for one in sorted((folder / "train").iterdir()) if one.is_dir()}


assert check_census(census)

# %%
census(data)

# %%
# Figure 12.1. One test picture of each class, on the canvas of the backbone.
stream = cillab.stream(f"folder:{data}", split="B0-Inc2", order="natural")
shown = stream.on(cillab.backbone("bundled:vit")).test()
first = [" ".join(stream.class_names[c].split()[:2]) for c in shown.labels[::TEST].tolist()]
assert shown.images.shape[-2:] == (64, 64)
print(f"{len(stream)} tasks: {stream.sizes} classes; class ids are positions in the alphabetical list of folders")
teaching.tiles(shown.images[::TEST].cpu().numpy(), captions=first)

# %% [markdown]
# **What you saw.** Mixed sizes are drawn onto the canvas that the backbone wants, here 64 x 64. `stream.digest` is a hash of
# every image and of the task that it went to. **Why a hash.** Two people whose digests agree ran the same data; a name alone does
# not say that. Mistakes are one clear line, for example:

# %%
from cillab.core.errors import CillabError

for wrong in (f"folder:{data / 'nowhere'}", f"folder:{data / 'test' / stream.class_names[0]}"):
    try:
        cillab.stream(wrong, split="B0-Inc2")
    except CillabError as error:
        print(str(error).replace(str(OUT), "..."))

# %% [markdown]
# ## 2. Which of two learners is better?
#
# > **Predict.** Nearest mean against an analytic ridge (notebook 06) on very few images of six classes. Which wins, and by how many
# > test images? How many would it take to be sure?

# %%
for name in ("simplecil", "acil"):
    learner = cillab.learner(name, cillab.backbone("bundled:vit"))
    lab = cillab.Lab(stream, learner, fresh(OUT / "runs" / name), cams=False)
    for step in lab:
        print(f"{name:>9}, task {step.task + 1}: {step.accuracy.seen:.1%} of the classes seen so far")

# %%
rows = table(OUT / "runs").rows
images = len(shown)
for row in rows:
    print({key: row[key] for key in ("learner", "a_last", "a_avg", "split", "backbone") if key in row}, end=" ")
    print(f"A_last +- {1.96 * np.sqrt(row['a_last'] * (1 - row['a_last']) / images):.1%}")

# %%
right = {}
for name in ("simplecil", "acil"):
    run = cillab.Run(OUT / "runs" / name)
    right[name] = np.asarray(run.snapshot(-1)["predictions"]) == run.probe.labels
print(f"acil, minus simplecil: {teaching.paired(right['acil'], right['simplecil'])}")

# %% [markdown]
# **What you saw.** A table row carries its protocol: data and split digests, order, weights, transform. Rows with different
# protocols are not ranked against each other. From a shell: `cillab table runs`. A share $p$ of $n$ images is known to $\pm 1.96
# \sqrt{p(1-p)/n}$, which is printed behind each number. Four times the images halve it.
#
# **Why this is not yet a comparison.** Those two intervals do not test the difference. Both learners were asked about the same
# images, and an image on which they agree says nothing about which is better. Only the images on which they disagree count; the
# last line counts them, gives the difference with its own interval, and an exact test. An interval that contains 0 means: these
# images cannot tell. More images and more class orders come first.
#
# ## 3. How do I show it to somebody who has nothing installed?
#
# > **Predict.** A page with all figures of a run, each of them alive, that needs no network: how large is it?

# %%
size = write_report(OUT / "runs" / "simplecil", OUT / "report.html")
page = (OUT / "report.html").read_text()
outside = 'src="http' in page
print(f"{size / 1e6:.1f} MB, {page.count('<figure')} figures, needs the network: {outside}")
assert not outside

# %%
# Figure 12.2. Accuracy of the ridge on every task.
figures.accuracy_matrix(lab.run)

# %% [markdown]
# **What you saw.** One HTML file with every figure that the run has data for, alive and offline. From a shell: `cillab report DIR
# --out report.html`.
#
# ## 4. And a method that is not in this library?
#
# Suppose yours is written elsewhere: another framework, another language. Nothing of it needs to enter this library. It only
# has to write a **run folder**: `run.json`, a snapshot per task, `result.json` ([the format](../docs/run_folder.md)).
#
# The "other program" is here a nearest mean of colour histograms, in ten lines of NumPy.


# %%
def histogram(path: Path) -> np.ndarray:
    """Share of 4 x 4 x 4 colours in a picture."""
    pixels = np.asarray(Image.open(path).convert("RGB").resize((48, 48))).reshape(-1, 3) // 64
    return np.bincount(pixels @ [16, 4, 1], minlength=64) / len(pixels)


names = sorted(path.name for path in (data / "train").iterdir())
x, y = {}, {}
for split in ("train", "test"):
    files = sorted(path for path in (data / split).rglob("*.*"))
    x[split] = np.stack([histogram(path) for path in files]).astype(np.float32)
    y[split] = np.array([names.index(path.parent.name) for path in files])

# %% [markdown]
# > **Predict.** Can colour alone tell six shields apart? Better or worse than the nearest mean of ViT features?
#
# ### Exercise 2 (15 minutes, medium)
# A snapshot holds one row of the accuracy matrix: the accuracy on the test images of each task, all seen classes competing.
#
# <details><summary>Hint</summary>
#
# Group by the task of the *truth*: `np.array([task_of[c] for c in truth.tolist()])`.
#
# </details>


# %% tags=["exercise"]
def accuracy_row(truth: np.ndarray, answers: np.ndarray, task_of: Mapping[int, int]) -> list[float]:
    """Accuracy on the images of each task, tasks in order; task_of gives the task of every class id."""
    raise NotImplementedError


# %% tags=["check"]
check_row(accuracy_row)


# %% tags=["solution"]
# Solution of exercise 2
def accuracy_row(truth: np.ndarray, answers: np.ndarray, task_of: Mapping[int, int]) -> list[float]:
    task = np.array([task_of[c] for c in truth.tolist()])
    return [float((answers == truth)[task == t].mean()) for t in range(max(task_of.values()) + 1)]


assert check_row(accuracy_row)

# %% [markdown]
# First the head of the folder: which classes come in which task, under which protocol.

# %%
tasks = [[0, 1], [2, 3], [4, 5]]
info = RunInfo(
    tasks=tasks,
    class_names=dict(enumerate(names)),
    spec={"learner": "colour histograms", "data": "my shields"},
    protocol=Protocol(data="my shields", split="B0-Inc2", order="natural", learner="colour histograms"),
)
writer = RunWriter.create(fresh(OUT / "runs" / "by hand"), info)
age = np.array([info.task_of_class[c] for c in y["test"].tolist()])
writer.probe([f"test/{i}" for i in range(len(age))], y["test"], age)
info.task_of_class

# %% [markdown]
# Then a snapshot per task. Only `seen` and what you have: figures that need more say so.


# %%
def look(seen: list[int]) -> dict[str, np.ndarray]:
    """All that this method can say after learning the classes `seen`."""
    means = np.stack([x["train"][y["train"] == c].mean(axis=0) for c in seen])
    distance = ((x["test"][:, None] - means[None]) ** 2).sum(axis=2)
    answers, here = np.array(seen)[distance.argmin(axis=1)], np.isin(y["test"], seen)
    task_of = {c: info.task_of_class[c] for c in seen}
    pairs = np.array([[((y["test"] == a) & (answers == b)).sum() for b in seen] for a in seen])
    return {
        "seen": np.int32(seen), "task_of_class": np.int32(list(task_of.values())), "features": np.float16(x["test"]),
        "logits": np.float16(-distance), "predictions": np.int32(answers), "confusion": np.int32(pairs),
        "means/now": means, "accuracy/row": np.float64(accuracy_row(y["test"][here], answers[here], task_of)),
    }  # fmt: skip


# %%
matrix = np.full((3, 3), np.nan)
for t in range(3):
    arrays = look([c for task in tasks[: t + 1] for c in task])
    matrix[t, : t + 1] = arrays["accuracy/row"]
    writer.log(step_id(t), {"accuracy/seen": arrays["accuracy/row"].mean()}, task=t)
    writer.snapshot(step_id(t), arrays)
curve = [float(np.nanmean(row)) for row in matrix]  # tasks of equal size
cells = [[None if np.isnan(v) else float(v) for v in row] for row in matrix]
writer.result({"a_last": curve[-1], "a_avg": float(np.mean(curve)), "accuracy_seen": curve, "accuracy_matrix": cells})
writer.status(state="finished").state

# %%
# Figure 12.3. Accuracy of the hand-written run on every task.
mine = cillab.Run(writer.path)
picture = figures.accuracy_matrix(mine)
print(picture.sentence)
picture

# %%
# Figure 12.4. Confusion of the hand-written run.
confused = figures.confusion(mine)
print(confused.sentence)
write_report(mine.path, OUT / "by_hand.html")
left_out = (OUT / "by_hand.html").read_text().partition("Not in this run")[2].count("<li>")
print(f"a report of it lacks {left_out} figures, for which nothing was written, and names what they need")
assert left_out > 5
confused

# %% [markdown]
# **What you saw.** Nothing of your method entered the library, and its run stands beside the others in table, report and app:

# %%
for row in table(OUT / "runs").rows:
    print(f"{row['learner']:>18}: A_last {row['a_last']:.1%}, A_avg {row['a_avg']:.1%}")

# %% [markdown]
# **And on photographs?** Recorded for 355 photographs of 71 kinds of things (Caltech-101, five test
# photographs a class): the hand-written method, and two heads on the features of a small frozen ViT.
#
# > **Predict.** How far does colour come among 71 kinds of things?

# %%
# Figure 12.5. Photographs: colour histograms, and two heads on frozen features.
from checks.photographs import photographs

real = photographs("12")
shares = {"accuracy": list(real["accuracy"].values())}
errors = {name: share_error(values, real["images"]) for name, values in shares.items()}
gap, low, high = real["discriminant, minus nearest mean"]
print(f"discriminant, minus nearest mean: {gap:+.1f} points [{low:+.1f}, {high:+.1f}] on {real['images']} photographs")
assert real["accuracy"]["colour histograms"] < 0.5 < real["accuracy"]["nearest mean"] and real["images"] == 5 * 71
title = f"accuracy among {real['classes']} classes"
sketch.bars(list(real["accuracy"]), shares, y_title=title, percent=True, errors=errors)

# %% [markdown]
# **What you saw.** Photographs of one kind of thing share few colours, and their features share much. The printed line says
# whether 355 photographs can tell the two heads apart.
#
# Back to the three runs. Which of them may be ranked against each other? The hand-written one states no digest of its data, so it is *shown* but not ranked against the
# others. State what you know: `Protocol` has a field for each.
#
# The same with a data set that was downloaded, for those who have it, and with your own photographs on a large model:

# %% tags=["real-data"]
BIG = False  # True: run this cell
if BIG:
    photographs = cillab.stream("cifar100", split="B0-Inc10", train_per_class=50, test_per_class=20)  # or folder:DIR
    vit = cillab.backbone("timm:vit_base_patch16_224.augreg_in21k")
    big = cillab.Lab(photographs, cillab.learner("simplecil", vit), fresh(OUT / "runs" / "photographs"))
    for step in big:
        print(step.task + 1, f"{step.accuracy.seen:.1%}")
    write_report(big.path, OUT / "photographs.html")

# %%
scorecard(globals())

# %% [markdown]
# In the app: `make app`, then [Bring your own](http://localhost:8501/bring_your_own): upload images, point to a folder, or open a run
# folder that somebody sent. With `OUT = Path("mine")` above, your three runs are there too.
#
# ### Open exercise (60 minutes)
# Bring 100 photographs of your own in five classes. Which of the learners is best on them, and how sure can you be?
#
# There is no check. *Rubric:*
#
# * the split is stated and no photograph is in both halves (1 point);
# * the difference comes with a paired interval (2);
# * one confusion is explained by looking at the pictures (1).
#
# ## Take-aways
#
# 1. A folder per class is a data set; its digest says whether two people ran the same one.
# 2. A number without its protocol is not comparable; table and report carry it along.
# 3. The run folder is the only contract: whatever writes it can be looked at.
