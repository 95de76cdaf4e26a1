# %% [markdown]
# # What did it look at, and how would we know?
#
# **You will** compute a saliency map from an activation and a gradient, and find the layer where it is exactly blank. You will
# ask for the difference between two classes, and test the maps against the place where the object really is.
# **Time** under a minute on a CPU, 45 minutes for a reader. **Needs** notebook [03](03_what_pretraining_gives.ipynb).
#
# Maps are seductive. Each section therefore ends in a number. The bundled world helps: every picture of a shield comes with the
# mask of its charge (the lion, the key, the star), which is part of what its class is.

# %%
import os

import cillab
from checks.chapter_11 import check_cam, check_difference, check_energy
from checks.photographs import photographs
from cillab import teaching
from cillab.core.errors import InvalidRequestError
from cillab.explain.gradcam import gradcam, noise_floor
from cillab.explain.layers import as_grid, cam_layer
from cillab.explain.overlap import as_seen, energy_inside, pointing_game
from cillab.teaching import paired, scorecard, share_error, sketch

import numpy as np
import torch

# %%
FAST = bool(os.environ.get("CILLAB_FAST"))  # fewer images: the same notebook, noisier numbers

# %%
backbone = cillab.backbone("bundled:vit")
stream = cillab.stream(
    "shields", split="B0-Inc10", train_per_class=12 if FAST else 60, test_per_class=5 if FAST else 20
)
stream = stream[:4].on(backbone)
learner = cillab.learner("simplecil", backbone)
list(learner.observe(stream[0]))
images, labels = stream.train(0).images[::12], stream.train(0).labels[::12]
print(*backbone.block_names, "features of", backbone.feature_dim)

# %% [markdown]
# ## 1. Which patches speak for a class?
#
# A ViT carries one vector per patch. Take them at some layer, $a_{p,d}$ (patch $p$ of $P$, channel $d$), and the gradient of a
# logit $s$ there. Grad-CAM (Selvaraju et al., ICCV 2017) weighs each channel by its mean gradient and keeps what speaks *for* the
# class:
#
# $$\alpha_d = \frac1P \sum_p \frac{\partial s}{\partial a_{p,d}}, \qquad \text{map}_p = \max\Big(0, \sum_d \alpha_d\, a_{p,d}\Big). \tag{11.1}$$
#
# The logit must be the one the method answers with. This learner has no trained head at all; its logits are cosines with class
# means, and the gradient goes through those.
#
# ### Exercise 1 (15 minutes, medium)
#
# <details><summary>Hint</summary>
#
# The weight of a channel is the mean of its gradient over all patches. Sum over channels, then `np.maximum(0, ...)`.
#
# </details>


# %% tags=["exercise"]
def cam(activation: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Map [row, column] from [row, column, channel]."""
    raise NotImplementedError


# %% tags=["check"]
check_cam(cam)


# %% tags=["solution"]
# Solution of exercise 1
def cam(activation: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    return np.maximum(activation @ gradient.mean(axis=(0, 1)), 0)


assert check_cam(cam)


# %%
# Figure 11.1. Maps of the layer that is usually drawn, on one colour scale.
def taken(layer: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Activation at a layer and the gradient of the largest logit there, laid out on the image."""
    with torch.enable_grad(), backbone.tap(layer, cut=True) as taps:
        score = learner.logits(images).amax(dim=1).sum()  # images do not interact: the gradient of a sum is each one's
        (gradient,) = torch.autograd.grad(score, taps[layer])
    count = len(images)
    return tuple(as_grid(x.detach(), backbone, layer, images=count) for x in (taps[layer], gradient))


layer = cam_layer(backbone)
activation, gradient = taken(layer)
maps = np.stack([cam(a.numpy(), g.numpy()) for a, g in zip(activation, gradient, strict=True)])
assert np.allclose(maps, gradcam(learner, images)["predicted"], atol=1e-6)  # the library's
captions = [" ".join(stream.class_names[c].split()[:2]) for c in labels.tolist()]
teaching.tiles(images[:6].numpy(), maps[:6], captions[:6])

# %% [markdown]
# **What you saw.** Yours agree with the library's. All pictures share one colour scale, and a map keeps its unit (here: of a cosine).
# If each were stretched to $[0, 1]$, as many tools do, a map of pure rounding noise would look as vivid as the rest.
#
# ## 2. Which layer?
#
# Deeper is more abstract, so one would take the output of the last block.
#
# > **Predict.** How large is the largest gradient at a *patch* behind the last block of this ViT, which reads its answer from the
# > class token alone?

# %%
last = backbone.block_names[-1]
places = [backbone.block_names[-2], f"{last}.norm1", f"{last}.attn", f"{last}.norm2", last]
for place in places:
    print(f"{place:>16}: largest gradient at a patch {float(taken(place)[1].abs().max()):.1e}")
assert not taken(last)[1].any() and taken(f"{last}.norm1")[1].any()  # exactly zero behind the last block

# %%
try:
    gradcam(learner, images, layer=last)
except InvalidRequestError as error:
    print(error)

# %% [markdown]
# **What you saw.** The gradient is exactly zero, not small. **Why.** Patches reach the class token through attention, and in the
# last block that happens once, from what stands *before* it (`norm1`). What a patch becomes behind it is never read. So the last
# block's output gives a blank map for every picture and every class, and the library refuses it rather than draw it. With average
# pooling it would be fine: *choose the layer from the way the model pools.*
#
# ## 3. Is it where the object is?
#
# ### Exercise 2 (10 minutes, easy)
# Which share of the map's mass lies on the charge (Score-CAM; Wang et al., CVPR-W 2020)? The mask says for each cell how much of
# it the charge covers. Beside it stands the *pointing game* (Zhang et al., IJCV 2018): does the hottest patch touch the charge?
#
# <details><summary>Hint</summary>
#
# The share of the heat that lies on the object: heat times mask, summed, over the sum of the heat.
#
# </details>


# %% tags=["exercise"]
def energy(heat: np.ndarray, mask: np.ndarray) -> float:
    """Share of the mass of the map inside the mask; the mask is a share of each cell in [0, 1]."""
    raise NotImplementedError


# %% tags=["check"]
check_energy(energy)


# %% tags=["solution"]
# Solution of exercise 2
def energy(heat: np.ndarray, mask: np.ndarray) -> float:
    return float((heat * mask).sum() / heat.sum())


assert check_energy(energy)

# %% [markdown]
# > **Predict.** The charge covers about a twentieth of a picture. Energy inside it, for maps of the last and of earlier layers: all
# > at chance, growing with depth, largest in the middle?

# %%
for task in range(1, 4):
    list(learner.observe(stream[task]))
test = stream.test()
masks = as_seen(test.masks, backbone.preprocessing)
chance = float(masks.float().mean())
layers = [f"{name}.norm1" for name in backbone.block_names]
scores = {"energy inside the charge": [], "hottest patch touches the charge": []}  # [block][image]
for place in layers:
    found = gradcam(learner, test.images, layer=place)["predicted"]
    for each, measure in zip(scores.values(), (energy_inside, pointing_game), strict=True):
        values = measure(found, masks).double().numpy()
        each.append(values[np.isfinite(values)])  # a blank map has no share

# %%
# Figure 11.2. Energy inside the charge and pointing game, block by block.
depth = np.arange(1, len(layers) + 1)
curves = {name: [values.mean() for values in each] for name, each in scores.items()}
errors = {n: [1.96 * v.std(ddof=1) / np.sqrt(len(v)) for v in each] for n, each in scores.items()}
inside, level = curves["energy inside the charge"], {"share of the picture that the charge takes": chance}
print(f"the charge takes {chance:.1%} of the picture; energy inside it", *[f"{share:.1%}" for share in inside])
assert max(inside) == inside[2] > chance and min(inside[:3]) > chance > 0.9 * inside[-1]
sketch.lines(depth, curves, x_title="block", y_title="share", levels=level, percent=True, errors=errors)

# %% [markdown]
# **What you saw.** Compare the energy with the dotted line, never with zero: a map that is the same everywhere gets exactly that.
# Maps are above it in the first half of the network, most in block 3, and fall to it or below at the end, although the last is
# the layer that is usually drawn. **Why.** A class token can collect what it needs early; late patches need not be *about* their
# own place any more. (The field of the shield belongs to the class as well, so 100 % would not be right either.)
#
# **Play** with the layer.


# %%
# Figure 11.3. Maps of one block.
def at_block(block: int) -> None:
    found = gradcam(learner, images[:6], layer=f"blocks.{block - 1}.norm1")["predicted"].numpy()
    print(f"block {block}: largest value {found.max():.2g}")
    display(teaching.tiles(images[:6].numpy(), found, captions[:6]))


try:
    from ipywidgets import IntSlider, interact
except ImportError:
    at_block(3)
else:
    interact(at_block, block=IntSlider(3, 1, len(layers), continuous_update=False))

# %% [markdown]
# ## 4. Is a map louder than nothing?
#
# > **Predict.** Replace the head by random directions, scaled so that their scores spread as the learner's do. How large do maps get?

# %%
# Figure 11.4. Largest values of maps, and the noise floor.
maps = gradcam(learner, test.images)["predicted"]
floor = noise_floor(learner, test.images, draws=4)
loud = maps.flatten(1).amax(dim=1)
print(
    f"noise floor {floor:.3g} (95 % of maps of random heads are below); {(loud > floor).float().mean():.0%} of maps above"
)
assert (loud > floor).float().mean() < 0.5  # most maps of this layer are below
bins = np.quantile(loud, [0.05, 0.25, 0.5, 0.75, 0.95])
sketch.bars(
    ["5th of 100", "25th", "50th", "75th", "95th"],
    {"largest value of a map": bins},
    y_title="largest value of a map",
    levels={"noise floor": floor},
)

# %% [markdown]
# **What you saw.** A map below the floor says no more than a random head would, and that holds for most maps of this layer. The app
# hatches them. (In the spirit of the sanity checks of Adebayo et al., NeurIPS 2018, who randomise the weights of the network.)
# Passing this test is necessary, not sufficient. A stronger one **does** something: cover the hottest patches and see whether
# the answer suffers more than when other patches are covered (deletion, RISE; Petsiuk, Das & Saenko, BMVC 2018).


# %%
def covered(heat: torch.Tensor, count: int = 10) -> np.ndarray:
    """Is the answer right when the `count` patches with the largest heat are painted in the picture's mean colour?"""
    cells = torch.zeros_like(heat.flatten(1))
    cells.scatter_(1, heat.flatten(1).topk(count).indices, 1)
    side = test.images.shape[-1] // heat.shape[-1]
    paint = cells.view_as(heat).repeat_interleave(side, 1).repeat_interleave(side, 2)[:, None].bool()
    mean = test.images.float().mean(dim=(2, 3), keepdim=True).to(torch.uint8)
    with torch.no_grad():
        logits = learner.logits(torch.where(paint, mean, test.images))
    return (torch.tensor(learner.seen)[logits.argmax(1).cpu()] == test.labels.cpu()).numpy()


# %%
# Figure 11.5. Accuracy when patches are covered.
random = torch.rand(maps.shape, generator=torch.Generator().manual_seed(0))
middle = gradcam(learner, test.images, layer="blocks.2.norm1")["predicted"]
tie = 1e-6 * random  # many patches are exactly 0: choose among them at random
found = {"nothing": covered(maps, 0), "random": covered(random)}
for name, heat in (("block 3", middle), ("last block", maps)):
    found |= {f"hottest, {name}": covered(heat + tie), f"coldest, {name}": covered(tie - heat)}
shares = [float(right.mean()) for right in found.values()]
bars, errors = {"accuracy": shares}, {"accuracy": share_error(shares, len(test))}
sketch.bars(list(found), bars, x_title="10 of 64 patches covered", y_title="accuracy", percent=True, errors=errors)

# %%
for place in ("block 3", "last block"):
    for kind in ("hottest", "coldest"):
        print(f"random, minus {kind} of {place}: {paired(found['random'], found[f'{kind}, {place}'])}")
    print(f"coldest, minus hottest of {place}: {paired(found[f'coldest, {place}'], found[f'hottest, {place}'])}")
assert paired(found["coldest, block 3"], found["hottest, block 3"]).low > 0
assert paired(found["random"], found["hottest, block 3"]).low > 0
apart = [paired(found[f"coldest, {p}"], found[f"hottest, {p}"]).difference for p in ("block 3", "last block")]
assert apart[1] < 0.8 * apart[0]

# %% [markdown]
# **What you saw.** A faithful map must give this order: covering what is hot hurts more than covering at random, covering what is
# cold hurts no more than covering at random. The printed lines compare on the same pictures. Maps of block 3 pass: hot is clearly
# worse than random and than cold. At the last block hot and cold are much nearer to each other, and the map says little, as
# energy and noise floor said already. Three tests agree, and none of them needed an eye. (Painted patches are odd pictures in
# themselves; that is why random is the reference, not nothing.)
#
# **And on photographs?** The covering test, recorded on CIFAR-100 with DeiT-tiny (class token, twelve blocks), nearest mean among 100
# classes. No masks are needed for it.
#
# > **Predict.** Which of blocks 3, 6, 9 and 12 passes?

# %%
# Figure 11.6. Photographs: accuracy when the hottest and the coldest patches are covered.
real = photographs("11")
blocks = {f"block {number}": one for number, one in real["blocks"].items()}
kinds = {"hottest covered": "hot", "coldest covered": "cold"}
shares = {name: [one[kind] for one in blocks.values()] for name, kind in kinds.items()}
for name, one in blocks.items():
    gap, low, high = one["cold, minus hot"]
    print(f"coldest minus hottest of {name}: {gap:+.1f} points [{low:+.1f}, {high:+.1f}]")
errors = {name: share_error(values, real["images"]) for name, values in shares.items()}
level = {"random covered": real["random"], "nothing covered": real["nothing"]}
count, all_patches = real["patches"]
title = f"{count} of {all_patches} patches"
sketch.bars(
    list(blocks), shares, x_title=title, y_title="accuracy, CIFAR-100", percent=True, levels=level, errors=errors
)

# %% [markdown]
# **What you saw.** The printed lines say for each block whether its map passes on photographs. Do not carry the answer for one network over to
# another: the test costs a few forward passes, so run it on the network and the data that you show maps of.
#
# ## 5. What tipped it over?
#
# After more tasks, pictures of the first one are taken for new classes. The map of the true class and that of the rival overlap:
# both are about the same object. Ask for the difference instead.
#
# ### Exercise 3 (5 minutes, easy)
#
# <details><summary>Hint</summary>
#
# Remove the true class with `np.delete` before you take the largest.
#
# </details>


# %% tags=["exercise"]
def difference(logits: np.ndarray, true: int) -> float:
    """Logit of the true class minus the largest other logit."""
    raise NotImplementedError


# %% tags=["check"]
check_difference(difference)


# %% tags=["solution"]
# Solution of exercise 3
def difference(logits: np.ndarray, true: int) -> float:
    return float(logits[true] - np.delete(logits, true).max())


assert check_difference(difference)

# %%
first = stream[:1].test()
with torch.no_grad():
    logits = learner.logits(first.images).cpu()
answers = torch.tensor(learner.seen)[logits.argmax(dim=1)]
lost = torch.nonzero(answers != first.labels.cpu()).flatten()
print(f"{len(lost)} of {len(first)} test pictures of task 1 are now taken for another class")
chosen = first.take(lost[:2])
targets = ("true", "predicted", "difference")
three = gradcam(learner, chosen.images, targets, labels=chosen.labels, layer="blocks.2.norm1")

# %%
# Figure 11.7. Maps of the true class, of its rival, and of the difference.
rows = torch.stack([three[name] for name in targets], dim=1).flatten(0, 1).numpy()
named = [
    f"{target}: {' '.join(stream.class_names[c].split()[:2])}"
    for true, said in zip(chosen.labels.tolist(), answers[lost[:2]].tolist(), strict=True)
    for target, c in (("true", true), ("predicted", said), ("difference", true))
]
teaching.tiles(np.repeat(chosen.images.numpy(), 3, axis=0), rows, named, columns=3)

# %%
agree = torch.corrcoef(torch.stack([three["true"].flatten(), three["predicted"].flatten()]))[0, 1]
print(f"maps of the true and of the predicted class correlate {float(agree):.2f}")

# %% [markdown]
# **What you saw.** One colour scale over all six. "Where does it see the true class" and "where does it see the rival" overlap in
# part, since both classes share parts. The difference shows only the patches that speak for the true class *against* its rival:
# what is left of the right answer. (Layer: block 3, which passed the tests.)
#
# With CIFAR-100 and ViT-B/16, for those who have them (0.5 GB to download); no masks there, so only the layers:

# %% tags=["real-data"]
BIG = False  # True: run this cell
if BIG:
    backbone = cillab.backbone("timm:vit_base_patch16_224.augreg_in21k")
    stream = cillab.stream("cifar100", train_per_class=20, test_per_class=5)[:2].on(backbone)
    learner = cillab.learner("simplecil", backbone)
    for task in stream:
        list(learner.observe(task))
    images = stream.test().images[:12]
    print({place: float(taken(place)[1].abs().max()) for place in ("blocks.11.norm1", "blocks.11")})
    display(teaching.tiles(images.cpu().numpy(), gradcam(learner, images)["predicted"].cpu().numpy()))

# %%
scorecard(globals())

# %% [markdown]
# In the app: `make app`, then [Grad-CAM](http://localhost:8501/grad_cam?run=demo-min&step=9): the same maps for a recorded run,
# one image over all tasks, with energy and pointing game.
#
# ### Open exercise (45 minutes)
# A colleague shows you ten convincing saliency maps. Write the list of tests that they must pass before you believe them, and
# apply it to two methods of this chapter.
#
# There is no check. *Rubric:*
#
# * at least one test with random weights and one with covered patches (2 points);
# * a threshold is set before the test is run (1);
# * the verdict is stated for each method (1).
#
# ## Take-aways
#
# 1. For a ViT that reads its class token, gradients at patches behind the last block are exactly zero; `norm1` of that block is the place.
# 2. Keep the scale, show the noise floor, compare energy with the object's share of the picture, and cover patches: here these tests
#    favour an earlier block than the one that is usually drawn.
# 3. To see why a class was lost, ask for true minus rival: it shows only what tells the two apart.
