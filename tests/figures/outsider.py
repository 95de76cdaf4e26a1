"""One file of another package: a method, a quantity of its own, its figure, and a fact of the protocol."""

from collections.abc import Iterator

import numpy as np
import plotly.graph_objects as go
import torch

from cillab.figures import Picture, figure
from cillab.figures.palette import Theme, style
from cillab.kit import HyperParams, Internal, Method, Progress, Prototypes, Task, gathered, method
from cillab.protocol import declare
from cillab.runs import Run

LAMP = ["daylight"]
"""The light that the images were taken in: read when a run begins."""

declare("lamp", str, lambda made: LAMP[0], key=True)


class OutsiderParams(HyperParams):
    """Hyper-parameters of the outsider."""


@method(
    "outsider",
    paper="none",
    evidence="a test",
    family="closed form",
    when="Never.",
    internals=(Internal("outsider/radius", "f32 [K]", "largest distance of a training image to its mean"),),
)
class Outsider(Method[OutsiderParams]):
    """Nearest mean that knows how far its images reach."""

    def setup(self) -> None:
        self.classifier = Prototypes(self.backbone.feature_dim, self.backbone.device)
        self.radius = torch.zeros(0)

    def learn(self, task: Task) -> Iterator[Progress]:
        h, labels = yield from gathered(self, task)
        self.classifier.add(h, labels)
        reach = [torch.cdist(h[labels == c], h[labels == c].mean(0, keepdim=True)).max() for c in task.classes]
        self.radius = torch.cat([self.radius, torch.stack(reach).cpu()])

    def internals(self):
        return {"outsider/radius": self.radius}


@figure(
    title="How far a class reaches",
    page="method",
    part="radius",
    needs=("internals/outsider/radius",),
    quantities=("nc1_quotient",),
)
def outsider_radius(run: Run, step: str | int | None = None, *, theme: Theme = "light") -> Picture:
    """Largest distance of a training image to the mean of its class."""
    radius = np.asarray(run.snapshot(run.resolve(step))["internals/outsider/radius"])
    drawn = style(go.Figure(go.Bar(y=radius)), theme, name="outsider_radius")
    return Picture(drawn, f"The widest class reaches {radius.max():.2f}.", ("Training images.",))
