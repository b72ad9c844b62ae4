# SPDX-License-Identifier: Apache-2.0
"""
Scores over the number of labelled cases, as a picture, from the results of ``compare``.

Its data sets are the same one with more and more cases, by split files, and their names end in the number of cases,
such as "ACDC 5". A line is a method; its bars are the standard deviation over seeds.

    python benchmarks/learning_curve.py curve_output/results.csv learning_curve.png
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev

from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter


def main() -> None:
    """Read the table and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="results.csv of a comparison")
    parser.add_argument("picture", type=Path, help="PNG or SVG to write")
    arguments = parser.parse_args()
    with arguments.results.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["state"] == "finished"]
    if not rows:
        parser.error(f"{arguments.results} has no finished trainings.")
    draw(rows).savefig(arguments.picture)
    print(arguments.picture)


def draw(rows: list[dict[str, str]]) -> Figure:
    """One line a method: mean and deviation of its scores at each number of cases."""
    scores: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        number = row["dataset"].rpartition(" ")[2]
        if not number.isdecimal():
            raise SystemExit(f"the name of the data set {row['dataset']!r} must end in its number of cases.")
        scores[row["method"]][int(number)].append(float(row["score"]))
    figure = Figure(figsize=(6, 4), dpi=130, layout="constrained")
    axes = figure.add_subplot()
    for marker, (method, by_number) in zip("osD^vP*Xh<>" * len(scores), scores.items(), strict=False):
        numbers = sorted(by_number)
        means = [mean(by_number[number]) for number in numbers]
        spread = [stdev(by_number[number]) if len(by_number[number]) > 1 else 0.0 for number in numbers]
        axes.errorbar(numbers, means, yerr=spread, marker=marker, capsize=3, label=method)
    axes.set_xscale("log")
    axes.set_xticks(sorted({number for by_number in scores.values() for number in by_number}), minor=False)
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.minorticks_off()
    axes.set(xlabel="labelled cases", ylabel=rows[0]["metric"])
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure


if __name__ == "__main__":
    main()
