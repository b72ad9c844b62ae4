# SPDX-License-Identifier: Apache-2.0
"""The layouts in which people keep images with labels: a datalist, a folder of nnU-Net or MSD, two folders."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...utils.files import read_json
from ..dicom import DicomSeries
from ..find_images import IMAGE_EXTENSIONS
from .dataset_json import channel_names, class_names
from .label_names import image_name, naming_hint, require_pattern

__all__ = ["LAYOUTS", "LabeledCases", "find_labeled_cases", "path_of"]

LAYOUTS = (
    "a datalist in JSON (MONAI: lists 'training', 'validation', 'testing'), a folder of nnU-Net or of the Medical "
    "Segmentation Decathlon (dataset.json, imagesTr, labelsTr), or a folder with 'images' and 'labels' (or 'masks')"
)
_DATASET = "dataset.json"
_LISTS = {"train": ("training",), "val": ("validation", "val"), "test": ("testing", "test")}
_CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")


@dataclass
class LabeledCases:
    """
    What :func:`find_labeled_cases` has found.

    Args:
        file: what it was read from: the folder, or the datalist.
        cases: for ``train``, ``val`` and ``test`` the cases that the data put there, with ``image`` (a path, or one for
            each channel), ``label`` (a path) and ``case``; all in ``train`` where the data do not say.
        class_names: what the labels 0, 1, ... stand for; None where the data do not say.
        channel_names: names of the channels, such as CT; None where the data do not say.
        ignore_label: number of the label ``ignore`` of nnU-Net, whose voxels do not count; None where there is none.
        folds: the number of the fold that a training case is validated in, where the data say.
        problems: one text for everything that is missing, of no use, or there twice, with its file.
        notes: one text for everything that is left out.
    """

    file: Path
    cases: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {part: [] for part in _LISTS})
    class_names: tuple[str, ...] | None = None
    channel_names: tuple[str, ...] | None = None
    ignore_label: int | None = None
    folds: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def all_cases(self) -> list[dict[str, Any]]:
        """The cases of all parts."""
        return [case for part in self.cases.values() for case in part]


def find_labeled_cases(dataset_dir: str | os.PathLike[str] | None, kind: str, label_pattern: str = "*") -> LabeledCases:
    """
    Find every image with labels, whichever of the layouts it is:

    - a datalist: a JSON file with the lists ``training`` and, if there are such, ``validation`` and ``testing`` of
      ``{"image": ..., "label": ...}``, paths from the file's folder on; ``image`` may be a list of files, one a
      channel; ``fold`` numbers in ``training`` say where a case is validated. Class names and channels are read from
      ``labels`` and ``channel_names`` or ``modality``, as below;
    - a folder of the Medical Segmentation Decathlon or of nnU-Net v1: its ``dataset.json`` is such a list;
    - a folder of nnU-Net v2: ``imagesTr/CASE_0000.nii.gz``, one file a channel, and ``labelsTr/CASE.nii.gz``;
      ``dataset.json`` has ``labels`` and ``channel_names``. Test cases are those of ``imagesTs`` with ``labelsTs``;
    - a folder ``images`` and a folder ``labels`` or ``masks`` with files of the same names, or of names by a pattern; a
      ``dataset.json`` beside them may name ``labels`` and ``channel_names``.

    An image may be a DICOM series: its folder, ``FOLDER#series=UID`` or a file. Files of another kind and hidden ones
    are left out. Nothing is read but the JSON and headers of DICOM files.

    Args:
        dataset_dir: the folder, or the datalist.
        kind: "volume" or "picture".
        label_pattern: of two folders, what labels are called, with ``*`` in place of the image's name, such as
            ``*_mask``. Defaults to "*", the same.

    Returns:
        what was found, complete or not.

    Raises:
        FileNotFoundError: when there is no such folder or file.
        ValueError: when it is of another layout, or the JSON is malformed: labels that are no numbers from 0 up,
            regions (of nnU-Net), lists of something else.
    """
    if dataset_dir is None:  # the default of the bundles
        raise ValueError(f"there is no dataset_dir; expected {LAYOUTS}")
    require_pattern(label_pattern)
    root = Path(dataset_dir).expanduser()
    if root.suffix.lower() == ".json":
        found = _read_json(root)
        _take_lists(found, root, kind)
    elif not root.is_dir():
        raise FileNotFoundError(f"no folder or file {root}; expected {LAYOUTS}")
    else:
        found = _read_json(root / _DATASET) if (root / _DATASET).is_file() else LabeledCases(root)
        if found.file != root and _is_datalist(read_json(root / _DATASET)):
            _take_lists(found, root / _DATASET, kind)
        elif found.file != root and (root / "imagesTr").is_dir():
            _take_nnunet(found, root, kind)
        else:
            _take_two_folders(found, root, kind, label_pattern)
            label_pattern = "*"
        found.file = root
    if label_pattern != "*":
        raise ValueError(f"label_pattern is {label_pattern!r}, but {root} lists its labels by itself; leave it out")
    _check_cases(found, kind)
    return found


def _read_json(path: Path) -> LabeledCases:
    """Class names and channels of a dataset.json or datalist."""
    content = read_json(path)
    if content is None:
        raise FileNotFoundError(f"no file {path}; expected {LAYOUTS}")
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, expected an object: {LAYOUTS}")
    found = LabeledCases(path)
    if "labels" in content:
        found.class_names, found.ignore_label = class_names(content["labels"], path)
    for key in ("channel_names", "modality"):
        if key in content and found.channel_names is None:
            found.channel_names = channel_names(content[key], key, path)
    return found


def _is_datalist(content: Mapping[str, Any]) -> bool:
    return any(name in content for name in _LISTS["train"])


def _take_lists(found: LabeledCases, path: Path, kind: str) -> None:
    content = read_json(path)
    if not _is_datalist(content):
        raise ValueError(f"{path} has no list 'training', only {', '.join(content)}; expected {LAYOUTS}")
    entries: list[tuple[str, dict[str, Any]]] = []
    for part, names in _LISTS.items():
        listed: Any = next((content[name] for name in names if name in content), [])
        if not isinstance(listed, list):
            raise ValueError(f"{path}: {names[0]} is a {type(listed).__name__}, expected a list of images and labels")
        without = sum(part == "test" and not _has_label(entry) for entry in listed)
        if without:
            found.notes.append(f"{path}: {without} images for testing have no labels and are left out")
        for number, entry in enumerate(listed):
            if part == "test" and not _has_label(entry):
                continue
            if not _has_label(entry) or not _is_image(entry.get("image")):
                raise ValueError(
                    f"{path}, {names[0]}, entry {number}: got {str(entry)[:120]}; expected an object with 'image' (a "
                    "path, or a list with one a channel) and 'label' (a path)"
                )
            entries.append((part, entry))
    stated = content.get("numTraining")
    listed = len(content["training"])
    if isinstance(stated, int) and stated != listed:
        found.problems.append(f"{path}: numTraining is {stated}, but training lists {listed}; correct it")
    for (part, entry), name in zip(entries, _unique_names([entry for _, entry in entries]), strict=True):
        files, label = _image_files(entry["image"], path.parent), path.parent / entry["label"]
        missing = [file for file in [*files, label] if not path_of(file).exists()]
        found.problems += [f"{file}: is not there, listed in {path}" for file in missing]
        found.cases[part].append(_case(name, files, label))
        fold = entry.get("fold")
        if part == "train" and fold is not None:
            if isinstance(fold, bool) or not isinstance(fold, int) or fold < 0:
                raise ValueError(f"{path}: the fold of {name} is {fold!r}; expected an integer from 0 on")
            found.folds[name] = fold
    if found.folds and found.cases["val"]:
        found.notes.append(f"{path}: the list 'validation' is taken, and not the numbers 'fold'")
        found.folds = {}
    if found.folds and len(found.folds) < len(found.cases["train"]):
        raise ValueError(f"{path}: only {len(found.folds)} of {len(found.cases['train'])} cases have a 'fold'")
    _note_unlisted(found, path.parent / "imagesTr", kind)


def _has_label(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("label"), str)


def _is_image(image: Any) -> bool:
    return all(isinstance(name, str) for name in image) if isinstance(image, list) and image else isinstance(image, str)


def _image_files(image: str | Sequence[str], root: Path) -> list[Path]:
    """The files of an image; one that is not there may stand for those of its channels, as in nnU-Net v1."""
    files = [root / name for name in _files_of(image)]
    if len(files) == 1 and not path_of(files[0]).exists() and files[0].parent.is_dir():
        stem, extension = _split_name(files[0])
        numbered = re.compile(rf"{re.escape(stem)}_\d{{4}}{re.escape(extension)}")
        return sorted(path for path in files[0].parent.iterdir() if numbered.fullmatch(path.name)) or files
    return files


def _note_unlisted(found: LabeledCases, folder: Path, kind: str) -> None:
    listed = {file for case in found.all_cases for file in _files_of(case["image"])}
    extra = [path for path in _files(folder, kind, found) if str(path) not in listed] if folder.is_dir() else []
    if extra:
        found.notes.append(f"{len(extra)} files in {folder} are not listed and are left out, such as {extra[0].name}")


def _take_nnunet(found: LabeledCases, root: Path, kind: str) -> None:
    if found.class_names is None or found.channel_names is None:
        raise ValueError(f"{root / _DATASET} has no 'labels', or no 'channel_names'; nnU-Net v2 requires both")
    ending = read_json(root / _DATASET).get("file_ending")
    for part, suffix in (("train", "Tr"), ("test", "Ts")):
        image_dir, label_dir = root / f"images{suffix}", root / f"labels{suffix}"
        if part == "test" and not label_dir.is_dir():
            continue
        images: dict[str, dict[int, Path]] = {}
        for path in _listed(image_dir, kind, ending, found):
            match = _CHANNEL.fullmatch(_split_name(path)[0])
            if match is None:
                found.problems.append(f"{path}: has no number of its channel; expected CASE_0000{ending or ''}")
            else:
                images.setdefault(match["case"], {})[int(match["channel"])] = path
        labels = {_split_name(path)[0]: path for path in _listed(label_dir, kind, ending, found)}
        for case in sorted(images.keys() | labels.keys()):
            channels, label = images.get(case, {}), labels.get(case)
            if not channels:
                found.problems.append(f"{label}: labels without their image {case}_0000 in {image_dir}")
            elif label is None:
                found.problems.append(f"{next(iter(channels.values()))}: its labels {case} in {label_dir} are missing")
            elif sorted(channels) != list(range(len(channels))):
                found.problems.append(f"{label}: its image has the channels {sorted(channels)}; expected 0, 1, ...")
            else:
                found.cases[part].append(_case(case, [channels[number] for number in sorted(channels)], label))
    stated = read_json(root / _DATASET).get("numTraining")
    there = len(found.cases["train"])
    if isinstance(stated, int) and stated != there and not found.problems:
        found.problems.append(f"{root / _DATASET}: numTraining is {stated}, but {there} cases are there; correct it")


def _listed(folder: Path, kind: str, ending: str | None, found: LabeledCases) -> list[Path]:
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}; expected {LAYOUTS}")
    files = _files(folder, kind, found)
    if ending is not None:
        others = [path for path in files if not path.name.endswith(ending)]
        found.problems += [f"{path}: does not end in {ending}, as dataset.json says (file_ending)" for path in others]
    return [path for path in files if ending is None or path.name.endswith(ending)]


def _take_two_folders(found: LabeledCases, root: Path, kind: str, label_pattern: str) -> None:
    label_dirs = [root / name for name in ("labels", "masks") if (root / name).is_dir()]
    if not (root / "images").is_dir() or len(label_dirs) != 1:
        there = ", ".join(sorted(path.name for path in root.iterdir())[:8]) or "nothing"
        raise ValueError(f"{root} holds {there}; expected {LAYOUTS}")
    image_files, label_files = (_files(folder, kind, found) for folder in (root / "images", label_dirs[0]))
    images = _by_name(image_files, "*", found)
    labels = _by_name(label_files, label_pattern, found)
    hint = naming_hint(images.keys(), {_split_name(path)[0] for path in label_files}, label_pattern)
    if hint and not images.keys() & labels.keys():
        raise ValueError(f"{label_dirs[0]}: {hint}")
    for stem in sorted(images.keys() | labels.keys()):
        if stem not in labels:
            found.problems.append(f"{images[stem]}: its labels {stem} in {label_dirs[0]} are missing")
        elif stem not in images:
            found.problems.append(f"{labels[stem]}: labels without their image {stem} in {root / 'images'}")
        else:
            found.cases["train"].append(_case(stem, [images[stem]], labels[stem]))


def _by_name(files: Sequence[Path], pattern: str, found: LabeledCases) -> dict[str, Path]:
    """Files by the name of their image."""
    by_name: dict[str, Path] = {}
    for path in files:
        name = image_name(_split_name(path)[0], pattern)
        first = by_name.setdefault(name, path) if name else None
        if first is None:
            found.problems.append(f"{path}: is not named {pattern!r}, as label_pattern says")
        elif first is not path:
            found.problems.append(f"{path}: is there twice, also as {first}; keep one of them")
    return by_name


def _check_cases(found: LabeledCases, kind: str) -> None:
    """What goes for all layouts: the kind and number of files of an image, and that each is in one place only."""
    cases = found.all_cases
    if not cases:
        first = f": {found.problems[0]}" if found.problems else ""
        raise ValueError(f"no {kind} with labels in {found.file}{first}; expected {LAYOUTS}")
    for case in cases:
        for file in (*_files_of(case["image"]), case["label"]):
            problem = _kind_problem(file, kind, is_label=file == case["label"])
            found.problems += [f"{file}: {problem}"] if problem else []
    # one file may hold all channels
    expected = {1, len(found.channel_names)} if found.channel_names else {len(_files_of(cases[0]["image"]))}
    for case in cases:
        number = len(_files_of(case["image"]))
        if kind == "picture" and number > 1:
            found.problems.append(f"{case['label']}: its picture is of {number} files; expected one file")
        elif number not in expected:
            found.problems.append(
                f"{case['label']}: its image is of {number} files; expected {' or '.join(map(str, sorted(expected)))}, "
                "one a channel"
            )
    uses = Counter(file for case in cases for file in (*_files_of(case["image"]), case["label"]))
    found.problems += [f"{file}: is listed {number} times; list it once" for file, number in uses.items() if number > 1]
    names = Counter(case["case"] for case in cases)
    found.problems += [f"{found.file}: {n} cases are called {name!r}" for name, n in names.items() if n > 1]


def _files_of(image: str | Sequence[str]) -> list[str]:
    return [image] if isinstance(image, str) else list(image)


def _case(name: str, files: Sequence[Path], label: Path) -> dict[str, Any]:
    image = [str(file) for file in files]
    return {"image": image[0] if len(image) == 1 else image, "label": str(label), "case": name}


def path_of(file: str | os.PathLike[str]) -> Path:
    """The file or folder of an image, which of a DICOM series is the folder that it lies in."""
    return Path(str(file).partition("#series=")[0])


def _kind_problem(file: str, kind: str, is_label: bool) -> str:
    """Why a file is no image of a kind; empty when it is one, or is not there."""
    if file.lower().endswith(IMAGE_EXTENSIONS[kind]) or not path_of(file).exists():
        return ""
    if kind == "picture" or is_label:
        return f"is no {kind}"
    try:
        DicomSeries.open(file)
    except (OSError, ValueError) as error:
        return f"is no {kind}: {error}"
    return ""


def _files(folder: Path, kind: str, found: LabeledCases) -> list[Path]:
    """Files of a kind and, for volumes, folders, which may hold DICOM; sorted. What is left out is a note."""
    there = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    taken = [
        path
        for path in there
        if path.name.lower().endswith(IMAGE_EXTENSIONS[kind]) or (kind == "volume" and path.is_dir())
    ]
    others = [path.name for path in there if path not in taken]
    if others:
        names = ", ".join(others[:5]) + (", ..." if len(others) > 5 else "")
        found.notes.append(f"{len(others)} files or folders in {folder} are of another kind and are left out: {names}")
    return taken


def _split_name(path: Path) -> tuple[str, str]:
    """Name and extension, of which ``.nii.gz`` is one; a folder and a series have none."""
    if "#series=" in path.name or path.is_dir():
        return path.name, ""
    extension = ".nii.gz" if path.name.lower().endswith(".nii.gz") else path.suffix
    return path.name[: len(path.name) - len(extension)], path.name[len(path.name) - len(extension) :]


def _unique_names(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names that are given, else those of the files, with as many of their folders as it takes to be unique."""
    paths = []
    for entry in entries:
        files = _files_of(entry["image"])
        stem = _split_name(Path(files[0]))[0]
        match = _CHANNEL.fullmatch(stem)
        paths.append(Path(files[0]).with_name(match["case"] if match and len(files) > 1 else stem))
    names: list[str] = []
    for depth in range(1, max((len(path.parts) for path in paths), default=0) + 1):
        names = [re.sub(r"[^\w-]+", "_", "_".join(path.parts[-depth:])) for path in paths]
        if len(set(names)) == len(names):
            break
    return [str(entry.get("case") or name) for entry, name in zip(entries, names, strict=True)]
