# SPDX-License-Identifier: Apache-2.0
"""Ejection fraction and myocardial mass of patients, reference against prediction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..data.datasets.acdc import ACDC_CLASS_NAMES
from ..utils import escaping_logger

__all__ = ["CardiacFunction"]

logger = escaping_logger(__name__)

_G_PER_ML = 1.05  # of myocardium
_LIMITS = 1.96  # standard deviations, between which 95 % of the differences lie
_RIGHT, _WALL, _LEFT = ACDC_CLASS_NAMES[1:]
_TRUE, _PREDICTED = "volume_true_ml", "volume_predicted_ml"


def _ejection_fraction(edv: np.ndarray, esv: np.ndarray) -> np.ndarray:
    return np.divide(100 * (edv - esv), edv, out=np.full(len(edv), np.nan), where=edv > 0)


# by the key of a measure: its title, unit and structure, and how it follows from the volumes at ED and at ES
_MEASURES: dict[str, tuple[str, str, str, Callable[[np.ndarray, np.ndarray], np.ndarray]]] = {
    "lv_edv": ("LV end-diastolic volume", "ml", _LEFT, lambda edv, esv: edv),
    "lv_esv": ("LV end-systolic volume", "ml", _LEFT, lambda edv, esv: esv),
    "lv_ef": ("LV ejection fraction", "%", _LEFT, _ejection_fraction),
    "rv_edv": ("RV end-diastolic volume", "ml", _RIGHT, lambda edv, esv: edv),
    "rv_esv": ("RV end-systolic volume", "ml", _RIGHT, lambda edv, esv: esv),
    "rv_ef": ("RV ejection fraction", "%", _RIGHT, _ejection_fraction),
    "myocardial_mass": ("Myocardial mass", "g", _WALL, lambda edv, esv: _G_PER_ML * edv),
}


class CardiacFunction:
    """
    What a clinic asks of cine MR of the heart: volumes of both ventricles at end-diastole (EDV) and end-systole (ESV),
    their ejection fraction, ``100 (EDV - ESV) / EDV`` percent, and the mass of the left ventricle's myocardium, its
    volume at end-diastole times 1.05 g/ml.

    Each is computed twice from the two frames of a patient, by the reference's volumes and by the predicted ones. Over
    the patients: the bias, mean of predicted minus reference, and the limits of agreement, the bias plus and minus 1.96
    standard deviations (of the sample) of these differences.

    Where no file tells the phases, the frame with the larger left ventricle in the reference is end-diastole, by its
    definition. Patients without two such frames are left out, as are ejection fractions whose EDV is 0; the log names
    them.

    Source: Bernard et al., IEEE TMI 2018 (the clinical metrics of ACDC); Bland and Altman, Lancet 1986.

    Args:
        cases: frames with ``case``, ``patient`` and ``phase`` (``ED``, ``ES`` or ``""``), as
            :py:func:`monai_sam2adapter.data.acdc_datalist` gives them.
        class_names: names of the scored classes, as in the report.

    Attributes:
        metrics: names of the metrics that it needs.

    Raises:
        ValueError: when right ventricle, myocardium or left ventricle is none of the classes.
    """

    metrics = (_TRUE, _PREDICTED)

    def __init__(self, cases: Sequence[Mapping[str, Any]], class_names: Sequence[str]) -> None:
        missing = [name for name in (_RIGHT, _WALL, _LEFT) if name not in class_names]
        if missing:
            raise ValueError(
                f"cardiac function needs the classes {', '.join(missing)}, got {list(class_names)}; name them so, or "
                "give CaseReportSaver no agreement."
            )
        self.cases = {str(case["case"]): case for case in cases}
        self._columns = {name: list(class_names).index(name) for name in (_RIGHT, _WALL, _LEFT)}

    def __call__(self, names: Sequence[str], scores: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """
        Args:
            names: of the ``N`` cases that were scored.
            scores: by the name of the metric, ``metrics`` among them, volumes in ml, ``(N, K)``.

        Returns:
            ``patients``, names of ``P``, and ``measures``: by the key of each ``title``, ``unit``, ``reference`` and
            ``predicted`` (``P`` numbers, NaN without a value), and over the ``n`` patients with both ``bias``, ``sd``,
            ``limit_low`` and ``limit_high``, NaN where there are too few.
        """
        pairs = self._pairs(names, scores[_TRUE][:, self._columns[_LEFT]])
        frames = np.array(list(pairs.values()), dtype=int).reshape(-1, 2).T
        measures = {}
        for key, (title, unit, structure, measure) in _MEASURES.items():
            volumes = [scores[metric][:, self._columns[structure]] for metric in self.metrics]
            reference, predicted = (measure(*(of[phase] for phase in frames)) for of in volumes)
            without = [name for name, value in zip(pairs, reference + predicted, strict=True) if np.isnan(value)]
            if without:
                logger.warning("No %s of %s: there is no %s at ED.", title, ", ".join(without), structure)
            measures[key] = {"title": title, "unit": unit, **_agreement(reference, predicted)}
        return {"patients": list(pairs), "measures": measures}

    def _pairs(self, names: Sequence[str], left: np.ndarray) -> dict[str, tuple[int, int]]:
        """By patient the numbers of the frames at ED and ES."""
        patients: dict[str, list[int]] = {}
        for number, name in enumerate(names):
            patients.setdefault(str(self.cases.get(name, {}).get("patient", name)), []).append(number)
        pairs, untold, left_out = {}, [], []
        for patient, frames in patients.items():
            phases = {self.cases.get(names[frame], {}).get("phase", ""): frame for frame in frames}
            if {"ED", "ES"} <= phases.keys() and len(phases) == len(frames):  # each phase once
                pairs[patient] = (phases["ED"], phases["ES"])
            elif len(frames) == 2 and set(phases) == {""}:
                untold.append(patient)
                systole, diastole = sorted(frames, key=lambda frame: left[frame])
                pairs[patient] = (diastole, systole)
            else:
                left_out.append(patient)
        if untold:
            logger.info(
                "No Info.cfg tells the phases of %d patients: ED is the frame with the larger left ventricle.",
                len(untold),
            )
        if left_out:
            logger.warning("No cardiac function of %s: it needs one frame at ED and one at ES.", ", ".join(left_out))
        return pairs


def _agreement(reference: np.ndarray, predicted: np.ndarray) -> dict[str, Any]:
    differences = predicted - reference
    differences = differences[~np.isnan(differences)]
    bias = float(differences.mean()) if len(differences) else np.nan
    sd = float(differences.std(ddof=1)) if len(differences) > 1 else np.nan
    return {
        "reference": reference.tolist(),
        "predicted": predicted.tolist(),
        "n": len(differences),
        "bias": bias,
        "sd": sd,
        "limit_low": bias - _LIMITS * sd,
        "limit_high": bias + _LIMITS * sd,
    }
