"""DMC: the images' side adapts to frozen text, then a soft prompt adapts to remembered images."""

from cillab.kit import final, method
from cillab.parts.decoupled import SHOWN, Decoupled, DecoupledParams


class DMCParams(DecoupledParams):
    """Hyper-parameters of both stages. No number of the paper could be read: all are choices of ours."""


@method(
    "dmc",
    paper="DMC, Chen et al., arXiv:2511.10974",
    evidence="reconstruction after the abstract",
    family="images and text",
    when="CLIP whose images' side must adapt, with a Gaussian per class in place of old images.",
    ours="equations, LoRA, prompt layout and every number",
    needs={"clip", "class-names", "vit"},
    internals=SHOWN,
    learns_names=True,
)
@final
class DMC(Decoupled[DMCParams]):
    """CLIP in two stages: images towards frozen text, then a soft prompt towards remembered Gaussians.

        images   theta <- descent on CE( s cos(v, u_c) over c in C_t, y ),   v = E_theta(x)                 (1)
        memory   mu_c = mean of v,  S_c = cov of v over the images of each new class c                      (2)
        text     P <- descent on CE( s cos(v, g_c) over c in C_1..t, y ),   v real or ~ N(mu_c, S_c)        (3)
        logits   s cos(v, g_c),   g_c = E_t([SOS, P, name_c, ".", EOS]) / ||.||                             (4)

    u_c is the frozen vector of "a photo of a c.", theta one low-rank change of the images' side that goes on from task
    to task, P one prompt for all classes. Source: DMC, Chen et al., arXiv:2511.10974, whose abstract names the stages,
    the frozen side of each and the memory. Old Gaussians stay where they were while theta moves: what `dmc-ot` repairs.
    Keeps d + d^2 numbers per class for learning, 2 d for classifying; one forward pass per image.
    """
