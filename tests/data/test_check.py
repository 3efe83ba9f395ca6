"""`python -m darknet_py.check` names every mistake of a data set, in one line each, and nothing else."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from kit import REALDATA, needs_realdata
from project import CFGS
from small_data import data_file, write_noise

from darknet_py.cfg import parse_cfg
from darknet_py.check import main, parser
from darknet_py.command import MISTAKE, run_command
from darknet_py.data.checking import NetworkFacts, anchor_fit, check_dataset, network_facts
from darknet_py.data.dataset import Dataset, open_dataset
from darknet_py.network import Network

CFG = """[net]
width=96
height=64
channels=3

[convolutional]
filters=14
size=3
stride=32
pad=1
activation=linear

[yolo]
classes=2
num=2
mask=0,1
anchors=12,16, 48,32
"""
CLASSIFIER = """[net]
width=32
height=32
channels=3
[convolutional]
filters=2
size=1
[avgpool]
[softmax]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set without a mistake: three images, one of them without an object, in both splits different ones."""
    for k, text in enumerate(["0 .5 .5 .2 .2\n1 .3 .3 .125 .25\n", "", "1 .5 .5 .5 .5\n"]):
        write_noise(tmp_path / f"obj/{k}.png", k).with_suffix(".txt").write_text(text)
    (tmp_path / "train.txt").write_text("obj/0.png\nobj/1.png\n")
    (tmp_path / "valid.txt").write_text("obj/2.png\n")
    (tmp_path / "my.cfg").write_text(CFG)
    data_file(tmp_path, train="train.txt", valid="valid.txt")
    return tmp_path


def run(folder: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, list[str]]:
    status = run_command(lambda: main([str(folder / "obj.data"), "--cfg", str(folder / "my.cfg"), *more]))
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    return status, (printed.out + printed.err).splitlines()


def test_a_good_data_set_has_no_findings(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, lines = run(folder, capsys)
    assert status == 0
    assert lines[-1] == "no findings"
    assert f"train: 2 images of {folder / 'train.txt'}, 2 boxes, 1 images without an object" in lines
    assert "  dog        1 boxes in      1 images ##############################" in lines
    assert "warning: 1 classes have no boxes: cat" in lines  # in valid
    assert any(line.startswith("anchors: 2, average best IoU ") for line in lines)


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("2 .5 .5 .5 .5", "class", "box 1 (2 0.5 0.5 0.5 0.5): the classes are 0 to 1"),
        ("-1 .5 .5 .5 .5", "class", "the classes are 0 to 1"),
        ("0 .5 .5 .0 .5", "no area", "box 1 (0 0.5 0.5 0 0.5): it has no area"),
        ("0 .5 .5 .1 -.5", "no area", "it has no area"),
        ("0 1.2 .5 .5 .5", "values", "its centre lies outside the image"),
        ("0 .5 0 .5 .5", "values", "its centre lies outside the image"),
        ("0 .5 .5 1.5 .5", "values", "it is larger than the image"),
        ("0 48 32 20 20", "values", "its centre lies outside the image"),  # pixels
        ("0 .9 .5 .5 .5", "outside", "it reaches beyond the image"),
        (
            "0 .5 .5 .5 .5\n1 .5 .5 .5 .5\n0 .5 .5 .5 .5",
            "repeated",
            "box 3 (0 0.5 0.5 0.5 0.5): the same box is already in the file",
        ),
        ("0 .5 .5 .01 .5", "too small", "under 1 pixel of the network's 96x64; Darknet leaves it out"),
        ("0 .5 .5", "label malformed", "obj/0.txt:1: '0 .5 .5' has 3 values"),
    ],
)
def test_wrong_labels_are_named(
    folder: Path, capsys: pytest.CaptureFixture[str], text: str, kind: str, message: str
) -> None:
    (folder / "obj/0.txt").write_text(text)
    status, lines = run(folder, capsys, "--json", str(folder / "report.json"))
    assert status == 1
    found = json.loads((folder / "report.json").read_text())["findings"]
    assert [finding["kind"] for finding in found] == [kind]
    assert lines[0].startswith(str(folder / "obj/0.txt"))
    assert message in lines[0]
    assert lines[-1] == f"1 findings: 1 {kind}"


def test_a_box_may_reach_two_pixels_beyond_the_image(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "obj/0.txt").write_text("0 .49 .5 1 .5\n")  # 1 of 96 pixels
    assert run(folder, capsys)[0] == 0


def test_wrong_images_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = cv2.imread(str(folder / "obj/0.png"))
    whole = cv2.imencode(".jpg", good)[1].tobytes()
    contents = {
        "empty.jpg": b"", "text.jpg": b"not an image", "cut.jpg": whole[: len(whole) * 3 // 4],
        "again.png": (folder / "obj/2.png").read_bytes(), "unlabelled.jpg": whole,
    }  # fmt: skip
    for name, content in contents.items():
        (folder / "obj" / name).write_bytes(content)
        if name != "unlabelled.jpg":
            (folder / "obj" / name).with_suffix(".txt").touch()
    names = ["0.png", "0.png", "missing.png", *contents]
    (folder / "train.txt").write_text("".join(f"obj/{name}\n" for name in names))
    (folder / "obj/missing.txt").touch()
    status, lines = run(folder, capsys, "--json", str(folder / "report.json"))
    found = {
        (os.path.basename(finding["path"]), finding["kind"]): finding["text"]
        for finding in json.loads((folder / "report.json").read_text())["findings"]
    }
    assert status == 1
    assert set(found) == {
        ("missing.png", "missing"), ("empty.jpg", "empty"), ("text.jpg", "unreadable"),
        ("cut.jpg", "cut off"), ("2.png", "duplicate"), ("unlabelled.jpg", "label missing"),
    }  # fmt: skip
    assert "note: 1 of them are in the list already; they are drawn more often in training" in lines
    assert found["2.png", "duplicate"] == f"the same image as {folder / 'obj/again.png'} (one in train, one in valid)"
    assert "write an empty one if the image shows no object" in found["unlabelled.jpg", "label missing"]
    assert lines[-1].startswith("6 findings: ")


def test_a_list_may_repeat_an_image_on_purpose(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "train.txt").write_text("obj/0.png\nobj/1.png\nobj/0.png\n")
    status, lines = run(folder, capsys)
    assert (status, lines[-1]) == (0, "no findings")
    assert "note: 1 of them are in the list already; they are drawn more often in training" in lines


def test_a_valid_list_that_is_the_train_list_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "valid.txt").write_text((folder / "train.txt").read_text())
    status, lines = run(folder, capsys)
    assert (status, lines[-1]) == (1, "1 findings: 1 in both")
    assert lines[0] == f"{folder / 'obj/0.png'}: all 2 images of valid, such as this one, are in train too"


def test_12_bits_in_a_16_bit_image_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite(str(folder / "obj/0.png"), np.full((64, 96), 4095, np.uint16))
    status, lines = run(folder, capsys)
    assert status == 1
    assert (
        "its 16-bit values end at 4095 of 65535, so it is nearly black; if it has 12 bits, multiply by 16" in lines[0]
    )


def test_one_split_and_no_cfg(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "obj/2.txt").write_text("7 .5 .5 .5 .5")
    assert run(folder, capsys, "--split", "train")[0] == 0
    assert main([str(folder / "obj.data"), "--split", "valid"]) == 1
    assert "the classes are 0 to 1" in capsys.readouterr().out


def test_names_that_are_not_as_many_as_the_networks_classes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "obj.names").write_text("cat\ndog\ncow\n")
    status, lines = run(folder, capsys)
    assert status == 1
    assert lines[0] == f"{folder / 'obj.names'}: 3 names, but the network has 2 classes"


def test_a_classifiers_images_must_have_one_label_in_their_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for k, name in enumerate(["cat/1.png", "dog/2.png", "cow/3.png", "dog/cat.png", "cow/cat_dog.png"]):
        write_noise(tmp_path / "train" / name, k)
    (tmp_path / "my.cfg").write_text(CLASSIFIER)
    data_file(tmp_path, train="train")
    status, lines = run(tmp_path, capsys)
    assert status == 1
    assert lines[:2] == [
        f"{tmp_path / 'train/cow/3.png'}: no label occurs in the path",
        f"{tmp_path / 'train/cow/cat_dog.png'}: several labels occur in the path: cat, dog",
    ]
    assert "  dog        3 labels in      3 images ##############################" in lines


def test_a_users_mistake_is_one_sentence_and_status_2(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--split", "valid"], ["--cfg", str(folder / "none.cfg")]):
        (folder / "obj.data").write_text("train = train.txt\nnames = obj.names\n")
        assert run_command(lambda arguments=arguments: main([str(folder / "obj.data"), *arguments])) == MISTAKE
        printed = capsys.readouterr()
        assert printed.err.startswith("error: ")
        assert len(printed.err.splitlines()) == 1


def test_help_has_an_example() -> None:
    assert "example: python -m darknet_py.check" in parser().format_help()


def test_boxes_under_8_pixels_are_a_warning_not_a_finding(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "obj/0.txt").write_text("0 .5 .5 .05 .5\n0 .5 .5 .5 .5\n")  # 4.8 pixels wide
    status, lines = run(folder, capsys, "--split", "train")
    assert status == 0
    assert any(
        "warning: 1 boxes (50.0%) are under 8 pixels wide or high in the network's 96x64" in line for line in lines
    )


def test_with_letter_box_an_image_is_smaller_in_the_network(folder: Path) -> None:
    wide = Dataset([str(folder / "obj/2.png")], ["cat", "dog"], "set")
    counts = [
        check_dataset(wide, NetworkFacts((96, 96), 2, letter_box=letter_box, anchors=np.ones((1, 2), np.float32)))[
            1
        ].sides.tolist()
        for letter_box in (False, True)
    ]
    assert counts == [[[48, 48]], [[48, 32]]]


def test_the_fit_of_anchors_is_the_mean_of_the_best_iou() -> None:
    sides = np.array([[10, 10], [20, 10], [100, 1]], np.float32)
    anchors = np.array([[10, 10], [40, 10]], np.float32)
    # 1; 100/200 = .5 and 200/400 = .5; (10*1)/(100+100-10) and (40*1)/(100+400-40)
    average, recall = anchor_fit(sides, anchors)
    assert average == pytest.approx((1 + 0.5 + 40 / 460) / 3, rel=1e-6)
    assert recall == pytest.approx(2 / 3)


def test_anchors_of_region_heads_are_in_cells() -> None:
    region = network_facts(Network(parse_cfg(CFGS / "yolov2-voc.cfg")))
    assert region.anchors.max() == pytest.approx(11.2364 * 32, rel=1e-5)
    assert region.classes == 20
    yolo = network_facts(Network(parse_cfg(CFGS / "yolov3-tiny.cfg")))
    assert yolo.anchors.max() == 344


def test_a_head_without_anchors_has_none_to_fit() -> None:
    facts = network_facts(Network(parse_cfg(CFGS / "yolov1.cfg")))
    assert facts.anchors.shape == (0, 2)
    assert facts.detects


@needs_realdata
@pytest.mark.parametrize(("name", "kinds"), [("bccd", []), ("raccoon", ["duplicate", "duplicate"])])
def test_the_real_data_sets(name: str, kinds: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    status = main([str(REALDATA / name / f"{name}.data")])
    lines = capsys.readouterr().out.splitlines()
    assert status == (1 if kinds else 0)
    assert lines[-1] == (f"{len(kinds)} findings: {len(kinds)} duplicate" if kinds else "no findings")
    assert sum("the same image as" in line for line in lines) == len(kinds)


@needs_realdata
def test_the_voc_files_of_bccd_have_two_boxes_of_no_area(tmp_path: Path) -> None:
    """Its README says so; the Darknet labels leave them out."""
    (tmp_path / "Annotations").symlink_to(REALDATA / "bccd/Annotations")
    (tmp_path / "images").symlink_to(REALDATA / "bccd/images")
    data = data_file(tmp_path, train="images", names=str(REALDATA / "bccd/bccd.names"))
    dataset = open_dataset(data)
    assert (dataset.kind, len(dataset)) == ("xml", 364)
    findings, counts = check_dataset(dataset)
    flat = [os.path.basename(finding.path) for finding in findings if finding.kind == "no area"]
    assert flat == ["BloodImage_00338.xml", "BloodImage_00343.xml"]
    assert counts.boxes.sum() == 4153 + 372 + 361 + 2
