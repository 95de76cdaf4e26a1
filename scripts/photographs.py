"""Photographs for the course: `python scripts/photographs.py CIFAR100 CALTECH WEIGHTS FEATURES [CHAPTER ...]`.

The two folders hold `train.parquet` and `test.parquet` as the hub lays them out; the weights are DeiT-tiny's. It writes
`notebooks/checks/photographs.json`, which the chapters read through `checks.photographs`: numbers and curves, never an
image. FEATURES is a file to keep the features in; with chapters only theirs are measured anew.
"""

import json
import sys
from pathlib import Path
from typing import Any

HOME = Path(__file__).parents[1]
sys.path.insert(0, str(HOME / "notebooks"))  # where the chapters' solutions stand

import cillab  # noqa: E402  # isort: skip  before torch: its threads sleep where they wait
import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from photographs_measured import (  # noqa: E402
    OF_FEATURES,
    Array,
    Seen,
    cosine_scores,
    discriminant,
    means_of,
    said,
    share,
    within_of,
)

from cillab import teaching  # noqa: E402
from cillab.explain.gradcam import gradcam  # noqa: E402
from cillab.teaching import paired  # noqa: E402

SIDE, TRAIN, TEST = 160, 20, 20  # pixels; training and test images of a class


def features(data: Path, weights: Path, split: str, keep: Path, **counts: Any) -> Seen:
    """Features of a folder in the hub's layout, made once."""
    stream = cillab.stream(f"parquet:{data}", split=split, **counts)
    if not keep.is_file():
        found = teaching.frozen_features(stream, backbone(weights))
        arrays = dict(zip(("x", "y", "test_x", "test_y"), (part.numpy() for part in found[:4]), strict=True))
        np.savez(keep, **arrays)
    else:
        arrays = dict(np.load(keep))
    place = {c: i for i, c in enumerate(stream.order)}
    y, truth = (np.array([place[c] for c in arrays[name].tolist()]) for name in ("y", "test_y"))
    x, new = (arrays[name].astype(np.float64) for name in ("x", "test_x"))
    rows = np.argsort(y, kind="stable")  # images of a class stand together
    return Seen(x[rows], y[rows], new, truth, [stream.class_names[c] for c in stream.order])


def backbone(weights: Path) -> Any:
    """DeiT-tiny, frozen."""
    return cillab.backbone("timm:deit_tiny_patch16_224.fb_in1k", weights=weights, image_size=SIDE)


def covered(data: Path, weights: Path) -> dict[str, Any]:
    """Chapter 11: accuracy with the hottest and the coldest patches covered."""
    vit = backbone(weights)
    stream = cillab.stream(f"parquet:{data}", split="B0-Inc100", train_per_class=5, test_per_class=2).on(vit)
    learner = cillab.learner("simplecil", vit)
    list(learner.observe(stream[0]))
    test, blocks, found, rng = stream.test(), (3, 6, 9, 12), {}, torch.Generator().manual_seed(0)

    def answered(heat: torch.Tensor, count: int) -> Array:
        cells, hits = torch.zeros_like(heat.flatten(1)), []
        cells.scatter_(1, heat.flatten(1).topk(count).indices, 1)
        for part, cell in zip(test.images.split(100), cells.view_as(heat).split(100), strict=True):
            paint = F.interpolate(cell[:, None], size=part.shape[-2:]).bool()
            mean = part.float().mean(dim=(2, 3), keepdim=True).to(part.dtype)
            with torch.no_grad():
                hits.append(learner.logits(torch.where(paint, mean, part)).argmax(dim=1))
        return (torch.tensor(learner.seen)[torch.cat(hits)] == test.labels).numpy()

    maps = {
        b: torch.cat(
            [gradcam(learner, part, layer=f"blocks.{b - 1}.norm1")["predicted"] for part in test.images.split(50)]
        )
        for b in blocks
    }
    noise = torch.rand(maps[3].shape, generator=rng)
    count = maps[3][0].numel() * 10 // 64  # as large a share as in the chapter
    random = answered(noise, count)
    for b, heat in maps.items():
        tie = 1e-6 * noise * heat.max()
        hot, cold = answered(heat + tie, count), answered(tie - heat, count)
        found[str(b)] = {"hot": share(hot), "cold": share(cold), "cold, minus hot": said(paired(cold, hot))}
    return {
        "blocks": found, "random": share(random), "nothing": share(answered(noise, 0)), "images": len(test),
        "patches": [count, maps[3][0].numel()],
    }  # fmt: skip


def folder(data: Path, weights: Path, keep: Path) -> dict[str, Any]:
    """Chapter 12: colour histograms, nearest mean and discriminant on another data set."""
    s = features(data, weights, "B0-Inc71", keep, train_per_class=10, test_per_class=5)
    means, hits = means_of(s.x, s.y, 71), {}
    weight, bias = discriminant(means, within_of(s.x, s.y, means))
    stream = cillab.stream(f"parquet:{data}", split="B0-Inc71", train_per_class=10, test_per_class=5)
    place = {c: i for i, c in enumerate(stream.order)}

    def colours(part: Any) -> tuple[Array, Array]:
        shares = []
        for image in part.images:
            pixels = image.numpy().transpose(1, 2, 0).reshape(-1, 3) // 64
            shares.append(np.bincount(pixels.astype(int) @ [16, 4, 1], minlength=64) / len(pixels))
        return np.array(shares), np.array([place[c] for c in part.labels.tolist()])

    placed = stream.on(backbone(weights))
    (h, y), (new, truth) = colours(placed.train(0)), colours(placed.test())
    near = ((new[:, None] - means_of(h, y, 71)[None]) ** 2).sum(axis=2).argmin(axis=1)
    hits = {
        "colour histograms": near == truth,
        "nearest mean": cosine_scores(means, s.new).argmax(axis=1) == s.truth,
        "discriminant": (s.new @ weight.T + bias).argmax(axis=1) == s.truth,
    }
    return {
        "accuracy": {name: share(hit) for name, hit in hits.items()}, "images": len(truth), "classes": 71,
        "discriminant, minus nearest mean": said(paired(hits["discriminant"], hits["nearest mean"])),
    }  # fmt: skip


def main(cifar: Path, caltech: Path, weights: Path, keep: Path, *only: str) -> None:
    """Every chapter's numbers, or those of some chapters, and how they came about."""
    target = HOME / "notebooks" / "checks" / "photographs.json"
    found: dict[str, Any] = json.loads(target.read_text()) if only and target.exists() else {}
    asked = only or (*OF_FEATURES, "11", "12")
    if set(asked) & set(OF_FEATURES):
        s = features(cifar, weights, "B0-Inc10", keep, train_per_class=TRAIN, test_per_class=TEST)
        found |= {chapter: OF_FEATURES[chapter](s) for chapter in asked if chapter in OF_FEATURES}
    if "11" in asked:
        found["11"] = covered(cifar, weights)
    if "12" in asked:
        found["12"] = folder(caltech, weights, keep.with_name(f"caltech-{keep.name}"))
    found["protocol"] = (
        f"CIFAR-100, {TRAIN} training and {TEST} test images a class, class order of seed 1993; features of"
        f" DeiT-tiny (ImageNet-1k) at {SIDE} pixels, frozen. Intervals are over test images, 95 %."
    )
    if "11" in found:
        found["protocol"] += " Chapter 11: 5 and 2 images a class."
    if "12" in found:
        found["protocol"] += " Chapter 12: 71 classes of Caltech-101, 10 training and 5 test images a class."
    rows = [f" {json.dumps(name)}: {json.dumps(found[name], ensure_ascii=False)}" for name in sorted(found)]
    target.write_text("{\n" + ",\n".join(rows) + "\n}\n")


if __name__ == "__main__":
    cifar, caltech, weights, keep, *chapters = sys.argv[1:]
    main(Path(cifar), Path(caltech), Path(weights), Path(keep), *chapters)
