"""Text and transport: class names in the space of the images, and remembered Gaussians that follow the encoder."""

from app.charts import parts
from app.shell import html, picker
from app.views.text_transport import names

html.heading(
    "Text and transport",
    "A learner on CLIP compares images with class names. Here is where the names are, how far prompts moved them, how "
    "images and names lie apart, and whether what is remembered of old classes kept up with the encoder.",
)
if chosen_step := picker.at_step():
    run, step = chosen_step
    there = parts.of("text_transport", run)
    if not there:
        parts.page("text_transport", run, step)
    else:
        there = {**there, "whatif": names.WHAT_IF}
        chosen = parts.choose(there, "text_transport", run)
        if chosen == "whatif":
            names.what_if(run, step)
        else:
            parts.draw(there[chosen], run, step)
