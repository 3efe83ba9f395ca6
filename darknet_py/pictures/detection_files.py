"""Detections as files: Darknet's JSON and label files, COCO results, crops, annotated images.

Every file is complete or not there; the JSON lines of a stream are complete line by line.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import IO, Any

import numpy as np

from darknet_py.detections import Detections
from darknet_py.files import json_text, write_file, write_json
from darknet_py.pictures.draw import as_bytes, draw
from darknet_py.pictures.read import Image
from darknet_py.pictures.write import write_image

# COCO numbers its 80 classes 1..90; these numbers have no class.
COCO_GAPS = frozenset((12, 26, 29, 30, 45, 66, 68, 69, 71, 83))
COCO_IDS = [number for number in range(1, 91) if number not in COCO_GAPS]
ANNOTATED_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")  # an image of another kind is annotated as a .png


def as_json(detections: Detections, frame_id: int, filename: str | None) -> dict[str, Any]:
    """One image as Darknet writes it (network.c:detection_to_json), and each box in pixels too."""
    objects = [
        {
            "class_id": detection.class_id,
            "name": detection.name,
            "relative_coordinates": dict(
                zip(("center_x", "center_y", "width", "height"), _rounded(detection.relative, 6), strict=True)
            ),
            "confidence": round(detection.confidence, 6),
            "box": dict(zip(("left", "top", "right", "bottom"), _rounded(detection.box, 2), strict=True)),
        }
        for detection in detections
    ]
    return {"frame_id": frame_id, **({"filename": filename} if filename is not None else {}), "objects": objects}


def _rounded(values: tuple[float, ...], digits: int) -> list[float]:
    return [round(value, digits) for value in values]


def as_labels(detections: Detections) -> str:
    """Darknet's label lines: class, centre x, y, width, height as fractions of the image."""
    return "".join(
        f"{detection.class_id} {' '.join(f'{value:.6f}' for value in detection.relative)}\n" for detection in detections
    )


def as_coco(detections: Detections, image_id: int) -> list[dict[str, Any]]:
    """Rows of a COCO results file; boxes are clipped to the image as in `detector valid`."""
    width, height = detections.size
    ids = coco_ids(len(detections.names))
    rows = []
    for detection in detections:
        left, top = max(detection.box[0], 0.0), max(detection.box[1], 0.0)
        right, bottom = min(detection.box[2], float(width)), min(detection.box[3], float(height))
        box = _rounded((left, top, right - left, bottom - top), 3)
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
    """The file of `--json`: for images one list, written when closed; for streams a line per frame, written at once."""

    def __init__(self, path: str | os.PathLike[str], lines: bool) -> None:
        self.path = Path(path)
        self.items: list[dict[str, Any]] = []
        self.file: IO[str] | None = self.path.open("w", encoding="utf-8") if lines else None

    def add(self, item: dict[str, Any]) -> None:
        if self.file is None:
            self.items.append(item)
        else:
            self.file.write(json_text(item) + "\n")
            self.file.flush()

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
        else:
            write_json(self.path, self.items)


class DetectionFiles:
    """All files that a run of detection writes, but its videos.

    Args:
        folder: of annotated images, `labels/` and `crops/`. annotated, labels, crops: which of them are written.
        json_file, coco: the files of `--json` and `--coco`. lines: JSON lines in place of one list.
        save_as: every annotated image is written to this name, over the one before (Darknet's `predictions.jpg`).
    """

    def __init__(
        self,
        folder: Path,
        *,
        annotated: bool,
        labels: bool,
        crops: bool,
        json_file: str | None,
        coco: str | None,
        lines: bool,
        save_as: str | None = None,
    ) -> None:
        self.folder, self.annotated, self.labels, self.crops = folder, annotated, labels, crops
        self.json = JsonFile(json_file, lines) if json_file else None
        self.coco_path = Path(coco) if coco else None
        self.coco: list[dict[str, Any]] = []
        self.save_as = save_as
        self.count = 0
        self._taken: set[str] = set()

    def name_for(self, path: str) -> str:
        """A file name in the folder, the source's own; numbered where two sources share it."""
        if self.save_as:
            return self.save_as
        original = Path(path)
        name, number = original.name, 1
        while name in self._taken:
            number += 1
            name = f"{original.stem}_{number}{original.suffix}"
        self._taken.add(name)
        return name

    def add_image(self, path: str, image: Image, detections: Detections) -> Image | None:
        """Writes the files of one image; returns it annotated, if that is written."""
        name = self.name_for(path)
        self._add(detections, path, Path(path if self.save_as else name).stem, image)
        if not self.annotated:
            return None
        annotated = draw(image, detections)
        target = self.folder / name
        write_image(target if target.suffix.lower() in ANNOTATED_SUFFIXES else target.with_suffix(".png"), annotated)
        return annotated

    def add_frame(self, name: str, frame: Image, detections: Detections) -> Image:
        """Writes the files of one frame; returns the frame annotated, for the video."""
        self._add(detections, None, f"{name}_{self.count + 1:06d}", frame)
        return draw(frame, detections)

    def _add(self, detections: Detections, path: str | None, stem: str, image: Image) -> None:
        self.count += 1
        if self.json:
            self.json.add(as_json(detections, self.count, path))
        if self.coco_path:
            self.coco += as_coco(detections, self.count if path is None else coco_image_id(path, self.count))
        if self.labels:
            (self.folder / "labels").mkdir(exist_ok=True)
            write_file(self.folder / "labels" / f"{stem}.txt", as_labels(detections))
        if self.crops:
            self._write_crops(detections, stem, image)

    def _write_crops(self, detections: Detections, stem: str, image: Image) -> None:
        for number, detection in enumerate(detections, 1):
            left, top, right, bottom = (max(0, round(value)) for value in detection.box)
            crop = as_bytes(image[top:bottom, left:right])
            if 0 in crop.shape:
                continue
            folder = self.folder / "crops" / re.sub(r"[^\w.-]", "_", detection.name)
            folder.mkdir(parents=True, exist_ok=True)
            write_image(folder / f"{stem}_{number}.jpg", np.ascontiguousarray(crop))

    def close(self) -> None:
        if self.json:
            self.json.close()
        if self.coco_path:
            write_json(self.coco_path, self.coco)
