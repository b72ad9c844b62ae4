# SPDX-License-Identifier: Apache-2.0
"""The numbers of a report against numpy, and the choice of examples."""

from __future__ import annotations

import numpy as np
import pytest

from monai_sam2adapter.metrics import METRIC_PROTOCOLS, bootstrap_interval
from monai_sam2adapter.reports import evaluation_results, example_cases

NAN = np.nan
CASES = ["p1", "p2", "p3", "p4"]
CLASSES = ["liver", "spleen", "oesophagus"]
DICE = np.array([[0.9, 0.5, NAN], [0.7, NAN, NAN], [0.0, NAN, NAN], [0.8, NAN, NAN]])
RANKED = np.array([[0.9, 0.5, NAN], [0.6, NAN, NAN], [0.0, NAN, 0.0], [0.8, NAN, NAN]])
# truth in rows: background, liver, spleen; no case contains the spleen
CONFUSIONS = np.array([[[9, 1, 0], [2, 4, 0], [0, 0, 0]], [[15, 0, 0], [0, 1, 0], [0, 0, 0]]])


def test_summary_of_each_class() -> None:
    results = evaluation_results(CASES, CLASSES, {"dice": DICE})
    assert (results["cases"], results["class_names"]) == (CASES, CLASSES)
    np.testing.assert_array_equal(results["metrics"]["dice"]["values"], DICE)
    liver, spleen, oesophagus, mean = results["metrics"]["dice"]["summary"]
    assert [row["class"] for row in (liver, spleen, oesophagus, mean)] == [*CLASSES, "mean"]
    assert [row["n_valid"] for row in (liver, spleen, oesophagus, mean)] == [4, 1, 0, 5]
    for statistic in ("mean", "std", "median", "min", "max"):
        assert liver[statistic] == pytest.approx(getattr(np, statistic)(DICE[:, 0]))
        assert spleen[statistic] == pytest.approx(getattr(np, statistic)([0.5]))
        assert np.isnan(oesophagus[statistic])
        if statistic != "mean":  # no case has a spread or an extreme of the classes' mean
            assert np.isnan(mean[statistic])
    assert mean["mean"] == pytest.approx((liver["mean"] + spleen["mean"]) / 2)
    low, high = bootstrap_interval(DICE[:, :1])
    assert (liver["ci95_low"], liver["ci95_high"]) == (low[0], high[0])
    assert np.isnan([spleen["ci95_low"], spleen["ci95_high"], oesophagus["ci95_low"]]).all()
    assert mean["ci95_low"] < mean["mean"] < mean["ci95_high"]
    assert results["pooled"] == {}
    assert results["confusion_matrix"] is None


def test_interval_of_the_mean_is_of_all_classes_together() -> None:
    """A resample without the only case of a class would average the others alone, and here reach 0.9."""
    values = np.array([[0.9, NAN], [0.9, NAN], [0.9, 0.1]])
    *_, mean = evaluation_results(["a", "b", "c"], ["easy", "hard"], {"dice": values})["metrics"]["dice"]["summary"]
    assert (mean["mean"], mean["ci95_low"], mean["ci95_high"]) == (0.5, 0.5, 0.5)


def test_mean_of_classes_without_interval_has_none() -> None:
    *_, mean = evaluation_results(CASES, CLASSES[1:], {"dice": DICE[:, 1:]})["metrics"]["dice"]["summary"]
    assert mean["mean"] == 0.5
    assert np.isnan([mean["ci95_low"], mean["ci95_high"]]).all()


def test_pooled_scores_by_hand() -> None:
    """Summed: background 24 common, 25 true, 26 predicted; liver 5 common, 7 true, 6 predicted."""
    results = evaluation_results(CASES[:2], CLASSES[:2], {}, CONFUSIONS)
    assert results["confusion_matrix"] == {
        "class_names": ["background", "liver", "spleen"],
        "counts": [[24, 1, 0], [2, 5, 0], [0, 0, 0]],
        "case_counts": CONFUSIONS.tolist(),
    }
    background, liver, spleen, mean = results["pooled"]["miou_pooled"]["summary"]
    assert background["mean"] == pytest.approx(24 / 27)
    assert liver["mean"] == pytest.approx(5 / 8)
    assert np.isnan(spleen["mean"])
    assert mean["mean"] == pytest.approx((24 / 27 + 5 / 8) / 2)
    # of two cases, a quarter of the resamples is either one twice: the ends of the interval
    assert (liver["ci95_low"], liver["ci95_high"]) == (pytest.approx(4 / 7), 1)
    assert [row["n_valid"] for row in (background, liver, spleen, mean)] == [2, 2, 0, 2]
    assert results["pooled"]["dice_pooled"]["summary"][1]["mean"] == pytest.approx(10 / 13)


def test_names_fit_a_matrix_with_and_without_background() -> None:
    named = evaluation_results(CASES[:2], CLASSES, {}, CONFUSIONS)["confusion_matrix"]
    assert named["class_names"] == CLASSES
    unnamed = evaluation_results(CASES[:2], CLASSES[:2], {}, CONFUSIONS, "cell")["confusion_matrix"]
    assert unnamed["class_names"] == ["cell", *CLASSES[:2]]
    with pytest.raises(ValueError, match="confusion matrices have 3 classes, expected 2: background and those of"):
        evaluation_results(CASES[:2], CLASSES[:1], {}, CONFUSIONS)


def test_scores_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"metric dice has values of shape \(4, 3\), expected 4 cases x 2 classes"):
        evaluation_results(CASES, CLASSES[:2], {"dice": DICE})


def test_protocol_is_told_and_an_unknown_one_is_named() -> None:
    metrics = evaluation_results(CASES, CLASSES, {"dice_transunet": DICE, "own": DICE})["metrics"]
    assert metrics["dice_transunet"]["protocol"] == METRIC_PROTOCOLS["dice_transunet"].text
    assert metrics["own"]["title"] == "own"
    assert "No protocol is on record" in metrics["own"]["protocol"]


@pytest.mark.parametrize("name", METRIC_PROTOCOLS)
def test_every_protocol_says_what_n_is_or_that_all_count(name) -> None:
    protocol = METRIC_PROTOCOLS[name]
    assert "(n)" in protocol.text or "n: cases" in protocol.text or "Every case counts" in protocol.text
    assert protocol.larger_is_better != name.startswith(
        ("hd95", "asd", "mae", "volume_difference", "ece", "ace", "mce")
    )


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        pytest.param({"dice": RANKED, "iou": 1 - RANKED}, {2: "worst", 1: "median", 3: "best"}, id="four"),
        pytest.param({"hd95_mm": RANKED}, {3: "worst", 0: "median", 2: "best"}, id="small_is_good"),
        pytest.param({"dice": RANKED[2:]}, {0: "worst and median", 1: "best"}, id="two"),
        pytest.param({"dice": RANKED[:1]}, {0: "worst and median and best"}, id="one"),
        pytest.param({"dice": RANKED[:1, 2:]}, {}, id="no_value"),
        pytest.param({}, {}, id="no_metric"),
    ],
)
def test_examples(scores, expected) -> None:
    """Case means: 0.7, 0.6, 0 and 0.8."""
    assert example_cases(scores) == expected
