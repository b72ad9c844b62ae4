# SPDX-License-Identifier: Apache-2.0
"""Settings of the documentation site, which `make docs` builds."""

from monai_sam2adapter import __version__

project = "monai_sam2adapter"
author = "The monai_sam2adapter contributors"
copyright = author
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
# the model zoo's template of a bundle's README leaves levels of headings out
suppress_warnings = ["myst.header"]

myst_heading_anchors = 3

add_module_names = False
autodoc_member_order = "groupwise"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"

html_theme = "furo"
html_title = f"{project} {version}"
