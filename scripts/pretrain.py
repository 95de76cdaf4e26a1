"""Pre-train the two bundled models on clean shields that are no incremental class, and measure them.

    python scripts/pretrain.py train    --work build/pretrain      # resumes from the last checkpoint in --work
    python scripts/pretrain.py export   --work build/pretrain      # writes cillab/backbones/weights
    python scripts/pretrain.py evaluate                            # the numbers of the model card

Contrastive training as in CLIP (Radford et al. 2021, arXiv:2103.00020) with one deviation: two images of a batch may
show the same composition, so the target of a row is spread evenly over all entries with its composition.
"""

import argparse
import json
import logging
import math
import time
from functools import partial
from pathlib import Path

import cillab  # noqa: F401  # isort: skip  before torch: its threads sleep where they wait
import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from open_clip.tokenizer import SimpleTokenizer
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from cillab.streams.shields import CLASSES, PRETRAINING, Composition, dataset, render

WEIGHTS = Path(__file__).resolve().parents[1] / "cillab" / "backbones" / "weights"
CLIP_CONFIG = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": 64, "layers": 6, "width": 160, "head_width": 40, "patch_size": 8},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 3},
}
VIT_CONFIG = {
    "timm": {
        "img_size": 64,
        "patch_size": 8,
        "embed_dim": 160,
        "depth": 6,
        "num_heads": 4,
        "num_classes": 0,
        "global_pool": "token",
        "pre_norm": True,
    },
    "layer_norm_eps": 1e-5,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "image_size": 64,
    "interpolation": "bicubic",
}
TEMPLATE = "a photo of a {}"
log = logging.getLogger("pretrain")


def build_clip() -> open_clip.CLIP:
    """The untrained open_clip model of CLIP_CONFIG."""
    return open_clip.CLIP(**CLIP_CONFIG)


def build_vit() -> VisionTransformer:
    """The untrained timm model of VIT_CONFIG."""
    norm = partial(nn.LayerNorm, eps=VIT_CONFIG["layer_norm_eps"])
    return VisionTransformer(norm_layer=norm, **VIT_CONFIG["timm"])


def tokenizer() -> SimpleTokenizer:
    """open_clip's own tokenizer, at the context length of the config."""
    return SimpleTokenizer(context_length=CLIP_CONFIG["text_cfg"]["context_length"])


def captions(composition: Composition) -> list[str]:
    """Ways to say what is in the picture: the plain name in several frames, and paraphrases that keep its words."""
    name, shield = composition.name, composition.shield
    charge = f"{composition.tincture} {composition.charge}"
    return [
        name,
        f"a {name}",
        f"a photo of a {name}",
        f"a picture of a {name}",
        f"{shield} with a {charge} on it",
        f"{shield} bearing a {charge}",
        f"a photo of {shield} charged with a {charge}",
        f"a coat of arms: {charge} on {shield}",
    ]


def normalised(images: Tensor) -> Tensor:
    """uint8 pixels as the models expect them."""
    return images.float().div_(127.5).sub_(1)


def jittered(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Small random crops (up to 6 % on each side), brightness and contrast, one draw per image."""
    n = len(images)
    zoom, shift = rng.uniform(0.88, 1.0, (n, 1)), rng.uniform(-0.06, 0.06, (n, 2))
    matrix = np.zeros((n, 2, 3), dtype=np.float32)
    matrix[:, 0, 0] = matrix[:, 1, 1] = zoom[:, 0]
    matrix[:, :, 2] = shift
    grid = F.affine_grid(torch.from_numpy(matrix), list(images.shape), align_corners=False)
    pictures = F.grid_sample(normalised(images), grid, padding_mode="border", align_corners=False)
    gain, offset = (
        torch.from_numpy(rng.uniform(*r, (n, 1, 1, 1)).astype(np.float32)) for r in ((0.85, 1.15), (-0.1, 0.1))
    )
    return pictures * gain + offset


def contrastive_loss(image: Tensor, text: Tensor, scale: Tensor, kinds: Tensor) -> Tensor:
    """Symmetric cross-entropy; `kinds` tells which composition each row is, equal ones share the target."""
    logits = scale * image.float() @ text.float().T
    same = (kinds[:, None] == kinds[None]).float()
    target = same / same.sum(1, keepdim=True)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def pool(round_index: int, renders: int, compositions: list[Composition]) -> np.ndarray:
    """One round's pictures, [composition * renders, 3, 64, 64]; every round has pictures of its own."""
    seeds = np.arange(len(compositions) * renders, dtype=np.uint64) + np.uint64((round_index + 1) << 32)
    return render([c for c in compositions for _ in range(renders)], seeds, 64, "clean").images


def save_checkpoint(path: Path, model: nn.Module, optimiser: torch.optim.AdamW, step: int) -> None:
    """Parameters and both AdamW moments, written aside and renamed."""
    tensors = {}
    for name, parameter in model.named_parameters():
        tensors[f"model/{name}"] = parameter.detach()
        state = optimiser.state.get(parameter, {})
        tensors.update({f"{key}/{name}": state[key] for key in ("exp_avg", "exp_avg_sq") if key in state})
    unfinished = path.with_suffix(".tmp")
    save_file({k: v.contiguous() for k, v in tensors.items()}, unfinished, metadata={"step": str(step)})
    unfinished.replace(path)


def load_checkpoint(path: Path, model: nn.Module, optimiser: torch.optim.AdamW | None = None) -> int:
    """Fill model and optimiser from `path`; returns the number of steps done."""
    with safe_open(path, "pt") as file:
        step = int(file.metadata()["step"])
        for name, parameter in model.named_parameters():
            parameter.data.copy_(file.get_tensor(f"model/{name}"))
            if optimiser is not None and step:
                moments = {key: file.get_tensor(f"{key}/{name}") for key in ("exp_avg", "exp_avg_sq")}
                optimiser.state[parameter] = {"step": torch.tensor(float(step)), **moments}
    return step


def train(args: argparse.Namespace) -> None:
    """Rounds of fresh pictures, a few passes over each; a checkpoint every 100 steps."""
    args.work.mkdir(parents=True, exist_ok=True)
    logging.getLogger().addHandler(logging.FileHandler(args.work / "train.log"))
    torch.manual_seed(args.seed)
    model, tokens = build_clip(), tokenizer()
    decay = [p for p in model.parameters() if p.ndim >= 2]
    rest = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decay, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=args.lr, betas=(0.9, 0.98))
    checkpoint = args.work / "checkpoint.safetensors"
    step = load_checkpoint(checkpoint, model, optimiser) if checkpoint.exists() else 0
    texts = torch.stack([tokens(captions(c)) for c in PRETRAINING])
    per_round = args.passes * len(PRETRAINING) * args.renders // args.batch
    pictures, current, started = np.empty(0), -1, time.monotonic()
    forward = torch.compile(model) if args.compile else model
    log.info("from step %d of %d, %d steps a round", step, args.steps, per_round)
    while step < args.steps:
        if step // per_round != current:
            current = step // per_round
            pictures = pool(current, args.renders, list(PRETRAINING))
        rng = np.random.default_rng([args.seed, step])
        chosen = rng.integers(len(pictures), size=args.batch)
        kinds = torch.from_numpy(chosen // args.renders)
        images = jittered(torch.from_numpy(pictures[chosen]), rng)
        words = texts[kinds, torch.from_numpy(rng.integers(texts.shape[1], size=args.batch))]
        warm, done = min(1.0, (step + 1) / args.warmup), step / args.steps
        for group in optimiser.param_groups:
            group["lr"] = args.lr * warm * (0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2)
        with sdpa_kernel(SDPBackend.MATH), torch.autocast("cpu", dtype=torch.bfloat16):  # fused: 1.5 x slower backward
            image, text, scale = forward(images, words)[:3]
        loss = contrastive_loss(image, text, scale, kinds)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        step += 1
        if step % 25 == 0:
            log.info(
                "step %d loss %.3f scale %.1f minutes %.2f",
                step,
                loss.item(),
                scale.item(),
                (time.monotonic() - started) / 60,
            )
        if step % 100 == 0 or step == args.steps:
            save_checkpoint(checkpoint, model, optimiser, step)


def as_timm(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The vision tower of an open_clip state dict under timm's names, without its final projection."""
    vision = {k.removeprefix("visual."): v for k, v in state.items() if k.startswith("visual.")}
    renamed = {
        "cls_token": vision["class_embedding"][None, None],
        "pos_embed": vision["positional_embedding"][None],
        "patch_embed.proj.weight": vision["conv1.weight"],
        **{f"norm_pre.{p}": vision[f"ln_pre.{p}"] for p in ("weight", "bias")},
        **{f"norm.{p}": vision[f"ln_post.{p}"] for p in ("weight", "bias")},
    }
    names = {
        "ln_1.": "norm1.",
        "ln_2.": "norm2.",
        "attn.in_proj_": "attn.qkv.",
        "attn.out_proj.": "attn.proj.",
        "mlp.c_fc.": "mlp.fc1.",
        "mlp.c_proj.": "mlp.fc2.",
    }
    for key, value in vision.items():
        if key.startswith("transformer.resblocks."):
            index, inner = key.removeprefix("transformer.resblocks.").split(".", 1)
            theirs = next(t for t in names if inner.startswith(t))
            renamed[f"blocks.{index}.{names[theirs]}{inner.removeprefix(theirs)}"] = value
    return renamed


def export(args: argparse.Namespace) -> None:
    """Half-precision weights of both models; token embeddings that no caption ever used become zero."""
    model = build_clip()
    step = load_checkpoint(args.work / "checkpoint.safetensors", model)
    tokens = tokenizer()
    used = torch.cat([tokens(captions(c)) for c in PRETRAINING]).unique()
    state = {k: v.detach().half() for k, v in model.state_dict().items()}
    unused = torch.ones(len(state["token_embedding.weight"]), dtype=torch.bool)
    unused[used] = False
    state["token_embedding.weight"][unused] = 0
    args.out.mkdir(parents=True, exist_ok=True)
    note = {"format": "pt", "steps": str(step)}
    save_file({k: v.contiguous() for k, v in state.items()}, args.out / "bundled_clip.safetensors", metadata=note)
    save_file(
        {k: v.contiguous() for k, v in as_timm(state).items()}, args.out / "bundled_vit.safetensors", metadata=note
    )
    (args.out / "bundled_clip.json").write_text(json.dumps(CLIP_CONFIG, indent=2) + "\n")
    (args.out / "bundled_vit.json").write_text(json.dumps(VIT_CONFIG, indent=2) + "\n")
    clip, vit = load_clip(args.out), load_vit(args.out)
    images = normalised(torch.from_numpy(pool(-1, 1, list(CLASSES[:32]))))
    with torch.no_grad():
        clip.visual.proj = None  # pyright: ignore[reportArgumentType]
        gap = (clip.visual(images) - vit(images)).abs().max().item()
    log.info(
        "step %d: %d of %d token rows used, timm and open_clip features differ by at most %.1e",
        step,
        len(used),
        len(unused),
        gap,
    )
    if gap > 1e-4:
        raise RuntimeError(f"The converted ViT differs from the open_clip tower by {gap}.")


def load_clip(folder: Path) -> open_clip.CLIP:
    """The bundled CLIP in fp32."""
    model = build_clip()
    model.load_state_dict(
        {k: v.float() for k, v in load_file(folder / "bundled_clip.safetensors").items()}, strict=True
    )
    return model.eval()


def load_vit(folder: Path) -> VisionTransformer:
    """The bundled ViT in fp32."""
    model = build_vit()
    model.load_state_dict({k: v.float() for k, v in load_file(folder / "bundled_vit.safetensors").items()}, strict=True)
    return model.eval()


@torch.no_grad()
def encode(model: nn.Module, images: Tensor) -> Tensor:
    """Features of uint8 images, one row each, of length one."""
    return F.normalize(torch.cat([model(normalised(batch)) for batch in images.split(128)]), dim=-1)


def nearest_mean(model: nn.Module, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> float:
    """Accuracy of assigning each image to the class mean with the largest cosine."""
    known, asked = encode(model, train[0]), encode(model, test[0])
    raw = torch.zeros(len(CLASSES), known.shape[1]).index_add_(0, train[1], known)
    return ((asked @ F.normalize(raw, dim=-1).T).argmax(1) == test[1]).float().mean().item()


@torch.no_grad()
def zero_shot(clip: open_clip.CLIP, test: tuple[Tensor, Tensor]) -> float:
    """Accuracy of choosing the class whose sentence is closest."""
    text = clip.encode_text(tokenizer()([TEMPLATE.format(c.name) for c in CLASSES]), normalize=True)
    return ((encode(clip.visual, test[0]) @ text.T).argmax(1) == test[1]).float().mean().item()


def fine_tune(
    vit: nn.Module, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], epochs: int, lr: float
) -> float:
    """Accuracy after training all parameters and a linear head jointly on all classes, with crops and jitter."""
    torch.manual_seed(0)
    model = nn.Sequential(vit, nn.Linear(VIT_CONFIG["timm"]["embed_dim"], len(CLASSES))).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.05)
    rng, batch = np.random.default_rng(0), 64
    steps = epochs * (len(train[1]) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=steps, pct_start=0.1)
    for _ in range(epochs):
        order = torch.from_numpy(rng.permutation(len(train[1])))
        for chosen in order.split(batch)[: len(order) // batch]:
            with sdpa_kernel(SDPBackend.MATH), torch.autocast("cpu", dtype=torch.bfloat16):
                logits = model(jittered(train[0][chosen], rng))
            optimiser.zero_grad(set_to_none=True)
            F.cross_entropy(logits.float(), train[1][chosen]).backward()
            optimiser.step()
            schedule.step()
    model.eval()
    with torch.no_grad():
        answers = torch.cat([model(normalised(images)).argmax(1) for images in test[0].split(128)])
    return (answers == test[1]).float().mean().item()


def evaluate(args: argparse.Namespace) -> None:
    """Print the model card's numbers as JSON, fractions of one."""
    train, test = (
        (torch.from_numpy(images), torch.from_numpy(labels))
        for images, labels, _ in (dataset("train", args.train_per_class), dataset(args.split, args.test_per_class))
    )
    torch.manual_seed(args.seed)
    result = {"split": args.split, "train_per_class": args.train_per_class, "test_per_class": args.test_per_class}
    result["vit_nearest_mean"] = nearest_mean(load_vit(args.out), train, test)
    result["clip_nearest_mean"] = nearest_mean(load_clip(args.out).visual, train, test)
    result["clip_zero_shot"] = zero_shot(load_clip(args.out), test)
    result["random_vit_nearest_mean"] = nearest_mean(build_vit().eval(), train, test)
    result["random_clip_zero_shot"] = zero_shot(build_clip().eval(), test)
    log.info("%s", json.dumps(result))
    if args.epochs:
        started = time.monotonic()
        result["vit_joint_fine_tuning"] = fine_tune(load_vit(args.out), train, test, args.epochs, args.fine_tune_lr)
        result["fine_tuning_minutes"] = (time.monotonic() - started) / 60
        if args.scratch:
            result["random_vit_joint_training"] = fine_tune(build_vit(), train, test, args.epochs, args.fine_tune_lr)
    print(json.dumps(result, indent=2))


def main() -> None:
    """Parse the command line and run one of the three commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["train", "export", "evaluate"])
    parser.add_argument("--work", type=Path, default=Path("build/pretrain"), help="folder of checkpoint and log")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="folder of the exported weights")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--warmup", type=int, default=100, help="steps of linear warm-up")
    parser.add_argument("--renders", type=int, default=8, help="pictures per composition and round")
    parser.add_argument("--passes", type=int, default=3, help="passes over the pictures of a round")
    parser.add_argument("--compile", action="store_true", help="torch.compile: a third faster, needs a C++ compiler")
    parser.add_argument("--split", default="test", choices=["test", "validation"], help="what `evaluate` measures on")
    parser.add_argument("--train-per-class", type=int, default=100)
    parser.add_argument("--test-per-class", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=12, help="of joint fine-tuning in `evaluate`; 0 leaves it out")
    parser.add_argument("--fine-tune-lr", type=float, default=1e-3)
    parser.add_argument("--scratch", action="store_true", help="also train the ViT from random weights in `evaluate`")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    commands = {"train": train, "export": export, "evaluate": evaluate}
    commands[args.command](args)


if __name__ == "__main__":
    main()
