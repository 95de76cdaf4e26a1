"""Few images of a class: how many of each, which ones, and which third of the classes is which."""

from collections.abc import Mapping, Sequence

import numpy as np

from cillab.core.draws import numpy_stream
from cillab.protocol.scenario import Rows

THIRDS = ("head", "medium", "tail")


def shots_of(count: int, imbalance: float, classes: int) -> tuple[int, ...]:
    """Training images of each class of a long tail, first class to last.

        n_k = max(1, round(n tau^{k / (K - 1)})),    k = 0..K-1

    Exponential decay, tau = min n_k / max n_k up to rounding. Source: Cui et al., CVPR 2019, arXiv:1901.05555
    (long-tailed CIFAR); with n = 16 and tau in {1, 0.25, 0.06}: Guo et al., CPT, CVPR 2026, arXiv:2605.11939.
    """
    return tuple(max(1, round(count * imbalance ** (k / max(classes - 1, 1)))) for k in range(classes))


def drawn(
    train: Mapping[int, Rows], falling: Sequence[int], shots: int | None, imbalance: float, seed: int
) -> dict[int, Rows]:
    """The images that a profile leaves of the classes `falling`, most to fewest, in the source's order.

    `shots` images of the first class, or all that it has. A class's draw depends on the seed and the class alone, and a
    smaller number takes a part of a larger one's images. A class that has fewer gives all.
    """
    if shots is None and imbalance == 1:
        return dict(train)
    kept = dict(train)
    for place, class_id in enumerate(falling):
        found = train[class_id]
        most = len(found) if shots is None else shots
        count = shots_of(most, imbalance, len(falling))[place]
        kept[class_id] = np.sort(numpy_stream(seed, "shots", class_id).permutation(found)[:count])
    return kept


def thirds_of(falling: Sequence[int]) -> dict[int, str]:
    """`head`, `medium` or `tail` for every class of `falling`: class ids, most training images first.

    Three parts as equal as can be; what is left over goes to the head first, then to the medium. Fewer than three
    classes have no medium.
    """
    found: dict[int, str] = {}
    whole, rest = divmod(len(falling), 3)
    for position, name in enumerate(THIRDS):
        size = whole + (position < rest) if len(falling) != 2 else int(name != "medium")
        found |= dict.fromkeys(falling[len(found) : len(found) + size], name)
    return found


def falling(images: Mapping[int, int]) -> tuple[int, ...]:
    """Classes with training images, most first; classes with equally many by label."""
    return tuple(sorted((c for c, count in images.items() if count), key=lambda c: (-images[c], c)))
