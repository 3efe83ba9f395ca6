"""Detections as files: Darknet's JSON and label files, COCO results, crops, annotated images.

Every file is complete or not there; the JSON lines of a stream are complete line by line.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from darknet_py.detections import Detections, rounded
from darknet_py.errors import CfgWarning, DarknetError
from darknet_py.files import beside, into_place, json_text, write_file, write_json
from darknet_py.pictures.addresses import shown
from darknet_py.pictures.draw import Style, as_bytes, draw
from darknet_py.pictures.read import Image
from darknet_py.pictures.sources import file_name
from darknet_py.pictures.write import write_image

# COCO numbers its 80 classes 1..90; these numbers have no class.
COCO_GAPS = frozenset((12, 26, 29, 30, 45, 66, 68, 69, 71, 83))
COCO_IDS = [number for number in range(1, 91) if number not in COCO_GAPS]
ANNOTATED_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")  # an image of another kind is annotated as a .png


def as_labels(detections: Detections, confidence: bool = False) -> str:
    """Darknet's label lines: class, centre x, y, width, height as fractions of the image, and the confidence at will.

    A line for each box, with its most confident class, as Darknet's -save_labels writes them.
    """
    best: dict[tuple[float, ...], str] = {}
    for detection in detections:
        numbers = [*detection.relative, *([detection.confidence] if confidence else [])]
        line = f"{detection.class_id} {' '.join(f'{value:.6f}' for value in numbers)}\n"
        best.setdefault(detection.relative, line)
    return "".join(best.values())


def as_coco(detections: Detections, image_id: int) -> list[dict[str, Any]]:
    """Rows of a COCO results file; boxes are clipped to the image as in `detector valid`."""
    width, height = detections.size
    ids = coco_ids(len(detections.names))
    rows = []
    for detection in detections:
        left, top = max(detection.box[0], 0.0), max(detection.box[1], 0.0)
        right, bottom = min(detection.box[2], float(width)), min(detection.box[3], float(height))
        box = rounded((left, top, right - left, bottom - top), 3)
        score = round(detection.confidence, 6)
        rows.append({"image_id": image_id, "category_id": ids[detection.class_id], "bbox": box, "score": score})
    return rows


def coco_ids(classes: int) -> list[int]:
    """COCO's category id of each class: its own where there are 80, otherwise they count from 1."""
    return COCO_IDS if classes == len(COCO_IDS) else list(range(1, classes + 1))


def coco_image_id(path: str, default: int) -> int:
    """COCO's number of an image: the last digits of its name."""
    digits = re.findall(r"\d+", Path(path).stem)
    return int(digits[-1]) if digits else default


class JsonFile:
    """The file of `--json`: one list, which has its name when closed; or for streams a line per frame, at once. "-" is
    the standard output."""

    def __init__(self, path: str | os.PathLike[str], lines: bool) -> None:
        self.path, self.lines = Path(path), lines
        self.is_file = os.fspath(path) != "-"
        self.written = self.path if lines or not self.is_file else beside(path)
        self.file = self.written.open("w", encoding="utf-8") if self.is_file else sys.stdout
        self.between = "" if lines else "[\n"

    def add(self, item: dict[str, Any]) -> None:
        self._write(json_text(item) + "\n" if self.lines else self.between + json_text(item, indent=1))
        self.between = ",\n"

    def close(self) -> None:
        if not self.lines:
            self._write("\n]\n" if self.between == ",\n" else "[]\n")
        if not self.is_file or self.file.closed:
            return
        self.file.close()
        if not self.lines:
            into_place(self.written, self.path)

    def _write(self, text: str) -> None:
        if self.file.closed:  # after an error
            return
        try:
            self.file.write(text)
            self.file.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            with contextlib.suppress(OSError):
                self.file.close()
            if not self.lines:
                self.written.unlink(missing_ok=True)
            raise DarknetError(f"{self.path}: cannot write this file: {error.strerror or error}") from None


class DetectionFiles:
    """All files that a run of detection writes, but its videos. No two sources of a run share the name of a file.

    Args:
        folder: of annotated images, `labels/` and `crops/`. annotated, crops: whether they are written.
        labels: whether label files are written, or where: a source's path → its label file; None there: nowhere.
        label_confidence: label files have the confidence too.
        json_file, coco: the files of `--json` and `--coco`. lines: JSON lines in place of one list.
        style: of what is drawn.
        save_as: every annotated image is written to this name, over the one before (Darknet's `predictions.jpg`).
    """

    def __init__(
        self,
        folder: Path,
        *,
        annotated: bool,
        labels: bool | Callable[[str], str],
        crops: bool,
        json_file: str | None,
        coco: str | None,
        lines: bool,
        label_confidence: bool = False,
        style: Style = Style(),  # noqa: B008
        save_as: str | None = None,
    ) -> None:
        self.folder, self.annotated, self.labels, self.crops = folder, annotated, labels, crops
        self.json = JsonFile(json_file, lines) if json_file else None
        self.coco_path = Path(coco) if coco else None
        self.coco: list[dict[str, Any]] = []
        self.label_confidence, self.style, self.save_as = label_confidence, style, save_as
        self.count = self.frames = 0
        self._ids: set[int] = set()
        self._taken: dict[str, int] = {}  # names, and the last number behind each

    def free_stem(self, stem: str) -> str:
        """The name itself, or with a number behind it where another source of this run has it."""
        number = self._taken.get(stem.lower(), 0) + 1
        name = stem if number == 1 else f"{stem}_{number}"
        while name.lower() in self._taken:
            number += 1
            name = f"{stem}_{number}"
        self._taken[stem.lower()] = number
        self._taken.setdefault(name.lower(), 1)
        return name

    def _free_id(self, wanted: int) -> int:
        """COCO's number for an image; where another image of this run has it, or 0 (none), the next that is free."""
        number = wanted or 1
        while number in self._ids:
            number += 1
        if wanted and number != wanted and self.coco_path:
            text = f"{self.coco_path}: two images have the number {wanted} in their names; one gets {number}"
            warnings.warn(text, CfgWarning, stacklevel=2)
        self._ids.add(number)
        return number

    def add_image(self, path: str, image: Image, detections: Detections) -> Image | None:
        """Writes the files of one image; returns it annotated, if that is written."""
        name = Path(file_name(path))
        stem = self.free_stem(name.stem)
        self._add(detections, stem, image, {"filename": shown(path)}, self._free_id(coco_image_id(name.name, 0)))
        if callable(self.labels):
            write_file(self.labels(path), as_labels(detections, self.label_confidence), sync=False)
        if not self.annotated:
            return None
        annotated = draw(image, detections, self.style)
        target = self.folder / (self.save_as or f"{stem}{name.suffix}")
        write_image(target if target.suffix.lower() in ANNOTATED_SUFFIXES else target.with_suffix(".png"), annotated)
        return annotated

    def add_frame(self, stem: str, frame: Image, detections: Detections, head: dict[str, Any]) -> None:
        """Writes the files of one frame of a video called `stem`.

        head: what the frame's JSON begins with: frame_id, filename, time.
        """
        self.frames += 1
        name = f"{stem}_{head['frame_id']:06d}"
        if self.labels is True or self.crops:
            name = self.free_stem(name)
        self._add(detections, name, frame, head, self.count + 1)

    def _add(self, detections: Detections, stem: str, image: Image, head: dict[str, Any], image_id: int) -> None:
        self.count += 1
        if self.json:
            self.json.add(detections.to_dict(**{"frame_id": self.count, **head}))
        if self.coco_path:
            self.coco += as_coco(detections, image_id)
        if self.labels is True:
            (self.folder / "labels").mkdir(exist_ok=True)
            text = as_labels(detections, self.label_confidence)
            write_file(self.folder / "labels" / f"{stem}.txt", text, sync=False)
        if self.crops:
            self._write_crops(detections, stem, image)

    def _write_crops(self, detections: Detections, stem: str, image: Image) -> None:
        limits = (*image.shape[1::-1], *image.shape[1::-1])
        boxes = np.nan_to_num(detections.xyxy).clip(0, limits).round().astype(int).tolist()
        for number, (detection, box) in enumerate(zip(detections, boxes, strict=True), 1):
            left, top, right, bottom = box
            crop = as_bytes(image[top:bottom, left:right])
            if 0 in crop.shape:
                continue
            folder = self.folder / "crops" / folder_name(detection.name)
            folder.mkdir(parents=True, exist_ok=True)
            write_image(folder / f"{stem}_{number}.jpg", np.ascontiguousarray(crop))

    def close(self) -> None:
        if self.json:
            self.json.close()
        if self.coco_path:
            write_json(self.coco_path, self.coco)


def folder_name(name: str) -> str:
    """A class as the name of one folder: `..` and `a/b` stay inside."""
    return re.sub(r"[^\w.-]|^\.", "_", name)[:100] or "_"
