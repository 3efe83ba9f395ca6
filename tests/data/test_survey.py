"""What a training looks at before its first iteration: what of the labels it can use."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from small_data import data_file, write_noise

from darknet_py.data.class_labels import labels_in
from darknet_py.data.dataset import Dataset, open_dataset
from darknet_py.data.survey import MIN_LABELLED, sound, survey
from darknet_py.data.truths import DataWarning
from darknet_py.errors import DarknetError
from darknet_py.layers.needs import BoxNeeds, CellGrid, ClassNeeds

SIZE = (96, 64)
NEEDS = BoxNeeds(2, 10, CellGrid(3, 2))


def boxes(folder: Path, *labels: str) -> Dataset:
    """An image for each label file."""
    for number, text in enumerate(labels):
        write_noise(folder / f"p/{number}.png").with_suffix(".txt").write_text(text)
    return open_dataset(data_file(folder, train="p"))


def test_usable_boxes_are_counted_by_class(tmp_path: Path) -> None:
    dataset = boxes(tmp_path, "0 .5 .5 .2 .2\n1 .5 .5 .2 .2\n", "1 .5 .5 .2 .2\n", "")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = survey(dataset, NEEDS, SIZE)
    assert found.summary(dataset.names) == "3 usable boxes in 2 images: dog 2, cat 1"


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ("2 .5 .5 .2 .2", "1 of a class beyond 0 to 1 (first: {file}: box 1)"),
        ("-1 .5 .5 .2 .2", "1 of a class beyond 0 to 1 (first: {file}: box 1)"),
        ("0 .5 .5 -.2 .2", "1 without area (first: {file}: box 1)"),
        ("0 .5 .5 .2 0", "1 without area (first: {file}: box 1)"),
        ("0 .5 .5 .01 .2", "1 under 1 pixel of the network's 96x64 (first: {file}: box 1)"),
        ("0 1.5 .5 .2 .2", "1 with their centre outside the image (first: {file}: box 1)"),
        ("0 .5 .5", "1 malformed label files (first: {file}:1: '0 .5 .5' has 3 values"),
    ],
)
def test_what_darknet_leaves_out_is_named_and_no_usable_box_at_all_is_an_error(
    tmp_path: Path, label: str, reason: str
) -> None:
    reason = reason.format(file=tmp_path / "p/0.txt")
    with pytest.raises(DarknetError, match="p: none of 1 boxes can be used: ") as raised:
        survey(boxes(tmp_path, label), NEEDS, SIZE)
    assert reason in str(raised.value)
    with pytest.warns(DataWarning, match="p: 1 of 3 boxes cannot be used: ") as caught:
        survey(boxes(tmp_path, label, "0 .5 .5 .2 .2\n1 .5 .5 .2 .2\n"), NEEDS, SIZE)
    assert reason in str(caught[0].message)


def test_most_labels_unusable_is_said_and_images_that_show_nothing_are_an_error(tmp_path: Path) -> None:
    with pytest.warns(DataWarning, match=r"2 of 3 boxes \(most of them\) cannot be used"):
        survey(boxes(tmp_path, "7 .5 .5 .2 .2\n8 .5 .5 .2 .2\n0 .5 .5 .2 .2\n"), NEEDS, SIZE)
    with pytest.raises(DarknetError, match="no image shows an object"):
        survey(boxes(tmp_path, "", ""), NEEDS, SIZE)


def test_images_whose_labels_cannot_be_measured_with_are_left_out(tmp_path: Path) -> None:
    dataset = boxes(tmp_path, "0 .5 .5 .2 .2", "0 .5 .5", "9 .5 .5 .2 .2")
    with pytest.warns(DataWarning, match=r"2 of 3 images are not measured, .*1\.txt:1: '0 \.5 \.5' has 3 values"):
        assert sound(dataset, 2).images == dataset.images[:1]
    with pytest.raises(DarknetError, match=r"no image has labels to measure with: .*2\.txt: class 9"):
        sound(dataset.subset([2]), 2)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("cat/1.jpg", ["cat"]),
        ("a/b/cat/c/d.jpg", ["cat"]),  # anywhere, as in Darknet
        ("cat_or_dog/train/dog/1.jpg", ["dog"]),  # the folder
        ("cat_or_dog\\train\\dog\\1.jpg", ["dog"]),
        ("catfish/1.jpg", ["catfish"]),  # all of the folder's name, not a part
        ("dog/cat.jpg", ["dog"]),
        ("cats_and_dogs/x/dog_1.jpg", ["dog"]),  # the file
        ("x/cat_dog.jpg", ["cat", "dog"]),
        ("bird/1.jpg", []),
        ("cat.jpg", ["cat"]),
        ("cat_dog.jpg", ["cat", "dog"]),
    ],
)
def test_a_classifiers_label_is_looked_for_in_folder_and_file_first(path: str, found: list[str]) -> None:
    labels = ["cat", "dog", "catfish"]
    assert [labels[number] for number in labels_in(path, labels)] == found


def test_a_classifier_whose_images_have_hardly_a_label_is_not_trained() -> None:
    images = [*["cat/1.jpg"] * 2, *["bird/1.jpg"] * 9, *["x/cat_dog.jpg"] * 9]
    dataset = Dataset(images, ["cat", "dog"], "list.txt", "none")
    with pytest.warns(DataWarning, match=r"18 of 20 images \(most of them\) cannot be used: 9 with no label in their"):
        assert survey(dataset, ClassNeeds(2), SIZE).per_class.tolist() == [2, 0]
    assert MIN_LABELLED == 0.1
    with pytest.raises(DarknetError, match=r"9 with several labels in their path \(first: x/cat_dog\.jpg: cat, dog\)"):
        survey(dataset.subset(range(1, 20)), ClassNeeds(2), SIZE)
