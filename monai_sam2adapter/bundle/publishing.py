# SPDX-License-Identifier: Apache-2.0
"""Push a packed bundle to a repository of the Hugging Face Hub, with its scores in the model card."""

from __future__ import annotations

import os
import re
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub.errors import RepositoryNotFoundError
from monai.bundle import push_to_hf_hub

from ..utils import printable, read_json
from ..utils.files import sha256_of_file
from .packing import pack_bundle

__all__ = ["PublishedBundle", "publish_bundle"]

_CARD = "docs/README.md"
# what MONAI downloads where no version is asked for
_LATEST = "latest_version"
_SCORES = re.compile(r"^## Performance\n\n.*?(?=\n\n|\n*\Z)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class PublishedBundle:
    """
    What :func:`publish_bundle` has pushed.

    Args:
        repo: the repository, ``owner/name``.
        name: name of the bundle.
        version: version of the bundle, which is a tag of the repository.
        is_latest: whether MONAI downloads it where no version is asked for.
    """

    repo: str
    name: str
    version: str
    is_latest: bool


def publish_bundle(
    bundle_root: str | os.PathLike[str],
    repo: str,
    weights: str | os.PathLike[str],
    evaluation_dir: str | os.PathLike[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    private: bool = True,
) -> PublishedBundle:
    """
    Pack a bundle with its weights and push it by MONAI's ``push_to_hf_hub``, tagged with its version.

    The bundle's README becomes the model card; the scores of an evaluation take the place of its first words on them.
    Files of an earlier version are replaced as a whole, and stay under that version's tag. The token is the one that
    ``hf auth login`` has kept, or that of the environment variable ``HF_TOKEN``.

    Args:
        bundle_root: folder of the bundle.
        repo: the repository, ``owner/name``, which is made where there is none.
        weights: as in :func:`~monai_sam2adapter.bundle.pack_bundle`.
        evaluation_dir: folder of an evaluation of these weights, with ``results.json``. Defaults to None: the card says
            that there are no scores.
        settings: as in ``pack_bundle``. Defaults to none.
        private: whether only the owner sees a repository that is made. Defaults to True.

    Returns:
        what was pushed.

    Raises:
        FileExistsError: when the repository has this version already.
        FileNotFoundError: as ``pack_bundle``, or when there is no ``results.json``.
        ValueError: as ``pack_bundle``, or when ``repo`` is no ``owner/name``, or the evaluation is of other weights.
        OSError: when the server refuses, such as without a token.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo, re.ASCII):
        raise ValueError(f"the repository must be OWNER/NAME, such as someone/heart, got {repo!r}.")
    scores = "These weights were published without scores."
    if evaluation_dir is not None:
        scores = _format_scores(_read_results(Path(evaluation_dir), Path(weights)))
    with tempfile.TemporaryDirectory() as folder:
        packed = pack_bundle(bundle_root, weights, Path(folder) / "packed", settings=settings)
        versions = _published_versions(repo)
        if packed.version in versions:
            raise FileExistsError(
                f"{repo} has the version {packed.version} already, which others may have downloaded; raise the version "
                "in configs/metadata.json."
            )
        with zipfile.ZipFile(packed.path) as archive:
            archive.extractall(folder)
        _write_scores(Path(folder) / packed.name / _CARD, scores)
        push_to_hf_hub(
            repo=repo,
            name=packed.name,
            bundle_dir=folder,
            private=private,
            version=packed.version,
            delete_patterns="*",
            commit_message=f"Version {packed.version}",
        )
    is_latest = all(_as_numbers(packed.version) > _as_numbers(other) for other in versions if _as_numbers(other))
    if is_latest:
        _move_latest(repo, packed.version, _LATEST in versions)
    return PublishedBundle(repo, packed.name, packed.version, is_latest)


def _read_results(evaluation_dir: Path, weights: Path) -> dict[str, Any]:
    results = read_json(evaluation_dir / "results.json")
    if results is None:
        raise FileNotFoundError(f"{evaluation_dir} holds no results.json; name the folder that evaluation wrote to.")
    checkpoint = str(results.get("about", {}).get("checkpoint", "an unknown file"))
    if not checkpoint.endswith(f"SHA-256 {sha256_of_file(weights)}") or checkpoint.startswith("ensemble"):
        raise ValueError(
            f"{evaluation_dir} has scores of {checkpoint}, not of {weights}; evaluate the weights that are published."
        )
    return results


def _format_scores(results: Mapping[str, Any]) -> str:
    """A table of the means with their intervals, classes in rows, and what was evaluated."""
    metrics, about = results["metrics"], results.get("about", {})
    rows = [["class", *metrics], ["---"] * (1 + len(metrics))]
    for index, name in enumerate([*results["class_names"], "mean"]):
        rows.append([str(name), *(_cell(metric["summary"][index]) for metric in metrics.values())])
    lines = [f"| {' | '.join(printable(cell).replace('|', '&#124;') for cell in row)} |" for row in rows]
    pooled = [f"{name}: {_cell(metric['summary'][-1])}" for name, metric in results["pooled"].items()]
    said = [f"{key}: {printable(value)}" for key, value in about.items() if key not in ("checkpoint", "versions")]
    words = f"Of {len(results['cases'])} cases, with 95 % intervals over them ({'; '.join(said)}):"
    return "\n".join([words, "", *lines, "", "; ".join(pooled) or "No pooled scores."]).strip()


def _cell(summary: Mapping[str, Any]) -> str:
    mean, low, high = (summary[key] for key in ("mean", "ci95_low", "ci95_high"))
    if mean is None:
        return "no value"
    return f"{mean:.3f}" if low is None or high is None else f"{mean:.3f} ({low:.3f} to {high:.3f})"


def _write_scores(card: Path, scores: str) -> None:
    """Put the scores in the place of the first paragraph about them, else at the end."""
    text = card.read_text(encoding="utf-8") if card.is_file() else "# Model Overview\n"
    section = f"## Performance\n\n{scores}"
    text = _SCORES.sub(lambda _: section, text, 1) if _SCORES.search(text) else f"{text.rstrip()}\n\n{section}\n"
    card.parent.mkdir(exist_ok=True)
    card.write_text(text, encoding="utf-8")


def _published_versions(repo: str) -> set[str]:
    try:
        return {tag.name for tag in huggingface_hub.list_repo_refs(repo).tags}
    except RepositoryNotFoundError:
        return set()


def _move_latest(repo: str, version: str, is_there: bool) -> None:
    """MONAI's own option leaves a tag where it is that is there already."""
    if is_there:
        huggingface_hub.delete_tag(repo, tag=_LATEST)
    huggingface_hub.create_tag(repo, tag=_LATEST, revision=version)


def _as_numbers(version: str) -> tuple[int, ...]:
    """To compare by; empty for a tag that is no version."""
    return tuple(map(int, version.split("."))) if re.fullmatch(r"\d+\.\d+\.\d+", version) else ()
