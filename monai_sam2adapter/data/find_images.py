# SPDX-License-Identifier: Apache-2.0
"""Finding the images to segment: a file, a folder, a list or a datalist."""

from __future__ import annotations

import ast
import functools
import json
import math
import operator
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai.utils import look_up_option

from ..utils import escaping_logger, printable, require_flags
from .dicom import DicomFolder, DicomSeries
from .dicom.series import find_series
from .folder_search import FolderSearch, shorten
from .label_scheme import LabelScheme
from .readers import open_picture, picture_size
from .results import ResultFiles, file_name

__all__ = ["IMAGE_EXTENSIONS", "find_images"]

logger = escaping_logger(__name__)

#: by the kind of images, how their files end
IMAGE_EXTENSIONS = {
    "volume": (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd"),
    "picture": (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"),
}
_SERIES, _PAGE, _PAGED = "#series=", "#page=", (".tif", ".tiff")
# one channel of an image
_CHANNEL = re.compile(r"(?P<start>.+)_(?P<number>\d{4})(\.[^/]+)")
_MISSING = "there is no such file or folder"
_DATALIST_KEYS = ("testing", "test")

_Folders = Callable[[Path], DicomFolder]


@dataclass(frozen=True)
class _Found:
    """
    An image (a list of its channels' files, where there are several), where it lies, what it is called (by the user, or
    else by one of three names, short ones first), and why it cannot be read.
    """

    image: str | list[str]
    folder: Path
    given: str
    name: str
    longer: str
    error: str = ""

    def names(self, common: str) -> list[str]:
        folder = self.folder.absolute().relative_to(common)
        return [file_name(str(name)) for name in (self.name, folder / self.name, folder / self.longer)]


def find_images(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str] | Mapping[str, Any]],
    kind: str = "volume",
    datalist_key: str | None = None,
    output_dir: str | os.PathLike[str] | None = None,
    output_format: str = "nii.gz",
    save_probabilities: bool = False,
    save_uncertainty: bool = False,
    skip_existing: bool = False,
    channels: int = 1,
    overwrite: bool = False,
    scheme: LabelScheme | None = None,
    max_pixels: int | None = None,
) -> list[dict[str, Any]]:
    """
    List the images that a user points at, for inference. Nothing is read but the headers of DICOM files, each once, and
    the number of pages of a TIFF.

    A folder is searched with all folders in it, linked ones too, each once. Left out there, with a line in the log for
    each reason, are hidden files, labels as the usual data sets and programs name them (``*_gt``, ``label0001``,
    ``*-label``, ``*.seg``, ``segmentation``, folders ``masks``, ``labelsTr``, ``segmentations``), whole cine series
    (``*_4d``), what inference has written (``*_seg``, ``*_probabilities``, ``*_uncertainty``, folders ``overlays``) and
    files of another kind; files that are named one by one are always taken. A
    folder's DICOM files are one image for each series, as :py:class:`monai_sam2adapter.data.DicomFolder` tells them
    apart; a TIFF is one picture for each page.

    Args:
        source: a file, a folder, or a list of files, folders, DICOM series (``FOLDER#series=UID``) and dictionaries
            with the key ``image`` (and ``case``, to name it); a string that reads as such a list, as on a command line,
            is one too. A file ``.json`` is a datalist: such a list, or a dictionary of lists; paths in it that are not
            absolute start at its folder.
        kind: "volume" for NIfTI, NRRD, MetaImage and DICOM, "picture" for PNG, JPEG, BMP and TIFF. Defaults to
            "volume".
        datalist_key: which list of a datalist. Defaults to None: "testing" or "test", else the only one.
        output_dir: folder of the results. Defaults to None, no matter whether and where results are.
        output_format: format of the results, which must fit all images; like the next two as of
            :py:class:`monai_sam2adapter.data.ResultFiles`. Defaults to "nii.gz".
        save_probabilities: whether results have a map of probabilities. Defaults to False.
        save_uncertainty: whether results have a map of uncertainty. Defaults to False.
        skip_existing: whether to leave out cases whose results are all there, can be read and are of the image's size.
            Defaults to False.
        channels: how many channels an image has. Of several, files of one folder called ``CASE_0000``, ``CASE_0001``
            and so on, as in nnU-Net, are the channels of one image, whose ``image`` is a list; any other file holds all
            channels. Defaults to 1.
        overwrite: whether results may replace files that no run has written, or that were changed since. Defaults to
            False.
        scheme: the classes, of which some that overlap get files of their own. Defaults to None.
        max_pixels: of pictures, how many pixels one may have that is segmented as a whole; others get the key
            ``parts``. Defaults to None: any number.

    Returns:
        one dictionary an image: ``image`` (its path, or a :py:class:`monai_sam2adapter.data.DicomSeries`) and ``case``,
        a name that is unique in the list and fit for a file: the file's name without the extension, the folder's for
        DICOM, with its folders in front and its extension or series behind where that is needed; characters other than
        letters, digits, "_" and "-" become "_".

        Of a list or datalist, what does not exist is in the list too, with the reason as ``error``, so that the others
        can be done.

    Raises:
        FileExistsError: when a result would replace a file that no run has written, unless ``overwrite``.
        FileNotFoundError: when nothing of what was given exists.
        ImportError: when results are to be DICOM and highdicom is not installed.
        ValueError: when there is no image, a file is of another kind, two images cannot be told apart, a result cannot
            have the format or would replace an image, or a flag is neither True nor False.
        OSError: when the folder of the results cannot be written to.
    """
    look_up_option(kind, tuple(IMAGE_EXTENSIONS))
    require_flags(skip_existing=skip_existing)
    if skip_existing and output_dir is None:
        raise ValueError("skip_existing needs output_dir, to see which results are there.")
    results = None
    if output_dir is not None:
        names = scheme.mask_names if scheme is not None else ()
        results = ResultFiles(output_dir, output_format, save_probabilities, save_uncertainty, overwrite, names)
    folders = functools.cache(DicomFolder)  # so that no entry of a list reads the headers of its folder again
    found = [image for entry in _as_list(source, datalist_key) for image in _resolve(entry, kind, folders)]
    if not found:
        raise ValueError(f"no {kind} in {source!r}; expected {_expected(kind)}")
    _tell_parts(found)
    found = _join_channels(found, channels) if channels > 1 else found
    missing = [str(image.image) for image in found if image.error]
    if len(missing) == len(found):
        incomplete = next((f"{image.image}: {image.error}" for image in found if image.error != _MISSING), "")
        raise FileNotFoundError(printable(incomplete or f"no file or folder {', '.join(missing)}"))
    logger.info("%d %ss to segment in %s", len(found) - len(missing), kind, source)
    if missing:
        logger.warning("%d of %d are missing: %s", len(missing), len(found), ", ".join(missing))
    items: list[dict[str, Any]] = []
    for image, case in zip(found, _unique_cases(found), strict=True):
        notes: dict[str, Any] = {"error": image.error} if image.error else {}
        if max_pixels is not None and math.prod(picture_size(str(image.image))) > max_pixels:
            notes["parts"] = True
        items.append({"image": image.image, "case": case, **notes})
    if results is None:
        return items
    images = [image.image for image in found if not image.error]
    results.require_inputs(images, kind)
    remaining = results.remaining(items) if skip_existing else items
    if skip_existing:
        logger.info("%d of %d cases are done already", len(items) - len(remaining), len(items))
    results.require_places(remaining, images)
    return remaining


def _join_channels(found: Sequence[_Found], channels: int) -> list[_Found]:
    """One image for the files ``CASE_0000``, ``CASE_0001``, ... of a folder, and for the files of a list."""
    joined: dict[str, list[_Found]] = {}
    for image in found:
        match = None if isinstance(image.image, list) else _CHANNEL.fullmatch(image.image)
        joined.setdefault(match["start"] if match else str(image.image), []).append(image)
    return [_join(images, channels) for images in joined.values()]


def _join(images: Sequence[_Found], channels: int) -> _Found:
    first, files = images[0], [str(image.image) for image in images]
    numbers = [match["number"] for match in map(_CHANNEL.fullmatch, files) if match]
    if isinstance(first.image, list) or not numbers:
        return first
    given, name, longer = (re.sub(r"_\d{4}(?=$|\.)", "", name) for name in (first.given, first.name, first.longer))
    error = next((image.error for image in images if image.error), "")
    if sorted(numbers) != [f"{number:04d}" for number in range(channels)]:
        error = error or f"it has the channels {', '.join(sorted(numbers))}; expected {channels}, from 0000 on"
    return _Found(sorted(files), first.folder, given, name, longer, error)


def _expected(kind: str) -> str:
    files = f"files that end in {', '.join(IMAGE_EXTENSIONS[kind])}"
    return f"{files}, or DICOM" if kind == "volume" else files


def _as_list(source: Any, datalist_key: str | None) -> Iterable[Any]:
    if isinstance(source, str) and source.lstrip().startswith("[") and not Path(source).exists():
        try:
            source = ast.literal_eval(source.strip())
        except (ValueError, SyntaxError) as error:
            raise ValueError(f"{source!r} starts like a list but does not read as one: {error}") from error
    source = _with_hash(list(source) if isinstance(source, tuple) else source)
    if isinstance(source, list):
        return source
    if isinstance(source, (str, os.PathLike)) and str(source).lower().endswith(".json"):
        return _read_datalist(Path(source).expanduser(), datalist_key)
    return [source]


def _with_hash(entry: Any) -> Any:
    """What a user has typed: MONAI makes "::" of each "#" in a value of a config."""
    if isinstance(entry, Mapping):
        return {key: _with_hash(value) for key, value in entry.items()}
    if isinstance(entry, list):
        return list(map(_with_hash, entry))
    if not isinstance(entry, str) or "::" not in entry or os.path.lexists(os.path.expanduser(entry)):
        return entry
    return entry.replace("::", "#")


def _read_datalist(file: Path, key: str | None) -> list[dict[str, Any]]:
    if not file.is_file():
        raise FileNotFoundError(f"no file {file}")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is no JSON: {error}") from error
    if isinstance(content, dict):
        lists = {name: value for name, value in content.items() if isinstance(value, list)}
        usual = [name for name in _DATALIST_KEYS if lists.get(name)] or list(lists)
        if key is None and (len(usual) == 1 or usual == list(_DATALIST_KEYS)):
            key = usual[0]
        if key not in lists:
            raise ValueError(f"{file} has the lists {sorted(lists)}, got {key!r}; name one of them (datalist_key)")
        content = lists[key]
    if not isinstance(content, list):
        raise ValueError(f"{file} must hold a list or a dictionary of lists, got a {type(content).__name__}")
    entries = [entry if isinstance(entry, dict) else {"image": entry} for entry in content]
    for entry in entries:
        image = entry.get("image")
        if isinstance(image, list):
            entry["image"] = [file.parent / name for name in image]
        elif isinstance(image, (str, os.PathLike)) and str(image):
            entry["image"] = file.parent / image  # joining leaves absolute paths as they are
    return entries


def _resolve(entry: Any, kind: str, folders: _Folders) -> list[_Found]:
    """The images of one entry."""
    given = ""
    if isinstance(entry, Mapping):
        if "image" not in entry:
            raise ValueError(f"no key 'image' in {dict(entry)}; expected the path of an image there")
        entry, given = entry["image"], str(entry.get("case", ""))
    if isinstance(entry, list) and entry:
        return [_name_channels([Path(file).expanduser() for file in entry], kind, given)]
    if not isinstance(entry, (str, os.PathLike)):
        raise ValueError(f"cannot take {entry!r} for an image; expected a path or a dictionary with the key 'image'")
    if not str(entry):
        raise ValueError("the path of an image is empty; leave the entry out, or name its file")
    path = Path(entry).expanduser()
    name, mark, _ = path.name.partition(_SERIES)
    if kind == "volume" and mark:
        try:
            return [_name_series(DicomSeries.open(path, folders), path.with_name(name), given, alone=False)]
        except FileNotFoundError:
            return [_name_missing(path, kind, given)]
    if path.is_dir():
        return _search(path, kind, folders)
    if not path.exists():
        return [_name_missing(path, kind, given)]
    if _extension(path, kind):
        return _name_file(path, kind, given)
    if kind == "volume":
        try:
            return [_Found(DicomSeries.open(path), path.parent, given, path.stem, path.name)]
        except ValueError as error:
            logger.debug("%s", error)
    raise ValueError(f"cannot read {path}: expected {_expected(kind)}; convert it")


def _search(folder: Path, kind: str, folders: _Folders) -> list[_Found]:
    search = FolderSearch(folder)
    found: list[tuple[Path, list[_Found]]] = []
    for path in search.files:
        if not _extension(path, kind):
            if not (kind == "volume" and folders(path.parent).knows(path)) and not _belongs_to_header(path):
                search.leave_out(path)
        elif search.take(path, _stem(path, kind)):
            found.append((path, _name_file(path, kind)))
    series = find_series([folders(place) for place in search.folders], bool(found)) if kind == "volume" else []
    places = Counter(one.folder for one in series)
    found += [(one.folder, [_name_series(one, one.folder, alone=places[one.folder] == 1)]) for one in series]
    search.log()
    if not found:
        raise ValueError(
            f"no {kind} in the folder {folder}: expected {_expected(kind)} "
            "(those named as masks, 4D series or results, such as *_gt, *_4d and *_seg, are left out)"
        )
    return [image for _, images in sorted(found, key=operator.itemgetter(0)) for image in images]


def _tell_parts(found: Sequence[_Found]) -> None:
    """Folders of a list are joined with none; a user may mean them as one."""
    parts: dict[str, list[str]] = {}
    for image in found:
        series = image.image
        if isinstance(series, DicomSeries) and Path(series) not in series.files and series.tag("SeriesInstanceUID"):
            parts.setdefault(str(series.tag("SeriesInstanceUID")), []).append(series)
    for names in parts.values():
        if len(names) > 1:
            text = "%s are parts of one DICOM series, each taken as a volume; give the folder above them to join them"
            logger.warning(text, shorten(names))


def _belongs_to_header(path: Path) -> bool:
    """Whether a file is the data of a MetaImage, which lie beside its header."""
    return path.suffix.lower() in (".raw", ".zraw") and path.with_suffix(".mhd").is_file()


def _name_file(path: Path, kind: str, given: str = "") -> list[_Found]:
    stem, pages = _stem(path, kind), _count_pages(path)
    if pages == 1:
        return [_Found(str(path), path.parent, given, stem, path.name)]
    endings = [f"page{page:0{len(str(pages - 1))}d}" for page in range(pages)]
    start = f"{given}_" if given else ""
    return [
        _Found(
            f"{path}{_PAGE}{page}", path.parent, start and start + ending, f"{stem}_{ending}", f"{path.name}_{ending}"
        )
        for page, ending in enumerate(endings)
    ]


def _name_channels(paths: Sequence[Path], kind: str, given: str) -> _Found:
    missing = [str(path) for path in paths if not path.is_file()]
    stem = re.sub(r"_\d{4}$", "", _stem(paths[0], kind))
    error = f"there is no file {missing[0]}" if missing else ""
    return _Found([str(path) for path in paths], paths[0].parent, given, stem, paths[0].name, error)


def _name_missing(path: Path, kind: str, given: str) -> _Found:
    return _Found(str(path), path.parent, given, _stem(path, kind), path.name, _MISSING)


def _count_pages(path: Path) -> int:
    if not path.name.lower().endswith(_PAGED):
        return 1
    try:
        with open_picture(path) as image:
            return getattr(image, "n_frames", 1)
    except Exception as error:  # whatever Pillow stumbles over; reading the file will tell
        logger.debug("%s: %s", path, error)
        return 1


def _name_series(series: DicomSeries, folder: Path, given: str = "", alone: bool = True) -> _Found:
    place = folder.absolute()
    name = "_".join(part for part in (place.name, series.number, series.description) if part)
    if Path(series) in series.files:
        name = longer = f"{place.name}_{series.files[0].stem}"
    else:
        longer = f"{name}_{series.rpartition('=')[2]}"
    return _Found(series, place.parent, given, place.name if alone else name, place.name if alone else longer)


def _extension(path: Path, kind: str) -> str:
    return next((extension for extension in IMAGE_EXTENSIONS[kind] if path.name.lower().endswith(extension)), "")


def _stem(path: Path, kind: str) -> str:
    return path.name[: len(path.name) - len(_extension(path, kind))]


def _unique_cases(found: Sequence[_Found]) -> list[str]:
    """The given names, and for the others the shortest of three that no other image has."""
    common = os.path.commonpath([image.folder.absolute() for image in found])
    names = [[file_name(image.given)] * 3 if image.given else image.names(common) for image in found]
    cases = [name[0] for name in names]
    for length in (1, 2):
        counts = Counter(map(str.casefold, cases))  # many disks take "A" and "a" for one name
        cases = [name[length] if counts[case.casefold()] > 1 else case for case, name in zip(cases, names, strict=True)]
    counts = Counter(map(str.casefold, cases))
    for image, case in zip(found, cases, strict=True):
        if counts[case.casefold()] > 1:
            raise ValueError(
                f"{image.image} is there twice, or gets the name {case!r} like another image; name each image once, "
                f"or give dictionaries with 'image' and 'case'"
            )
    return cases
