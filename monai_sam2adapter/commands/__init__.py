# SPDX-License-Identifier: Apache-2.0
"""The commands of ``python -m monai_sam2adapter``, one file each, each with its ``add_parser``."""
