"""Evaluation on small data sets: what it leaves alone, the result files it writes, and the command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from darknet_py import DarknetError, Detections, Detector, Network
from darknet_py import evaluate as command
from darknet_py.cfg import parse_text
from darknet_py.command import run_command
from darknet_py.data.dataset import Dataset, open_dataset
from darknet_py.errors import CfgWarning
from darknet_py.measuring.evaluation import RULES, detect_images, evaluate
from darknet_py.measuring.result_files import (
    write_bdd_results,
    write_coco_results,
    write_imagenet_results,
    write_kitti_results,
    write_voc_results,
)

TEXT = """[net]
width=64
height=32
channels=3
[convolutional]
batch_normalize=1
size=8
stride=8
filters=21
activation=linear
[convolutional]
filters=21
activation=linear
[yolo]
mask=0,1,2
anchors=8,8, 16,16, 30,30
num=3
classes=2
"""


def small_network() -> Network:
    network = Network(parse_text(TEXT)).initialise(0)
    network.layers[1].weights.data *= 0.2
    network.layers[1].biases.data[[4, 11, 18]] = 1.0  # objects everywhere
    return network


def small_dataset(folder: Path, count: int = 3) -> Dataset:
    """Random images, two truths each."""
    rng = np.random.default_rng(0)
    for part in ("images", "labels"):
        (folder / part).mkdir()
    for number in range(count):
        cv2.imwrite(str(folder / "images" / f"{number}.png"), rng.integers(0, 255, (40, 50, 3), np.uint8))
        (folder / "labels" / f"{number}.txt").write_text("0 0.3 0.4 0.3 0.5\n1 0.7 0.5 0.4 0.4\n")
    (folder / "list.txt").write_text("".join(f"images/{number}.png\n" for number in range(count)))
    (folder / "x.names").write_text("cat\ndog\n")
    (folder / "x.data").write_text("classes=2\ntrain=list.txt\nvalid=list.txt\nnames=x.names\nresults=results\n")
    return open_dataset(folder / "x.data", "valid")


@pytest.mark.parametrize("metric", RULES)
def test_without_truths_there_is_nothing_to_measure(metric: str, tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path)
    for label in (tmp_path / "labels").iterdir():
        label.write_text("")
    with pytest.warns(CfgWarning, match=r"list\.txt: none of the images has a box in its labels"):
        evaluate(small_network().eval(), dataset, metric=metric)


def test_a_network_that_trains_is_left_as_it_is(tmp_path: Path) -> None:
    dataset, network = small_dataset(tmp_path), small_network().train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with torch.enable_grad():
        network(torch.rand(2, 3, 32, 64))[0].sum().backward()
    before |= {name: tensor.clone() for name, tensor in network.state_dict().items()}
    result = evaluate(network, dataset, batch=2)
    assert result.detections > 0
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert network.layers[0].weights.grad is not None
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    eval_mode = evaluate(network.eval(), dataset, batch=3)
    assert eval_mode == result, "the batch and the mode make no difference"
    assert evaluate(Detector(network, dataset.names), dataset) == result


def test_raw_order_is_that_of_sorting_class_after_class(tmp_path: Path) -> None:
    """box.c sorts by class 0, then stably by class 1 …; then each box's classes follow."""
    dataset, network = small_dataset(tmp_path, 1), small_network().eval()
    network.requires_grad_(False)
    detector = Detector(network, dataset.names, nms_kind="default")
    found = detect_images(detector, dataset.images, RULES["darknet"]._replace(nms=1.0)).detections[0]
    image = detector.read(dataset.images[0])
    probs = detector.candidates(detector.network(detector.prepare([image])), 0.005).probs.numpy()
    order = np.arange(len(probs))
    for label in range(2):
        order = order[np.argsort(-probs[order, label], kind="stable")]
    rows = [(label, probs[row, label]) for row in order for label in range(2) if probs[row, label] > 0]
    assert [int(label) for label in found.class_ids] == [label for label, _ in rows]
    np.testing.assert_array_equal(found.confidences, [prob for _, prob in rows])


def hand_made() -> tuple[list[Detections], list[str]]:
    """A box beyond the edges, and one of two classes, in an image of 200 x 100."""
    boxes = np.array([[0.05, 0.95, 0.2, 0.3], [0.5, 0.5, 0.25, 0.5], [0.5, 0.5, 0.25, 0.5]], np.float32)
    found = Detections(np.array([1, 0, 1]), np.float32([0.5, 0.25, 0.125]), boxes, (200, 100), ["cat", "dog"])
    return [found], ["a/COCO_val2014_000000000139.jpg"]


def test_coco_results_are_written_as_the_program_writes_them(tmp_path: Path) -> None:
    detections, images = hand_made()
    write_coco_results(tmp_path / "r.json", detections, images, ["cat", "dog"])
    lines = (tmp_path / "r.json").read_text().split("\n")
    assert lines[0] == "["
    assert (
        lines[1]
        == '{"image_id":139, "category_id":2, "bbox":[0.000000, 80.000000, 30.000000, 20.000000], "score":0.500000},'
    )
    assert (
        lines[3]
        == '{"image_id":139, "category_id":2, "bbox":[75.000000, 25.000000, 50.000000, 50.000000], "score":0.125000}'
    )
    assert lines[4:] == ["]", ""]
    write_coco_results(tmp_path / "r.json", detections, images, [""] * 80)
    assert json.loads((tmp_path / "r.json").read_text())[0]["category_id"] == 2


def test_voc_results_are_written_as_the_program_writes_them(tmp_path: Path) -> None:
    detections, images = hand_made()
    paths = write_voc_results(tmp_path / "results" / "comp4_det_test_", detections, images, ["cat", "dog"])
    assert [path.name for path in paths] == ["comp4_det_test_cat.txt", "comp4_det_test_dog.txt"]
    name = "COCO_val2014_000000000139"
    assert paths[0].read_text() == f"{name} 0.250000 76.000000 26.000000 126.000000 76.000000\n"
    assert paths[1].read_text() == (
        f"{name} 0.500000 1.000000 81.000000 31.000000 100.000000\n"
        f"{name} 0.125000 76.000000 26.000000 126.000000 76.000000\n"
    )


def test_imagenet_bdd_and_kitti_results(tmp_path: Path) -> None:
    detections, images = hand_made()
    (imagenet,) = write_imagenet_results(tmp_path / "imagenet-detection", detections, images, ["cat", "dog"])
    assert imagenet.name == "imagenet-detection.txt"
    assert imagenet.read_text().splitlines()[:2] == [
        "1 2 0.500000 0.000000 80.000000 30.000000 100.000000",
        "1 1 0.250000 75.000000 25.000000 125.000000 75.000000",
    ]
    (bdd,) = write_bdd_results(tmp_path / "bdd_results", detections, images, ["cat", "dog"])
    assert json.loads(bdd.read_text())[0] == {
        "name": images[0],
        "category": "bus",
        "bbox": [0, 80, 30, 100],
        "score": 0.5,
    }
    (kitti,) = write_kitti_results(tmp_path / "kitti_results", detections, images, ["cat", "dog"])
    assert kitti == tmp_path / "kitti_results" / "data" / "COCO_val2014_000000000139.txt"
    line = "pedestrian -1 -1 -10 0.000000 80.000000 30.000000 100.000000 -1 -1 -1 -1000 -1000 -1000 -10 0.500000"
    assert kitti.read_text().splitlines()[0] == line


def small_model(folder: Path) -> list[str]:
    (folder / "x.cfg").write_text(TEXT)
    small_network().save_weights(folder / "x.weights")
    return [str(folder / name) for name in ("x.data", "x.cfg", "x.weights")]


@pytest.mark.parametrize("metric", ["darknet", "voc", "coco"])
def test_the_command_writes_numbers_and_charts(tmp_path: Path, capsys: pytest.CaptureFixture[str], metric: str) -> None:
    if metric == "coco":
        pytest.importorskip("pycocotools")
    pytest.importorskip("matplotlib")
    small_dataset(tmp_path)
    arguments = [
        *small_model(tmp_path),
        "--metric",
        metric,
        "--json",
        str(tmp_path / "r.json"),
        "--plots",
        str(tmp_path / "plots"),
    ]
    arguments += ["--batch", "2", "--limit", "2", "--device", "cpu", "--thresh", "0.1"]
    assert command.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "class_id = 1, name = dog, ap = " in printed
    assert "for conf_thresh = 0.10, TP = " in printed
    result = json.loads((tmp_path / "r.json").read_text())
    assert (result["metric"], result["TP"] + result["FN"], [row["ground_truth"] for row in result["classes"]]) == (
        metric,
        4,
        [2, 2],
    )
    assert set(result) >= {"mAP", "iou_thresh", "average_iou", "TP", "FP", "FN", "classes"}
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {"ap.png", "confusion.png", "precision_recall.png"}


def test_valid_results_go_where_they_are_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_dataset(tmp_path)
    model = small_model(tmp_path)
    assert command.main([*model, "--metric", "voc", "--valid-results", str(tmp_path / "v.json")]) == 0
    assert command.main([*model, "--metric", "voc", "--valid-results", str(tmp_path / "v_")]) == 0
    assert {row["image_id"] for row in json.loads((tmp_path / "v.json").read_text())} == {0, 1, 2}
    assert (tmp_path / "v_cat.txt").read_text()
    with pytest.raises(DarknetError, match="add --metric voc"):
        command.main([*model, "--valid-results", "x.json"])
    with pytest.raises(DarknetError, match="only --metric coco"):
        command.main([*model, "--annotations", "x.json"])


def test_darknets_valid_and_recall(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small_dataset(tmp_path)
    model = small_model(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert command.valid_main(model) == 0
    assert "results in results/comp4_det_test_cat.txt and 1 more" in capsys.readouterr().out
    assert (tmp_path / "results" / "comp4_det_test_dog.txt").read_text().startswith("0 0.")
    (tmp_path / "x.data").write_text("classes=2\nvalid=list.txt\nnames=x.names\neval=coco\n")
    assert command.valid_main([*model, "--out", "own"]) == 0
    assert json.loads((tmp_path / "results" / "own.json").read_text())
    assert command.recall_main(model) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("    2 ")
    assert "\tRecall:" in lines[-1]
    for kind, name in (
        ("kitti", "kitti_results/data/1.txt"),
        ("bdd", "bdd_results.json"),
        ("imagenet", "imagenet-detection.txt"),
    ):
        (tmp_path / "x.data").write_text(f"classes=2\nvalid=list.txt\nnames=x.names\neval={kind}\n")
        assert command.valid_main(model) == 0
        assert (tmp_path / "results" / name).is_file()
    (tmp_path / "x.data").write_text("classes=2\nvalid=list.txt\nnames=x.names\neval=koko\n")
    with pytest.raises(DarknetError, match="eval=koko: unknown format; write one of voc, coco"):
        command.valid_main(model)


def test_an_image_that_cannot_be_read_is_named_and_its_truths_are_missed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_dataset(tmp_path)
    (tmp_path / "images" / "1.png").write_bytes(b"not an image")
    status = run_command(lambda: command.main([*small_model(tmp_path), "--json", str(tmp_path / "r.json")]))
    assert status == 1
    assert "1.png: cannot read this image" in capsys.readouterr().err
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["unreadable"] == 1
    assert result["TP"] + result["FN"] == 6


def test_mistakes_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_dataset(tmp_path)
    model = small_model(tmp_path)
    (tmp_path / "labels" / "2.txt").write_text("7 0.5 0.5 0.1 0.1\n")
    with pytest.raises(DarknetError, match=r"2\.txt: class 7, but the network has 2 classes, 0 to 1"):
        command.main(model)
    (tmp_path / "labels" / "2.txt").write_text("1 0.5 0.5\n")
    with pytest.raises(DarknetError, match=r"2\.txt:1: .* has 3 values"):
        command.main(model)
    (tmp_path / "x.names").write_text("cat\n")
    with pytest.raises(DarknetError, match=r"x\.names: 1 names, but .* has 2 classes"):
        command.main(model)
    (tmp_path / "x.names").write_text("cat\ndog\n")
    shutil.rmtree(tmp_path / "labels")
    with pytest.raises(DarknetError, match=r"no image of .* has a label file"):
        command.main(model)
    with pytest.raises(DarknetError, match="points=1"):
        command.main([*model, "--points", "1"])
    with pytest.raises(SystemExit):
        command.main([*model, "--limit", "0"])
    assert "argument --limit: '0' is not a whole number of at least 1" in capsys.readouterr().err
