"""Cfg files are read as Darknet reads them, with a warning where that differs from what is written."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import pytest
from kit import KIT, cases, needs_kit
from project import OWN_CFGS

import darknet_py
from darknet_py.cfg import Cfg, parse_cfg, parse_text
from darknet_py.errors import CfgError, CfgWarning
from darknet_py.layers import Layer
from darknet_py.network import Network

NET = "[net]\nwidth=8\nheight=8\nchannels=4\n"
CONV = NET + "\n[convolutional]\nfilters=2\n"  # [convolutional] is line 6; what is added begins at line 8


def build(text: str, *, strict: bool = False) -> Network:
    return Network(parse_text(text, "my.cfg", strict=strict))


def warnings_of(text: str) -> list[str]:
    """The warnings while the cfg is built."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        build(text)
    assert all(warning.category is CfgWarning for warning in caught)
    return [str(warning.message) for warning in caught]


def last(text: str) -> Layer:
    """The last layer of the cfg, which says nothing while it is built."""
    assert warnings_of(text) == []
    return build(text).layers[-1]


def plain(cfg: Cfg) -> list[tuple[str, list[tuple[str, str | None]]]]:
    return [(section.name, [(option.key, option.value) for option in section.options]) for section in cfg.sections]


# -------------------------------------------------------------------------------------- lines, white space, comments

PLAIN = "[net]\nwidth=8\nheight=8\n\n[convolutional]\nactivation=leaky\nfilters=2\n"
SAME = {
    "Windows line ends": PLAIN.replace("\n", "\r\n"),
    "a byte order mark": "\ufeff" + PLAIN,
    "a byte order mark and Windows line ends": "\ufeff" + PLAIN.replace("\n", "\r\n"),
    "spaces round =": PLAIN.replace("=", " = "),
    "tabs round =": PLAIN.replace("=", "\t=\t"),
    "spaces at the ends": "\n".join(f"  {line} \t" for line in PLAIN.split("\n")),
    "spaces in the brackets": PLAIN.replace("[", "[ ").replace("]", " ]"),
    "spaces within words": PLAIN.replace("width", "wi dth").replace("leaky", "lea ky"),
    "no final line end": PLAIN.rstrip("\n"),
    "more empty lines": PLAIN.replace("\n", "\n\n \t\n"),
    "lines that begin with #": PLAIN.replace("\n", "\n# width=9\n   #[maxpool]\n"),
    "lines that begin with ;": PLAIN.replace("\n", "\n; width=9\n\t;[maxpool]\n"),
}


@pytest.mark.parametrize("how", SAME)
def test_the_same_cfg_written_with(how: str, tmp_path: Path) -> None:
    path = tmp_path / "my.cfg"
    path.write_bytes(SAME[how].encode())
    assert plain(parse_cfg(path)) == plain(parse_text(PLAIN))


def test_comments_may_be_in_any_encoding(tmp_path: Path) -> None:
    path = tmp_path / "my.cfg"
    path.write_bytes(PLAIN.encode() + "# 卷积层\n".encode("gbk") + "# größer\n".encode("latin-1"))
    assert plain(parse_cfg(path)) == plain(parse_text(PLAIN))


def test_a_line_may_be_longer_than_darknets_512_bytes() -> None:
    steps = ",".join(map(str, range(1000, 2000)))
    assert len(build(f"[net]\nsteps={steps}\n{NET[6:]}[avgpool]\n").net.steps) == 1000


def test_lines_are_counted_as_an_editor_counts_them(tmp_path: Path) -> None:
    path = tmp_path / "my.cfg"
    path.write_bytes(
        b"\xef\xbb\xbf# first line\r\n\r\n[net]\r\nwidth=8\r\n; a comment\r\n[convolutional]\r\n\r\nfilters=2"
    )
    net, convolution = parse_cfg(path).sections
    assert (net.line, net.options[0].line, convolution.line, convolution.options[0].line) == (3, 4, 6, 8)


def test_section_names_and_keys_keep_their_case() -> None:
    cfg = parse_text("[Gaussian_yolo]\nB1=.5\n")
    assert plain(cfg) == [("Gaussian_yolo", [("B1", ".5")])]


def test_a_value_may_contain_an_equals_sign() -> None:
    assert plain(parse_text("[net]\na=b=c\n")) == [("net", [("a", "b=c")])]


# Darknet has no comments after values: numbers survive them, as atoi and atof stop there.
TRAILING = {
    "layers = 0 ###P6": ("route", "layers", (0,)),
    "layers = -1,0 # both of them": ("route", "layers", (-1, 0)),
    "stride=2 # x": ("maxpool", "stride", 2),
    "stride=2;x": ("maxpool", "stride", 2),
    "stride=2.#x": ("maxpool", "stride", 2),
    "probability=.5 # half": ("dropout", "probability", 0.5),
    "probability=1e-1#x": ("dropout", "probability", 0.1),
}


@pytest.mark.parametrize("line", TRAILING)
def test_a_comment_behind_a_number_is_no_part_of_it(line: str) -> None:
    section, key, value = TRAILING[line]
    layer = last(f"{NET}[avgpool]\n[{section}]\n{line}\n")
    assert getattr(layer.options, key) == value


def test_a_comment_behind_a_word_spoils_it() -> None:
    text = CONV + "activation=leaky # not linear\n"
    (message,) = warnings_of(text)
    assert message.startswith(
        "my.cfg:8: [convolutional] activation=leaky#notlinear: Darknet takes the comment as part of the word, "
    )
    assert build(text).layers[0].options.activation == "relu"


# ------------------------------------------------------------------------------------------ sections and their names

ALIASES = {
    "conv": "convolutional",
    "conn": "connected",
    "max": "maxpool",
    "avg": "avgpool",
    "soft": "softmax",
    "lrn": "normalization",
    "local_avg": "local_avgpool",
    "silence": "empty",
    "deconv": "deconvolutional",
}


@pytest.mark.parametrize("short", ALIASES)
def test_a_section_may_be_called(short: str) -> None:
    ours, full = last(f"{NET}[{short}]\n"), last(f"{NET}[{ALIASES[short]}]\n")
    assert type(ours) is type(full)
    assert ours.shape == full.shape


def test_net_may_be_called_network() -> None:
    assert build(CONV.replace("[net]", "[network]")).input_shape[:4] == (4, 8, 8, 256)


def test_a_recurrent_network_has_inputs_and_no_image() -> None:
    network = build("[net]\ninputs=256\n\n[rnn]\nhidden=3\noutput=5\n\n[connected]\noutput=256\n\n[softmax]\n[cost]\n")
    assert warnings_of("[net]\ninputs=256\n[rnn]\n") == []
    assert network.input_shape[:4] == (0, 0, 0, 256)
    assert network.layers[0].shape.count == 5
    assert network.classes == 256


def test_inputs_are_width_height_and_channels_where_they_are_not_written() -> None:
    assert build(CONV).net.input_count == 8 * 8 * 4


def test_defaults_of_net_are_darknets() -> None:
    net = build(CONV).net
    assert (net.batch, net.subdivisions, net.time_steps, net.max_batches, net.burn_in) == (1, 1, 1, 0, 0)
    assert (net.learning_rate, net.momentum, net.decay, net.power) == (0.001, 0.9, 0.0001, 4.0)
    assert (net.policy, net.steps, net.scales, net.flip, net.letter_box) == ("constant", (), (), 1, 0)


def test_defaults_of_a_convolution_are_darknets() -> None:
    options: Any = last(NET + "[convolutional]\n").options
    assert (options.filters, options.size, options.stride, options.pad, options.padding) == (1, 1, 1, 0, 0)
    assert (options.activation, options.batch_normalize, options.groups, options.dilation) == ("logistic", 0, 1, 1)


# --------------------------------------------------------------------------------------------------------- numbers

TWO = ["2", "+2", "002", "2.0", "2.", "2.0#x"]
FLOATS = {
    "probability=.7": 0.7,
    "probability=7": 7.0,
    "probability=7.": 7.0,
    "probability=1e-3": 1e-3,
    "probability=1E+2": 100.0,
    "probability=-.5": -0.5,
    "probability=+0.25": 0.25,
}


@pytest.mark.parametrize("two", TWO)
def test_an_integer_may_be_written(two: str) -> None:
    assert last(f"{NET}[convolutional]\nfilters={two}\n").options.filters == 2


@pytest.mark.parametrize("line", FLOATS)
def test_a_float_may_be_written(line: str) -> None:
    assert last(f"{NET}[dropout]\n{line}\n").options.probability == FLOATS[line]


def test_only_the_digits_0_to_9_make_numbers() -> None:
    """Python takes digits of all scripts; to atoi they are no number."""
    with pytest.raises(CfgError, match="is not a number"):
        build(NET + "[convolutional]\nfilters=\uff12\n")


@pytest.mark.parametrize("digits", [10, 100, 5000])
def test_a_number_of_more_than_32_bits_is_refused(digits: int) -> None:
    with pytest.raises(CfgError, match="out of range for a 32-bit integer"):
        build(CONV + f"stride={'9' * digits}\n")


def test_a_float_beyond_float32_is_refused() -> None:
    """Darknet keeps 32 bits, in which 1e39 is infinite."""
    with pytest.raises(CfgError, match="out of range for a float"):
        build(NET + "[dropout]\nprobability=1e39\n")


# ----------------------------------------------------------------------------------- warnings, and which option counts

WARNINGS = {
    "a repeated option": (
        CONV + "stride=1\nfilters=3\n",
        "my.cfg:9: [convolutional] filters=3: given a second time; the first counts (filters=2 at line 7); remove one",
    ),
    "a third time": (
        CONV + "filters=2\n",
        "my.cfg:8: [convolutional] filters=2: given a second time; the first counts (filters=2 at line 7); remove one",
    ),
    "a line without =": (
        CONV + "batch_normalize\n",
        "my.cfg:8: [convolutional] batch_normalize: no value, Darknet uses the default; write key=value",
    ),
    "nothing behind =": (
        CONV + "stride = \n",
        "my.cfg:8: [convolutional] stride=: no value, Darknet drops this line and uses the default; write a value",
    ),
    "an integer with letters behind it": (
        CONV + "stride=2abc\n",
        "my.cfg:8: [convolutional] stride=2abc: Darknet reads only the leading 2 of '2abc'",
    ),
    "a fraction for an integer": (
        CONV + "pad=0.5\n",
        "my.cfg:8: [convolutional] pad=0.5: Darknet reads only the leading 0 of '0.5'",
    ),
    "an exponent for an integer": (
        CONV + "stride=1e1\n",
        "my.cfg:8: [convolutional] stride=1e1: Darknet reads only the leading 1 of '1e1'",
    ),
    "a decimal comma": (
        NET + "[dropout]\nprobability=0,5\n",
        "my.cfg:6: [dropout] probability=0,5: Darknet reads only the leading 0 of '0,5'",
    ),
    "a list that ends with a comma": (
        "[net]\nscales=.1,.1,\n" + NET[6:] + "[avgpool]\n",
        "my.cfg:2: [net] scales=.1,.1,: ends with a comma, so Darknet reads a further element, 0; "
        "write 0, or remove the comma",
    ),
    "an option that is unknown, though one is like it": (
        "[net]\nwidht=9\n" + NET[6:] + "[avgpool]\n",
        "my.cfg:2: [net] widht=9: unknown option, Darknet ignores it; did you mean 'width'?",
    ),
    "an option that is unknown, and none is like it": (
        CONV + "qqq=1\n",
        "my.cfg:8: [convolutional] qqq=1: unknown option, Darknet ignores it; remove it",
    ),
    "an option of another section": (
        NET + "[avgpool]\nfilters=3\n",
        "my.cfg:6: [avgpool] filters=3: unknown option, Darknet ignores it; remove it",
    ),
    "an option whose case is wrong": (
        CONV + "Stride=2\n",
        "my.cfg:8: [convolutional] Stride=2: unknown option, Darknet ignores it; did you mean 'stride'?",
    ),
    "an activation that is unknown": (
        CONV + "activation=leeky\n",
        "my.cfg:8: [convolutional] activation=leeky: 'leeky' is not known, Darknet uses 'relu'; did you mean 'leaky'?",
    ),
    "a policy that is unknown": (
        "[net]\npolicy=setps\n" + NET[6:] + "[avgpool]\n",
        "my.cfg:2: [net] policy=setps: 'setps' is not known, Darknet uses 'constant'; did you mean 'steps'?",
    ),
    "a mask beyond the anchors": (
        NET + "[convolutional]\nfilters=6\n[yolo]\nmask=1\nanchors=1,2\nclasses=1\nnum=1\n",
        "my.cfg:8: [yolo] mask=1: there is no anchor 1 (num=1); Darknet reads past the end of its list; write num=2",
    ),
    "too few anchors": (
        NET + "[convolutional]\nfilters=12\n[yolo]\nanchors=1,2,3\nclasses=1\nnum=2\n",
        "my.cfg:8: [yolo] anchors=1,2,3: 3 values for 2 anchors; Darknet uses 0.5 for the missing ones",
    ),
}


@pytest.mark.parametrize("what", WARNINGS)
def test_a_warning_names_file_line_section_and_option(what: str) -> None:
    text, message = WARNINGS[what]
    assert message in warnings_of(text)


@pytest.mark.parametrize("what", WARNINGS)
def test_strict_makes_it_an_error(what: str) -> None:
    text, _ = WARNINGS[what]
    with pytest.raises(CfgError) as error:
        build(text, strict=True)
    assert str(error.value) in warnings_of(text)


def test_strict_is_an_argument_of_load(tmp_path: Path) -> None:
    path = tmp_path / "my.cfg"
    path.write_text(CONV + "qqq=1\n")
    with pytest.raises(CfgError, match=r"my\.cfg:8: .*unknown option"):
        darknet_py.load(path, strict=True)


def test_the_first_of_a_repeated_option_counts() -> None:
    assert build(CONV + "filters=3\nfilters=4\n").layers[0].options.filters == 2


def test_each_repeat_is_said() -> None:
    assert len(warnings_of(CONV + "filters=3\nfilters=4\n")) == 2


def test_an_option_may_stand_in_two_sections() -> None:
    assert warnings_of(CONV + "\n[convolutional]\nfilters=3\n") == []


def test_a_line_without_equals_sign_is_the_default() -> None:
    assert build(CONV + "stride\n").layers[0].options.stride == 1


def test_a_line_without_equals_sign_counts_as_the_first() -> None:
    """option_list.c:option_find finds the key, without a value, and looks no further."""
    assert build(CONV + "stride\nstride=2\n").layers[0].options.stride == 1


def test_a_line_without_value_is_dropped_so_the_next_counts() -> None:
    text = CONV + "stride=\nstride=2\n"
    assert build(text).layers[0].options.stride == 2
    assert len(warnings_of(text)) == 1


def test_a_partly_read_number_counts_as_far_as_it_was_read() -> None:
    assert build(CONV + "stride=2abc\n").layers[0].options.stride == 2
    assert build(CONV + "pad=0.5\n").layers[0].options.pad == 0
    assert build(NET + "[dropout]\nprobability=0,5\n").layers[0].options.probability == 0.0


def test_an_unknown_option_changes_nothing() -> None:
    text = "[net]\nwidht=9\n" + NET[6:] + "[avgpool]\n"
    assert build(text).size == (8, 8)


def test_an_unknown_activation_is_relu() -> None:
    assert build(CONV + "activation=leeky\n").layers[0].options.activation == "relu"


def test_an_unknown_weights_type_stops_darknet_and_us() -> None:
    with pytest.raises(
        CfgError, match=r"^my\.cfg:11: \[shortcut\] weights_type=per_chanel: .* did you mean 'per_channel'\?$"
    ):
        build(
            NET
            + "[convolutional]\nfilters=4\n[convolutional]\nfilters=4\n[shortcut]\nfrom=-2\nweights_type=per_chanel\n"
        )


def test_more_anchors_than_num_are_said() -> None:
    """Darknet uses the first `num` pairs; more of them mean that num was forgotten."""
    text = NET + "[convolutional]\nfilters=6\n[yolo]\nanchors=1,2, 3,4\nclasses=1\nnum=1\n"
    assert any(message.startswith("my.cfg:8: [yolo] anchors=1,2,3,4: ") for message in warnings_of(text))


@pytest.mark.parametrize("line", ["{}", "{}=1", "stride={}", "activation={}", "weights_type={}", "[{}]"])
def test_a_message_is_short_however_long_the_line(line: str) -> None:
    text = CONV + "[convolutional]\nfilters=2\n[shortcut]\nfrom=-2\n" + line.format("9x" * 5000) + "\n"
    with pytest.raises(CfgError) as error:
        build(text, strict=True)
    assert len(str(error.value)) < 1000


def test_a_convolution_may_follow_a_connected_layer() -> None:
    """Its values are channels of a single pixel; others, as gru, give flat values (cfg_bad/convolutional_after_gru)."""
    assert last(NET + "[connected]\noutput=5\n[convolutional]\nfilters=2\n").input[:4] == (5, 1, 1, 5)


# ------------------------------------------------------------------------------------------------------------ files


@pytest.mark.parametrize("name", ["missing.cfg", "folder", "missing/my.cfg"])
def test_a_cfg_that_cannot_be_read_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    path = tmp_path / name
    with pytest.raises(CfgError, match=re.escape(f"{path}: cannot read this cfg: ")):
        parse_cfg(path)


def test_a_path_that_no_system_knows_is_a_cfg_error() -> None:
    with pytest.raises(CfgError):
        parse_cfg("a\0b.cfg")


def test_a_file_that_is_far_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "my.cfg"
    with open(path, "wb") as file:
        file.truncate(1 << 40)  # a hole: no disk is used
    with pytest.raises(
        CfgError, match=r"my\.cfg: 1099511627776 bytes is too large for a \.cfg; is it a \.weights file\?"
    ):
        parse_cfg(path)


def test_messages_name_the_file_as_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my.cfg").write_text("width=8\n")
    for path in ("my.cfg", "./my.cfg", tmp_path / "my.cfg"):
        with pytest.raises(CfgError) as error:
            parse_cfg(path)
        assert str(error.value).startswith(f"{path}:1: ")


def test_a_file_whose_name_is_too_long_is_not_there() -> None:
    with pytest.raises(CfgError, match="there is no such file"):
        build(f"[net]\ninputs=2\n[softmax]\ntree={'t' * 300}\n")


@pytest.mark.parametrize("place", ["here/data", "project/data", "project/cfg/data"])
def test_a_file_that_an_option_names_is_found(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Darknet opens it from the current folder; a cfg that is run from elsewhere finds it beside itself, or above."""
    for folder in ("here", "project/cfg", place):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    (tmp_path / place / "my.tree").write_text("animal -1\nplant -1\n")
    cfg = tmp_path / "project" / "cfg" / "my.cfg"
    cfg.write_text("[net]\ninputs=2\n[softmax]\ntree=data/my.tree\n")
    monkeypatch.chdir(tmp_path / "here")
    assert Network(parse_cfg(cfg)).layers[0].describe()["has_tree"] == 1


# ------------------------------------------------------------------------------------------------- the bundled cfgs

OFFICIAL = cases("cfg", "*.cfg")


@needs_kit
def test_the_kit_has_all_cfgs_of_the_three_repositories() -> None:
    assert len(OFFICIAL) == 133


@needs_kit
@pytest.mark.parametrize("name", OFFICIAL)
def test_an_official_cfg_is_built_and_warnings_point_at_the_line(name: str) -> None:
    path = KIT / "cfg" / f"{name}.cfg"
    lines = path.read_bytes().decode("utf-8-sig", errors="replace").split("\n")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        network = Network(parse_cfg(path))
    assert len(network.layers) == sum("[" in line.split("#")[0][:2].strip() for line in lines) - 1
    for warning in caught:
        assert warning.category is CfgWarning
        match = re.match(rf"{re.escape(str(path))}:(\d+): \[\w+\] (\S+): .", str(warning.message))
        assert match, str(warning.message)
        line, option = re.sub(r"\s", "", lines[int(match[1]) - 1]), match[2]
        assert line == option or (option.endswith("...") and line.startswith(option[:-3]))


@pytest.mark.parametrize("path", OWN_CFGS, ids=lambda path: path.stem)
def test_our_own_cfgs_give_no_reason_for_a_warning(path: Path) -> None:
    Network(parse_cfg(path, strict=True))


# ---------------------------------------------------------------------------------------------- lists and odd numbers


def lists_of(text: str) -> tuple[Network, list[str]]:
    """A network of a text, and the warnings that it gives."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        network = Network(parse_text(text, "my.cfg"))
    return network, [str(warning.message) for warning in caught]


CONVOLUTIONS = "[net]\nwidth=8\nheight=8\nchannels=3\n[convolutional]\nfilters=3\n[convolutional]\nfilters=3\n"


@pytest.mark.parametrize(("line", "layers"), [("layers=-1 # was -1,-2", (1, 0)), ("layers=-1 # the last", (1,))])
def test_a_list_of_layers_does_not_end_at_a_comment(line: str, layers: tuple[int, ...]) -> None:
    """parser.c:parse_route counts the commas of the whole line."""
    network, messages = lists_of(f"{CONVOLUTIONS}[route]\n{line}\n")
    assert network.layers[2].source_indices == layers
    assert bool(messages) == (len(layers) > 1)
    assert all("reads this list on behind the '#'" in message for message in messages)


def test_the_lists_of_yolo_end_at_a_comment() -> None:
    """parser.c:parse_yolo stops at a '#', parse_region does not."""
    text = "[net]\nwidth=8\nheight=8\nchannels=6\n[{head}]\nclasses=1\nnum=1\nanchors=4,5 # and 6,7\n"
    network, messages = lists_of(text.format(head="yolo"))
    assert network.layers[0].anchors.tolist() == [[4, 5]]
    assert not messages
    network, messages = lists_of(text.format(head="region"))
    assert len(messages) == 2  # the comment's comma, and more values than anchors
    assert network.layers[0].anchors.tolist() == [[4, 5]]


def test_an_empty_element_is_0() -> None:
    network, messages = lists_of("[net]\nwidth=8\nheight=8\nchannels=3\nscales=.1,,10,\nsteps=4,,6\n[convolutional]\n")
    assert network.net.scales == (0.1, 0.0, 10.0, 0.0)
    assert network.net.steps == (4, 0, 6)
    assert "my.cfg:5: [net] scales=.1,,10,: ends with a comma, so Darknet reads a further element, 0" in messages[0]
    assert "has two commas in a row" in messages[1]


def test_atof_reads_hexadecimal_numbers_and_atoi_does_not() -> None:
    network, messages = lists_of("[net]\nwidth=8\nheight=8\nchannels=3\npower=0x10\nburn_in=0x10\n[convolutional]\n")
    assert network.net.power == 16
    assert network.net.burn_in == 0
    assert "Darknet reads only the leading 0 of '0x10'" in messages[0]


def test_what_cannot_be_seen_is_written_out_in_messages() -> None:
    """Vertical tabs, form feeds and no-break spaces are no white space to Darknet."""
    for sign, shown in (("\v", r"\x0b"), ("\f", r"\x0c"), ("\xa0", r"\xa0"), ("\x1b[2J", r"\x1b[2J")):
        _, messages = lists_of(f"[net]\nwidth=8\nheight=8\nchannels=3\n{sign}batch=4\n[convolutional]\n")
        assert f"my.cfg:5: [net] {shown}batch=4: unknown option" in messages[0]


def test_words_behind_a_comment_sign_are_zeros() -> None:
    """atof gives 0 for a word; so a remark with a comma does no harm where surplus values are left out."""
    net = "[net]\nwidth=8\nheight=8\nchannels=3\npolicy=steps\nsteps=5,6\nscales=.1,.2 # first, then second\n"
    network, messages = lists_of(f"{net}[convolutional]\n")
    assert network.net.scales[:2] == (0.1, 0.2)
    assert "reads this list on behind the '#'" in messages[0]
