"""What a cfg says of a training is checked when it is read: each number of [net] has a range, and a list its form."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any, get_args, get_type_hints

import pytest

from darknet_py.cfg import parse_text
from darknet_py.errors import CfgError, CfgWarning
from darknet_py.layers import KINDS, NetOptions
from darknet_py.layers.head import HeadOptions
from darknet_py.layers.layer import LayerOptions
from darknet_py.network import Network
from darknet_py.options import cfg_name, meaning_of, read_options
from darknet_py.training.step import Trainer

TYPES = get_type_hints(NetOptions)
TRAINING = [field for field in dataclasses.fields(NetOptions) if meaning_of(field).use == "training"]


def number_type(field: dataclasses.Field[Any]) -> type:
    """int or float, also of a list's elements; str for words."""
    kind = TYPES[field.name]
    return next(part for part in (*get_args(kind), kind) if part in (int, float, str))


NUMBERS = [field for field in TRAINING if number_type(field) is not str]
FRACTIONS = [field for field in NUMBERS if number_type(field) is float]
OWN = [field for field in NUMBERS if meaning_of(field).own]


def read(field: dataclasses.Field[Any], value: str) -> Any:
    cfg = parse_text(f"[net]\n{cfg_name(field)}={value}\n\n[empty]\n", "my.cfg")
    return getattr(read_options(NetOptions, cfg, cfg.sections[0]), field.name)


def as_list(field: dataclasses.Field[Any], value: str) -> str:
    """A number as often as the option's list has elements."""
    return ",".join([value] * max(len(get_args(TYPES[field.name])), 1)) if "tuple" in str(TYPES[field.name]) else value


def refusal(field: dataclasses.Field[Any], value: str) -> str:
    """What is said of a value, as an error; of Darknet's own options that are out of range, which spoil a training but
    not detection, as a warning that is an error when the network is trained."""
    cfg = parse_text(f"[net]\n{cfg_name(field)}={as_list(field, value)}\n\n[empty]\n", "my.cfg")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CfgWarning)
        try:
            read_options(NetOptions, cfg, cfg.sections[0])
            assert not meaning_of(field).own
            message = cfg.stops[0]
        except CfgError as error:
            message = str(error)
    place, _, text = message.partition(f"{cfg_name(field)}={as_list(field, value)}: ")
    assert place == "my.cfg:2: [net] "
    return text


def by_name(fields: list[dataclasses.Field[Any]]) -> Any:
    return pytest.mark.parametrize("field", fields, ids=[cfg_name(field) for field in fields])


@by_name([*FRACTIONS, *(field for field in OWN if field not in FRACTIONS)])
def test_a_number_has_a_smallest_and_a_largest_value(field: dataclasses.Field[Any]) -> None:
    meaning = meaning_of(field)
    assert meaning.minimum is not None
    assert meaning.maximum is not None
    for end in (meaning.minimum, meaning.maximum):
        read(field, as_list(field, f"{end:.6f}" if number_type(field) is float else str(end)))
    assert f"write {meaning.minimum:g} or more" in refusal(field, f"{int(meaning.minimum) - 1}")
    assert f"write {meaning.maximum:g} or less" in refusal(field, f"{int(meaning.maximum) + 1}")


@by_name(NUMBERS)
def test_what_is_no_number_is_refused(field: dataclasses.Field[Any]) -> None:
    for value in ("nan", "inf", "-nan", "many"):
        assert "is not a" in refusal(field, value)


@by_name(FRACTIONS)
def test_huge_numbers_are_refused(field: dataclasses.Field[Any]) -> None:
    for value in ("1e30", "1e999"):
        assert "too large" in refusal(field, value) or "out of range" in refusal(field, value)


@by_name(OWN)
def test_nothing_may_follow_a_number_of_this_project_s_own(field: dataclasses.Field[Any]) -> None:
    number = "1" if number_type(field) is int else "0.005"
    refusal(field, f"{number}x")
    assert read(field, as_list(field, number) if field.name != "zoom" else "0.5,1.5") is not None


def test_a_list_of_a_fixed_length_has_that_length_and_order() -> None:
    (zoom,) = (field for field in OWN if field.name == "zoom")
    assert read(zoom, "1,1") == (1, 1)
    for value, text in (("1", "1 number; write 2"), (".5,1,2", "3 numbers; write 2"), ("2,.5", "write 0.5,2")):
        with pytest.raises(CfgError, match=f"my.cfg:2: \\[net\\] zoom={value}: .*{text}"):
            read(zoom, value)


def test_what_spoils_darknets_training_is_no_reason_against_detection() -> None:
    text = "[net]\nwidth=8\nheight=8\nchannels=3\nhue=-1\n[convolutional]\nfilters=6\n[yolo]\nclasses=1\nnum=1\n"
    with pytest.warns(CfgWarning, match=r"hue=-1: -1 is too small; write 0 or more"):
        network = Network(parse_text(text, "my.cfg"))
    assert network.heads == [1]
    with pytest.raises(CfgError, match=r"my.cfg:5: \[net\] hue=-1: -1 is too small; write 0 or more"):
        Trainer(network)


HEADS = {  # the filters that they read, and what they need
    "yolo": "18\n[yolo]\nnum=3\nanchors=1,1,2,2,3,3",
    "region": "18\n[region]\nnum=3\nanchors=1,1,2,2,3,3",
    "anchor_free": "5\n[anchor_free]",
}


def head(kind: str, option: str) -> Network:
    text = f"[net]\nwidth=8\nheight=8\nchannels=3\n[convolutional]\nfilters={HEADS[kind]}\nclasses=1\n{option}\n"
    return Network(parse_text(text, "my.cfg"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", HEADS)
def test_a_head_that_counts_no_truths_is_not_trained(kind: str) -> None:
    with pytest.raises(CfgError, match=rf"\[{kind}\] max=0: 0 is too small; write 1 or more"):
        Trainer(head(kind, "max=0"))


@pytest.mark.parametrize("option", ["jitter=.2x", "max=20x", "beta_nms=.6x"])
def test_in_a_section_of_this_projects_own_nothing_may_follow_a_number(option: str) -> None:
    with pytest.raises(CfgError, match=r"my.cfg:9: \[anchor_free\] .*' is not a"):
        head("anchor_free", option)
    with pytest.warns(CfgWarning, match="Darknet reads only the leading"):
        head("yolo", option)


def test_of_a_section_of_this_projects_own_nothing_is_said_of_darknet() -> None:
    with pytest.warns(CfgWarning, match="unknown option; did you mean 'jitter'"):
        head("anchor_free", "jiter=.2")


OF_ALL = {field.name for field in dataclasses.fields(LayerOptions)}
OF_IMAGES = ("jitter", "resize")
NOT_DARKNETS = [
    (kind, field)
    for kind, layer in KINDS.items()
    for field in dataclasses.fields(layer.Options)
    if (meaning_of(field).own or layer.own or (issubclass(layer.Options, HeadOptions) and field.name in OF_IMAGES))
    and field.name not in OF_ALL
    and "float" in str(get_type_hints(layer.Options)[field.name])
]


@pytest.mark.parametrize(("kind", "field"), NOT_DARKNETS, ids=[f"{kind}-{field.name}" for kind, field in NOT_DARKNETS])
def test_a_fraction_of_a_layer_has_a_smallest_and_a_largest_value(kind: str, field: dataclasses.Field[Any]) -> None:
    """Of this project's own, and those that say how a head's training images are changed."""
    meaning = meaning_of(field)
    assert meaning.minimum is not None
    assert meaning.maximum is not None
    assert -1e6 <= meaning.minimum <= meaning.maximum <= 1e6


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize(
    ("option", "advice"),
    [
        ("jitter=1e30", "1 or less"), ("jitter=-1", "0 or more"), ("resize=-5", "0.01 or more"),
        ("resize=0", "0.01 or more"), ("random=-3", "0 or more"), ("random=50", "10 or less"),
        ("max=2147483647", "100000 or less"),
    ],
)  # fmt: skip
def test_training_images_change_within_bounds(kind: str, option: str, advice: str) -> None:
    with pytest.raises(CfgError, match=rf"my.cfg:\d+: \[{kind}\] {option}: .* is too (small|large); write {advice}$"):
        Trainer(head(kind, option))
