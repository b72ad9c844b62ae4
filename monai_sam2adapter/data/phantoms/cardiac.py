# SPDX-License-Identifier: Apache-2.0
"""Drawing a synthetic patient that looks like cine MR of the heart in short-axis view."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from monai.utils import look_up_option
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

__all__ = ["CardiacPhantom"]

# a patient of each pathology of ACDC: factors on the size of the left cavity, the thickness of the wall, the size of
# the right ventricle, and on how much the left cavity shrinks in systole
_GROUPS = {
    "NOR": (1.0, 1.0, 1.0, 1.0),
    "DCM": (1.2, 0.9, 1.0, 0.5),
    "HCM": (0.95, 1.3, 0.95, 1.1),
    "MINF": (1.1, 0.95, 1.0, 0.5),
    "RV": (0.95, 1.0, 1.2, 1.0),
}
_PHASES = ("ED", "ES")


class _Slice(NamedTuple):
    """Pixel coordinates of one slice in mm, from the middle of the image, ``(H, W)`` each, and its place."""

    x: np.ndarray
    y: np.ndarray
    depth: float  # 0 in the first slice, 1 in the last


class CardiacPhantom:
    """
    One synthetic patient: two frames of a beating heart in a chest, with the labels of ACDC.

    The left ventricle is a cup of myocardium around a cavity, the right one a crescent beside it; both get narrower
    from base to apex, so that slices at the ends may hold none. Size, place, rotation, contrast, bias field and noise
    vary from patient to patient. Chest wall, lungs, abdomen, vessels, atria and a ring that is no heart surround
    them, with intensities that overlap with those of the heart.

    Args:
        seed: numbers that determine the patient, none negative.
        group: pathology: ``NOR``, ``DCM``, ``HCM``, ``MINF`` or ``RV``. Defaults to ``NOR``.

    Raises:
        ValueError: when ``group`` is none of these.
    """

    def __init__(self, seed: Sequence[int], group: str = "NOR") -> None:
        self._seed = [*seed]
        self._lv_factor, self._wall_factor, self._rv_factor, self._beat = look_up_option(group, _GROUPS)
        rng = np.random.default_rng([*self._seed, 0])
        self._draw_grid(rng)
        self._draw_heart(rng)
        self._draw_surroundings(rng)
        self._draw_contrast(rng)

    def render(self, phase: str) -> tuple[np.ndarray, np.ndarray]:
        """
        Draw one frame; the same one each time.

        Args:
            phase: ``ED`` (end of diastole, the heart is large) or ``ES`` (end of systole).

        Returns:
            image of ``self.dtype`` and labels of ``uint8``, both of ``self.shape`` ``(H, W, D)``.

        Raises:
            ValueError: when ``phase`` is neither.
        """
        phase = look_up_option(phase, _PHASES)
        rng = np.random.default_rng([*self._seed, 1 + _PHASES.index(phase)])
        height, width, depth = self.shape
        x, y = np.meshgrid(
            (np.arange(height) - (height - 1) / 2) * self.spacing[0],
            (np.arange(width) - (width - 1) / 2) * self.spacing[1],
            indexing="ij",
        )
        image = np.zeros(self.shape)
        labels = np.zeros(self.shape, dtype=np.uint8)
        for k in range(depth):
            place = _Slice(x, y, k / (depth - 1))
            image[..., k] = self._paint_surroundings(place)
            shift = rng.normal(0, 1, 2)  # mm, the breath is not held at the same place in every slice
            labels[..., k] = self._paint_heart(place, phase, shift, image[..., k])
        return self._acquire(image, rng), labels

    def _draw_grid(self, rng: np.random.Generator) -> None:
        side = rng.uniform(1.2, 1.9)
        self.spacing = (side, side, rng.uniform(5, 10))
        # at least 170 mm, so that the heart is in the image
        low = max(96, int(170 / side))
        self.shape = (int(rng.integers(low, 161)), int(rng.integers(low, 161)), int(rng.integers(6, 11)))
        rotation = Rotation.from_euler("xyz", rng.uniform(-45, 45, 3), degrees=True).as_matrix()
        self.affine = np.eye(4)
        self.affine[:3, :3] = rotation @ np.diag(np.array([-1, -1, 1]) * self.spacing)
        self.affine[:3, 3] = rng.uniform(-30, 30, 3) - self.affine[:3, :3] @ ((np.array(self.shape) - 1) / 2)

    def _draw_heart(self, rng: np.random.Generator) -> None:
        """Sizes at the base in mm, for each phase where the beat changes them."""
        cavity = self._lv_factor * rng.uniform(20, 26)
        wall = self._wall_factor * rng.uniform(7, 9.5)
        shrink = 1 - self._beat * rng.uniform(0.28, 0.4)
        right = self._rv_factor * np.array([rng.uniform(24, 31), rng.uniform(31, 40)])
        self._cavity = {"ED": cavity, "ES": cavity * shrink}
        self._wall = {"ED": wall, "ES": wall * (1 + 0.8 * (1 - shrink))}
        self._right = {"ED": right, "ES": right * rng.uniform(0.75, 0.88)}
        # the base moves towards the apex, by this part of the length
        self._base = {"ED": 0.0, "ES": rng.uniform(0.05, 0.15)}
        # slices before the base and behind the apex, as parts of the stack
        self._ends = rng.uniform(-0.15, 0.06), 1 + rng.uniform(-0.1, 0.1)
        self._center = rng.uniform(-12, 12, 2) + np.array([0.0, -8.0])
        self._tilt = rng.uniform(-12, 12, 2)  # mm from base to apex
        self._right_angle = np.pi + rng.uniform(-0.6, 0.6)
        self._contour = [(order, rng.uniform(0.0, 0.1) / order, rng.uniform(0, 2 * np.pi)) for order in (2, 3, 4)]
        self._papillary = rng.uniform(0, 2 * np.pi) + np.array([0.0, rng.uniform(1.6, 2.6)])

    def _draw_surroundings(self, rng: np.random.Generator) -> None:
        fov = np.array(self.shape[:2]) * self.spacing[:2]
        self._body = rng.uniform(-8, 8, 2), fov * rng.uniform([0.42, 0.46], [0.5, 0.56])
        self._rim = rng.uniform(6, 14), rng.uniform(6, 12)  # mm of fat and of muscle
        self._diaphragm = self._center[1] + rng.uniform(28, 42), rng.uniform(-25, -5), rng.uniform(0.1, 0.35)
        self._sac = rng.uniform(6, 16)  # mm of fat around the heart
        self._vessels = [(rng.uniform(-0.4, 0.4, 2) * fov, rng.uniform(1.5, 4)) for _ in range(12)]
        self._aorta = self._center + rng.uniform([38, 25], [55, 45]), rng.uniform(8, 12)
        self._organs = [
            (np.array([rng.uniform(-0.4, 0.4) * fov[0], rng.uniform(0.2, 0.45) * fov[1]]), rng.uniform(7, 16, 2))
            for _ in range(5)
        ]
        self._organ_values = rng.uniform(0.15, 0.8, 5)
        # a ring beside the heart that is none: a loop of bowel
        self._ring = np.array([rng.uniform(-0.3, 0.3) * fov[0], rng.uniform(0.28, 0.38) * fov[1]]), rng.uniform(10, 18)

    def _draw_contrast(self, rng: np.random.Generator) -> None:
        blood = rng.uniform(0.65, 1.0)
        myocardium = blood * rng.uniform(0.22, 0.45)
        self._value = {
            "blood": blood,
            "right": blood * rng.uniform(0.8, 1.1),
            "myocardium": myocardium,
            "fat": rng.uniform(0.55, 1.2),
            "muscle": rng.uniform(0.2, 0.45),
            "lung": rng.uniform(0.03, 0.14),
            "abdomen": rng.uniform(0.2, 0.55),
            "sac": myocardium + rng.uniform(0.08, 0.4),  # fat, or the wall would have no outside
        }
        self._texture = rng.uniform(0.03, 0.1)
        self._blur = rng.uniform(0.4, 0.8)  # pixels
        self._noise = rng.uniform(0.015, 0.05)
        self._bias = rng.normal(0, 0.18, 6)
        self._scale = rng.uniform(250, 2500)
        self.dtype = np.dtype(rng.choice(["int16", "uint16"]))

    def _paint_surroundings(self, place: _Slice) -> np.ndarray:
        x, y, depth = place
        value = self._value
        image = np.zeros(x.shape)
        inside = _ellipse(x, y, *self._body)
        fat, muscle = self._rim
        image[inside < 1] = value["fat"]
        image[_ellipse(x, y, self._body[0], self._body[1] - fat) < 1] = value["muscle"]
        chest = _ellipse(x, y, self._body[0], self._body[1] - fat - muscle) < 1
        image[chest] = value["lung"]
        for center, radius in self._vessels:
            image[chest & (_ellipse(x, y, center, radius) < 1)] = value["blood"]
        level, rise, slope = self._diaphragm
        abdomen = chest & (y > level + rise * depth + slope * (x - self._center[0]))
        image[abdomen] = value["abdomen"]
        for (center, axes), organ in zip(self._organs, self._organ_values, strict=True):
            # organs come and go along the stack
            image[abdomen & (_ellipse(x, y, center, axes * (0.6 + 0.6 * depth)) < 1)] = organ
        center, radius = self._ring
        image[abdomen & (_ellipse(x, y, center, radius) < 1)] = value["myocardium"]
        image[abdomen & (_ellipse(x, y, center, 0.65 * radius) < 1)] = value["blood"]
        image[chest & (_ellipse(x, y, *self._aorta) < 1)] = value["blood"]
        return image

    def _paint_heart(self, place: _Slice, phase: str, shift: np.ndarray, image: np.ndarray) -> np.ndarray:
        """Paint the heart into ``image`` and return its labels."""
        value = self._value
        labels = np.zeros(image.shape, dtype=np.uint8)
        first, last = self._ends
        t = (place.depth - first) / (last - first)  # 0 at the base, 1 at the apex, in diastole
        t = (t - self._base[phase]) / (1 - self._base[phase])
        center = self._center + self._tilt * place.depth + shift
        x, y = place.x - center[0], place.y - center[1]
        if t >= 1:
            return labels
        if t < 0:
            self._paint_atria(x, y, phase, image)
            return labels
        radius, angle = np.hypot(x, y), np.arctan2(y, x)
        radius = radius / (1 + sum(size * np.cos(order * (angle - turn)) for order, size, turn in self._contour))
        outer = (self._cavity[phase] + self._wall[phase]) * np.sqrt(1 - (0.97 * t) ** 3)
        inner = outer - self._wall[phase] * (1 - 0.25 * t)
        wall = radius < outer
        cavity = radius < (inner if inner > 2 else 0)
        right, right_wall = self._right_ventricle(x, y, t, outer, phase)
        image[(radius < outer + self._sac) | right_wall] = value["sac"]
        image[right_wall & ~right] = value["myocardium"]
        image[right & ~wall] = value["right"]
        image[wall] = value["myocardium"]
        image[cavity] = value["blood"]
        labels[right & ~wall] = 1
        labels[wall] = 2
        labels[cavity] = 3
        # papillary muscles look like myocardium and belong to the cavity, as in the labels of ACDC
        for turn in self._papillary:
            muscle = np.array([np.cos(turn), np.sin(turn)]) * 0.65 * inner
            image[cavity & (_ellipse(x, y, muscle, max(0.14 * inner, 0.1)) < 1)] = value["myocardium"]
        return labels

    def _right_ventricle(
        self, x: np.ndarray, y: np.ndarray, t: float, outer: float, phase: str
    ) -> tuple[np.ndarray, np.ndarray]:
        """Masks of the cavity, still with the part that the left ventricle covers, and of the cavity with its wall."""
        if t >= 0.85:
            nothing = np.zeros(x.shape, dtype=bool)
            return nothing, nothing
        along = np.cos(self._right_angle) * x + np.sin(self._right_angle) * y
        across = np.cos(self._right_angle) * y - np.sin(self._right_angle) * x
        along = along + across**2 / 150  # bent around the left ventricle
        center, axes = np.array([0.9 * outer, 0.0]), self._right[phase] * np.sqrt(1 - (t / 0.85) ** 2)
        return _ellipse(along, across, center, axes) < 1, _ellipse(along, across, center, axes + 2.5) < 1

    def _paint_atria(self, x: np.ndarray, y: np.ndarray, phase: str, image: np.ndarray) -> None:
        """Above the base: bright chambers and a vessel with hardly a wall, none of which is labeled."""
        size = self._cavity["ED"]
        image[_ellipse(x, y, np.zeros(2), 1.6 * size) < 1] = self._value["sac"]
        direction = np.array([np.cos(self._right_angle), np.sin(self._right_angle)])
        image[_ellipse(x, y, 1.3 * size * direction, 0.9 * size) < 1] = self._value["right"]
        image[_ellipse(x, y, -0.5 * size * direction, np.array([0.9, 0.7]) * size) < 1] = self._value["blood"]
        image[_ellipse(x, y, np.array([0.2, -0.7]) * size, 0.45 * size) < 1] = self._value["blood"]

    def _acquire(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """What the scanner makes of the tissue: texture, blur, bias field, Rician noise, integers."""
        texture = gaussian_filter(rng.normal(0, 1, self.shape), (1.5, 1.5, 0))
        image = image * (1 + self._texture * texture / texture.std())
        image = gaussian_filter(image, (self._blur, self._blur, 0))
        x, y, z = np.meshgrid(*[np.linspace(-1, 1, side) for side in self.shape], indexing="ij")
        terms = (x, y, z, x * y, x**2 - 1 / 3, y**2 - 1 / 3)
        image = image * np.exp(sum(weight * term for weight, term in zip(self._bias, terms, strict=True)))
        real, imaginary = rng.normal(0, self._noise, (2, *self.shape))
        image = np.hypot(image + real, imaginary)
        return np.round(self._scale * image).astype(self.dtype)


def _ellipse(x: np.ndarray, y: np.ndarray, center: np.ndarray, axes: np.ndarray | float) -> np.ndarray:
    """Below 1 inside the ellipse; the semi-axes, in mm, are one number for a circle."""
    a, b = np.broadcast_to(axes, 2)
    return ((x - center[0]) / a) ** 2 + ((y - center[1]) / b) ** 2
