"""SSIAT: one adapter learns all tasks and nothing holds it; remembered means move along with the features."""

from cillab.kit import Drifting, DriftingParams, Iterator, Progress, Task, Tensor, final, fit, method


@method(
    "ssiat",
    paper="Tan et al., SSIAT, CVPR 2024, arXiv:2403.19979",
    evidence="reproduction",
    family="prompts and adapters",
    when="Adapters without a second pass: as plastic as fine-tuning, with old classes kept by their Gaussians alone.",
    known="CIFAR-100 Inc10, ViT-B/16 in21k, three seeds: A_avg 94.35, A_last 91.35 (authors).",
    ours="old and new features of a mean's shift are of the same clean images, where the code pairs different ones; "
    "covariances over n, draws with 1e-4 of the mean variance added, where the code has n - 1 and 1e-3; no dropout",
    needs={"vit"},
    internals=("align/before", "align/after"),
)
@final
class SSIAT(Drifting[DriftingParams]):
    """A shared adapter, a cosine head, and Gaussians of old classes whose means follow the drift of the features.

        adapter, rows of the task  <-  SGD on CE(s (cos(h, w) - m onehot)) over the classes of the task             (1)
        mu_c  <-  mu_c + sum_i a_ci (f_new(x_i) - f_old(x_i)),  a_ci ~ exp(-||f_old(x_i) - mu_c||^2 / 2 sigma^2)    (2)
        W     <-  SGD on CE(s cos(h, w)) over all classes,  h ~ N(mu_c (1 - b + b (t_c + 1)/(t + 1)), S_c)  [align] (3)

    a_ci has a floor of 1e-5 before it is normalised, so that a mean with no image near it moves by the mean drift.
    Source: Tan et al., CVPR 2024, arXiv:2403.19979. Keeps the adapter and d^2 + 4 d numbers per class: W, the
    Gaussian, W before and after (3). One pass per image.
    """

    def adapt(self, task: Task) -> Iterator[Progress]:
        """Equation (1)."""

        def loss(h: Tensor, labels: Tensor) -> Tensor:
            return self.likelihood(h, labels, task)

        yield from fit(self, task, self.trained, loss, self.how, stage="adapter")
