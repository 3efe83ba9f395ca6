"""Label files of polygons in training: boxes follow the polygons through a warp, and objects are pasted."""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from augmenting import NET, needs, rng

from darknet_py.data.augment.canvas import Fitted
from darknet_py.data.augment.dice import Dice
from darknet_py.data.augment.lists import recipe_for
from darknet_py.data.augment.paste import Cutout, apart, copied, cut_out, fitting, pasted
from darknet_py.data.augment.steps import LoadedImage, OneImage, Sample
from darknet_py.data.augment.warp import DrawnWarp, Warp, resampled, warped, with_points
from darknet_py.data.truths import NO_POLYGON, ImageTruths, Polygons, make_truths
from darknet_py.layers.needs import Rows
from darknet_py.pictures.fit import FITS

DIAMOND = np.array([(0.5, 0.2), (0.8, 0.5), (0.5, 0.8), (0.2, 0.5)], np.float32)
BOX = np.array([[0.5, 0.5, 0.6, 0.6]], np.float32)
SQUARE = np.array([(0.105, 0.105), (0.405, 0.105), (0.405, 0.405), (0.105, 0.405)], np.float32)
STILL = replace(NET, mosaic=1, zoom=(1.0, 1.0), translate=0.0, flip=0)


def sample(polygons: Polygons, boxes: Rows) -> Sample:
    """100x100 pixels, dark on the left, bright on the right; a white object in its left upper quarter."""
    image = np.full((100, 100, 3), 50, np.uint8)
    image[:, 50:] = 150
    image[10:41, 10:41] = 255
    rows = np.pad(boxes, ((0, 0), (0, 2))).astype(np.float32)
    return Sample(image, rows, "", polygons=polygons)


def squares(count: int) -> Sample:
    return sample([SQUARE] * count, np.array([[0.255, 0.255, 0.3, 0.3]] * count, np.float32))


def loaded(polygons: bool) -> Iterator[LoadedImage]:
    """Images without end of one object, with a polygon or with a box alone."""
    made = squares(1)
    truths = make_truths([1], made.truths[:, :4], polygons=made.polygons if polygons else ())
    dice = Dice.of(rng(5))
    while True:
        yield LoadedImage(made.image, truths, "a.jpg", "a.txt", dice)


def test_the_box_of_a_turned_diamond_is_smaller_than_that_of_its_turned_box() -> None:
    drawn = DrawnWarp((100, 100), (100, 100), angle=45)
    turned = warped(with_points(sample([DIAMOND], BOX)), Warp(), drawn, rng())
    assert turned.truths[0, :4] == pytest.approx([0.5, 0.5, 0.3 * math.sqrt(2), 0.3 * math.sqrt(2)], abs=1e-6)
    of_box = warped(sample([NO_POLYGON], BOX), Warp(), drawn, rng())
    assert of_box.truths[0, 2:4] == pytest.approx([0.6 * math.sqrt(2)] * 2, abs=1e-6)
    assert not turned.polygons


def test_a_polygon_that_is_no_longer_seen_is_left_out() -> None:
    away = DrawnWarp((100, 100), (100, 100), shift=(3.0, 0.5))
    made = with_points(sample([DIAMOND, NO_POLYGON], np.repeat(BOX, 2, 0)))
    assert len(warped(made, Warp(), away, rng()).truths) == 0


def test_a_polygon_is_resampled_along_its_sides_back_to_its_first_corner() -> None:
    points = resampled([SQUARE, DIAMOND[:3]], 13)
    assert points.shape == (2, 13, 2)
    assert np.allclose(points[:, [0, -1]], [[SQUARE[0]] * 2, [DIAMOND[0]] * 2])
    assert np.allclose(points[0, :4], [(0.105, 0.105), (0.205, 0.105), (0.305, 0.105), (0.405, 0.105)])
    assert np.allclose(points[1, 4], DIAMOND[1])


def test_an_object_is_copied_to_its_mirrored_place() -> None:
    made = copied(squares(1), [0])
    assert made.truths[:, :4].tolist() == pytest.approx(np.array([[0.255, 0.255, 0.3, 0.3], [0.745, 0.255, 0.3, 0.3]]))
    assert (made.image[12:39, 62:89] == 255).all()
    assert np.array_equal(made.image[45:], squares(1).image[45:])
    assert np.allclose(made.polygons[1][:, 0], 1 - SQUARE[:, 0])


def test_no_object_is_copied_onto_another() -> None:
    assert apart(squares(2), [1, 0]) == [1]  # the other one would cover its copy
    assert fitting(squares(2)).tolist() == [0, 1]  # of YOLOv8, copies may cover each other
    middle = np.array([[0.255, 0.255, 0.3, 0.3], [0.6, 0.255, 0.3, 0.3], [0.255, 0.7, 0.3, 0.3]], np.float32)
    assert apart(sample([SQUARE] * 3, middle), [0, 1, 2]) == fitting(sample([SQUARE] * 3, middle)).tolist() == [2]
    assert fitting(sample([SQUARE, SQUARE, NO_POLYGON], middle)).tolist() == []  # a box alone cannot be cut out


def test_a_cut_out_object_is_pasted_where_it_covers_none() -> None:
    (cutout,) = cut_out(squares(1), [0])
    assert cutout.image.shape == (30, 30, 3)
    places = [(10, 10, 50, 50), (60, 60, 100, 90), (60, 0, 80, 90)]  # on the object; free; 20 pixels wide
    made = pasted(squares(1), [cutout], places, lambda count: count - 1)
    assert made.truths[1:, :4].tolist() == [pytest.approx([0.75, 0.75, 0.3, 0.3])]
    assert (made.image[60:90, 60:90] == 255).all()
    assert (made.image[60:90, 90:] == 150).all()


def test_a_tiny_mask_is_not_pasted() -> None:
    mask = np.zeros((30, 30), np.uint8)
    mask[15, 15] = 255
    cutout = Cutout(np.zeros((30, 30, 3), np.uint8), mask, squares(1).truths[0])
    assert len(pasted(squares(1), [cutout], [(60, 60, 90, 90)], lambda count: 0).truths) == 1


@pytest.mark.parametrize("name", ["yolov5", "yolov7", "yolov8"])
def test_the_cfg_says_how_many_objects_are_pasted(name: str) -> None:
    def boxes(polygons: bool, **options: float) -> int:
        recipe = recipe_for(replace(STILL, augmentation=name, **options), needs())
        return sum(len(recipe(loaded(polygons), (96, 96), rng(seed)).truths) for seed in range(20))

    alone = boxes(True)
    assert boxes(True, copy_paste_probability=1.0) > 1.2 * alone
    assert (boxes(True, paste_in_probability=1.0) > 1.2 * alone) == (name == "yolov7")
    assert boxes(False, copy_paste_probability=1.0) == boxes(False)


@pytest.mark.parametrize(("name", "follows"), [("yolov5", False), ("yolov7", False), ("yolov8", True)])
def test_of_single_images_only_yolov8_uses_polygons(name: str, follows: bool) -> None:
    def boxes(polygons: bool, **options: float) -> Rows:
        net = replace(STILL, augmentation=name, mosaic=0, angle=45.0, **options)
        return recipe_for(net, needs())(loaded(polygons), (96, 64), rng(3)).truths

    assert np.array_equal(boxes(True), boxes(False)) != follows
    assert len(boxes(True, copy_paste_probability=1.0)) == 1 + follows


def test_a_polygon_moves_into_the_bars_of_an_input_with_its_box() -> None:
    made = OneImage((Fitted(FITS["yolov8"]),), needs(), polygons=True)(loaded(True), (96, 64), rng())
    low, high = made.polygons[0].min(0), made.polygons[0].max(0)
    assert [*(low + high) / 2, *(high - low)] == pytest.approx(made.truths[0, :4].tolist(), abs=1e-6)
    assert made.truths[0, 0] == pytest.approx((16 + 64 * 0.255) / 96)


def test_boxes_alone_are_not_read_in_vain_for_objects_to_paste() -> None:
    recipe = recipe_for(replace(STILL, augmentation="yolov7", paste_in_probability=1.0), needs())
    images = loaded(False)
    read: list[ImageTruths] = []
    counted = (read.append(image.truths) or image for image in images if isinstance(image.truths, ImageTruths))
    recipe(counted, (96, 96), rng())
    assert len(read) == 4 + 1
