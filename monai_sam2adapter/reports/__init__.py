# SPDX-License-Identifier: Apache-2.0
"""Tables and pages of an evaluation."""

from __future__ import annotations

from .evaluation_results import evaluation_results, example_cases
from .html_report import render_html_report
from .tables import format_cases_csv, format_results_json, format_results_text, format_summary_csv

__all__ = [
    "evaluation_results",
    "example_cases",
    "format_cases_csv",
    "format_results_json",
    "format_results_text",
    "format_summary_csv",
    "render_html_report",
]
