"""Pascal VOC annotations (.xml), by the formula of Darknet's scripts/voc_label.py."""

from __future__ import annotations

import os
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence

import numpy as np

from darknet_py.data.labels import in_sibling
from darknet_py.data.truths import DataWarning, ImageTruths, make_truths
from darknet_py.errors import DarknetError
from darknet_py.files import read_file
from darknet_py.text import whole_number

MAX_BYTES = 1 << 26


def voc_path(image: str) -> str | None:
    """The Pascal VOC file of an image: in `Annotations`, the sibling of its image folder, or beside it; None if there
    is none."""
    candidates = [*in_sibling(image, "Annotations", ".xml"), os.path.splitext(image)[0] + ".xml"]
    return next((path for path in candidates if os.path.exists(path)), None)


def read_voc(
    path: str | os.PathLike[str], names: Sequence[str], picture_size: Callable[[], tuple[int, int]] | None = None
) -> tuple[ImageTruths, tuple[int, int]]:
    """A Pascal VOC file, by the formula of Darknet's voc_label.py: the centre is ((left+right)/2 - 1) / width.

    Args:
        path: the .xml. names: of the classes; objects of other names are left out, with a warning.
        picture_size: gives (width, height) of the picture, pixels; asked where the file does not say it.

    Returns:
        The truths, difficult ones included (voc_label.py leaves them out), and (width, height) of the image, pixels.

    Raises:
        DarknetError: it cannot be read, is not an annotation, or nothing gives the image's size.
    """
    root = _root(path)
    width, height = _size(root)
    if min(width, height) < 1 and picture_size is not None:
        width, height = picture_size()
    if min(width, height) < 1:
        raise DarknetError(f"{path}: <size> is missing or 0; write the image's width and height")
    known = {name: index for index, name in enumerate(names)}
    classes, corners, difficult = [], [], []
    for item in root.iter("object"):
        name = (item.findtext("name") or "").strip()
        if name not in known:
            text = f"class '{name}' of the annotations is not among the names; its objects are left out"
            warnings.warn(text, DataWarning, stacklevel=2)
            continue
        classes.append(known[name])
        corners.append([_number(path, item, f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")])
        difficult.append((item.findtext("difficult") or "0").strip() == "1")
    left_top, right_bottom = np.array(corners, np.float64).reshape(-1, 2, 2).swapaxes(0, 1)
    size = np.array([width, height])
    # scripts/voc_label.py: VOC counts pixels from 1, and takes 1 from the centre, not from each corner
    xywh = np.concatenate((((left_top + right_bottom) / 2 - 1) / size, (right_bottom - left_top) / size), 1)
    return make_truths(classes, xywh, difficult), (width, height)


def voc_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """(width, height) as a Pascal VOC file says, pixels; (0, 0): it does not."""
    return _size(_root(path))


def _root(path: str | os.PathLike[str]) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(read_file(path, MAX_BYTES), ElementTree.XMLParser(target=_Builder()))
    except OSError as error:
        raise DarknetError(f"{path}: cannot read this annotation: {error.strerror or error}") from None
    except ElementTree.ParseError as error:
        raise DarknetError(f"{path}:{error.position[0]}: this is not a Pascal VOC annotation: {error}") from None
    except (LookupError, ValueError) as error:  # LookupError: an encoding that Python does not know
        raise DarknetError(f"{path}: this annotation cannot be read: {error}; save it as plain UTF-8") from None


def _size(root: ElementTree.Element) -> tuple[int, int]:
    width, height = (root.findtext(f"size/{side}", "").strip().partition(".")[0] for side in ("width", "height"))
    return whole_number(width) or 0, whole_number(height) or 0


class _Builder(ElementTree.TreeBuilder):
    """No annotation needs entities; nested ones fill the memory."""

    def doctype(self, name: str, *_: str | None) -> None:
        raise ValueError(f"it declares <!DOCTYPE {name[:40]}>")


def _number(path: str | os.PathLike[str], element: ElementTree.Element, tag: str) -> float:
    text = (element.findtext(tag) or "").strip()
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise DarknetError(f"{path}: <{tag.replace('/', '><')}> is '{text}', which is not a number")
    return value
