# SPDX-License-Identifier: Apache-2.0
"""Networks: layers, blocks, adapters, nets and their weights."""
