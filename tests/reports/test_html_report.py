# SPDX-License-Identifier: Apache-2.0
"""The report page: well-formed, with nothing to load, and every number and name of the results in it."""

from __future__ import annotations

import base64
import io
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from monai_sam2adapter.reports import evaluation_results, render_html_report

NAN = np.nan
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Reads as a browser does: what is open at the end, which tags and texts there are."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes) -> None:
        assert tag in VOID, "a browser would leave it open"
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.texts)


def make_results(n_cases: int, class_names: list[str], spacing: str = "mm", with_pooled: bool = True) -> dict:
    generator = np.random.default_rng(0)
    shape = (n_cases, len(class_names))
    scores = {"dice": generator.uniform(size=shape), f"hd95_{spacing}": generator.uniform(0, 200, size=shape)}
    for values in scores.values():
        values[:, -1] = NAN if len(class_names) > 1 else values[:, -1]
    confusions = generator.integers(0, 5000, size=(n_cases, shape[1] + 1, shape[1] + 1)) if with_pooled else None
    cases = [f"case <{n}> & 'x'" for n in range(n_cases)]
    return {
        "title": "Organs & <b>more</b>",
        "about": {"data set": '"Synapse" </dd>', "versions": "torch 2"},
        **evaluation_results(cases, class_names, scores, confusions),
    }


SPECIAL = [
    "left <kidney>",
    'gall$bladder$ & "duct"',
    "<script>alert(1)</script>",
    "_{x}^2 \\frac",
    "Ösophagus é",
    "none",
]


@pytest.mark.parametrize(
    ("results", "n_plots"),
    [
        pytest.param(make_results(12, [*SPECIAL, *(f"organ {n}" for n in range(7))]), 2, id="thirteen_classes"),
        pytest.param(make_results(1, ["polyp"], "px"), 2, id="one_case_of_one_class"),
        pytest.param(make_results(2, ["a", "b"], with_pooled=False), 2, id="no_pooled_scores"),
        pytest.param(make_results(2, ["a", "b"]) | {"metrics": {}}, 0, id="only_pooled_scores"),
    ],
)
def test_page_is_well_formed_and_whole(results, n_plots) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (30, 20), (200, 30, 30)).save(picture, format="PNG")
    pictures = [(f"{case}: worst", picture.getvalue()) for case in results["cases"][:1]] if n_plots else []
    text = render_html_report(results, pictures)

    root = ElementTree.fromstring(text.removeprefix("<!DOCTYPE html>"))
    assert [child.tag for child in root] == ["head", "body"]
    page = Page(text)
    assert page.open == []
    names = [tag for tag, _ in page.tags]
    assert not {"script", "link", "iframe", "b"} & set(names)
    sources = [attributes[key] for _, attributes in page.tags for key in ("src", "href") if key in attributes]
    assert len(sources) == n_plots + len(pictures)
    for source in sources:
        content = base64.b64decode(source.removeprefix("data:image/png;base64,"), validate=True)
        assert Image.open(io.BytesIO(content)).size[0] >= 30
    assert all(attributes["alt"] for tag, attributes in page.tags if tag == "img")

    for shown in ("Organs & <b>more</b>", '"Synapse" </dd>', *results["class_names"]):
        assert shown in page.texts
    for measure in [*results["metrics"].values(), *results["pooled"].values()]:
        assert measure["protocol"] in page.texts
        for row in measure["summary"]:
            assert ("\N{EN DASH}" if np.isnan(row["mean"]) else f"{row['mean']:.3f}") in page.text
            if not np.isnan(row["ci95_low"]):
                assert f"[{row['ci95_low']:.3f}, {row['ci95_high']:.3f}]" in page.text
            assert f"n {row['n_valid']}" in page.text
    if results["metrics"]:
        assert set(results["cases"]) <= set(page.texts)
    assert "nan" not in page.text


def test_confusion_matrix_is_in_percent_of_the_truth() -> None:
    confusions = np.array([[[3000, 1000], [0, 0]]])
    results = {"title": "t", "about": {}, **evaluation_results(["a"], ["polyp"], {}, confusions)}
    texts = Page(render_html_report(results)).texts
    start = texts.index("Confusion matrix")
    cells = [text for text in texts[start:] if text.strip()]
    assert cells[2:8] == ["background", "polyp", "background", "75.0 %", "3,000", "25.0 %"]
    assert cells[8:14] == ["1,000", "polyp", "0.0 %", "0", "0.0 %", "0"]
