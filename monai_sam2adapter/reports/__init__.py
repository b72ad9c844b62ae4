# SPDX-License-Identifier: Apache-2.0
"""Tables and pages of an evaluation."""

from __future__ import annotations

from .cardiac_function import CardiacFunction
from .case_names import get_case_names, get_case_sources
from .evaluation_results import evaluation_results, example_cases
from .html_report import render_html_report
from .report_files import AGREEMENT_FILES, REPORT_FILES, format_results_text, write_report

__all__ = [
    "AGREEMENT_FILES",
    "REPORT_FILES",
    "CardiacFunction",
    "evaluation_results",
    "example_cases",
    "format_results_text",
    "get_case_names",
    "get_case_sources",
    "render_html_report",
    "write_report",
]
