"""Look-up tables of the renderer: signed distances of every silhouette, surface wear, and painted backgrounds.

All are made once per process (about a second), deterministically, from the formulas here and in `charges`.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cillab.streams.shields.charges import CHARGES, Grid, curve, disc, mirrored, polygon, stroke, union
from cillab.streams.shields.draws import scramble, uniform
from cillab.streams.shields.world import DIVISIONS, TINCTURES

EXTENT = 1.25  # silhouette tables cover [-EXTENT, EXTENT]^2; the shield itself lives in [-1, 1]^2
RESOLUTION = 224
TILE = 256  # surface tables repeat with this period
SCENE = 160
SCENES = 24
CHARGE_CENTRE, CHARGE_SCALE = 0.1, 0.56


def _seeds(count: int, salt: int) -> NDArray[np.uint64]:
    return scramble(np.arange(count, dtype=np.uint64) + np.uint64(salt * 1_000_003))


def _grid() -> tuple[Grid, Grid]:
    axis = ((np.arange(RESOLUTION, dtype=np.float32) + 0.5) / RESOLUTION * 2 - 1) * np.float32(EXTENT)
    x, y = np.meshgrid(axis, axis)
    return x, y


@lru_cache
def outline() -> Grid:
    """The heater shield, [1, R, R]: flat top, straight flanks, pointed foot."""
    bend = np.linspace(0, 1, 14)  # a Bezier curve from the flank to the foot
    foot = [
        (
            0.84 * (1 - t) ** 3 + 2.52 * t * (1 - t) ** 2 + 1.2 * t**2 * (1 - t),
            0.3 * (1 - t) ** 3 - 0.66 * t * (1 - t) ** 2 - 2.22 * t**2 * (1 - t) - 1.08 * t**3,
        )
        for t in bend.tolist()
    ]
    right = [(0.0, 0.9), (0.3, 0.905), (0.6, 0.94), (0.84, 0.99), *foot]
    return polygon(*_grid(), mirrored(right))[None]


def _stripes(coordinate: Grid, period: float, shift: float = 0.0) -> Grid:
    """Bands of equal width: a triangle wave, negative on every second band."""
    phase = coordinate / np.float32(period) + np.float32(shift)
    return (np.float32(0.25) - np.abs(phase - np.floor(phase) - np.float32(0.5))) * np.float32(period)


def _both(a: Grid, b: Grid) -> Grid:
    """Negative where exactly one of the two is: the chequerboard of two divisions."""
    return np.sign(a) * np.sign(b) * np.minimum(np.abs(a), np.abs(b))


@lru_cache
def divisions() -> Grid:
    """[division, R, R]: negative where the second tincture is."""
    x, y = _grid()
    v = y - np.float32(CHARGE_CENTRE)
    rise, fall = (x + v) * np.float32(np.sqrt(0.5)), (v - x) * np.float32(np.sqrt(0.5))
    roof = (v + np.abs(x) * np.float32(0.85)) * np.float32(0.76)
    angle = np.arctan2(v, x) * np.float32(8 / (2 * np.pi))
    shapes = {
        "plain": np.ones_like(x),
        "halved": -x,
        "divided": v,
        "diagonal": rise,
        "quartered": _both(x, v),
        "striped": _stripes(x, 0.48, 0.5),
        "barred": _stripes(v, 0.48, 0.25),
        "slanted": _stripes(rise, 0.48, 0.25),
        "chequered": -_both(_stripes(x, 0.64), _stripes(v, 0.64)),
        "diamonds": _both(
            _stripes(x * np.float32(0.84) + v * np.float32(0.54), 0.5),
            _stripes(v * np.float32(0.54) - x * np.float32(0.84), 0.5),
        ),
        "rayed": _stripes(angle, 2.0, 0.25) * np.hypot(x, v) * np.float32(np.pi / 4),
        "chevron": np.abs(roof - np.float32(0.12)) - np.float32(0.17),
        "cross": np.minimum(np.abs(x), np.abs(v)) - np.float32(0.17),
        "saltire": np.minimum(np.abs(rise), np.abs(fall)) - np.float32(0.16),
        "border": -(outline()[0] + np.float32(0.22)),
        "band": np.abs(v) - np.float32(0.26),
        "sash": np.abs(fall) - np.float32(0.24),
    }
    return np.stack([shapes[name] for name in DIVISIONS]).astype(np.float32)


@lru_cache
def charges() -> Grid:
    """[charge, R, R]: each at its place on the shield."""
    x, y = (axis / np.float32(CHARGE_SCALE) for axis in _grid())
    y = y - np.float32(CHARGE_CENTRE / CHARGE_SCALE)
    return np.stack([shape(x, y) for shape in CHARGES.values()]).astype(np.float32) * np.float32(CHARGE_SCALE)


@lru_cache
def obstacles() -> Grid:
    """[obstacle, R, R]: what may get in the way of the view: twig, blade, rope's end, blot, fern."""
    x, y = _grid()
    blade = curve([(-0.9, 0.0), (-0.3, 0.28), (0.4, 0.22), (0.95, 0.0), (0.4, -0.16), (-0.3, -0.18)])
    blot = curve(
        [(-0.6, 0.1), (-0.3, 0.55), (0.2, 0.42), (0.62, 0.5), (0.5, 0.0), (0.66, -0.4), (0.1, -0.3), (-0.4, -0.62)]
    )
    stem = stroke(x, y, (-1.1, -0.1), (0.9, 0.1), 0.04)
    leaves = [
        disc(x * np.float32(0.6) - np.float32(0.6 * s), y - side * np.float32(0.26), (0, 0), 0.17)
        for s, side in ((-0.75, 1), (-0.4, -1), (-0.1, 1), (0.25, -1), (0.55, 1))
    ]
    fronds = [
        stroke(x, y, (s, 0.0), (s + 0.25, side * (0.55 - 0.35 * abs(s))), 0.05)
        for s in np.linspace(-0.8, 0.7, 7).tolist()
        for side in (-1, 1)
    ]
    return np.stack(
        [
            union(stem, *leaves),
            polygon(x, y, blade),
            stroke(x, y, (-1.3, 0.0), (1.3, 0.0), 0.13),
            polygon(x, y, blot),
            union(stroke(x, y, (-1.1, 0.0), (0.9, 0.0), 0.045), *fronds),
        ]
    ).astype(np.float32)


def _noise(period: int, salt: int) -> Grid:
    """Smooth value noise in [-1, 1] on the tile, repeating, with `period` lattice cells per side."""
    lattice = uniform(_seeds(period * period, salt), "lattice", -1, 1).reshape(period, period)
    place = np.arange(TILE, dtype=np.float32) * np.float32(period / TILE)
    cell = place.astype(np.intp)
    t = place - cell.astype(np.float32)
    t = t * t * (3 - 2 * t)
    rows = lattice[cell] + (lattice[(cell + 1) % period] - lattice[cell]) * t[:, None]
    return rows[:, cell] + (rows[:, (cell + 1) % period] - rows[:, cell]) * t


@lru_cache
def surface() -> NDArray[np.float32]:
    """[TILE * TILE, 4]: clouds, scratches, fine grain, independent clouds; each about -1 to 1 (scratches 0 to 1)."""
    clouds = [sum(_noise(4 * 2**k, 17 * salt + k) * np.float32(0.6 * 0.62**k) for k in range(5)) for salt in (1, 2)]
    axis = np.arange(TILE, dtype=np.float32) / TILE
    x, y = np.meshgrid(axis, axis)
    scratches = np.zeros((TILE, TILE), dtype=np.float32)
    seeds = _seeds(36, 5)
    lines = zip(*(uniform(seeds, name) for name in ("x", "y", "angle", "length", "depth")), strict=True)
    for cx, cy, angle, length, depth in lines:
        dx, dy = (x - cx + 0.5) % 1 - 0.5, (y - cy + 0.5) % 1 - 0.5  # the tile repeats, so do its scratches
        reach = 0.05 + 0.16 * length
        end = (float(reach * np.cos(angle * 7)), float(reach * np.sin(angle * 7)))
        line = stroke(dx, dy, (-end[0], -end[1]), end, 0.0)
        scratches = np.maximum(scratches, np.clip(1 - line * 260, 0, 1) * (0.4 + 0.6 * depth))
    grain = _noise(TILE, 99)
    return np.stack([clouds[0], scratches, grain, clouds[1]], axis=-1).reshape(-1, 4).astype(np.float32)


_MOODS = np.array(  # sRGB pairs (ground, accent): stone, oak, moss, slate, brick, straw, dusk, linen
    [
        [(126, 120, 112), (88, 84, 82)],
        [(122, 88, 58), (84, 58, 38)],
        [(84, 104, 66), (44, 62, 42)],
        [(88, 100, 112), (54, 62, 76)],
        [(138, 84, 66), (98, 58, 50)],
        [(186, 160, 110), (140, 114, 72)],
        [(92, 78, 102), (54, 46, 70)],
        [(196, 186, 168), (150, 138, 122)],
    ],
    dtype=np.float32,
) / np.float32(255)


def _scene(index: int) -> NDArray[np.float32]:
    """One painted wall, thicket or market stall, [SCENE, SCENE, 3] in sRGB."""
    axis = (np.arange(SCENE, dtype=np.float32) + 0.5) / SCENE * 2 - 1
    x, y = np.meshgrid(axis, -axis)
    ground, accent = _MOODS[index % len(_MOODS)]
    clouds = surface().reshape(TILE, TILE, 4)[:SCENE, :SCENE]
    picture = ground + (accent - ground) * (np.float32(0.35) + np.float32(0.5) * clouds[..., :1])
    kind = index % 3
    if kind == 0:  # courses of stone or brick, or planks when they are long
        height = 0.2 + 0.1 * (index % 4)
        course = np.floor(y / height)
        width = height * (1.9 if index % 2 else 5.0)
        along = x / width + (course % 2) * np.float32(0.5)
        tone = uniform(
            scramble((course + 50).astype(np.uint64) * np.uint64(97) + (np.floor(along) + 50).astype(np.uint64)),
            "tone",
            0.72,
            1.25,
        )
        joint = np.minimum((y / height - course) * height, (along - np.floor(along)) * width)
        picture = picture * (tone * np.clip(0.35 + joint * 22, 0, 1))[..., None]
    seeds = _seeds(44 if kind else 12, 1000 + index)
    palette = np.asarray(list(TINCTURES.values()), dtype=np.float32) / 255
    spec = [uniform(seeds, name) for name in ("x", "y", "angle", "length", "width", "tone", "hue", "vivid")]
    for cx, cy, angle, length, width, tone, hue, vivid in zip(*spec, strict=True):
        reach = (0.05 + 0.5 * length**2) if kind == 1 else 0.02 + 0.1 * length
        radius = (0.02 + 0.09 * width) if kind == 1 else 0.05 + 0.2 * width
        ex, ey = float(reach * np.cos(angle * 6.3)), float(reach * np.sin(angle * 6.3))
        px, py = float(cx * 2.4 - 1.2), float(cy * 2.4 - 1.2)
        shape = stroke(x, y, (px - ex, py - ey), (px + ex, py + ey), float(radius))
        strong = np.float32(0.75 if vivid > 0.6 else 0.12)
        colour = (ground + (accent - ground) * 1.6 * tone) * (1 - strong) + palette[
            int(hue * len(palette))
        ] * strong * (0.5 + 0.5 * tone)
        shade = np.clip(1 - shape / np.float32(0.16), 0, 1) * np.float32(0.3)  # its shadow on what lies behind
        picture = picture * (1 - shade[..., None])
        light = 1 + np.float32(0.25) * np.clip(-shape / np.float32(radius), 0, 1)
        inside = np.clip(0.5 - shape * SCENE / 3, 0, 1)
        picture = picture + (colour * light[..., None] - picture) * inside[..., None]
    return np.clip(picture, 0.02, 1).astype(np.float32)


@lru_cache
def scenes() -> NDArray[np.float32]:
    """[SCENES * SCENE * SCENE, 4]: linear light (gamma 2), the last column unused: four floats are one aligned load."""
    painted = np.stack([_scene(i) for i in range(SCENES)]).reshape(-1, 3) ** 2
    return np.concatenate([painted, np.zeros_like(painted[:, :1])], axis=1).astype(np.float32)
