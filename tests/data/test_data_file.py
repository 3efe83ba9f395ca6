"""A .data file, or a data.yaml in its place, and the files that it names, as people write them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from small_data import data_file, write_noise

from darknet_py.data.dataset import open_dataset
from darknet_py.data.truths import DataWarning
from darknet_py.errors import CfgWarning, DarknetError
from darknet_py.names import read_data, read_names


def test_spaces_inside_a_value_stay_and_quotes_around_it_go(tmp_path: Path) -> None:
    (tmp_path / "a.data").write_text(
        "# mine\n train = my pictures/train.txt \r\nnames='my names'\nbackup=\"b\"\nvalid=it's\n"
    )
    assert read_data(tmp_path / "a.data") == {
        "train": "my pictures/train.txt", "names": "my names", "backup": "b", "valid": "it's"
    }  # fmt: skip


def test_the_first_of_repeated_keys_counts_and_lines_without_a_value_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.data").write_text("train=1.txt\ntrain=2.txt\nvalid=\nnames\n")
    with pytest.warns(CfgWarning) as caught:
        assert read_data(tmp_path / "a.data") == {"train": "1.txt"}
    assert [str(one.message).partition("a.data:")[2] for one in caught] == [
        "2: train=2.txt: given a second time; the first counts (line 1); remove one",
        "3: valid=: no value, so this line is left out; write key=value",
        "4: names=: no value, so this line is left out; write key=value",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[net]\nbatch=1\n", "a.data:1: [net]: a data file has no sections"),
        ("train: images\nnc: 2\n", "a.data:1: train: images: this is YAML; name the file data.yaml"),
        ("classes=two\ntrain=t\n", "a.data:1: classes=two: not a number"),
        ("classes=99999999999\ntrain=t\n", "a.data:1: classes=99999999999: not a number"),
        ("train=t\nclasses=999999999\n", "a.data:2: classes=999999999: so many classes need names"),
    ],
)
def test_what_is_no_data_file_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.data").write_text(text)
    with pytest.raises(DarknetError) as raised:
        open_dataset(tmp_path / "a.data")
    assert message in str(raised.value)


def test_classes_that_are_not_as_many_as_the_names_are_named(tmp_path: Path) -> None:
    write_noise(tmp_path / "p/1.png")
    with pytest.warns(DataWarning, match=r"obj\.data:1: classes=3: but obj\.names has 2 names; correct one of them"):
        open_dataset(data_file(tmp_path, classes="3", train="p"))


@pytest.mark.parametrize(
    "written",
    ["p/1.png", "p\\1.png", '"p/1.png"', "data/p/1.png", "data\\p\\1.png", "../p/1.png"],
)
def test_a_path_is_found_as_people_write_it(tmp_path: Path, written: str) -> None:
    """With slashes or backslashes, quoted, and with the folder that CVAT and Roboflow put before it."""
    write_noise(tmp_path / "set/p/1.png")
    (tmp_path / "set/train.txt").write_text(f"{written}\n")
    dataset = open_dataset(data_file(tmp_path / "set", train=written.replace("p/1.png", "train.txt")
                                     .replace("p\\1.png", "train.txt")))  # fmt: skip
    assert [Path(image).resolve() for image in dataset.images] == [tmp_path / "set/p/1.png"]


def test_a_list_of_both_systems_is_found_whole(tmp_path: Path) -> None:
    for name in ("1", "2"):
        write_noise(tmp_path / f"p/{name}.png")
    (tmp_path / "train.txt").write_text("p/1.png\np\\2.png\n")
    assert open_dataset(data_file(tmp_path, train="train.txt")).images == [str(tmp_path / f"p/{k}.png") for k in (1, 2)]


@pytest.mark.parametrize(
    "names", ["names: ['red', 'blue, dark']\nnc: 2", "names:\n  0: red\n  1: blue, dark", "names:\n- red\n- blue, dark"]
)
@pytest.mark.parametrize("folder", ["train: ../train/images", "path: ../datasets/x\ntrain: train/images # here"])
def test_a_data_yaml_is_read_in_place_of_a_data_file(tmp_path: Path, names: str, folder: str) -> None:
    pytest.importorskip("yaml")
    write_noise(tmp_path / "train/images/1.png")
    (tmp_path / "train/labels").mkdir()
    (tmp_path / "train/labels/1.txt").write_text("1 .5 .5 .5 .5\n")
    (tmp_path / "data.yaml").write_text(f"{folder}\nval: ../valid/images\n{names}\n")
    dataset = open_dataset(tmp_path / "data.yaml")
    assert dataset.names == ["red", "blue, dark"]
    assert dataset.truths(0).classes.tolist() == [1]
    assert read_names(tmp_path / "data.yaml") == dataset.names
    assert read_data(tmp_path / "data.yaml")["valid"] == "../valid/images"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "this is not YAML"),
        ("- a\n", "this file has no keys"),
        ("train: [a, b]\n", "train: write one folder, or one list of images"),
        ("train: a\nnames: {0: a, 2: b}\n", "names: write a list"),
        ("train: a\nnames: 3\n", "names: write a list"),
    ],
)
def test_a_wrong_data_yaml_is_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    pytest.importorskip("yaml")
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(DarknetError, match=r"data\.yaml: ") as raised:
        open_dataset(tmp_path / "data.yaml")
    assert message in str(raised.value)


def test_without_pyyaml_a_data_yaml_is_said_to_be_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    (tmp_path / "data.yaml").write_text("train: a\n")
    with pytest.raises(DarknetError, match=r"this is YAML, .*pip install pyyaml; or write a \.data file"):
        read_data(tmp_path / "data.yaml")
