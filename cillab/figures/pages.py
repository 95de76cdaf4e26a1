"""Pages and their parts: what each is called and what it answers. Which figures stand there, the figures say."""

from collections.abc import Mapping
from typing import NamedTuple


class Part(NamedTuple):
    """A part of a page: what it is called, what it answers, and how many of its figures stand in a row."""

    label: str
    words: str
    columns: int = 1


class Page(NamedTuple):
    """A page of the app, and a chapter of the report."""

    title: str
    parts: Mapping[str, Part]
    key: str = ""  # of the control that chooses a part: it stands in the address


PAGES: Mapping[str, Page] = {
    "drift": Page(
        "Drift and forgetting",
        {
            "accuracy": Part(
                "Accuracy",
                "How well each task is answered after each task, and what the curve over all classes looks like.",
                columns=2,
            ),
            "forgetting": Part(
                "Forgetting",
                "What was known and is no more, task by task, and every summary that papers make of the one matrix.",
            ),
            "means": Part(
                "Drift of means",
                "Where the mean of a class was when it was learnt, and where the same images are now.",
            ),
            "rotation": Part(
                "Change or rotation",
                "A rotation moves every feature and costs nothing that a head could not follow. These measures tell it "
                "from real change.",
            ),
            "retention": Part(
                "Deep and shallow",
                "Can a fresh head still find it, is it crowded out by more classes, or only lost by the head?",
            ),
            "confusion": Part(
                "Who is taken for whom",
                "Every test image of the classes seen: its own class, and the class that the network answers.",
            ),
            "calibration": Part(
                "Calibration",
                "Is the network right as often as it says, on old classes and on new ones?",
            ),
            "rarity": Part(
                "Many and few images",
                "What a class is worth that came with few training images, against one that came with many.",
            ),
        },
        key="drift",
    ),
    "collapse": Page(
        "Collapse",
        {
            "overview": Part(
                "NC1 to NC4",
                "Do images of a class shrink to a point (NC1), do the class means spread like a simplex (NC2), does "
                "the head line up with them (NC3), and does it answer like the nearest mean (NC4)?",
            ),
            "classes": Part(
                "Classes and pairs",
                "Which classes hold the averages up, and which two clouds are close for their size.",
            ),
            "spectra": Part(
                "Spectra",
                "How many directions the class means and the images around them really use. A space that lost its "
                "dimensions has small spread as well.",
            ),
            "angles": Part(
                "Angles",
                "The angle between every two class means, against the one that a simplex of as many classes has.",
            ),
            "ages": Part(
                "Old and new",
                "Pairs of old classes, old with new, and new classes, against the target "
                "\N{MINUS SIGN}1/(K\N{MINUS SIGN}1) that moves with every task.",
            ),
            "sides": Part(
                "Train against test",
                "The same measures on training images and on test images: collapse of what was fitted need not be "
                "collapse of what is asked.",
            ),
            "training": Part(
                "While training",
                "Collapse epoch by epoch, not only at the end of a task, and how far the vertices of old classes "
                "turned when the frame grew.",
            ),
        },
        key="collapse",
    ),
    "text_transport": Page(
        "Text and transport",
        {
            "names": Part(
                "Class names",
                "A class is its name in a sentence. Prompts learn the sentence: how far does that carry the names, "
                "those of earlier tasks included, and do they still differ?",
            ),
            "gap": Part(
                "Modality gap",
                "Images and names share one space, yet their clouds lie apart. What counts is which name is nearest.",
            ),
            "transport": Part(
                "Transport",
                "Old images are gone; a Gaussian per class stands in for them. When the encoder moves on, the Gaussian "
                "is to follow. Did it arrive?",
            ),
            "bias": Part(
                "Old against new",
                "The largest score among earlier and among the newest classes, for features of either.",
            ),
        },
        key="text",
    ),
    "noise_mixing": Page(
        "Noise mixing",
        {"mixing": Part("Mixture", "How the generators of a noise method are weighted, and which are dead.")},
    ),
    "method": Page("Inside the method", {}, key="inside"),
    "explore": Page(
        "Explore points",
        {"projection": Part("Map", "Test images in one fixed plane, so that motion on screen is motion of features.")},
    ),
    "grad_cam": Page(
        "Grad-CAM",
        {
            "cam_strip": Part("One image, all steps", "Which patches speak for the answer, on one scale."),
            "object": Part("On the object", "Does the network look at the object, and how often at its hottest spot?"),
        },
    ),
    "toy_collapse": Page("Toy collapse", {"toy": Part("The toy", "A problem small enough to see whole.")}),
}  # fmt: skip


def part_of(page: str, key: str, otherwise: Part) -> Part:
    """A part of a page by its table, or `otherwise` for a part that a figure brings with it."""
    return PAGES[page].parts.get(key, otherwise) if page in PAGES else otherwise
