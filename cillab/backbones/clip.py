"""Any open_clip model as a backbone: the image side gives the features, the text side stays beside it."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, final

import open_clip
import torch
from jaxtyping import Float
from open_clip.pretrained import download_pretrained
from safetensors.torch import load_file
from torch import Tensor, nn

from cillab.backbones.card import Card
from cillab.backbones.files import complaints_about, shapes_in
from cillab.backbones.frozen import Anatomy, FrozenBackbone
from cillab.backbones.tokens import Tokeniser
from cillab.backbones.vision import kind_of, preprocessing_of, timm_anatomy
from cillab.core.errors import HubError, IncompatibleError, InvalidRequestError, nearest, one_line
from cillab.core.pixels import Preprocessing

TEXT_CHUNK = 256  # sentences per forward pass of the text side


@final
class ClipBackbone(FrozenBackbone):
    """An open_clip model. The feature is the image's embedding in the joint space, not normalised.

    `module` is the image tower; slots, overlays and taps act on it. The text side is frozen as well and never dressed.
    """

    def __init__(self, model: Any, tokenise: Callable[[list[str]], Tensor], **options: Any) -> None:
        if not isinstance(tokenise, Tokeniser):
            tokenise = Tokeniser(options["tag"], lambda own=tokenise: own)
        self.model, self._tokenise = model, tokenise
        self.sentences: dict[str, Tensor] = {}  # embeddings of what was asked before; see `cillab.backbones.text`
        super().__init__(model.visual, clip=True, **options)
        model.eval().requires_grad_(False).to(self.device)

    def _forward(self, pixels: Float[Tensor, "image 3 size size"]) -> Float[Tensor, "row feature"]:
        features = self.module(pixels)
        return features[0] if isinstance(features, tuple) else features  # CoCa's tower returns its tokens as well

    def _weights(self) -> nn.Module:
        return self.model

    @property
    def logit_scale(self) -> float:
        """The trained factor between cosine and logit, exp(t); about 100 for most published models."""
        return float(self.model.logit_scale.exp())

    def check_texts(self, texts: Sequence[str]) -> None:
        """Refuse what `encode_text` would refuse, without encoding it.

        Raises:
            CillabError: as there.
        """
        if texts:
            self._tokenise(list(texts))

    def encode_text(self, texts: Sequence[str]) -> Float[Tensor, "text feature"]:
        """Embeddings in the joint space, not normalised, in float32; gradient follows the caller's mode.

        Raises:
            CillabError: no tokeniser, or a text that is too long for the model (`cillab.backbones.tokens`).
        """
        if not texts:
            return torch.zeros(0, self.feature_dim, device=self.device)
        tokens = self._tokenise(list(texts)).to(self.device)
        with self.autocast():
            return torch.cat([self.model.encode_text(chunk).float() for chunk in tokens.split(TEXT_CHUNK)])


def split_name(name: str) -> tuple[str, str]:
    """Model and tag of `MODEL/TAG`.

    Raises:
        InvalidRequestError: unknown model (with the nearest), unknown or missing tag.
    """
    model, _, tag = name.partition("/")
    known = open_clip.list_models()
    if model not in known:
        lower = {name.lower(): name for name in known}
        close = lower.get(nearest(model, lower) or "")
        raise InvalidRequestError(
            f"Unknown open_clip model {model!r}." + (f" Did you mean {close!r}?" if close else "")
        )
    tags = open_clip.list_pretrained_tags_by_model(model)
    if tag not in tags:
        what = f"no tag {tag!r}" if tag else "several sets of weights" if len(tags) > 1 else "weights under a tag"
        raise InvalidRequestError(
            f"openclip:{model} has {what}: write openclip:{model}/TAG with TAG one of {', '.join(tags) or '(none)'}."
        )
    return model, tag


def describe(name: str) -> Card:
    """The card of `openclip:name`. The hub's cache is not consulted: a download may turn out unnecessary."""
    model, tag = split_name(name)
    return Card(f"openclip:{model}/{tag}", _kind(open_clip.get_model_config(model) or {}), True, True)


def feature_dim_of(name: str) -> int:
    """Size of the joint space of `openclip:name`."""
    model, _ = split_name(name)
    return int((open_clip.get_model_config(model) or {})["embed_dim"])


def _kind(config: dict[str, Any]) -> Literal["vit", "convnet"]:
    vision = config.get("vision_cfg", {})
    if trunk := vision.get("timm_model_name"):
        return kind_of(trunk.partition(".")[0])
    return "convnet" if isinstance(vision.get("layers"), list) else "vit"


def load(name: str, weights: Path | None, image_size: int | None, **options: Any) -> ClipBackbone:
    """The open_clip model `name` with its own weights, or those in `weights`.

    Raises:
        InvalidRequestError: unknown model or tag.
        IncompatibleError: its text tower needs a package that is not installed.
        HubError: the weights are not in the cache and cannot be downloaded, or the text tower's configuration.
        WeightsError: the file cannot be read or does not fit.
    """
    model_name, tag = split_name(name)
    published = open_clip.get_pretrained_cfg(model_name, tag)
    tower = (open_clip.get_model_config(model_name) or {}).get("text_cfg", {}).get("hf_model_name")
    _check_packages(name, tower)
    if weights is not None:
        shapes_in(weights)  # refuses what is no safetensors file
    with _root_logger_untouched():
        path = weights if weights is not None else _download(name, published)
        with complaints_about(path, model_name), _tower_named(name, tower):
            model: Any = open_clip.create_model(
                model_name,
                pretrained=str(path),
                force_quick_gelu=bool(published.get("quick_gelu", False)),  # OpenAI's weights were trained with it
                force_image_size=image_size,
                force_preprocess_cfg=published,
            )
    preprocessing = clip_preprocessing(model.visual.preprocess_cfg)
    return ClipBackbone(
        model,
        Tokeniser(f"openclip:{model_name}/{tag}", lambda: open_clip.get_tokenizer(model_name)),
        tag=f"openclip:{model_name}/{tag}",
        anatomy=clip_anatomy(model.visual),
        preprocessing=preprocessing.under(preprocessing.preset, image_size),
        **options,
    )


def _check_packages(name: str, tower: str | None) -> None:
    """Refuse a text tower of the package transformers where that is not installed, before any weight is downloaded.

    It is built with the model, whether a text is read or not; a mere tokeniser is not (`cillab.backbones.tokens`).
    """
    if tower is not None and find_spec("transformers") is None:
        raise IncompatibleError(
            f"openclip:{name} has a text tower of the package transformers ({tower}), which is not installed: "
            "pip install 'cillab[tokenizers]'."
        )


@contextmanager
def _tower_named(name: str, tower: str | None) -> Iterator[None]:
    """What transformers says when it cannot read how the text tower is built: that is no fault of the weights' file."""
    try:
        yield
    except OSError as error:
        if tower is None or tower not in str(error):
            raise
        raise HubError(
            f"Could not read how the text tower {tower} of openclip:{name} is built ({one_line(error)[:160]}). "
            "Its configuration has to be in the hub's cache."
        ) from error


def _download(name: str, published: dict[str, Any]) -> Path:
    where = published.get("hf_hub", "").rstrip("/") or published.get("url", "its host")
    try:
        return Path(download_pretrained(published))
    except Exception as error:
        raise HubError(
            f"Could not get the weights of openclip:{name} from {where} ({type(error).__name__}: "
            f"{one_line(error)[:160]}). A local file does as well: --weights FILE.safetensors."
        ) from error


def clip_preprocessing(config: dict[str, Any]) -> Preprocessing:
    """open_clip's preprocessing record as ours; its crop takes the whole shortest side.

    Raises:
        InvalidRequestError: a resize mode that is not implemented on the device.
    """
    size = config["size"][0] if isinstance(config["size"], tuple | list) else config["size"]
    modes = {"shortest": "center", "squash": "squash"}
    if config["resize_mode"] not in modes:
        raise InvalidRequestError(f"resize mode {config['resize_mode']!r} of these weights is not supported.")
    return preprocessing_of(
        {
            "input_size": (3, size, size),
            "crop_pct": 1.0,
            "interpolation": config["interpolation"],
            "crop_mode": modes[config["resize_mode"]],
            "mean": config["mean"],
            "std": config["std"],
        },
        None,
    )


def clip_anatomy(visual: Any) -> Anatomy:
    """Blocks and widths of open_clip's own ViT, of its ResNet, or of a timm model inside a tower."""
    names = {name for name, _ in visual.named_modules()}
    if "transformer.resblocks" in names:
        blocks = visual.transformer.resblocks
        return Anatomy(
            "vit",
            tuple(f"transformer.resblocks.{index}" for index in range(len(blocks))),
            token_dim=int(blocks[0].ln_1.weight.shape[0]),
            feature_dim=int(visual.output_dim),
            patch_size=int(visual.patch_size[0]),
            prefix_tokens=1,
        )
    if "trunk" in names:
        trunk = visual.trunk
        kind = kind_of(trunk.pretrained_cfg["architecture"])
        inner = timm_anatomy(trunk, kind, prefix="trunk.")
        return replace(inner, feature_dim=_output_dim(visual))
    stages = tuple(f"layer{index}" for index in (1, 2, 3, 4))
    return Anatomy(
        "convnet", stages, token_dim=int(visual.layer4[-1].bn3.num_features), feature_dim=int(visual.output_dim)
    )


def _output_dim(visual: Any) -> int:
    """Width of what a tower around a timm model returns; such towers do not say it."""
    size = visual.image_size
    height, width = (size, size) if isinstance(size, int) else size
    training = visual.training
    with torch.no_grad():
        features = visual.eval()(torch.zeros(1, 3, height, width))
    visual.train(training)
    return int(features.shape[-1])


@contextmanager
def _root_logger_untouched() -> Iterator[None]:
    """open_clip logs through the root logger, which would install a handler that prints; this one swallows."""
    root, quiet = logging.getLogger(), logging.NullHandler()
    root.addHandler(quiet)
    try:
        yield
    finally:
        root.removeHandler(quiet)


def clip_from_config(config: dict[str, Any], weights: Path, **options: Any) -> ClipBackbone:
    """An open_clip model of a configuration that is in no registry, with weights from a file (half precision allowed).

    Raises:
        WeightsError: the file cannot be read or does not fit.
    """
    from open_clip.model import resize_pos_embed  # noqa: PLC0415 - a second, which a backbone without text need not take

    shapes_in(weights)
    model = open_clip.CLIP(**config)
    with complaints_about(weights, options["tag"]):
        state = {name: tensor.float() for name, tensor in load_file(weights).items()}
        resize_pos_embed(state, model)
        model.load_state_dict(state, strict=True)
    tokenise = Tokeniser(options["tag"], lambda: open_clip.SimpleTokenizer(context_length=model.context_length))
    return ClipBackbone(model, tokenise, anatomy=clip_anatomy(model.visual), **options)
