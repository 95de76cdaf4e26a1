"""Tokenisers: made when a text is read, and nothing is cut in silence. Oracle: open_clip's own tokenisers."""

import sys
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from cillab.backbones.clip import load
from cillab.backbones.text import TEMPLATES, TEMPLATES_7, encode_classes
from cillab.backbones.tokens import Tokeniser
from cillab.core.errors import HubError, IncompatibleError, InvalidRequestError
from cillab.lab.prepare import check_lengths
from cillab.learners import make_learner
from cillab.streams.stream import make_stream
from tests.backbones.models import clip
from tests.streams.worlds import array_source

CONTEXT = 16
CONFIGS = {name: open_clip.get_model_config(name) or {} for name in open_clip.list_models()}
# one model for every tokeniser of the hub that open_clip names, and every text tower of the hub
TOKENISERS = sorted({config["text_cfg"].get("hf_tokenizer_name"): name for name, config in CONFIGS.items()}.values())
TOKENISERS = [name for name in TOKENISERS if "hf_tokenizer_name" in CONFIGS[name]["text_cfg"]]
TOWERS = sorted(name for name, config in CONFIGS.items() if "hf_model_name" in config["text_cfg"])


@pytest.fixture
def without_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the extra is not installed, also here."""
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setattr(
        "cillab.backbones.clip.find_spec", lambda name: None if name == "transformers" else find_spec(name)
    )


class WithoutEnd:
    """A tokeniser of the SigLIP family: no token for start or end, padded with 1, one token a word."""

    context_length = CONTEXT

    def __call__(self, texts: list[str], context_length: int | None = None) -> torch.Tensor:
        wide = context_length or self.context_length
        rows = [[7 + len(word) for word in text.split()][:wide] for text in texts]
        return torch.tensor([row + [1] * (wide - len(row)) for row in rows])


class WithClass(WithoutEnd):
    """One that puts a class token into the last place whatever the length (open_clip's mode "clips")."""

    def __call__(self, texts: list[str], context_length: int | None = None) -> torch.Tensor:
        wide = context_length or self.context_length
        ids = super().__call__(texts, wide - 1)
        return torch.cat([ids, torch.full((len(texts), 1), 99)], dim=1)


class EndIsPadding(WithoutEnd):
    """One whose end of sentence is also its padding, as in GPT's."""

    def __call__(self, texts: list[str], context_length: int | None = None) -> torch.Tensor:
        wide = context_length or self.context_length
        return torch.cat([super().__call__(texts, wide - 1), torch.full((len(texts), 1), 1)], dim=1)


@pytest.mark.parametrize(
    ("own", "room"),
    [
        (lambda: open_clip.SimpleTokenizer(context_length=CONTEXT), CONTEXT - 2),
        (WithoutEnd, CONTEXT),
        (WithClass, CONTEXT - 1),
        (EndIsPadding, CONTEXT - 1),
    ],
)
def test_what_fits_is_the_tokenisers_own_and_what_does_not_is_refused(own: Any, room: int) -> None:
    tokenise = Tokeniser("openclip:tiny", own)
    texts = ["", "cat", " ".join(["cat"] * room)]
    assert torch.equal(tokenise(texts), own()(texts))
    with pytest.raises(InvalidRequestError, match=f"has [0-9]+ tokens, but openclip:tiny reads {CONTEXT}"):
        tokenise(["cat", " ".join(["cat"] * (room + 1))])


def test_a_tokeniser_is_made_once_and_only_for_text() -> None:
    made = list[int]()
    tokenise = Tokeniser("openclip:tiny", lambda: made.append(1) or WithoutEnd())
    assert not made
    for _ in range(2):
        tokenise(["cat"])
    assert made == [1]


@pytest.mark.parametrize(
    ("trouble", "error", "says"),
    [
        (ImportError("No module named 'transformers'"), IncompatibleError, r"pip install 'cillab\[tokenizers\]'"),
        (
            OSError("We couldn't connect\nto the hub"),
            HubError,
            "tokeniser of openclip:tiny .OSError: We couldn't connect to",
        ),
    ],
)
def test_a_tokeniser_that_cannot_be_had_is_one_line(trouble: Exception, error: type[Exception], says: str) -> None:
    def fail() -> Any:
        raise trouble

    tokenise = Tokeniser("openclip:tiny", fail)
    for _ in range(2):  # and again, when it is asked again
        with pytest.raises(error, match=says) as caught:
            tokenise(["cat"])
        assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("without_transformers")
@pytest.mark.parametrize("name", TOKENISERS)
def test_every_tokeniser_of_the_hub_is_refused_by_the_extra_that_brings_it(name: str) -> None:
    tokenise = Tokeniser(f"openclip:{name}", lambda: open_clip.get_tokenizer(name))
    with pytest.raises(IncompatibleError, match=rf"{name} .*package transformers.*'cillab\[tokenizers\]'"):
        tokenise(["cat"])


@pytest.mark.usefixtures("without_transformers")
@pytest.mark.parametrize("name", TOWERS)
def test_every_text_tower_of_the_hub_is_refused_before_a_download(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cillab.backbones.clip.download_pretrained", lambda _: pytest.fail("a download began"))
    tag = open_clip.list_pretrained_tags_by_model(name)[0] if open_clip.list_pretrained_tags_by_model(name) else None
    if tag is None:
        pytest.skip("open_clip has no weights of it")
    with pytest.raises(IncompatibleError, match=r"text tower of the package transformers .*'cillab\[tokenizers\]'"):
        load(f"{name}/{tag}", None, None)


def test_a_tower_that_the_hub_does_not_describe_is_no_fault_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(*_: object, **__: object) -> None:
        raise OSError(
            "We couldn't connect to 'https://huggingface.co' to load xlm-roberta-base.\nCheck your connection"
        )

    monkeypatch.setattr("cillab.backbones.clip.find_spec", lambda name: object())
    monkeypatch.setattr(open_clip, "create_model", build)
    save_file({"visual.proj": torch.zeros(2, 2)}, tmp_path / "w.safetensors")
    with pytest.raises(HubError, match=r"text tower xlm-roberta-base .*couldn't connect.*hub's cache") as caught:
        load("xlm-roberta-base-ViT-B-32/laion5b_s13b_b90k", tmp_path / "w.safetensors", None)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("without_transformers")
@pytest.mark.parametrize("model", ["ViT-B-16-SigLIP", "ViT-B-16-SigLIP2", "ViT-H-14-CLIPA", "ViT-H-14-worldwide"])
def test_a_learner_that_reads_no_text_needs_no_tokeniser(model: str) -> None:
    backbone = clip()
    backbone._tokenise = Tokeniser(f"openclip:{model}", lambda: open_clip.get_tokenizer(model))
    stream = make_stream(array_source(4, size=32), "B0-Inc2")
    for name in ("simplecil", "ranpac"):
        learner = make_learner(name, backbone, **({"adapt": "none"} if name == "ranpac" else {}))
        check_lengths(learner, stream)
        for task in stream.on(backbone):
            list(learner.observe(task))
        assert len(learner.seen) == 4
    with pytest.raises(IncompatibleError, match="transformers"):
        check_lengths(make_learner("zeroshot-clip", backbone), stream)


LONG = "a very long name of a class that nobody can read at once really"


@pytest.mark.parametrize(
    ("learner", "params"),
    [
        ("zeroshot-clip", {}),
        ("zeroshot-clip", {"templates": "seven"}),
        ("zscl", {}),
        ("rapf", {}),
        ("coop", {}),
        ("dmc", {}),
        ("cpt", {}),
        ("lingocl", {}),
        ("mg-clip", {}),
    ],
)
def test_a_name_that_is_too_long_is_refused_before_the_first_task(learner: str, params: dict[str, Any]) -> None:
    backbone, source = clip(), array_source(4, size=32)
    made = make_learner(learner, backbone, **params)
    check_lengths(made, make_stream(source, "B0-Inc2"))
    source.class_names = (*source.class_names[:3], LONG)
    with pytest.raises(InvalidRequestError, match=r"a very long name.*reads 16"):
        check_lengths(made, make_stream(source, "B0-Inc2"))
    assert not made.seen


def test_names_at_the_very_limit_are_judged_by_the_template_that_is_used() -> None:
    backbone, name = clip(), " ".join(["cat"] * 9)
    encode_classes(backbone, [name], TEMPLATES)  # start, "a photo of a", nine words, full stop, end: 16
    with pytest.raises(InvalidRequestError, match="17 tokens"):
        encode_classes(backbone, [name + " cat"], TEMPLATES)
    with pytest.raises(InvalidRequestError, match="tokens"):
        encode_classes(backbone, [name], TEMPLATES_7)
