# SPDX-License-Identifier: Apache-2.0
"""Drawing a synthetic patient that looks like contrast-enhanced CT of the abdomen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from ..datasets.synapse_labels import SYNAPSE_CLASS_NAMES

__all__ = ["AbdominalPhantom"]

# Places and sizes are in mm from the middle of the body at the height of the kidneys, of a patient of medium size:
# x to the patient's left, y to the back, z to the head.

# organ -> ellipsoids (center, semi-axes, rotation about z in degrees); later organs are painted over earlier ones
_ELLIPSOIDS: dict[str, list[tuple[tuple[float, ...], tuple[float, ...], float]]] = {
    "liver": [((-72, 0, 42), (70, 84, 66), 10), ((-5, -48, 62), (72, 34, 36), 10)],
    "stomach": [((66, -8, 66), (36, 48, 40), 20), ((32, -48, 28), (48, 24, 22), 15)],
    "spleen": [((108, 34, 58), (24, 48, 44), -20)],
    "right kidney": [((-62, 44, -14), (26, 31, 54), 30)],
    "left kidney": [((62, 42, 2), (26, 31, 54), -30)],
    "gallbladder": [((-52, -52, 2), (13, 22, 20), -25)],
    "right adrenal gland": [((-32, 32, 46), (4, 13, 13), 35), ((-27, 28, 44), (9, 4, 10), 0)],
    "left adrenal gland": [((38, 28, 46), (4, 13, 13), -35), ((33, 25, 44), (9, 4, 10), 0)],
}
# organ -> center lines with radii at the first and the last point; an organ may have several
_TUBES: dict[str, list[tuple[list[tuple[float, ...]], tuple[float, float]]]] = {
    "pancreas": [([(-24, -6, -12), (-22, -10, 6), (2, -24, 16), (34, -14, 24), (84, 14, 42)], (14, 9))],
    "inferior vena cava": [([(-20, 28, -150), (-22, 24, -20), (-28, 14, 60), (-24, 2, 150)], (11, 13))],
    "aorta": [([(8, 32, -72), (12, 28, 0), (10, 34, 70), (14, 40, 150)], (9, 11))],
    "esophagus": [([(42, 2, 84), (22, 8, 92), (10, 20, 120), (8, 22, 150)], (8, 8))],
    "portal and splenic veins": [
        ([(-64, -8, 44), (-34, -6, 30), (-8, -6, 14)], (6, 7)),
        ([(-8, -6, 14), (30, 0, 24), (86, 26, 44)], (6, 4.5)),
    ],
}
# HU in the portal venous phase, and how much of it is contrast agent
_ORGAN_VALUES = {
    "liver": (110, 50),
    "stomach": (25, 0),
    "spleen": (120, 70),
    "right kidney": (175, 140),
    "left kidney": (175, 140),
    "gallbladder": (10, 0),
    "pancreas": (95, 55),
    "inferior vena cava": (135, 95),
    "aorta": (150, 110),
    "esophagus": (50, 15),
    "portal and splenic veins": (165, 125),
    "right adrenal gland": (70, 40),
    "left adrenal gland": (70, 40),
}
_AIR, _LUNG, _FAT, _MUSCLE, _WATER = -1000, -850, -100, 55, 10
_ORIENTATIONS = ((), (1,), (0, 1))  # axes that run the other way than x, y and z: LPS, LAS and RAS


class AbdominalPhantom:
    """
    One synthetic patient: an abdominal CT with the 13 organs that the challenge labels.

    Organs have the usual places, sizes and Hounsfield units of the portal venous phase, each a little different from
    patient to patient; some patients have no gallbladder, as in the data set. Muscle, fat, spine, ribs, lungs,
    heart, bowel with gas and the table surround them and are not labeled. Some patients are stored from the right to
    the left and some the other way round, which only the affine tells, so that whoever ignores it mixes up the kidneys.

    Args:
        seed: numbers that determine the patient, none negative.
    """

    def __init__(self, seed: Sequence[int]) -> None:
        self._seed = [*seed]
        rng = np.random.default_rng([*self._seed, 0])
        self._draw_grid(rng)
        self._draw_body(rng)
        self._draw_organs(rng)
        self._draw_contrast(rng)

    def render(self) -> tuple[np.ndarray, np.ndarray]:
        """
        Draw the patient; the same one each time.

        Returns:
            image in HU, ``int16``, and labels, ``uint8``, both of ``self.shape`` ``(H, W, D)``.
        """
        rng = np.random.default_rng([*self._seed, 1])
        position = self._positions()
        image = self._paint_surroundings(position)
        labels = np.zeros(self.shape, dtype=np.uint8)
        for organ, solids in self._organs.items():
            inside = np.any([solid(position) < 1 for solid in solids], axis=0)
            image[inside] = self._value[organ]
            labels[inside] = SYNAPSE_CLASS_NAMES.index(organ)
        self._paint_contents(position, labels, image)
        image = self._acquire(image, rng)
        return np.flip(image, self._flipped).copy(), np.flip(labels, self._flipped).copy()

    def _draw_grid(self, rng: np.random.Generator) -> None:
        width = int(rng.integers(112, 161))
        side = rng.uniform(370, 430) / width  # wide enough for the body
        self.shape = (width, int(width * rng.uniform(0.85, 1)), int(rng.integers(24, 41)))
        self.spacing = (side, side, rng.uniform(190, 220) / self.shape[2])  # as long as the upper abdomen
        self._flipped = _ORIENTATIONS[rng.integers(len(_ORIENTATIONS))]
        self.affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.diag([*self.spacing, 1.0])
        for axis in self._flipped:
            self.affine[:, axis] *= -1
        self.affine[:3, 3] = rng.uniform(-60, 60, 3) - self.affine[:3, :3] @ ((np.array(self.shape) - 1) / 2)

    def _draw_body(self, rng: np.random.Generator) -> None:
        self._scale = rng.uniform(0.9, 1.1, 3)
        self._center = rng.uniform([-10, -12, -40], [10, 0, -20])
        # slow bends of the whole anatomy: direction, wave vector and phase
        self._waves = [(rng.normal(0, 3, 3), rng.normal(0, 0.012, 3), rng.uniform(0, 2 * np.pi)) for _ in range(4)]
        self._fat = rng.uniform([6, 10], [14, 32])  # mm under the skin, at the sides and in front
        self._dome = rng.uniform(98, 112)  # height of the diaphragm
        self._table = rng.uniform(4, 12)  # mm of air above it
        self._bowel = [
            _Ellipsoid(rng.uniform([-95, -75, -120], [95, -10, 0]), rng.uniform(11, 22, 3), rng.uniform(-90, 90))
            for _ in range(20)
        ]
        self._gas = rng.random(20) < 0.3

    def _draw_organs(self, rng: np.random.Generator) -> None:
        self._organs: dict[str, list[_Ellipsoid | _Tube]] = {}
        for organ, ellipsoids in _ELLIPSOIDS.items():
            shift, scale, turn = rng.normal(0, 3, 3), rng.uniform(0.88, 1.1, 3), rng.uniform(-8, 8)
            self._organs[organ] = [
                _Ellipsoid(np.add(center, shift), axes * scale, angle + turn) for center, axes, angle in ellipsoids
            ]
        for organ, tubes in _TUBES.items():
            shift, width = rng.normal(0, 2, 3), rng.uniform(0.9, 1.15)
            self._organs[organ] = [_Tube(np.add(points, shift), np.multiply(radii, width)) for points, radii in tubes]
        if rng.random() < 0.07:
            del self._organs["gallbladder"]

    def _draw_contrast(self, rng: np.random.Generator) -> None:
        agent = rng.uniform(0.6, 1.15)  # how much of it there is
        self._value = {
            organ: value + (agent - 1) * contrast + rng.normal(0, 5)
            for organ, (value, contrast) in _ORGAN_VALUES.items()
        }
        self._marrow = rng.uniform(130, 250)
        self._noise = rng.uniform(8, 22)
        self._blur = rng.uniform(0.4, 0.7)  # pixels

    def _positions(self) -> np.ndarray:
        """Place in the patient of medium size of every voxel, (3, H, W, D) in mm."""
        axes = [
            (np.arange(number) - (number - 1) / 2) * side for number, side in zip(self.shape, self.spacing, strict=True)
        ]
        position = np.stack(np.meshgrid(*axes, indexing="ij"))
        position = (position - self._center[:, None, None, None]) / self._scale[:, None, None, None]
        bend = np.zeros_like(position)
        for direction, wave, phase in self._waves:
            bend += direction[:, None, None, None] * np.sin(np.tensordot(wave, position, 1) + phase)
        return (position + bend).astype(np.float32)

    def _paint_surroundings(self, position: np.ndarray) -> np.ndarray:
        """HU of all that is no organ: (H, W, D)."""
        x, y, z = position
        side, front = self._fat
        # the wall is thicker in front; the back is flat, since the patient lies on it
        body = _ellipse(x, y + 4, 150 + side, 112 + np.where(y < 0, front, side))
        wall = _ellipse(x, y + 4, 150, 108)
        cavity = _ellipse(x, y + 6, 136, 92)
        image = np.full(self.shape, float(_AIR))
        image[body < 1] = _FAT
        image[wall < 1] = _MUSCLE
        image[cavity < 1] = _FAT
        self._paint_muscles(position, image)
        for loop, gas in zip(self._bowel, self._gas, strict=True):
            depth = loop(position)
            inside = (depth < 1) & (cavity < 1)
            image[inside] = _MUSCLE + 20
            image[inside & (depth < 0.6)] = _AIR if gas else _WATER + 10
        lungs = (cavity < 1) & (z > self._dome - 50 * cavity)
        image[lungs] = _LUNG
        image[lungs & (_ellipse(x - 25, y + 30, 55, 45) < 1)] = _MUSCLE + 60  # the heart
        self._paint_bones(position, wall, image)
        table = 116 + side + self._table - x**2 / 1200  # a cradle
        image[(y > table) & (y < table + 26) & (abs(x) < 210)] = -900  # foam
        image[(y > table) & (y < table + 5) & (abs(x) < 210)] = -20  # shell
        return image

    def _paint_muscles(self, position: np.ndarray, image: np.ndarray) -> None:
        x, y, z = position
        image[_ellipse(abs(x) - 34, y - 84, 30, 20) < 1] = _MUSCLE  # along the spine
        psoas = np.clip((30 - z) / 60, 0.05, 1)
        image[_ellipse(abs(x) - 34, y - 56, 18 * psoas, 18 * psoas) < 1] = _MUSCLE
        image[(_ellipse(x, y - 46, 44, 14) < 1) & (z > 40)] = _MUSCLE  # legs of the diaphragm

    def _paint_bones(self, position: np.ndarray, wall: np.ndarray, image: np.ndarray) -> None:
        x, y, z = position
        vertebra = _ellipse(x, y - 62, 24, 19)
        disc = np.mod(z, 36) > 28
        image[vertebra < 1] = 350
        image[(vertebra < 0.8) & ~disc] = self._marrow
        image[(vertebra < 1) & disc] = 80
        arch = (
            (_ellipse(x, y - 88, 20, 14) < 1) | ((abs(x) < 5) & (y > 88) & (y < 112)) | (_ellipse(x, y - 84, 42, 5) < 1)
        )
        image[arch & ~disc] = 300
        image[_ellipse(x, y - 87, 9, 8) < 1] = 35  # spinal canal
        # ribs run around the chest from the back to the front, and downwards
        angle = np.arctan2(abs(x), y)
        image[(np.mod(z + 45 * angle, 32) < 9) & (abs(wall - 0.88) < 0.06) & (angle < 2.4) & (z > 60 * angle - 90)] = (
            450
        )

    def _paint_contents(self, position: np.ndarray, labels: np.ndarray, image: np.ndarray) -> None:
        """What is within the organs: gas, wall and folds, vessels, the pelvis of the kidneys."""
        x, y, _ = position
        stomach = labels == SYNAPSE_CLASS_NAMES.index("stomach")
        depth = np.min([solid(position) for solid in self._organs["stomach"]], axis=0)
        image[stomach & (depth > 0.75)] = _MUSCLE + 20
        image[stomach & (depth <= 0.75) & (y < -42)] = _AIR + 50  # gas rises to the front
        for side in ("right kidney", "left kidney"):
            kidney = labels == SYNAPSE_CLASS_NAMES.index(side)
            depth = self._organs[side][0](position)
            image[kidney & (depth < 0.5)] -= 40  # medulla
            image[kidney & (depth < 0.12)] = -20
        liver = labels == SYNAPSE_CLASS_NAMES.index("liver")
        vessel = abs(np.sin(x / 17) + np.cos(position[2] / 19) + np.sin(y / 15)) < 0.12
        image[liver & vessel] += 35
        esophagus = labels == SYNAPSE_CLASS_NAMES.index("esophagus")
        image[esophagus & (self._organs["esophagus"][0](position) < 0.1)] = -300

    def _acquire(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """What the scanner makes of the tissue: texture, blur, noise with the grain of the reconstruction, integers."""
        texture = gaussian_filter(rng.normal(0, 1, self.shape), (1.5, 1.5, 0.5))
        image = image + np.where(image > -200, 6 * texture / texture.std(), 0)
        image = gaussian_filter(image, (self._blur, self._blur, 0.3))
        noise = gaussian_filter(rng.normal(0, 1, self.shape), (0.6, 0.6, 0))
        return np.round(np.clip(image + self._noise * noise / noise.std(), -1024, 3071)).astype(np.int16)


class _Ellipsoid:
    """Called with positions (3, ...): the squared distance from the center, 1 on the surface."""

    def __init__(self, center: ArrayLike, axes: ArrayLike, degrees: float) -> None:
        self._center = np.asarray(center, dtype=np.float32)
        turn = Rotation.from_euler("z", -degrees, degrees=True).as_matrix()
        self._map = (np.diag(1 / np.asarray(axes)) @ turn).astype(np.float32)

    def __call__(self, position: np.ndarray) -> np.ndarray:
        offset = position - self._center[:, None, None, None]
        return (np.tensordot(self._map, offset, 1) ** 2).sum(axis=0)


class _Tube:
    """As ``_Ellipsoid``, around a line through points, of a radius that goes from that of one end to the other's."""

    def __init__(self, points: ArrayLike, radii: ArrayLike) -> None:
        self._points = np.asarray(points, dtype=np.float32)
        first, last = np.asarray(radii)
        self._radii = np.linspace(first, last, len(self._points), dtype=np.float32)

    def __call__(self, position: np.ndarray) -> np.ndarray:
        nearest = np.full(position.shape[1:], np.inf)
        for k in range(len(self._points) - 1):
            start, along = self._points[k], self._points[k + 1] - self._points[k]
            offset = position - start[:, None, None, None]
            t = np.clip(np.tensordot(along, offset, 1) / (along @ along), 0, 1)
            radius = self._radii[k] + t * (self._radii[k + 1] - self._radii[k])
            distance = ((offset - t * along[:, None, None, None]) ** 2).sum(axis=0)
            nearest = np.minimum(nearest, distance / radius**2)
        return nearest


def _ellipse(x: np.ndarray, y: np.ndarray, a: np.ndarray | float, b: np.ndarray | float) -> np.ndarray:
    """The squared distance from the middle, 1 on the ellipse; the semi-axes are in mm."""
    return (x / a) ** 2 + (y / b) ** 2
