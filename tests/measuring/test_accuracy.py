"""A classifier's accuracy: the numbers of Darknet's `classifier valid`, in training and as the commands print them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from darknet_py.__main__ import main as words
from darknet_py.cfg import parse_cfg
from darknet_py.classifier import Classifier
from darknet_py.data.dataset import open_dataset
from darknet_py.errors import DarknetError
from darknet_py.evaluate import main
from darknet_py.measuring.accuracy import Accuracy, accuracy
from darknet_py.network import Network
from darknet_py.pictures.write import write_image
from darknet_py.training.report import read_rows

NAMES = ["red", "green", "blue"]
CFG = """[net]
batch=6
subdivisions=1
width=16
height=16
channels=3
learning_rate=0.01
max_batches=4
[convolutional]
filters=3
size=1
activation=linear
[avgpool]
[softmax]
"""
MODEL = ["my.data", "my.cfg", "my.weights"]


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Network:
    """A network that says the largest channel, in a folder with two pictures of each colour; one lies in a wrong
    folder."""
    monkeypatch.chdir(tmp_path)
    for channel, name in enumerate(NAMES):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(2):
            image = np.full((20, 30, 3), 40, np.uint8)
            image[..., channel] = 200
            write_image(tmp_path / f"set/{name}/{number}.png", image)
    (tmp_path / "set/blue/0.png").rename(tmp_path / "set/red/blue.png")
    Path("my.cfg").write_text(CFG)
    Path("labels.txt").write_text("\n".join(NAMES))
    Path("my.data").write_text("classes=3\ntrain=set\nvalid=set\nlabels=labels.txt\ntop=2\n")
    result = Network(parse_cfg("my.cfg")).initialise(0)
    result.layers[0].weights.data.copy_(torch.eye(3).reshape(3, 3, 1, 1))
    result.layers[0].biases.data.copy_(torch.tensor([0.02, 0.01, 0]))  # green is the third guess of a blue picture
    result.save_weights("my.weights")
    return result


def test_top_1_and_top_k_count_labels_among_the_most_probable_classes() -> None:
    result = Accuracy(NAMES, np.array([0, 1, 2, -1]), np.array([[0, 1], [0, 1], [0, 1], [-1, -1]]))
    assert (result.top_1, result.top_k, result.unreadable) == (0.25, 0.5, 1)  # no label: wrong, even if unreadable
    assert result.confusion().tolist() == [[1, 0, 0], [1, 0, 0], [1, 0, 0]]
    assert result.text() == "4 images: top 1: 0.250000, top 2: 0.500000"


def test_a_classifier_is_measured_as_it_classifies_one_image(network: Network) -> None:
    dataset = open_dataset("my.data", "valid")
    result = accuracy(network, dataset, 2, batch=4)
    assert result.top_1 == pytest.approx(5 / 6)
    assert result.top_k == 1  # the blue picture among the red ones: red is second
    classifier = Classifier(network, NAMES)
    assert result.guesses.tolist() == [[guess.class_id for guess in classifier(path, 2)] for path in dataset.images]
    assert accuracy(network, dataset, 99).k == 3
    assert len(accuracy(network, dataset, limit=2).labels) == 2


def test_the_command_and_darknets_words_measure_a_classifier(
    network: Network, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    assert main([*MODEL, "--device", "cpu", "--json", "r.json", "--plots", "plots", "--top", "1"]) == 0
    assert "6 images: top 1: 0.833333, top 1: 0.833333" in capsys.readouterr().out
    written = json.loads(Path("r.json").read_text())
    assert (written["top_1"], written["images"]) == (pytest.approx(5 / 6), 6)
    assert written["classes"][0] == {"name": "red", "images": 3, "correct": 2}
    assert Path("plots/confusion.png").is_file()
    assert words(["classifier", "valid", *MODEL, "-nogpu"]) == 0
    assert "top 1: 0.833333, top 2: 1.000000" in capsys.readouterr().out
    with pytest.raises(DarknetError, match=r"--metric: my\.cfg is a classifier"):
        main([*MODEL, "--metric", "coco"])


def test_training_measures_a_classifier_and_keeps_the_best(
    network: Network, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words(["classifier", "train", *MODEL, "-topk", "-nogpu", "-clear"]) == 0
    printed = capsys.readouterr().out
    assert "6 usable images: red 3, green 2, blue 1" in printed
    assert "top-2 accuracy 1.0000 in iteration 4" in printed
    assert Path("backup/my_best.weights").is_file()
    assert read_rows(Path("backup/metrics.csv"))[-1]["map"] == "1.000000"


def test_a_list_without_labels_is_not_measured(network: Network) -> None:
    Path("labels.txt").write_text("x1\nx2\nx3\n")
    with pytest.raises(DarknetError, match="none of 6 images can be used: 6 with no label in their path"):
        main(MODEL)


def test_classes_that_are_not_the_networks_outputs_are_refused_as_in_darknet(network: Network) -> None:
    Path("my.data").write_text("classes=4\ntrain=set\nlabels=labels.txt\n")
    with pytest.raises(DarknetError, match=r"my\.data:1: classes=4: but my\.cfg has 3 outputs"):
        words(["classifier", "train", "my.data", "my.cfg", "-nogpu"])
