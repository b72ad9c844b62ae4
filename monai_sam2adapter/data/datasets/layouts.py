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

from monai.utils import look_up_option

from ...utils.files import read_json
from ..find_images import IMAGE_EXTENSIONS
from .case_files import CHANNEL, files_of, kind_problem, list_files, make_case, path_of, split_name, unique_names
from .dataset_json import channel_names, class_names, overlapping_classes
from .label_names import image_name, naming_hint, require_pattern

__all__ = ["LABEL_TYPES", "LAYOUTS", "LabeledCases", "find_labeled_cases"]

LAYOUTS = (
    "a datalist in JSON (MONAI: lists 'training', 'validation', 'testing'), a folder of nnU-Net or of the Medical "
    "Segmentation Decathlon (dataset.json, imagesTr, labelsTr), or a folder with 'images' and 'labels' (or 'masks')"
)
LABEL_TYPES = ("exclusive", "overlapping")
"""Whether a pixel has one class, or any number of them."""
_DATASET = "dataset.json"
_LISTS = {"train": ("training",), "val": ("validation", "val"), "test": ("testing", "test")}
_FORM_OF_LABELS = {"exclusive": "a path", "overlapping": "a path, or one for each class in a list or object"}


@dataclass
class LabeledCases:
    """
    What :func:`find_labeled_cases` has found.

    Args:
        file: what it was read from: the folder, or the datalist.
        cases: for ``train``, ``val`` and ``test`` the cases that the data put there, with ``image`` (a path, or one for
            each channel), ``label`` (a path) and ``case``; all in ``train`` where the data do not say.
        class_names: what the labels 0, 1, ... stand for; of overlapping labels, which have no background, the classes.
            None where the data do not say.
        channel_names: names of the channels, such as CT; None where the data do not say.
        ignore_label: number of the label ``ignore`` of nnU-Net, whose voxels do not count; None where there is none.
        label_type: one of :py:data:`LABEL_TYPES`.
        regions: of overlapping labels that are regions of a label map, as nnU-Net has them, the numbers in each; None
            where each class has a mask.
        region_order: nnU-Net's ``regions_class_order``: by which number each region is written back, later ones over
            earlier ones.
        folds: the number of the fold that a training case is validated in, where the data say.
        problems: one text for everything that is missing, of no use, or there twice, with its file.
        notes: one text for everything that is left out.
    """

    file: Path
    cases: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {part: [] for part in _LISTS})
    class_names: tuple[str, ...] | None = None
    channel_names: tuple[str, ...] | None = None
    ignore_label: int | None = None
    label_type: str = LABEL_TYPES[0]
    regions: tuple[tuple[int, ...], ...] | None = None
    region_order: tuple[int, ...] = ()
    folds: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def all_cases(self) -> list[dict[str, Any]]:
        """The cases of all parts."""
        return [case for part in self.cases.values() for case in part]


def find_labeled_cases(
    dataset_dir: str | os.PathLike[str] | None,
    kind: str,
    label_pattern: str = "*",
    label_type: str = LABEL_TYPES[0],
) -> LabeledCases:
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

    Overlapping labels are

    - a folder of masks for each class in ``labels`` or ``masks``, in the place of the files: ``masks/heart``; or in a
      datalist, in the place of the file, a list of files, one a class, or ``{"heart": ..., "lung": ...}``;
    - for volumes, one file with a mask a channel (4D), in any of the layouts. ``labels`` in the JSON may be a list of
      the classes' names;
    - label maps with regions of several numbers in ``labels``, and ``regions_class_order``, as nnU-Net v2 has them, in
      any of the layouts.

    An image may be a DICOM series: its folder, ``FOLDER#series=UID`` or a file. Files of another kind and hidden ones
    are left out. Nothing is read but the JSON and headers of DICOM files.

    Args:
        dataset_dir: the folder, or the datalist.
        kind: "volume" or "picture".
        label_pattern: of two folders, what labels are called, with ``*`` in place of the image's name, such as
            ``*_mask``. Defaults to "*", the same.
        label_type: "exclusive" or "overlapping", see :py:data:`LABEL_TYPES`. Defaults to "exclusive".

    Returns:
        what was found, complete or not.

    Raises:
        FileNotFoundError: when there is no such folder or file.
        ValueError: when it is of another layout, or the JSON is malformed: labels that are no numbers from 0 up,
            regions that are not said to overlap, lists of something else.
    """
    if dataset_dir is None:  # the default of the bundles
        raise ValueError(f"there is no dataset_dir; expected {LAYOUTS}")
    require_pattern(label_pattern)
    look_up_option(label_type, LABEL_TYPES)
    root = Path(dataset_dir).expanduser()
    if root.suffix.lower() == ".json":
        found = _read_json(root, label_type)
        _take_lists(found, root, kind)
    elif not root.is_dir():
        raise FileNotFoundError(f"no folder or file {root}; expected {LAYOUTS}")
    else:
        there = (root / _DATASET).is_file()
        found = _read_json(root / _DATASET, label_type) if there else LabeledCases(root, label_type=label_type)
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


def _read_json(path: Path, label_type: str) -> LabeledCases:
    """Class names and channels of a dataset.json or datalist."""
    content = read_json(path)
    if content is None:
        raise FileNotFoundError(f"no file {path}; expected {LAYOUTS}")
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, expected an object: {LAYOUTS}")
    found = LabeledCases(path, label_type=label_type)
    if "labels" in content and label_type == "overlapping":
        classes = overlapping_classes(content["labels"], content.get("regions_class_order"), path)
        found.class_names, found.regions, found.region_order, found.ignore_label = classes
    elif "labels" in content:
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
        without = sum(part == "test" and not _has_label(entry, found) for entry in listed)
        if without:
            found.notes.append(f"{path}: {without} images for testing have no labels and are left out")
        for number, entry in enumerate(listed):
            if part == "test" and not _has_label(entry, found):
                continue
            if not _has_label(entry, found) or not _is_image(entry.get("image")):
                raise ValueError(
                    f"{path}, {names[0]}, entry {number}: got {str(entry)[:120]}; expected an object with 'image' (a "
                    f"path, or a list with one a channel) and 'label' ({_FORM_OF_LABELS[found.label_type]})"
                )
            if isinstance(entry["label"], Mapping):
                found.class_names = found.class_names or tuple(entry["label"])
                if tuple(entry["label"]) != found.class_names:
                    raise ValueError(
                        f"{path}, {names[0]}, entry {number}: 'label' has the classes {', '.join(entry['label'])}; "
                        f"expected {', '.join(found.class_names)}, in this order, in every case"
                    )
            entries.append((part, entry))
    stated = content.get("numTraining")
    listed = len(content["training"])
    if isinstance(stated, int) and stated != listed:
        found.problems.append(f"{path}: numTraining is {stated}, but training lists {listed}; correct it")
    for (part, entry), name in zip(entries, unique_names([entry for _, entry in entries]), strict=True):
        files = _image_files(entry["image"], path.parent)
        labels = [path.parent / file for file in files_of(entry["label"])]
        missing = [file for file in [*files, *labels] if not path_of(file).exists()]
        found.problems += [f"{file}: is not there, listed in {path}" for file in missing]
        found.cases[part].append(make_case(name, files, labels[0] if isinstance(entry["label"], str) else labels))
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


def _has_label(entry: Any, found: LabeledCases) -> bool:
    label = entry.get("label") if isinstance(entry, dict) else None
    if found.label_type == "overlapping" and isinstance(label, (list, dict)):
        return bool(label) and all(isinstance(file, str) for file in files_of(label))
    return isinstance(label, str)


def _is_image(image: Any) -> bool:
    return all(isinstance(name, str) for name in image) if isinstance(image, list) and image else isinstance(image, str)


def _image_files(image: str | Sequence[str], root: Path) -> list[Path]:
    """The files of an image; one that is not there may stand for those of its channels, as in nnU-Net v1."""
    files = [root / name for name in files_of(image)]
    if len(files) == 1 and not path_of(files[0]).exists() and files[0].parent.is_dir():
        stem, extension = split_name(files[0])
        numbered = re.compile(rf"{re.escape(stem)}_\d{{4}}{re.escape(extension)}")
        return sorted(path for path in files[0].parent.iterdir() if numbered.fullmatch(path.name)) or files
    return files


def _note_unlisted(found: LabeledCases, folder: Path, kind: str) -> None:
    listed = {file for case in found.all_cases for file in files_of(case["image"])}
    extra = (
        [path for path in list_files(folder, kind, found.notes) if str(path) not in listed] if folder.is_dir() else []
    )
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
            match = CHANNEL.fullmatch(split_name(path)[0])
            if match is None:
                found.problems.append(f"{path}: has no number of its channel; expected CASE_0000{ending or ''}")
            else:
                images.setdefault(match["case"], {})[int(match["channel"])] = path
        labels = {split_name(path)[0]: path for path in _listed(label_dir, kind, ending, found)}
        for case in sorted(images.keys() | labels.keys()):
            channels, label = images.get(case, {}), labels.get(case)
            if not channels:
                found.problems.append(f"{label}: labels without their image {case}_0000 in {image_dir}")
            elif label is None:
                found.problems.append(f"{next(iter(channels.values()))}: its labels {case} in {label_dir} are missing")
            elif sorted(channels) != list(range(len(channels))):
                found.problems.append(f"{label}: its image has the channels {sorted(channels)}; expected 0, 1, ...")
            else:
                found.cases[part].append(make_case(case, [channels[number] for number in sorted(channels)], label))
    stated = read_json(root / _DATASET).get("numTraining")
    there = len(found.cases["train"])
    if isinstance(stated, int) and stated != there and not found.problems:
        found.problems.append(f"{root / _DATASET}: numTraining is {stated}, but {there} cases are there; correct it")


def _listed(folder: Path, kind: str, ending: str | None, found: LabeledCases) -> list[Path]:
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}; expected {LAYOUTS}")
    files = list_files(folder, kind, found.notes)
    if ending is not None:
        others = [path for path in files if not path.name.endswith(ending)]
        found.problems += [f"{path}: does not end in {ending}, as dataset.json says (file_ending)" for path in others]
    return [path for path in files if ending is None or path.name.endswith(ending)]


def _take_two_folders(found: LabeledCases, root: Path, kind: str, label_pattern: str) -> None:
    label_dirs = [root / name for name in ("labels", "masks") if (root / name).is_dir()]
    if not (root / "images").is_dir() or len(label_dirs) != 1:
        there = ", ".join(sorted(path.name for path in root.iterdir())[:8]) or "nothing"
        raise ValueError(f"{root} holds {there}; expected {LAYOUTS}")
    images = _by_name(list_files(root / "images", kind, found.notes), "*", found)
    labels: dict[Path, dict[str, Path]] = {}
    for folder in _label_folders(label_dirs[0], kind, found):
        files = list_files(folder, kind, found.notes)
        labels[folder] = _by_name(files, label_pattern, found)
        hint = naming_hint(images.keys(), {split_name(path)[0] for path in files}, label_pattern)
        if hint and not images.keys() & labels[folder].keys():
            raise ValueError(f"{folder}: {hint}")
    for stem in sorted(images.keys() | {name for by_name in labels.values() for name in by_name}):
        found_labels = [by_name[stem] for by_name in labels.values() if stem in by_name]
        missing = [folder for folder, by_name in labels.items() if stem not in by_name]
        if stem not in images:
            found.problems.append(f"{found_labels[0]}: labels without their image {stem} in {root / 'images'}")
        elif missing:
            found.problems += [f"{images[stem]}: its labels {stem} in {folder} are missing" for folder in missing]
        else:
            is_one = list(labels) == label_dirs
            label = found_labels[0] if is_one else found_labels
            found.cases["train"].append(make_case(stem, [images[stem]], label))


def _label_folders(folder: Path, kind: str, found: LabeledCases) -> list[Path]:
    """The folder of labels itself, or its folders, one for each class that may overlap with others."""
    there = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    inner = {path.name: path for path in there if path.is_dir()}
    if not inner or any(path.name.lower().endswith(IMAGE_EXTENSIONS[kind]) for path in there):
        return [folder]
    if found.label_type == "exclusive" or found.regions is not None:
        advice = "give --label_type overlapping" if found.regions is None else "regions need label maps: one file each"
        raise ValueError(
            f"{folder} holds no label file, but the folders {', '.join(inner)}; if each is a class, {advice}"
        )
    if found.class_names is not None and set(found.class_names) != set(inner):
        raise ValueError(
            f"{found.file} names the classes {', '.join(found.class_names)}, but {folder} holds the folders "
            f"{', '.join(inner)}; expected one folder for each class"
        )
    found.class_names = found.class_names or tuple(inner)
    return [inner[name] for name in found.class_names]


def _by_name(files: Sequence[Path], pattern: str, found: LabeledCases) -> dict[str, Path]:
    """Files by the name of their image."""
    by_name: dict[str, Path] = {}
    for path in files:
        name = image_name(split_name(path)[0], pattern)
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
        for file in (*files_of(case["image"]), *files_of(case["label"])):
            problem = kind_problem(file, kind, is_label=file in files_of(case["label"]))
            found.problems += [f"{file}: {problem}"] if problem else []
    # one file may hold all channels
    expected = {1, len(found.channel_names)} if found.channel_names else {len(files_of(cases[0]["image"]))}
    for case in cases:
        number = len(files_of(case["image"]))
        first_label = files_of(case["label"])[0]
        if kind == "picture" and number > 1:
            found.problems.append(f"{first_label}: its picture is of {number} files; expected one file")
        elif number not in expected:
            found.problems.append(
                f"{first_label}: its image is of {number} files; expected {' or '.join(map(str, sorted(expected)))}, "
                "one a channel"
            )
    masks = {len(case["label"]) for case in cases if not isinstance(case["label"], str)}
    named = found.class_names if masks and found.class_names is not None else ()
    if len(masks | ({len(named)} if named else set())) > 1 or (masks and found.regions is not None):
        expected_masks = "one file, since there are regions" if found.regions else f"one for each class {named or ''}"
        raise ValueError(f"{found.file}: labels are of {sorted(masks)} files; expected {expected_masks.strip()}")
    uses = Counter(file for case in cases for file in (*files_of(case["image"]), *files_of(case["label"])))
    found.problems += [f"{file}: is listed {number} times; list it once" for file, number in uses.items() if number > 1]
    names = Counter(case["case"] for case in cases)
    found.problems += [f"{found.file}: {n} cases are called {name!r}" for name, n in names.items() if n > 1]
