"""The losses of the toy with their gradients, written out. NumPy only; `toy.simulate` follows them downhill.

N images, K classes, y the row of the class of each image, n_c the images of class c. Two models of the features:

    free       h_i is a free vector: the unconstrained-features (layer-peeled) model
    network    h_i = B relu(A x_i + a) + b: every image shares A and B

Sources: unconstrained features, Mixon, Parshall & Pi, arXiv:2011.11619, and Zhu et al., NeurIPS 2021,
arXiv:2105.02375; the layer-peeled model, Fang, He, Long & Su, PNAS 118(43) 2021, doi:10.1073/pnas.2103091118;
dot-regression, Yang et al., NeurIPS 2022, arXiv:2203.09081.
"""

from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Float, Int

Loss: TypeAlias = Literal["ce", "mse", "dr"]
Values: TypeAlias = dict[str, Float[np.ndarray, "..."]]  # parameters, or their gradients, by name
Features: TypeAlias = Float[np.ndarray, "image feature"]
Images: TypeAlias = Float[np.ndarray, "image pixel"]
Scores: TypeAlias = Float[np.ndarray, "image cls"]
Labels: TypeAlias = Int[np.ndarray, " image"]


def cross_entropy(scores: Scores, labels: Labels) -> tuple[float, Scores]:
    """-log softmax(scores)_y on average, and its gradient (softmax(scores) - onehot(y)) / N."""
    shifted = scores - scores.max(axis=1, keepdims=True)
    exponent = np.exp(shifted)
    total = exponent.sum(axis=1, keepdims=True)
    rows = np.arange(len(labels))
    value = float((np.log(total[:, 0]) - shifted[rows, labels]).mean())
    slope = exponent / total
    slope[rows, labels] -= 1
    return value, slope / len(labels)


def squared_error(scores: Scores, labels: Labels) -> tuple[float, Scores]:
    """|| scores - onehot(y) ||^2 / 2 on average, and its gradient (scores - onehot(y)) / N."""
    error = scores.copy()
    error[np.arange(len(labels)), labels] -= 1
    return float(np.square(error).sum() / (2 * len(labels))), error / len(labels)


def dot_regression(scores: Scores, labels: Labels) -> tuple[float, Scores]:
    """(scores_y - 1)^2 / 2 on average, with its gradient: a direction is pulled to its own vertex, pushed by none."""
    rows, slope = np.arange(len(labels)), np.zeros_like(scores)
    error = scores[rows, labels] - 1
    slope[rows, labels] = error / len(labels)
    return float(np.square(error).mean() / 2), slope


LOSSES: dict[Loss, Callable[[Scores, Labels], tuple[float, Scores]]] = {
    "ce": cross_entropy,
    "mse": squared_error,
    "dr": dot_regression,
}


def network(values: Values, inputs: Images) -> tuple[Features, Float[np.ndarray, "image unit"]]:
    """The features B relu(A x + a) + b, and the hidden layer."""
    hidden = np.maximum(inputs @ values["first"].T + values["first_bias"], 0)
    return hidden @ values["second"].T + values["second_bias"], hidden


def unit(features: Features) -> tuple[Features, Float[np.ndarray, "image 1"]]:
    """Features of length 1, and their lengths."""
    length = np.linalg.norm(features, axis=1, keepdims=True).clip(1e-12)
    return features / length, length


def seen_by_head(values: Values, inputs: Images | None, loss: Loss) -> Features:
    """The features that the head compares: of length 1 for dot-regression."""
    features = values["features"] if inputs is None else network(values, inputs)[0]
    return unit(features)[0] if loss == "dr" else features


def objective(
    values: Values, inputs: Images | None, labels: Labels, loss: Loss, decay: float, learned: bool
) -> tuple[float, Values]:
    """Loss and gradient by parameter, decay included.

        free       L + decay / 2 ( ||W||^2 + sum_c mean over the images i of c of ||h_i||^2 )
        network    L + decay / 2 ( ||W||^2 + ||A||^2 + ||B||^2 )

    Biases are not decayed, and nothing is under dot-regression: it sees directions only, so decay would just shrink
    lengths to zero. `values` holds `weight` [K, d], `bias` [K] and either `features` [N, d] (free, `inputs` None) or
    the network; with `learned` false the head is fixed and has no gradient.
    """
    decay = 0.0 if loss == "dr" else decay
    if inputs is None:
        raw, hidden = values["features"], None
    else:
        raw, hidden = network(values, inputs)
    features, length = unit(raw) if loss == "dr" else (raw, None)
    weight = values["weight"]
    value, slope = LOSSES[loss](features @ weight.T + values["bias"], labels)
    down = slope @ weight  # dL / dh
    if length is not None:  # through h / ||h||: only what is orthogonal to h turns it
        down = (down - (down * features).sum(axis=1, keepdims=True) * features) / length
    gradient: Values = {}
    if learned:
        gradient = {"weight": slope.T @ features + decay * weight, "bias": slope.sum(axis=0)}
        value += decay / 2 * float(np.square(weight).sum())
    if inputs is None or hidden is None:
        share = decay / np.bincount(labels, minlength=len(weight))[labels][:, None]
        gradient["features"] = down + share * raw
        return value + float((share * np.square(raw)).sum()) / 2, gradient
    back = (down @ values["second"]) * (hidden > 0)
    gradient |= {
        "second": down.T @ hidden + decay * values["second"],
        "second_bias": down.sum(axis=0),
        "first": back.T @ inputs + decay * values["first"],
        "first_bias": back.sum(axis=0),
    }
    return value + decay / 2 * sum(float(np.square(values[name]).sum()) for name in ("first", "second")), gradient
