"""What stands in a place of a ViT: the three kinds of small modules that `cillab.backbones.slots` puts there."""

from abc import abstractmethod
from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor, nn

Tokens = Float[Tensor, "image token dim"]


class Slot(nn.Module):
    """A small module for one place. Its tensors, buffers included, are all that decides what it computes."""

    @abstractmethod
    def forward(self, tokens: Tokens) -> Tokens:
        """What the place makes of `tokens`; see `cillab.backbones.slots`."""

    def shape_like(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the shapes of a saved state before it is copied in. Only slots that grow have something to do."""

    def circumstances(self) -> Mapping[str, Tensor]:
        """What decides the output besides parameters and buffers, and is no part of the state. Mostly nothing."""
        return {}


class TokenSlot(Slot):
    """Tokens beside those of the image, for `before:` places.

    With `alone` = n > 0, what the slot's tokens became is what the model reads: behind the last block each of them
    stands in for an image of n equal tokens, so that the backbone returns a feature per image and token, image by
    image, and everything behind the blocks (norm, pooling, projection) is the model's own. n is the number of the
    image's prefix tokens and one more. With `keeps`, what earlier blocks' tokens became stays beside these.
    """

    alone: int = 0
    keeps: bool = False

    @abstractmethod
    def __len__(self) -> int:
        """Number of tokens, the same for every image."""

    @abstractmethod
    def forward(self, tokens: Tokens) -> Float[Tensor, "image longer dim"]:
        """The tokens of the image, then those of the slot."""


class KeyValueSlot(Slot):
    """Keys and values in front of those of an attention layer, for `kv:` places."""

    @abstractmethod
    def forward(self, tokens: Tokens) -> Float[Tensor, "2 image length dim"]:
        """Keys and values for each of the images whose tokens the attention reads."""
