"""Detections into files: Darknet's JSON, label files, COCO results, crops, annotated pictures and videos.

Every file is complete or not there; the JSON lines of a stream are complete line by line.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np

from darknet_py.detections import Detections
from darknet_py.errors import DarknetError
from darknet_py.files import beside, write_file
from darknet_py.pictures.draw import as_bytes, draw
from darknet_py.pictures.images import Picture

# COCO numbers its 80 classes 1..90; these numbers have no class.
COCO_GAPS = frozenset((12, 26, 29, 30, 45, 66, 68, 69, 71, 83))
COCO_IDS = [number for number in range(1, 91) if number not in COCO_GAPS]


def as_json(found: Detections, frame_id: int, filename: str | None) -> dict[str, Any]:
    """One picture as Darknet writes it (network.c:detection_to_json), and each box in pixels too."""
    objects = [
        {
            "class_id": one.class_id,
            "name": one.name,
            "relative_coordinates": dict(
                zip(("center_x", "center_y", "width", "height"), _rounded(one.relative, 6), strict=True)
            ),
            "confidence": round(one.confidence, 6),
            "box": dict(zip(("left", "top", "right", "bottom"), _rounded(one.box, 2), strict=True)),
        }
        for one in found
    ]
    return {"frame_id": frame_id, **({"filename": filename} if filename is not None else {}), "objects": objects}


def _rounded(values: tuple[float, ...], digits: int) -> list[float]:
    return [round(value, digits) for value in values]


def as_labels(found: Detections) -> str:
    """Darknet's label lines: class, centre x, y, width, height as parts of the picture."""
    return "".join(f"{one.class_id} {' '.join(f'{value:.6f}' for value in one.relative)}\n" for one in found)


def as_coco(found: Detections, image_id: int) -> list[dict[str, Any]]:
    """Rows of a COCO results file; boxes are clipped to the picture as `detector valid` does. Of 80 classes the ids are COCO's."""
    width, height = found.size
    ids = COCO_IDS if len(found.names) == len(COCO_IDS) else range(1, len(found.names) + 1)
    rows = []
    for one in found:
        left, top = max(one.box[0], 0.0), max(one.box[1], 0.0)
        right, bottom = min(one.box[2], float(width)), min(one.box[3], float(height))
        box = _rounded((left, top, right - left, bottom - top), 3)
        rows.append(
            {"image_id": image_id, "category_id": ids[one.class_id], "bbox": box, "score": round(one.confidence, 6)}
        )
    return rows


def image_id(path: str, otherwise: int) -> int:
    """COCO's number of a picture: the last digits of its name."""
    digits = re.findall(r"\d+", Path(path).stem)
    return int(digits[-1]) if digits else otherwise


def fresh_folder(parent: Path, prefix: str) -> Path:
    """`runs/detect-1`, or the next number that is free; made."""
    number = 1
    while True:
        folder = parent / f"{prefix}-{number}"
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            number += 1


def write_picture(path: Path, picture: Picture) -> None:
    """uint8 RGB → a file of the kind that the name's ending says."""
    try:
        good, data = cv2.imencode(path.suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    except cv2.error:
        good = False
    if not good:
        raise DarknetError(f"{path}: OpenCV cannot write this kind of picture")
    write_file(path, data.tobytes())


class JsonFile:
    """The file of `--json`: for pictures one list, written when closed; for streams a line per frame, written at once."""

    def __init__(self, path: str | os.PathLike[str], lines: bool) -> None:
        self.path = Path(path)
        self.items: list[dict[str, Any]] = []
        self.file: IO[str] | None = self.path.open("w", encoding="utf-8") if lines else None

    def add(self, item: dict[str, Any]) -> None:
        if self.file is None:
            self.items.append(item)
        else:
            self.file.write(_json(item) + "\n")
            self.file.flush()

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
        else:
            write_json(self.path, self.items)


def write_json(path: Path, value: Any) -> None:
    write_file(path, _json(value, indent=1) + "\n")


def _json(value: Any, indent: int | None = None) -> str:
    """Readable in any language; the bytes of a file name that is no UTF-8 are escaped."""
    return json.dumps(value, indent=indent, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()


class VideoFile:
    """An annotated video, renamed into place when closed; the first frame sets its size."""

    def __init__(self, path: Path, fps: float) -> None:
        self.path = path
        self.fps = fps
        self.temporary = beside(path)
        self.writer: cv2.VideoWriter | None = None

    def add(self, frame: Picture) -> None:
        if self.writer is None:
            size = (frame.shape[1], frame.shape[0])
            self.writer = cv2.VideoWriter(str(self.temporary), cv2.VideoWriter.fourcc(*"mp4v"), self.fps, size)
            if not self.writer.isOpened():
                raise DarknetError(f"{self.path}: OpenCV cannot write this video")
        self.writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        if self.writer is not None:
            self.writer.release()
            os.replace(self.temporary, self.path)


class Results:
    """All that a run writes.

    Args:
        folder: of annotated pictures, `labels/` and `crops/`. pictures, labels, crops: which of them.
        json_file, coco: the files of `--json` and `--coco`. lines: JSON lines in place of one list.
        save_as: every annotated picture is written to this name, over the one before (Darknet's `predictions.jpg`).
    """

    def __init__(
        self, folder: Path, *, pictures: bool, labels: bool, crops: bool,
        json_file: str | None, coco: str | None, lines: bool,
        save_as: str | None = None,
    ) -> None:  # fmt: skip
        self.folder, self.pictures, self.labels, self.crops = folder, pictures, labels, crops
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

    def add_picture(self, path: str, picture: Picture, found: Detections) -> Picture | None:
        """Files of one picture; returns it annotated, where that is written."""
        name = self.name_for(path)
        self._add(found, path, Path(path if self.save_as else name).stem, picture)
        if not self.pictures:
            return None
        annotated = draw(picture, found)
        target = self.folder / name
        write_picture(
            target
            if target.suffix.lower() in (".jpg", ".jpeg", ".png", ".bmp", ".webp")
            else target.with_suffix(".png"),
            annotated,
        )
        return annotated

    def add_frame(self, name: str, picture: Picture, found: Detections) -> Picture:
        """Files of one frame, but the video; returns the frame annotated."""
        self._add(found, None, f"{name}_{self.count + 1:06d}", picture)
        return draw(picture, found)

    def _add(self, found: Detections, path: str | None, stem: str, picture: Picture) -> None:
        self.count += 1
        if self.json:
            self.json.add(as_json(found, self.count, path))
        if self.coco_path:
            self.coco += as_coco(found, self.count if path is None else image_id(path, self.count))
        if self.labels:
            (self.folder / "labels").mkdir(exist_ok=True)
            write_file(self.folder / "labels" / f"{stem}.txt", as_labels(found))
        if self.crops:
            self._write_crops(found, stem, picture)

    def _write_crops(self, found: Detections, stem: str, picture: Picture) -> None:
        for number, one in enumerate(found, 1):
            left, top, right, bottom = (max(0, round(value)) for value in one.box)
            part = as_bytes(picture[top:bottom, left:right])
            if 0 in part.shape:
                continue
            folder = self.folder / "crops" / re.sub(r"[^\w.-]", "_", one.name)
            folder.mkdir(parents=True, exist_ok=True)
            write_picture(folder / f"{stem}_{number}.jpg", np.ascontiguousarray(part))

    def close(self) -> None:
        if self.json:
            self.json.close()
        if self.coco_path:
            write_json(self.coco_path, self.coco)
