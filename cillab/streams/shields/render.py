"""From compositions and seeds to pictures: one vectorised pass per chunk of images, and a mask of every charge.

The shield is a plane seen in perspective. Every pixel is mapped back onto it and looks up signed distances there
(outline, division, charge); these give colours, relief, wear and shadow, then light, obstacles, lens and sensor.
Light is added up in linear units (gamma 2) and encoded at the end. An image depends on its own seed alone.
"""

# numpy's stubs promote float32 * Python float to float64, numpy itself does not; the tests check dtypes as they run.
# pyright: reportArgumentType=false, reportReturnType=false, reportAssignmentType=false

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cillab.streams.shields import textures
from cillab.streams.shields.charges import CHARGES
from cillab.streams.shields.draws import Seeds, chance, integers, uniform
from cillab.streams.shields.world import DIVISIONS, TINCTURES, Composition

Pixels = NDArray[np.float32]  # [image, height, width], or [image, 3, height, width] for colours

_PALETTE = (np.array(list(TINCTURES.values()), dtype=np.float32) / 255) ** 2
_TWIGS = np.array(
    [
        [0.05, 0.08, 0.03],
        [0.1, 0.16, 0.05],
        [0.12, 0.07, 0.04],
        [0.16, 0.15, 0.14],
        [0.02, 0.02, 0.03],
        [0.22, 0.18, 0.1],
    ],
    dtype=np.float32,
)
_RIMS = np.array(
    [[0.36, 0.37, 0.40], [0.42, 0.31, 0.12], [0.10, 0.10, 0.12], [0.30, 0.17, 0.09]], dtype=np.float32
)  # steel, brass, iron, copper
_CHUNK_PIXELS = 2**17  # 32 images of 64 px: the working arrays of one chunk stay in the second-level cache


class Rendered(NamedTuple):
    """Images [n, 3, size, size] uint8 in sRGB, and [n, size, size] bool: where the charge can be seen."""

    images: NDArray[np.uint8]
    masks: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Style:
    """How hard the world is to see. Angles in radians, lengths in half-widths of the image, the rest in [0, 1]."""

    turn: float  # largest rotation in the image plane
    tilt: float  # largest inclination away from the camera
    scale: tuple[float, float]  # half-width of the shield
    shift: float  # largest displacement of its centre
    clutter: float  # contrast of the background
    wear: float  # share of enamel lost, depth of scratches
    shine: float  # strength of reflections
    darkness: float  # how dim and how tinted the light may be
    obstacles: float  # probability of each of two things in front
    blur: float  # probability of an unsharp picture
    grain: float  # sensor noise, standard deviation


STYLES: dict[str, Style] = {
    "clean": Style(0.16, 0.25, (0.72, 0.86), 0.06, 0.5, 0.10, 0.35, 0.15, 0.0, 0.1, 0.010),
    "worn": Style(0.45, 0.6, (0.62, 0.85), 0.12, 1.0, 0.55, 1.0, 0.6, 0.4, 0.35, 0.03),
}


def render(
    compositions: Sequence[Composition], seeds: NDArray[np.uint64], size: int = 64, style: Style | str = "worn"
) -> Rendered:
    """One picture per composition and seed.

    The same (composition, seed, size, style) gives the same bytes, whatever else is rendered in the same call.
    Runs on all cores, in threads; memory grows with the result only.

    Raises:
        ValueError: numbers of compositions and seeds differ, a size under 8 px, or an unknown style.
    """
    seeds = np.asarray(seeds, dtype=np.uint64)
    if len(compositions) != len(seeds):
        raise ValueError(f"render needs one seed per composition, got {len(compositions)} and {len(seeds)}.")
    if size < 8:
        raise ValueError(f"A shield of {size} px cannot be drawn: the smallest size is 8.")
    if isinstance(style, str):
        if style not in STYLES:
            raise ValueError(f"Unknown style {style!r}. Valid: {', '.join(STYLES)}.")
        style = STYLES[style]
    parts = _attributes(compositions)
    images = np.empty((len(seeds), 3, size, size), dtype=np.uint8)
    masks = np.empty((len(seeds), size, size), dtype=np.bool_)
    step = max(1, _CHUNK_PIXELS // size**2)

    def work(start: int) -> None:
        chunk = slice(start, start + step)
        images[chunk], masks[chunk] = _Scene(parts[:, chunk], seeds[chunk], size, style).picture()

    _warm_up()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(work, range(0, len(seeds), step)))
    return Rendered(images, masks)


def _warm_up() -> None:
    """Make the tables once, before threads would make them side by side."""
    for table in (textures.outline, textures.divisions, textures.charges, textures.obstacles, textures.scenes):
        table()


def _attributes(compositions: Sequence[Composition]) -> NDArray[np.intp]:
    """[5, image]: the compositions as positions in the tables."""
    divisions, tinctures, charges = ({name: i for i, name in enumerate(t)} for t in (DIVISIONS, TINCTURES, CHARGES))
    rows = [
        (divisions[c.division], tinctures[c.field], tinctures[c.second], charges[c.charge], tinctures[c.tincture])
        for c in compositions
    ]
    return np.array(rows, dtype=np.intp).reshape(-1, 5).T


def _per_image(values: NDArray[np.float32]) -> Pixels:
    return values[:, None, None]


def _coverage(distance: Pixels, softness: Pixels | np.float32) -> Pixels:
    """1 inside, 0 outside, a ramp `softness` wide on the edge."""
    return np.clip(np.float32(0.5) - distance / softness, 0, 1)


def _mix(under: Pixels, over: Pixels, amount: Pixels) -> Pixels:
    """Paint `over` onto colours `under`, in place."""
    under += (over - under) * amount[:, None]
    return under


class _Place(NamedTuple):
    """Where pixels fall in the silhouette tables: corner and weights of a bilinear look-up."""

    corner: NDArray[np.int32]
    right: Pixels
    up: Pixels

    @classmethod
    def of(cls, u: Pixels, v: Pixels) -> "_Place":
        r = textures.RESOLUTION
        half, stretch = np.float32((r - 1) / 2), np.float32(r / (2 * textures.EXTENT))
        column, row = (np.clip(axis * stretch + half, 0, np.float32(r - 1.01)) for axis in (u, v))
        left, below = np.floor(column), np.floor(row)
        return cls((below * r + left).astype(np.int32), column - left, row - below)

    def look_up(self, table: Pixels, which: NDArray[np.intp]) -> Pixels:
        r = textures.RESOLUTION
        flat = table.reshape(-1)
        at = self.corner + (which.astype(np.int32) * np.int32(r * r))[:, None, None]
        a, b, c, d = (flat.take(at + np.int32(offset)) for offset in (0, 1, r, r + 1))
        a += (b - a) * self.right
        c += (d - c) * self.right
        return a + (c - a) * self.up


class _Scene:
    """One chunk of images while it is being rendered."""

    def __init__(self, parts: NDArray[np.intp], seeds: Seeds, size: int, style: Style) -> None:
        self.parts, self.seeds, self.size, self.style = parts, seeds, size, style
        axis = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(2 / size) - 1
        self.x, self.y = axis[None, None, :], -axis[None, :, None]

    def draw(self, name: str, low: int | float = 0.0, high: int | float = 1.0) -> Pixels:
        return _per_image(uniform(self.seeds, name, low, high))

    def picture(self) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        style = self.style
        u, v, scale = self._onto_shield()
        soft = np.float32(2 / self.size) / scale  # one pixel, in units of the shield
        place = _Place.of(u, v)
        none = np.zeros(len(self.seeds), dtype=np.intp)
        edge = place.look_up(textures.outline(), none)
        charge = place.look_up(textures.charges(), self.parts[3])
        colour, relief, lost = self._enamel(place, edge, charge, u, v, soft)
        colour = self._lit(colour, relief, lost, u, v)
        light_x, light_y = self._light()
        shadow = _Place.of(u + light_x * np.float32(0.13), v + light_y * np.float32(0.13)).look_up(
            textures.outline(), none
        )
        shield = _coverage(edge, soft)
        scene = self._background()
        scene *= (1 - np.float32(0.75) * _coverage(shadow, np.float32(0.16)))[:, None]
        scene = _mix(scene, colour, shield)
        seen = _coverage(charge, soft) * shield
        if style.obstacles:
            for layer in ("near", "nearer"):
                seen *= 1 - self._obstacle(scene, layer, scale)
        return self._exposed(scene), seen > np.float32(0.5)

    def _onto_shield(self) -> tuple[Pixels, Pixels, Pixels]:
        """Pixel centres as seen on the shield: shift, turn, foreshorten, and divide by the depth."""
        style = self.style
        turn = self.draw("turn", -style.turn, style.turn)
        yaw, pitch = self.draw("yaw", -style.tilt, style.tilt), self.draw("pitch", -style.tilt, style.tilt)
        scale = self.draw("scale", *style.scale)
        px = self.x - self.draw("left", -style.shift, style.shift)
        py = self.y - self.draw("up", -style.shift, style.shift)
        c, s = np.cos(turn), np.sin(turn)
        width, height = scale * np.cos(yaw), scale * np.cos(pitch)
        depth = 1 + (px * np.sin(yaw) + py * np.sin(pitch)) * np.float32(0.35)
        u = (px * (c / width) + py * (s / width)) / depth
        v = (py * (c / height) - px * (s / height)) / depth
        return u, v, scale

    def _light(self) -> tuple[Pixels, Pixels]:
        """Where the light comes from, in the image plane: from above, more or less from one side."""
        angle = self.draw("light", 0.25, np.pi - 0.25)
        return np.cos(angle), np.sin(angle)

    def _surface(self, u: Pixels, v: Pixels) -> NDArray[np.float32]:
        """[4, image, height, width]: clouds, scratches, grain and clouds of this shield's own patch of the tile."""
        tile = np.float32(textures.TILE)
        column = (u * np.float32(0.32) + self.draw("patch x", 2, 3)) * tile
        row = (v * np.float32(0.32) + self.draw("patch y", 2, 3)) * tile
        left, below = np.floor(column), np.floor(row)
        right, up = (column - left)[..., None], (row - below)[..., None]
        i, j = below.astype(np.int32) % textures.TILE, left.astype(np.int32) % textures.TILE
        if self.size <= 96:  # a pixel is wider than a cell of the tile: the nearest cell is enough
            return np.moveaxis(textures.surface().take(i * textures.TILE + j, axis=0), -1, 0)
        i1, j1 = (i + 1) % textures.TILE * textures.TILE, (j + 1) % textures.TILE
        i = i * textures.TILE
        a, b, c, d = (textures.surface().take(at, axis=0) for at in (i + j, i + j1, i1 + j, i1 + j1))
        a += (b - a) * right
        c += (d - c) * right
        return np.moveaxis(a + (c - a) * up, -1, 0)

    def _enamel(
        self, place: _Place, edge: Pixels, charge: Pixels, u: Pixels, v: Pixels, soft: Pixels
    ) -> tuple[Pixels, Pixels, Pixels]:
        """Colours, height and the share of enamel that is gone."""
        division, field, second, _, tincture = self.parts
        split = place.look_up(textures.divisions(), division)
        colour = np.empty((len(self.seeds), 3, self.size, self.size), dtype=np.float32)
        colour[:] = _PALETTE[field][..., None, None]
        _mix(colour, _PALETTE[second][..., None, None], _coverage(split, soft))
        line = np.maximum(
            soft * np.float32(0.55), np.float32(0.018)
        )  # a dark seam around the charge, never under a pixel wide
        colour *= (1 - np.float32(0.62) * _coverage(charge - line, soft))[:, None]
        _mix(colour, _PALETTE[tincture][..., None, None], _coverage(charge, soft))

        clouds, scratches, grain, spots = self._surface(u, v)
        wear = self.style.wear * self.draw("wear", 0.2, 1.0)
        rim_width = np.float32(0.075)
        rim = _coverage(-(edge + rim_width), soft)
        bare = (
            clouds
            + np.float32(0.7) * np.clip(1 + edge * np.float32(3), 0, 1)
            - (np.float32(1.35) - wear * np.float32(0.85))
        )
        lost = np.clip(bare * np.float32(7), 0, 1)
        lost = np.maximum(lost, scratches * np.clip(wear * np.float32(2.2), 0, 1)) * (1 - rim)
        colour *= (1 + (np.float32(0.10) * spots + np.float32(0.05) * grain) * (np.float32(0.6) + wear))[
            :, None
        ]  # dust
        metal = np.array([0.15, 0.13, 0.115], dtype=np.float32)[:, None, None] * (1 + np.float32(0.3) * spots)[:, None]
        _mix(colour, metal, lost * np.float32(0.85))
        _mix(colour, _RIMS[integers(self.seeds, "rim", len(_RIMS))][..., None, None], rim)
        raised = np.clip(-charge * np.float32(16), 0, 1)
        raised *= raised * (3 - 2 * raised)
        ridge = np.clip(1 - np.abs(edge + rim_width * np.float32(0.5)) / (rim_width * np.float32(0.6)), 0, 1)
        relief = np.float32(0.045) * raised + np.float32(0.06) * ridge * (2 - ridge) - np.float32(0.012) * lost
        relief += np.float32(0.006) * wear * spots
        return colour, relief, lost

    def _lit(self, colour: Pixels, relief: Pixels, lost: Pixels, u: Pixels, v: Pixels) -> Pixels:
        """Diffuse and mirrored light on a domed plate with relief."""
        style = self.style
        slope_x, slope_y = np.zeros_like(relief), np.zeros_like(relief)
        steep = np.float32(self.size / 4)
        slope_x[:, :, 1:-1] = (relief[:, :, 2:] - relief[:, :, :-2]) * -steep
        slope_y[:, 1:-1] = (relief[:, 2:] - relief[:, :-2]) * steep
        slope_x += u * np.float32(0.22)
        slope_y += v * np.float32(0.22)
        light_x, light_y = self._light()
        low = np.float32(0.55) + np.float32(0.35) * self.draw("raking", -0.5, 1.0) * style.shine
        diffuse = np.clip(np.float32(0.86) + (slope_x * light_x + slope_y * light_y) * low * np.float32(1.5), 0.18, 2.0)
        colour *= diffuse[:, None]
        narrow = self.draw("gloss", 14, 60)
        away = (slope_x - light_x * np.float32(0.32)) ** 2 + (slope_y - light_y * np.float32(0.32)) ** 2
        mirrored = 1 / (1 + away * narrow)
        mirrored *= mirrored * self.draw("shine", 0.1, 0.55) * style.shine * (1 - np.float32(0.7) * lost)
        colour += mirrored[:, None] * np.array([1.0, 0.97, 0.90], dtype=np.float32)[:, None, None]
        return colour

    def _background(self) -> Pixels:
        """A part of one painted scene, turned, magnified, and mirrored when the seed says so."""
        angle = self.draw("scene angle", -0.35, 0.35)
        zoom = self.draw("scene zoom", 0.34, 0.62) * np.float32(textures.SCENE / 2)
        c, s = np.cos(angle) * zoom, np.sin(angle) * zoom
        x = self.x * (1 - 2 * _per_image(chance(self.seeds, "scene mirror", 0.5)))
        middle = np.float32(textures.SCENE / 2)
        room = np.float32(textures.SCENE * 0.06)
        column = x * c + self.y * s + middle + self.draw("scene x", -1, 1) * room
        row = self.y * c - x * s + middle + self.draw("scene y", -1, 1) * room
        column, row = (np.clip(axis, 0, np.float32(textures.SCENE - 1.01)) for axis in (column, row))
        left, below = np.floor(column), np.floor(row)
        at = (below * textures.SCENE + left).astype(np.int32)
        scene = integers(self.seeds, "scene", textures.SCENES).astype(np.int32)
        at += scene[:, None, None] * np.int32(textures.SCENE**2)
        scenes = textures.scenes()
        if self.size <= 96:
            found = scenes.take(at, axis=0)
        else:
            right, up = (column - left)[..., None], (row - below)[..., None]
            a, b, e, f = (scenes.take(at + np.int32(o), axis=0) for o in (0, 1, textures.SCENE, textures.SCENE + 1))
            found = a + (b - a) * right
            e += (f - e) * right
            found += (e - found) * up
        found = np.ascontiguousarray(np.moveaxis(found[..., :3], -1, 1))
        plain = np.array([0.20, 0.19, 0.18], dtype=np.float32)[:, None, None]
        return plain + (found - plain) * np.float32(self.style.clutter)

    def _obstacle(self, scene: Pixels, layer: str, scale: Pixels) -> Pixels:
        """Put a twig, a blade, a rope or a blot in front of `scene`, in place; returns where it hides the view."""
        draw = self.draw
        there = _per_image(chance(self.seeds, f"{layer} there", self.style.obstacles))
        angle, length = draw(f"{layer} angle", -np.pi, np.pi), scale * draw(f"{layer} length", 0.55, 0.95)
        around = draw(f"{layer} around", -np.pi, np.pi)
        far = scale * draw(f"{layer} far", 0.25, 0.9)  # of the centre: it may graze the charge, seldom hide it
        px, py = self.x - far * np.cos(around), self.y - far * np.sin(around)
        c, s = np.cos(angle) / length, np.sin(angle) / length
        which = integers(self.seeds, f"{layer} kind", len(textures.obstacles()))
        distance = _Place.of(px * c + py * s, py * c - px * s).look_up(textures.obstacles(), which) * length
        scene *= (1 - np.float32(0.5) * there * _coverage(distance - np.float32(0.02), np.float32(0.12)))[:, None]
        colour = _TWIGS[integers(self.seeds, f"{layer} colour", len(_TWIGS))][..., None, None]
        hidden = _coverage(distance, np.float32(2.4 / self.size)) * there
        round_off = np.float32(0.65) + np.float32(7) * np.clip(-distance, 0, 0.09)
        _mix(scene, colour * round_off[:, None], hidden)
        return hidden

    def _exposed(self, scene: Pixels) -> NDArray[np.uint8]:
        """Light, lens and sensor: exposure and tint, fall-off, blur, gamma, grain, eight bits."""
        style = self.style
        bright = np.float32(1.12) + self.draw("bright", -0.75, 0.35) * np.float32(style.darkness)
        warm, pink = self.draw("warm", -0.42, 0.42) * style.darkness, self.draw("pink", -0.16, 0.16) * style.darkness
        tint = np.stack([1 + warm, 1 - pink, 1 - warm], axis=1).astype(np.float32)
        light_x, light_y = self._light()
        across = (
            (self.x * light_x + self.y * light_y) * self.draw("falling off", 0.0, 0.55) * np.float32(style.darkness)
        )
        corners = np.float32(0.14) * (self.x**2 + self.y**2)
        scene *= ((1 + across - corners) * bright)[:, None] * tint
        blurred = np.flatnonzero(chance(self.seeds, "blur", style.blur))
        if len(blurred):
            scene[blurred] = _softened(scene[blurred], self.draw("blur amount", 0.25, 0.85)[blurred], self.size)
        np.sqrt(np.clip(scene, 0, 1, out=scene), out=scene)
        if style.grain:
            scene += (self._grain() * (self.draw("grain", 0.3, 1.0) * np.float32(1.9 * style.grain)))[:, None]
        scene *= 255
        scene += np.float32(0.5)
        return np.clip(scene, 0, np.float32(255.49), out=scene).astype(np.uint8)

    def _grain(self) -> Pixels:
        tile = textures.TILE
        rows = np.arange(self.size) + integers(self.seeds, "grain row", tile)[:, None]
        columns = np.arange(self.size) + integers(self.seeds, "grain column", tile)[:, None]
        grain = textures.surface().reshape(tile, tile, 4)[:, :, 2]
        return grain[(rows % tile)[:, :, None], (columns % tile)[:, None, :]]


def _softened(scene: Pixels, amount: Pixels, size: int) -> Pixels:
    """A blur of about a sixty-fourth of the picture: [1 2 1] / 4 along both axes, wider steps for larger pictures."""
    for step in [2**k for k in range(max(1, (size // 64).bit_length()))]:
        for axis in (2, 3):
            padded = np.pad(scene, [(step, step) if a == axis else (0, 0) for a in range(4)], mode="edge")
            low, high = (padded.take(range(s, s + size), axis=axis) for s in (0, 2 * step))
            scene = scene + (low + high - 2 * scene) * (np.float32(0.25) * amount[:, None])
    return scene
