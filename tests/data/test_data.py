"""Label files and data sets are read as Darknet reads them; what is wrong in them is named with its file and line."""

import json
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from augmenting import training_truths
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kit import REALDATA, needs_realdata
from project import CFGS
from small_data import data_file, write_noise

from darknet_py.data.coco import read_coco
from darknet_py.data.dataset import Dataset, open_dataset
from darknet_py.data.labels import label_path, read_labels, replace_image_to_label
from darknet_py.data.truths import DataWarning, make_truths
from darknet_py.data.voc import read_voc, voc_path
from darknet_py.errors import DarknetError
from darknet_py.names import read_names

RULE = [
    ("data/obj/dog.jpg", "data/obj/dog.txt"),
    ("dog.png", "dog.txt"),
    ("a/dog.JPEG", "a/dog.txt"),
    ("a/dog.tiff", "a/dog.txt"),
    ("a/dog.jpg.bmp", "a/dog.jpg.txt"),
    ("a/.jpg/dog.ppm", "a/.jpg/dog.txt"),
    ("coco/images/train2017/1.jpg", "coco/labels/train2017/1.txt"),
    ("coco/images/val2014/1.jpg", "coco/labels/val2014/1.txt"),
    ("VOC2007/JPEGImages/1.jpg", "VOC2007/labels/1.txt"),
    ("a/JPEGImages/b/JPEGImages/1.jpg", "a/labels/b/JPEGImages/1.txt"),
    ("bccd/images/1.jpg", "bccd/images/1.txt"),  # a plain /images/ stays where it is
    ("images/train2017/1.jpg", "images/train2017/1.txt"),  # the rule wants a slash before it
    ("c:\\coco\\images\\val2017\\1.jpg", "c:\\coco\\labels\\val2017\\1.txt"),
    ("c:\\voc\\JPEGImages\\1.jpg", "c:\\voc\\labels\\1.txt"),
    (" a/dog.jpg\t", "a/dog.txt"),
    ("a/dog.webp", "a/dog.webp"),  # an ending that Darknet does not know
    ("a/dog.Jpg", "a/dog.Jpg"),
]


@pytest.mark.parametrize(("image", "label"), RULE)
def test_darknets_rule_for_the_label_file(image: str, label: str) -> None:
    assert replace_image_to_label(image) == label


@pytest.mark.parametrize(
    ("image", "existing", "label"),
    [
        ("images/1.jpg", ["images/1.txt", "labels/1.txt"], "images/1.txt"),  # Darknet's rule comes first
        ("images/1.jpg", ["labels/1.txt"], "labels/1.txt"),
        ("images/train/1.jpg", ["labels/train/1.txt"], "labels/train/1.txt"),
        ("JPEGImages/1.jpg", ["JPEGImages/1.txt"], "JPEGImages/1.txt"),
        ("JPEGImages/1.jpg", ["JPEGImages/1.txt", "labels/1.txt"], "labels/1.txt"),
        ("images/1.webp", ["images/1.txt"], "images/1.txt"),
        ("images/1.Jpg", ["labels/1.txt"], "labels/1.txt"),
        ("images/1.jpg", [], "images/1.txt"),
        ("JPEGImages/1.jpg", [], "labels/1.txt"),
        ("images/1.webp", ["images/1.webp"], "images/1.txt"),  # never the image itself
    ],
)
def test_where_darknets_label_file_is_not_there_the_obvious_places_count(
    tmp_path: Path, image: str, existing: list[str], label: str
) -> None:
    for name in existing:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert label_path(str(tmp_path / image)) == str(tmp_path / label)


def test_a_folder_above_that_is_called_images_does_not_count_if_a_nearer_one_is(tmp_path: Path) -> None:
    (tmp_path / "images/set/labels").mkdir(parents=True)
    (tmp_path / "images/set/labels/1.txt").touch()
    assert label_path(str(tmp_path / "images/set/images/1.jpg")) == str(tmp_path / "images/set/labels/1.txt")


@pytest.mark.parametrize(
    "text",
    [
        b"0 0.5 0.5 0.25 1\n2 .1 .2 .3 .4\n",
        b"\xef\xbb\xbf0 0.5 0.5 0.25 1\r\n2 .1 .2 .3 .4\r\n",
        b"\n\n  0\t0.5  0.5 0.25\t1   \n\n2 1e-1 .2 3E-1 0.4",
    ],
)
def test_bom_crlf_tabs_empty_lines_and_spaces_do_not_matter(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "1.txt").write_bytes(text)
    truths = read_labels(tmp_path / "1.txt")
    assert truths.classes.tolist() == [0, 2]
    assert truths.classes.dtype == np.int64
    assert truths.xywh.dtype == np.float32
    np.testing.assert_array_equal(truths.xywh, np.array([[0.5, 0.5, 0.25, 1], [0.1, 0.2, 0.3, 0.4]], np.float32))
    assert not truths.difficult.any()


@pytest.mark.parametrize("text", ["", "\n", "  \r\n\t\n"])
def test_an_empty_label_file_is_an_image_without_objects(tmp_path: Path, text: str) -> None:
    (tmp_path / "1.txt").write_text(text)
    assert [len(part) for part in read_labels(tmp_path / "1.txt")] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 .5 .5 .1 .1\n1 .5 .5 .1\n", "1.txt:2: '1 .5 .5 .1' has 4 values; write 'class x y w h'"),
        ("\n0 .5 .5 .1 .1 .9", "1.txt:2: '0 .5 .5 .1 .1 .9' has 6 values"),
        ("dog .5 .5 .1 .1", "1.txt:1: 'dog .5 .5 .1 .1': the class 'dog' is not an integer"),
        ("1.5 .5 .5 .1 .1", "the class '1.5' is not an integer"),
        ("３ .5 .5 .1 .1", "the class '３' is not an integer"),  # full width
        ("1_0 .5 .5 .1 .1", "the class '1_0' is not an integer"),
        ("0 .5 .5 .1 .1 .2 .x", "'.x' is not a number"),
        (
            "0 .1 .1 .2 .1 .2 .2\n0 .1 .1 .2 .1 .2 .2 .1",
            "1.txt:2: '0 .1 .1 .2 .1 .2 .2 .1' has 8 values, but a polygon has an x and a y for each corner; write "
            "'class x1 y1 x2 y2 x3 y3 …', or a box: 'class x y w h'",
        ),
        (
            "0 .1 .1 .2 .1 .2 1.2",
            "1.txt:1: '0 .1 .1 .2 .1 .2 1.2' has 7 values, not all from 0 to 1 as a polygon's; write 'class x y w h'",
        ),
        ("99999999999999999999 .5 .5 .1 .1", "is not an integer"),
        ("0 0,5 .5 .1 .1", "'0,5' is not a number"),
        ("0 nan .5 .1 .1", "'nan' is not a number"),
        ("0 .5 .5 inf .1", "'inf' is not a number"),
        ("0 .5 .5 1e39 .1", "'1e39' is not a number"),  # of 32 bits
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "1.txt").write_text(text)
    with pytest.raises(DarknetError) as raised:
        read_labels(tmp_path / "1.txt")
    assert message in str(raised.value)


def test_a_class_may_be_a_whole_float_and_a_polygon_is_its_box(tmp_path: Path) -> None:
    (tmp_path / "1.txt").write_text("3.0 .5 .5 .2 .2\n1 .2 .3 .6 .4 .4 .9\n0 .5 .5 .25 .25\n")
    with pytest.warns(DataWarning, match="polygons"):
        truths = read_labels(tmp_path / "1.txt")
    assert truths.classes.tolist() == [3, 1, 0]
    np.testing.assert_allclose(truths.xywh[1], [0.4, 0.6, 0.4, 0.6], rtol=1e-6)
    assert [len(polygon) for polygon in truths.polygons] == [0, 3, 0]
    np.testing.assert_allclose(truths.polygons[1], [(0.2, 0.3), (0.6, 0.4), (0.4, 0.9)], rtol=1e-6)


@pytest.mark.parametrize("line", ["0 .5 .5 .2 .2 .9 7", "0 .5 .5 .2 .2 .45 .45 2 .55 .55 2", "0 .1 .1 1.5 .2 .3 .3"])
def test_a_line_with_points_outside_the_image_is_no_polygon(tmp_path: Path, line: str) -> None:
    """Keypoints with their visibility, a confidence and a track: their box would be a wrong one."""
    (tmp_path / "1.txt").write_text(line + "\n")
    with pytest.raises(DarknetError, match=r"1\.txt:1: "):
        read_labels(tmp_path / "1.txt")


@given(data=st.binary(max_size=60) | st.text("0123456789.- \n\te", max_size=40).map(str.encode))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_truths_or_one_sentence(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "1.txt").write_bytes(data)
    message = ""
    truths = make_truths()
    try:
        truths = read_labels(tmp_path / "1.txt")
    except DarknetError as error:
        message = str(error)
    assert "\n" not in message
    assert np.isfinite(truths.xywh).all()


VOC = """<annotation><size><width>{w}</width><height>200</height><depth>3</depth></size>
<object><name>dog</name><difficult>0</difficult><bndbox><xmin>11</xmin><ymin>21</ymin><xmax>31</xmax><ymax>61</ymax></bndbox></object>
<object><name>cat</name><difficult>1</difficult><bndbox><xmin>{x}</xmin><ymin>1</ymin><xmax>3.5</xmax><ymax>5</ymax></bndbox></object>
</annotation>"""


def test_voc_labels_formula(tmp_path: Path) -> None:
    (tmp_path / "1.xml").write_text(VOC.format(w=100, x=1))
    truths, size = read_voc(tmp_path / "1.xml", ["cat", "dog"])
    assert size == (100, 200)
    assert truths.classes.tolist() == [1, 0]
    assert truths.difficult.tolist() == [False, True]
    # ((11+31)/2 - 1) / 100, ((21+61)/2 - 1) / 200, (31-11) / 100, (61-21) / 200
    np.testing.assert_allclose(truths.xywh[0], [0.20, 0.20, 0.20, 0.20], rtol=1e-6)
    np.testing.assert_allclose(truths.xywh[1], [0.0125, 0.01, 0.025, 0.02], rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (VOC.format(w=0, x=1), "<size> is missing or 0; write the image's width and height"),
        (VOC.format(w=100, x="one"), "<bndbox><xmin> is 'one', which is not a number"),
        (VOC.format(w="", x=1), "<size> is missing or 0"),
        ('<?xml version="1.0" encoding="utf-7"?><annotation/>', "1.xml: this annotation cannot be read"),
        ("<annotation>", "1.xml:1: this is not a Pascal VOC annotation"),
    ],
)
def test_a_wrong_voc_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "1.xml").write_text(text)
    with pytest.raises(DarknetError) as raised:
        read_voc(tmp_path / "1.xml", ["cat", "dog"])
    assert message in str(raised.value)


def test_voc_objects_of_unknown_names_are_left_out_with_a_warning(tmp_path: Path) -> None:
    (tmp_path / "1.xml").write_text(VOC.format(w=100, x=1))
    with pytest.warns(DataWarning, match="class 'cat' of the annotations is not among the names"):
        assert read_voc(tmp_path / "1.xml", ["dog"])[0].classes.tolist() == [0]


def coco_file(path: Path, categories: list[tuple[int, str]]) -> Path:
    annotations = [
        {"image_id": 7, "category_id": categories[1][0], "bbox": [10, 20, 30, 40], "iscrowd": 0},
        {"image_id": 5, "category_id": categories[0][0], "bbox": [0, 0, 50, 100], "iscrowd": 1},
        {"image_id": 7, "category_id": categories[0][0], "bbox": [0, 0, 1, 1]},
    ]
    images = [{"id": number, "file_name": f"{number}.png", "width": 100, "height": 200} for number in (5, 6, 7)]
    categories_ = [{"id": number, "name": name} for number, name in reversed(categories)]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories_}))
    return path


def test_coco_boxes_are_of_their_images_and_crowds_are_difficult(tmp_path: Path) -> None:
    coco = read_coco(coco_file(tmp_path / "a.json", [(1, "cat"), (18, "dog")]))
    assert coco.images == ["5.png", "6.png", "7.png"]
    assert coco.names == ["cat", "dog"]
    assert [truths.classes.tolist() for truths in coco.truths] == [[0], [], [1, 0]]
    assert coco.truths[0].difficult.tolist() == [True]
    np.testing.assert_allclose(coco.truths[2].xywh[0], [0.25, 0.2, 0.3, 0.2], rtol=1e-6)


def test_coco_categories_are_classes_by_name_or_else_by_order(tmp_path: Path) -> None:
    path = coco_file(tmp_path / "a.json", [(1, "airplane"), (18, "dog")])
    assert read_coco(path, ["dog", "cow", "airplane"]).truths[2].classes.tolist() == [0, 2]  # by name
    with pytest.warns(DataWarning, match="airplane are not among the names; taken for aeroplane, by their order"):
        assert read_coco(path, ["aeroplane", "dog"]).truths[2].classes.tolist() == [1, 0]
    with pytest.warns(DataWarning, match="the categories airplane are not among the names"):
        assert read_coco(path, ["dog", "aeroplane"]).truths[2].classes.tolist() == [0]  # dog stands elsewhere: no order
    with pytest.raises(DarknetError, match="none of its 2 categories"):
        read_coco(path, ["a", "b", "c"])


@pytest.mark.parametrize("bbox", [[], None, [1, 2, 3], [1, 2, None, 3], ["1", 2, 3, 4], "abcd"])
def test_a_coco_annotation_without_a_box_is_left_out_by_its_id(tmp_path: Path, bbox: object) -> None:
    path = coco_file(tmp_path / "a.json", [(1, "cat"), (18, "dog")])
    content = json.loads(path.read_text())
    content["annotations"][0] |= {"id": 4711, "bbox": bbox}
    path.write_text(json.dumps(content))
    with pytest.warns(DataWarning, match=r"1 annotations have no bbox of four numbers \(id 4711\); they are left out"):
        assert [truths.classes.tolist() for truths in read_coco(path).truths] == [[0], [], [0]]


def test_backslashes_in_the_file_names_of_a_coco_file(tmp_path: Path) -> None:
    path = coco_file(tmp_path / "a.json", [(1, "cat"), (18, "dog")])
    path.write_text(path.read_text().replace('"7.png"', '"images\\\\7.png"'))
    write_noise(tmp_path / "images/7.png")
    assert open_dataset(data_file(tmp_path, train="a.json")).images[2] == str(tmp_path / "images/7.png")


def test_a_voc_file_without_a_size_takes_the_pictures(tmp_path: Path) -> None:
    write_noise(tmp_path / "a/1.jpg")  # 96x64
    (tmp_path / "a/1.xml").write_text(VOC.format(w=0, x=1))
    xywh = open_dataset(data_file(tmp_path, train="a")).truths(0).xywh
    np.testing.assert_allclose(xywh[0], [20 / 96, 40 / 64, 20 / 96, 40 / 64], rtol=1e-6)


@pytest.mark.parametrize(
    "text", ["{", "[]", "[" * 100_000, '{"images": []}', '{"images": 1, "annotations": [], "categories": []}']
)
def test_what_is_no_coco_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DarknetError, match=r"a\.json: this is not"):
        read_coco(tmp_path / "a.json")


def test_lists_with_bom_crlf_empty_lines_and_spaces_in_paths(tmp_path: Path) -> None:
    for name in ("my images/1.png", "my images/2.png"):
        write_noise(tmp_path / name)
    (tmp_path / "my images/2.txt").write_text("1 .5 .5 .5 .5\r\n")
    (tmp_path / "train.txt").write_bytes(b"\xef\xbb\xbfmy images/1.png\r\n\r\n my images/2.png \r\n")
    dataset = open_dataset(data_file(tmp_path, train="train.txt"))
    assert dataset.images == [str(tmp_path / "my images/1.png"), str(tmp_path / "my images/2.png")]
    assert dataset.names == ["cat", "dog"]
    assert (len(dataset), dataset.kind) == (2, "txt")
    assert dataset.truths(0).classes.tolist() == []  # no label file: no object
    assert dataset.truths(1).classes.tolist() == [1]


def test_relative_paths_start_in_the_current_folder_or_the_lists_or_around_the_data_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_noise(tmp_path / "root/data/obj/1.png")
    (tmp_path / "root/data/train.txt").write_text("data/obj/none.png\ndata/obj/1.png\n")
    data = data_file(tmp_path / "root/data", train="data/train.txt")
    assert open_dataset(data).images[1] == str(tmp_path / "root/data/obj/1.png")  # the folder above the .data file's
    monkeypatch.chdir(tmp_path / "root")
    assert open_dataset("data/obj.data").images == ["data/obj/none.png", "data/obj/1.png"]  # as written, as in Darknet


def test_a_folder_of_images_is_a_data_set(tmp_path: Path) -> None:
    for name in ("b/2.png", "a/1.jpg", "a/3.txt"):
        write_noise(tmp_path / "photos" / name) if not name.endswith("txt") else (tmp_path / "photos" / name).touch()
    dataset = open_dataset(data_file(tmp_path, train="photos"))
    assert dataset.written == [os.path.join("a", "1.jpg"), os.path.join("b", "2.png")]
    assert dataset.kind == "none"


def test_a_coco_file_is_a_data_set_with_its_images_where_they_usually_are(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    coco_file(tmp_path / "annotations/instances_val2017.json", [(1, "cat"), (2, "dog")])
    write_noise(tmp_path / "val2017/7.png")
    dataset = open_dataset(data_file(tmp_path, valid="annotations/instances_val2017.json"), "valid")
    assert dataset.images[2] == str(tmp_path / "val2017/7.png")
    assert dataset.kind == "coco"
    assert dataset.truths(2).classes.tolist() == [1, 0]


def test_voc_files_count_only_where_no_image_has_a_label_file(tmp_path: Path) -> None:
    for name in ("1", "2"):
        write_noise(tmp_path / f"JPEGImages/{name}.jpg")
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations/1.xml").write_text(VOC.format(w=100, x=1))
    data = data_file(tmp_path, train="JPEGImages")
    dataset = open_dataset(data)
    assert dataset.kind == "xml"
    assert dataset.truths(0).classes.tolist() == [1, 0]
    assert dataset.truths(1).classes.tolist() == []
    assert voc_path(str(tmp_path / "JPEGImages/2.jpg")) is None
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/2.txt").write_text("0 .5 .5 .1 .1")
    dataset = open_dataset(data)
    assert [dataset.truths(k).classes.tolist() for k in (0, 1)] == [[], [0]]


def test_labels_are_never_stale(tmp_path: Path) -> None:
    write_noise(tmp_path / "a/1.png")
    (tmp_path / "a/1.txt").write_text("0 .5 .5 .1 .1")
    dataset = open_dataset(data_file(tmp_path, train="a"))
    assert dataset.truths(0).classes.tolist() == [0]
    before = (tmp_path / "a/1.txt").stat()
    (tmp_path / "a/1.txt").write_text("1 .5 .5 .1 .1")  # of the same length
    os.utime(tmp_path / "a/1.txt", ns=(before.st_atime_ns, before.st_mtime_ns))  # and of the same time
    assert dataset.truths(0).classes.tolist() == [1]


def test_the_difficult_list_of_a_data_file_names_images_with_difficult_objects(tmp_path: Path) -> None:
    for folder in ("easy", "hard"):
        write_noise(tmp_path / folder / "1.png")
        (tmp_path / folder / "1.txt").write_text("0 .5 .5 .1 .1" if folder == "easy" else "1 .2 .2 .1 .1")
        (tmp_path / f"{folder}.txt").write_text(f"{folder}/1.png\n")
    data = data_file(tmp_path, train="easy.txt", valid="easy.txt", difficult="hard.txt")
    truths = open_dataset(data, "valid").truths(0)
    assert (truths.classes.tolist(), truths.difficult.tolist()) == ([0, 1], [False, True])
    assert open_dataset(data, "train").truths(0).classes.tolist() == [0]


@pytest.mark.parametrize(
    ("options", "split", "message"),
    [
        ({"train": "train.txt"}, "valid", "there is no 'valid='"),
        ({"train": "none.txt"}, "train", "none.txt: cannot read this list of images"),
        ({"train": "empty.txt"}, "train", "empty.txt: this list names no image"),
        ({"train": "empty"}, "train", "empty: no images in this folder"),
        ({"train": "train.txt", "names": "none.names"}, "train", "none.names: cannot read this names file"),
        ({"train": "train.txt"}, "test", "there is no split 'test'"),
    ],
)
def test_a_wrong_data_file_is_named(tmp_path: Path, options: dict[str, str], split: str, message: str) -> None:
    (tmp_path / "train.txt").write_text("1.png\n")
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DarknetError) as raised:
        open_dataset(data_file(tmp_path, **options), split)
    assert message in str(raised.value)


def test_the_labels_of_a_classifier_are_another_list_than_its_names(tmp_path: Path) -> None:
    write_noise(tmp_path / "train/n01/1.png")
    (tmp_path / "labels.list").write_text("n01\nn02\n")
    dataset = open_dataset(data_file(tmp_path, train="train", labels="labels.list"))
    assert (dataset.names, dataset.labels) == (["cat", "dog"], ["n01", "n02"])
    assert dataset.written == [os.path.join("n01", "1.png")]


def test_without_names_the_classes_are_numbers(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("1.png\n")
    assert open_dataset(data_file(tmp_path, train="train.txt", names="")).names == ["0", "1"]


# What a network is trained on ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ((0, 0.5, 0.5, 0.25, 0.25), (0.5, 0.5, 0.25, 0.25)),
        ((0, 0.5, 0.5, 0.0099, 0.5), None),  # under a pixel of 100
        ((0, 0.5, 0.5, 0.5, 0.0049), None),  # under a pixel of 200
        ((0, 0.5, 0.5, 0.01, 0.005), (0.5, 0.5, 0.01, 0.005)),  # exactly one
        ((0, 0.0, 0.5, 0.1, 0.1), None),
        ((0, 1.0, 1.0, 0.1, 0.1), (1.0, 1.0, 0.1, 0.1)),
        ((0, 1.01, 0.5, 0.1, 0.1), None),
        ((0, 0.5, -0.1, 0.1, 0.1), None),
        ((0, 0.5, 0.5, 1.5, 2.0), (0.5, 0.5, 1.0, 1.0)),
        ((3, 0.5, 0.5, 0.1, 0.1), None),
        ((-1, 0.5, 0.5, 0.1, 0.1), None),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_which_truths_are_trained_on(given: tuple[float, ...], kept: tuple[float, ...] | None) -> None:
    rows = training_truths(make_truths([given[0]], [given[1:]]), (100, 200), 3, 10, np.random.default_rng(0))
    assert rows.dtype == np.float32
    assert rows[:, :5].tolist() == ([] if kept is None else [[*np.array(kept, np.float32).tolist(), given[0]]])


def test_truths_are_shuffled_before_the_first_of_them_are_taken() -> None:
    truths = make_truths(np.arange(10), np.full((10, 4), 0.5))
    rng = np.random.default_rng(1)
    drawn = np.array([training_truths(truths, (100, 100), 10, 3, rng)[:, 4] for _ in range(4000)])
    assert drawn.shape == (4000, 3)
    share = np.bincount(drawn.astype(int).ravel(), minlength=10) / 4000
    np.testing.assert_allclose(share, 0.3, atol=0.03)  # 4 standard deviations: 4*sqrt(.3*.7/4000) = .029


def test_the_cut_to_max_comes_before_the_filter() -> None:
    """data.c cuts the list first: of 2 tiny and 1 large box with max=1, the large one is kept in 1 of 3 cases."""
    truths = make_truths([0, 0, 0], [(0.5, 0.5, 1e-4, 1e-4)] * 2 + [(0.5, 0.5, 0.5, 0.5)])
    rng = np.random.default_rng(2)
    kept = np.mean([len(training_truths(truths, (100, 100), 1, 1, rng)) for _ in range(3000)])
    assert kept == pytest.approx(1 / 3, abs=0.035)


def test_difficult_objects_are_not_trained_on() -> None:
    truths = make_truths([0, 1], np.full((2, 4), 0.5), [True, False])
    assert training_truths(truths, (100, 100), 2, 10, np.random.default_rng(0))[:, 4].tolist() == [1]


def test_track_ids_are_numbers_in_the_file_after_a_hash_of_its_path() -> None:
    truths = make_truths([0, 0, 0], [(0.5, 0.5, 0.1 * (k + 1), 0.5) for k in range(3)])
    rows = training_truths(truths, (100, 100), 1, 10, np.random.default_rng(0), path="a.txt")
    value = 5381
    for letter in b"a.txt":
        value = value * 33 + letter
    np.testing.assert_array_equal(rows[np.argsort(rows[:, 2]), 5], value % 4000 * 4000 + np.arange(3))


def test_a_wrong_class_is_named_once_per_file() -> None:
    truths = make_truths([5], [(0.5, 0.5, 0.5, 0.5)])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for path in ("a.txt", "a.txt", "b.txt", "a.txt"):
            training_truths(truths, (100, 100), 2, 10, np.random.default_rng(0), path=path)
    assert [str(warning.message) for warning in caught] == [
        f"{path}: class 5, but the network has the classes 0 to 1; left out" for path in ("a.txt", "b.txt")
    ]


# Real data ----------------------------------------------------------------------------------------------------------


def counts(dataset: Dataset) -> list[int]:
    return np.bincount(
        np.concatenate([dataset.truths(k).classes for k in range(len(dataset))]), minlength=len(dataset.names)
    ).tolist()


@needs_realdata
@pytest.mark.parametrize(
    ("name", "split", "images", "boxes"),
    [
        ("bccd", "train", 205, [2381, 214, 209]),  # the numbers of `detector calc_anchors` on the same list
        ("bccd", "valid", 72, [805, 71, 69]),
        ("raccoon", "train", 86, [91]),
        ("raccoon", "valid", 21, [22]),
    ],
)
def test_real_data_sets_have_their_known_counts(name: str, split: str, images: int, boxes: list[int]) -> None:
    dataset = open_dataset(REALDATA / name / f"{name}.data", split)
    assert (len(dataset), dataset.kind, counts(dataset)) == (images, "txt", boxes)
    assert all(map(os.path.exists, dataset.images))


@needs_realdata
def test_voc_2007_opens_with_its_known_counts(tmp_path: Path) -> None:
    root = REALDATA / "voc2007_subset"
    data = data_file(
        tmp_path, train=f"{root}/trainval2007.list.txt", valid=f"{root}/test2007.list.txt", names=f"{root}/voc.names"
    )
    assert [
        (len(split), sum(counts(split))) for split in (open_dataset(data, "train"), open_dataset(data, "valid"))
    ] == [
        (350, 878),
        (250, 577),
    ]


@needs_realdata
@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("voc2007_subset", 1e-6),
        ("bccd", 1.0),
        ("raccoon", 1.0),
    ],  # pixels: the last two were made without voc_label's -1
)
def test_voc_files_and_darknet_labels_of_the_same_image_agree(name: str, tolerance: float) -> None:
    root = REALDATA / name
    names = read_names(next(root.glob("*.names")))
    images = sorted((root / "images").rglob("*.jpg"))
    compared = 0
    for image in images[:: max(1, len(images) // 60)]:
        truths, size = read_voc(voc_path(str(image)) or "", names)
        ours = truths.xywh[~truths.difficult & (truths.xywh[:, 2:] > 0).all(1)]
        numbers = truths.classes[~truths.difficult & (truths.xywh[:, 2:] > 0).all(1)]
        labels = read_labels(label_path(str(image)))
        assert numbers.tolist() == labels.classes.tolist()
        np.testing.assert_allclose(ours * [*size, *size], labels.xywh * [*size, *size], atol=tolerance + 1e-3)
        compared += len(numbers)
    assert compared > 60


@needs_realdata
def test_the_coco_file_and_darknet_labels_of_the_same_image_agree() -> None:
    root = REALDATA / "coco"
    coco = read_coco(root / "annotations/instances_val2017_subset.json", read_names(root / "coco.names"))
    assert (len(coco.images), sum(len(truths.classes) for truths in coco.truths)) == (188, 1692)
    assert sum(int(one.difficult.sum()) for one in coco.truths) == 20  # crowds
    for name, truths in zip(coco.images, coco.truths, strict=True):
        path = root / "labels/val2017" / f"{Path(name).stem}.txt"
        labels = read_labels(path) if path.exists() else make_truths()
        easy = ~truths.difficult
        assert truths.classes[easy].tolist() == labels.classes.tolist()
        np.testing.assert_allclose(truths.xywh[easy], labels.xywh, atol=2e-6)  # the labels have six digits


@needs_realdata
def test_the_coco_file_opens_as_a_data_set_with_its_images(tmp_path: Path) -> None:
    root = REALDATA / "coco"
    darknet = CFGS / "coco.names"  # aeroplane, sofa …: by order
    for names in (root / "coco.names", darknet):
        data = data_file(tmp_path, valid=str(root / "annotations/instances_val2017_subset.json"), names=str(names))
        dataset = open_dataset(data, "valid")
        assert all(map(os.path.exists, dataset.images))
        assert sum(counts(dataset)) == 1692
        assert dataset.truths(0).classes[0] == 58  # pottedplant
