"""The sixteen charges: silhouettes built from discs, strokes and polygons, as signed distances (negative inside).

Every shape is a function of a grid (x to the right, y up) and lives in the square [-1, 1]^2. Signed distances are
what the renderer wants: one array gives the silhouette at any size, its outline, its bevel and its shadow.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Grid = NDArray[np.floating[Any]]  # float32 in practice; constants may promote on the way
Real = int | float
Point = tuple[Real, Real]


def disc(x: Grid, y: Grid, centre: Point, radius: Real) -> Grid:
    """A filled circle."""
    return np.hypot(x - centre[0], y - centre[1]) - radius


def stroke(x: Grid, y: Grid, start: Point, end: Point, radius: Real) -> Grid:
    """A line with round ends: all points closer than `radius` to the segment."""
    ax, ay = end[0] - start[0], end[1] - start[1]
    t = np.clip(((x - start[0]) * ax + (y - start[1]) * ay) / (ax * ax + ay * ay), 0.0, 1.0)
    return np.hypot(x - start[0] - t * ax, y - start[1] - t * ay) - radius


def polygon(x: Grid, y: Grid, corners: Sequence[Point]) -> Grid:
    """A closed polygon: distance to the nearest edge, sign by the even-odd rule."""
    points = np.asarray(corners, dtype=np.float32)
    nearest = np.full(x.shape, np.inf, dtype=np.float32)
    inside = np.zeros(x.shape, dtype=bool)
    for (px, py), (qx, qy) in zip(points, np.roll(points, -1, axis=0), strict=True):
        ex, ey = qx - px, qy - py
        dx, dy = x - px, y - py
        t = np.clip((dx * ex + dy * ey) / (ex * ex + ey * ey + np.float32(1e-12)), 0, 1)
        nearest = np.minimum(nearest, (dx - t * ex) ** 2 + (dy - t * ey) ** 2)
        if py != qy:
            inside ^= ((py > y) != (qy > y)) & (dx < ex * dy / ey)
    return np.where(inside, -1, 1).astype(np.float32) * np.sqrt(nearest)


def box(x: Grid, y: Grid, left: Real, bottom: Real, right: Real, top: Real) -> Grid:
    """An upright rectangle."""
    return np.maximum(np.maximum(left - x, x - right), np.maximum(bottom - y, y - top))


def union(*shapes: Grid) -> Grid:
    """Everything inside any of the shapes."""
    return np.minimum.reduce(shapes)


def without(shape: Grid, *holes: Grid) -> Grid:
    """The shape with the holes cut out."""
    return np.maximum.reduce([shape, *(-hole for hole in holes)])


def curve(points: Sequence[Point], steps: int = 5) -> list[Point]:
    """A closed smooth curve through the points (Catmull-Rom), as polygon corners."""
    p = np.asarray(points, dtype=np.float64)
    t = np.arange(steps)[:, None, None] / steps
    before, after, beyond = np.roll(p, 1, 0), np.roll(p, -1, 0), np.roll(p, -2, 0)
    cubic = 2 * p + (after - before) * t + (2 * before - 5 * p + 4 * after - beyond) * t**2
    cubic = (cubic + (3 * p - before - 3 * after + beyond) * t**3) / 2
    return [(float(a), float(b)) for a, b in cubic.transpose(1, 0, 2).reshape(-1, 2)]


def mirrored(right: Sequence[Point]) -> list[Point]:
    """The right half of an outline, from top to bottom, completed by its mirror image."""
    return [*right, *((-x, y) for x, y in reversed(right) if abs(x) > 1e-9)]


def rays(count: int, outer: Real, inner: Real) -> list[Point]:
    """The corners of a star with `count` points, the first one upwards."""
    angles = np.pi / 2 + np.arange(2 * count) * np.pi / count
    radii = np.where(np.arange(2 * count) % 2 == 0, outer, inner)
    return [(float(r * np.cos(a)), float(r * np.sin(a))) for a, r in zip(angles, radii, strict=True)]


def star(x: Grid, y: Grid) -> Grid:
    """Five points."""
    return polygon(x, y - np.float32(-0.06), rays(5, 1.02, 0.43))


def crescent(x: Grid, y: Grid) -> Grid:
    """A waning moon, horns to the right."""
    return without(disc(x, y, (-0.06, 0.0), 0.92), disc(x, y, (0.32, 0.2), 0.72))


def heart(x: Grid, y: Grid) -> Grid:
    """The parametric heart curve, centred."""
    t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    up = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t) + 2.5
    return polygon(x, y, list(zip((np.sin(t) ** 3).tolist(), (up / 15.5).tolist(), strict=True)))


def tree(x: Grid, y: Grid) -> Grid:
    """A round crown of five discs on a spreading trunk."""
    crown = [
        disc(x, y, centre, radius)
        for centre, radius in (
            ((0, 0.55), 0.43),
            ((-0.42, 0.28), 0.4),
            ((0.42, 0.28), 0.4),
            ((-0.3, 0.0), 0.32),
            ((0.3, 0.0), 0.32),
        )
    ]
    trunk = polygon(x, y, [(-0.13, 0.1), (0.13, 0.1), (0.15, -0.55), (0.42, -0.95), (-0.42, -0.95), (-0.15, -0.55)])
    return union(*crown, trunk)


def fish(x: Grid, y: Grid) -> Grid:
    """Swimming to the left; eye and gill are cut out."""
    body = polygon(
        x, y, curve([(-0.98, 0.02), (-0.55, 0.4), (0.0, 0.44), (0.55, 0.1), (0.55, -0.1), (0.0, -0.42), (-0.55, -0.36)])
    )
    tail = polygon(x, y, [(0.36, 0.0), (0.98, 0.5), (0.82, 0.0), (0.98, -0.5)])
    fins = union(
        polygon(x, y, [(-0.3, 0.4), (0.2, 0.68), (0.28, 0.3)]),
        polygon(x, y, [(-0.15, -0.36), (0.22, -0.64), (0.26, -0.28)]),
    )
    gill = without(disc(x, y, (-0.78, 0.0), 0.46), disc(x, y, (-0.86, 0.0), 0.44))
    return without(union(body, tail, fins), disc(x, y, (-0.64, 0.12), 0.085), gill)


def key(x: Grid, y: Grid) -> Grid:
    """Upright, ring above, two bits below."""
    bow = without(disc(x, y, (0, 0.55), 0.44), disc(x, y, (0, 0.55), 0.2))
    bits = union(box(x, y, 0.0, -0.95, 0.5, -0.72), box(x, y, 0.0, -0.58, 0.42, -0.36))
    collar = box(x, y, -0.22, -0.02, 0.22, 0.1)
    return union(bow, box(x, y, -0.115, -0.97, 0.115, 0.2), bits, collar)


def sword(x: Grid, y: Grid) -> Grid:
    """Point upwards, with guard and pommel."""
    blade = polygon(x, y, [(0.0, 1.02), (0.17, 0.74), (0.15, -0.42), (-0.15, -0.42), (-0.17, 0.74)])
    guard = stroke(x, y, (-0.48, -0.42), (0.48, -0.42), 0.1)
    return union(blade, guard, box(x, y, -0.09, -0.9, 0.09, -0.4), disc(x, y, (0, -0.88), 0.155))


def tower(x: Grid, y: Grid) -> Grid:
    """Three merlons, two windows and a door."""
    merlons = [box(x, y, left, 0.5, left + 0.26, 0.95) for left in (-0.65, -0.13, 0.39)]
    walls = union(
        box(x, y, -0.65, 0.4, 0.65, 0.66), box(x, y, -0.5, -0.8, 0.5, 0.5), box(x, y, -0.64, -0.96, 0.64, -0.76)
    )
    door = union(box(x, y, -0.19, -0.96, 0.19, -0.5), disc(x, y, (0, -0.5), 0.19))
    windows = union(box(x, y, -0.32, 0.0, -0.16, 0.26), box(x, y, 0.16, 0.0, 0.32, 0.26))
    return without(union(*merlons, walls), door, windows)


def anchor(x: Grid, y: Grid) -> Grid:
    """Ring, stock, shank and two flukes."""
    ring = np.abs(disc(x, y, (0, 0.74), 0.17)) - np.float32(0.075)
    arc = np.maximum(np.abs(disc(x, y, (0, -0.1), 0.72)) - np.float32(0.1), y + np.float32(0.24))
    flukes = union(
        polygon(x, y, [(0.5, -0.36), (0.98, -0.42), (0.86, 0.1)]),
        polygon(x, y, [(-0.5, -0.36), (-0.98, -0.42), (-0.86, 0.1)]),
    )
    return union(
        ring, arc, flukes, stroke(x, y, (0, 0.5), (0, -0.85), 0.1), stroke(x, y, (-0.42, 0.36), (0.42, 0.36), 0.085)
    )


def crown(x: Grid, y: Grid) -> Grid:
    """Three points with pearls above a separate band."""
    body = polygon(x, y, mirrored([(0.0, 0.62), (0.28, -0.02), (0.8, 0.48), (0.68, -0.42), (0.0, -0.42)]))
    pearls = union(disc(x, y, (0, 0.7), 0.14), disc(x, y, (0.84, 0.54), 0.13), disc(x, y, (-0.84, 0.54), 0.13))
    return union(body, pearls, box(x, y, -0.7, -0.78, 0.7, -0.52))


def bird(x: Grid, y: Grid) -> Grid:
    """Perched, facing left, one wing raised."""
    body = curve(
        [
            (-0.68, 0.36),
            (-0.52, 0.5),
            (-0.32, 0.4),
            (-0.1, 0.12),
            (0.4, -0.16),
            (0.66, -0.28),
            (0.4, -0.46),
            (0.0, -0.5),
            (-0.34, -0.3),
            (-0.56, 0.02),
            (-0.68, 0.2),
        ]
    )
    beak = [(-0.62, 0.42), (-0.96, 0.28), (-0.62, 0.2)]
    tail = [(0.36, -0.2), (0.98, -0.2), (0.84, -0.38), (0.96, -0.56), (0.36, -0.44)]
    wing = curve(
        [
            (-0.24, 0.1),
            (-0.04, 0.62),
            (0.5, 0.98),
            (0.42, 0.66),
            (0.68, 0.62),
            (0.46, 0.36),
            (0.62, 0.22),
            (0.26, -0.14),
            (-0.1, -0.16),
        ]
    )
    legs = union(stroke(x, y, (-0.1, -0.45), (-0.16, -0.82), 0.05), stroke(x, y, (0.1, -0.45), (0.08, -0.82), 0.05))
    return without(
        union(*(polygon(x, y, part) for part in (body, beak, tail, wing)), legs), disc(x, y, (-0.5, 0.32), 0.065)
    )


def sun(x: Grid, y: Grid) -> Grid:
    """A disc inside a ring of twelve flames."""
    flames = without(polygon(x, y, rays(12, 1.02, 0.6)), disc(x, y, (0, 0), 0.59))
    return union(flames, disc(x, y, (0, 0), 0.48))


def arrow(x: Grid, y: Grid) -> Grid:
    """Pointing to the upper right, with two pairs of feathers."""
    u, v = (x + y) * np.float32(np.sqrt(0.5)), (y - x) * np.float32(np.sqrt(0.5))  # drawn level, turned by 45 degrees
    head = polygon(u, v, [(1.12, 0.0), (0.4, 0.42), (0.56, 0.0), (0.4, -0.42)])
    feathers = [
        polygon(u, v, [(s, 0.0), (s - 0.2, 0.3), (s - 0.44, 0.3), (s - 0.24, 0.0), (s - 0.44, -0.3), (s - 0.2, -0.3)])
        for s in (-0.6, -0.3)
    ]
    return union(head, *feathers, stroke(u, v, (-0.9, 0.0), (0.6, 0.0), 0.085))


def bell(x: Grid, y: Grid) -> Grid:
    """With ring, groove, rim and clapper."""
    body = polygon(
        x,
        y,
        curve(
            mirrored([(0.0, 0.72), (0.26, 0.64), (0.42, 0.3), (0.46, -0.1), (0.6, -0.36), (0.78, -0.54), (0.0, -0.6)]),
            6,
        ),
    )
    rim = stroke(x, y, (-0.7, -0.56), (0.7, -0.56), 0.1)
    ring = np.abs(disc(x, y, (0, 0.82), 0.13)) - np.float32(0.06)
    groove = box(x, y, -1.0, -0.4, 1.0, -0.33)
    return union(without(body, groove), rim, ring, disc(x, y, (0, -0.8), 0.16))


def leaf(x: Grid, y: Grid) -> Grid:
    """A maple leaf on its stalk."""
    blade = polygon(
        x,
        y,
        mirrored(
            [
                (0.0, 1.0),
                (0.2, 0.62),
                (0.4, 0.7),
                (0.32, 0.2),
                (0.58, 0.48),
                (0.66, 0.32),
                (0.98, 0.38),
                (0.88, 0.1),
                (0.98, -0.02),
                (0.56, -0.36),
                (0.62, -0.54),
                (0.1, -0.46),
                (0.0, -0.46),
            ]
        ),
    )
    return union(blade, stroke(x, y, (0, -0.4), (0, -0.95), 0.065))


def lily(x: Grid, y: Grid) -> Grid:
    """The fleur-de-lis."""
    petal = polygon(x, y, mirrored([(0.0, 1.02), (0.2, 0.66), (0.25, 0.36), (0.12, -0.1), (0.0, -0.2)]))
    half = curve(
        [
            (0.12, -0.14),
            (0.26, 0.3),
            (0.56, 0.52),
            (0.86, 0.34),
            (0.88, 0.06),
            (0.7, -0.12),
            (0.6, -0.02),
            (0.66, 0.14),
            (0.56, 0.24),
            (0.42, 0.12),
            (0.36, -0.14),
        ]
    )
    foot = curve([(0.02, -0.36), (0.3, -0.36), (0.5, -0.66), (0.34, -0.72), (0.2, -0.6), (0.1, -0.7), (0.02, -0.98)])
    sides = [polygon(np.abs(x), y, outline) for outline in (half, foot)]
    stem = polygon(x, y, [(-0.08, -0.3), (0.08, -0.3), (0.08, -0.7), (0.0, -0.98), (-0.08, -0.7)])
    return union(petal, *sides, stem, box(x, y, -0.46, -0.34, 0.46, -0.18))


CHARGES: dict[str, Callable[[Grid, Grid], Grid]] = {
    shape.__name__: shape
    for shape in (
        star,
        crescent,
        heart,
        tree,
        fish,
        key,
        sword,
        tower,
        anchor,
        crown,
        bird,
        sun,
        arrow,
        bell,
        leaf,
        lily,
    )
}
