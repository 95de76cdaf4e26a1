"""Sentences as token ids: made when a text is first read, and never cut in silence."""

from collections.abc import Callable, Sequence
from typing import Any, final

import torch
from jaxtyping import Int64
from torch import Tensor

from cillab.core.errors import HubError, IncompatibleError, InvalidRequestError, one_line, shown


@final
class Tokeniser:
    """The tokeniser of an open_clip model, made on its first call: a learner that reads no text needs none.

    Some models (the SigLIP family, towers on xlm-roberta or T5) have one of the package `transformers`, which open_clip
    does not bring along. Every tokeniser of open_clip cuts what is too long and says nothing; this one refuses it.
    """

    def __init__(self, tag: str, make: Callable[[], Any]) -> None:
        self._tag, self._make = tag, make
        self._own: Any = None
        self._pad = 0

    def __call__(self, texts: Sequence[str]) -> Int64[Tensor, "text token"]:
        """Token ids, padded to the model's context.

        Raises:
            IncompatibleError: the tokeniser needs a package that is not installed.
            HubError: it has to be downloaded, and cannot be.
            InvalidRequestError: a text has more tokens than the model reads.
        """
        own = self._ready()
        ids = own(list(texts))
        more = self._used(own(list(texts), context_length=4 * ids.shape[1]))
        for text, count, kept in zip(texts, more.tolist(), self._used(ids).tolist(), strict=True):
            if count > kept:
                raise InvalidRequestError(
                    f"{shown(text)} has {count} tokens, but {self._tag} reads {ids.shape[1]}. "
                    "Shorten the class name or the sentence around it."
                )
        return ids

    def _used(self, ids: Int64[Tensor, "text token"]) -> Int64[Tensor, " text"]:
        """Number of tokens that are no padding."""
        return (ids != self._pad).sum(dim=1)

    def _ready(self) -> Any:
        if self._own is None:
            try:
                self._own = self._make()
                self._pad = int(torch.mode(self._own([""])[0]).values)
            except ImportError as error:
                lacking = (error.name or "transformers").partition(".")[0]
                raise IncompatibleError(
                    f"{self._tag} reads text with a tokeniser of the package {lacking}, which is not installed: "
                    "pip install 'cillab[tokenizers]'. Learners that read no text work without it."
                ) from error
            except Exception as error:  # the hub, its cache, a configuration: each has classes of its own
                self._own = None
                raise HubError(
                    f"Could not get the tokeniser of {self._tag} ({type(error).__name__}: {one_line(error)[:160]})."
                ) from error
        return self._own
