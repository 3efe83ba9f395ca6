"""A classifier's own promises: names, the network it is given, wrong networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from darknet_py import DarknetError, Network
from darknet_py.cfg import parse_text
from darknet_py.classifier import Classifier

TEXT = """[net]
width=16
height=16
channels=3
[convolutional]
batch_normalize=1
filters=4
size=3
activation=leaky
[avgpool]
[softmax]
"""
IMAGE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def network(text: str = TEXT) -> Network:
    return Network(parse_text(text)).initialise(0)


def test_the_most_probable_classes_come_first_and_sum_to_one() -> None:
    guesses = Classifier(network(), ["cat", "dog", "owl", "ape", "not used"])(IMAGE)
    assert {guess.name for guess in guesses} == {"cat", "dog", "owl", "ape"}
    probabilities = [guess.probability for guess in guesses]
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1)
    assert Classifier(network())(IMAGE, top=1)[0].name == str(guesses[0].class_id)


def test_a_classifier_leaves_its_network_as_it_was() -> None:
    made = network().train()
    before = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    Classifier(made)(IMAGE)
    assert made.training
    assert all(torch.equal(before[name], tensor) for name, tensor in made.state_dict().items())


def test_wrong_networks_and_names_are_refused() -> None:
    head = TEXT.replace("filters=4", "filters=6").split("[avgpool]")[0] + "[yolo]\nclasses=1\nanchors=1,1\n"
    with pytest.raises(DarknetError, match="this network is a detector"):
        Classifier(network(head))
    with pytest.raises(DarknetError, match="not an image"):
        Classifier(network("[net]\ninputs=4\n[connected]\noutput=4\n[softmax]\n"))
    with pytest.raises(DarknetError, match="the list of names: 2 names, but <text> has 4 classes"):
        Classifier(network(), ["cat", "dog"])
