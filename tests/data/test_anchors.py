"""Anchors: the C program's k-means step for step, its runs on real boxes, and cfgs in which nothing else changes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from kit import KIT, REALDATA, needs_kit, needs_realdata
from project import CFGS, ROOT

from darknet_py import DarknetError, Network, anchors, parse_cfg
from darknet_py.command import run_command
from darknet_py.data.anchors import (
    anchors_text,
    box_sizes,
    calc_anchors,
    kmeans,
    kmedians,
    size_iou,
    with_anchors,
)
from darknet_py.data.dataset import open_dataset
from darknet_py.errors import CfgError

BCCD = REALDATA / "bccd"


@needs_kit
@pytest.mark.parametrize("case", ["k1_s5", "k3_s4", "k6_s3", "k9_s1", "k9_s2"])
def test_kmeans_is_the_programs_to_the_last_bit(case: str) -> None:
    kit = np.load(KIT / "misc" / "kmeans_anchors.npz")
    ours = kmeans(kit["wh"], kit[f"{case}_init"])
    np.testing.assert_array_equal(ours.centres, kit[f"{case}_centers"])
    np.testing.assert_array_equal(ours.assignments, kit[f"{case}_assign"])
    assert ours.iterations == int(kit[f"{case}_iterations"])


def glibc_rand(seed: int) -> Iterator[int]:
    """The numbers of the C library's `rand()` after `srand(seed)`."""
    state = [seed]
    for _ in range(30):
        state.append(16807 * state[-1] % 2147483647)
    state += state[:3]
    for count in itertools.count(34):
        state.append((state[-31] + state[-3]) & 0xFFFFFFFF)
        if count >= 344:
            yield state[-1] >> 1


def sample(count: int, seed: int) -> list[int]:
    """matrix.c:sample, the order in which `detector calc_anchors` picks boxes to start from."""
    numbers, order = glibc_rand(seed), list(range(count))
    for last in range(count - 1, -1, -1):
        other = next(numbers) % (last + 1)
        order[last], order[other] = order[other], order[last]
    return order


@needs_realdata
@pytest.mark.parametrize("clusters", [6, 9])
def test_the_programs_runs_on_real_boxes(clusters: int) -> None:
    """From the boxes that the program picked: all of its 20 runs, iterations, centres to nine digits, and the printed
    line."""
    golden = json.loads((REALDATA / "expected" / "calc_anchors_bccd.json").read_text())
    relative, classes = box_sizes(open_dataset(BCCD / "bccd.data", "train"))
    assert np.bincount(classes).tolist() == golden["counters_per_class"]
    sizes = relative * np.float32(416)
    runs = [run for run in golden["runs"] if run["clusters"] == clusters]
    assert len(runs) == 20
    for run in runs:
        ours = kmeans(sizes, sizes[sample(len(sizes), run["seed"])[:clusters]])
        centres = ours.centres[np.argsort(ours.centres.prod(1), kind="stable")]
        assert ours.iterations == run["iterations"]
        np.testing.assert_allclose(centres, run["centers"], rtol=1e-7)
        assert anchors_text(centres, is_whole=True).strip() == run["anchors_printed"].strip()
        assert ours.average_iou * 100 == pytest.approx(run["avg_iou_percent"], abs=5e-4), "the program adds in float32"


@needs_realdata
@pytest.mark.parametrize("clusters", [6, 9])
def test_our_own_starts_are_as_good_as_the_programs(clusters: int) -> None:
    golden = json.loads((REALDATA / "expected" / "calc_anchors_bccd.json").read_text())["summary"][str(clusters)]
    sizes = box_sizes(open_dataset(BCCD / "bccd.data", "train"))[0] * np.float32(416)
    found = [calc_anchors(sizes, clusters, seed=seed) for seed in range(10)]
    quality = [result.average_iou * 100 for result in found]
    lowest, highest = golden["avg_iou_percent_min"], golden["avg_iou_percent_max"]
    assert min(quality) >= lowest - 0.3
    assert max(quality) <= highest + 0.1
    assert np.median(quality) == pytest.approx(golden["avg_iou_percent_median"], abs=0.3)
    medians = [calc_anchors(sizes, clusters, "notes", seed=seed).average_iou * 100 for seed in range(10)]
    assert np.median(medians) >= np.median(quality), "medians suit this distance better than means"
    for result in found:
        areas = result.centres.prod(1)
        assert (np.diff(areas) >= 0).all()
        np.testing.assert_array_equal(result.assignments, size_iou(sizes, result.centres).argmax(1))


def test_the_same_seed_gives_the_same_anchors() -> None:
    sizes = np.random.default_rng(0).uniform(5, 200, (300, 2)).astype(np.float32)
    first, again, other = (calc_anchors(sizes, 5, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.centres, again.centres)
    assert not np.array_equal(first.centres, other.centres)


def test_a_centre_without_boxes_stays() -> None:
    sizes = np.array([[10, 10], [12, 12]], np.float32)
    far = np.array([[11, 11], [500, 1]], np.float32)
    for method in (kmeans, kmedians):
        np.testing.assert_array_equal(method(sizes, far).centres, far)


def test_medians_are_those_of_a_loop_over_the_boxes() -> None:
    """The nearest centre by 1 - IoU, then the median of each cluster, until nothing changes."""
    rng = np.random.default_rng(2)
    sizes = np.exp(rng.normal(-2, 0.7, (200, 2)))
    start = sizes[rng.choice(200, 4, replace=False)]
    centres, last = start.copy(), None
    while True:
        nearest = []
        for w, h in sizes:
            shared = np.minimum(centres[:, 0], w) * np.minimum(centres[:, 1], h)
            nearest.append(int(np.argmin(1 - shared / (w * h + centres[:, 0] * centres[:, 1] - shared))))
        if nearest == last:
            break
        for k in range(4):
            centres[k] = np.median(sizes[np.array(nearest) == k], 0)
        last = nearest
    ours = kmedians(sizes, start)
    np.testing.assert_allclose(ours.centres, centres)
    assert ours.assignments.tolist() == last


def test_boxes_without_area_do_no_harm() -> None:
    sizes = np.array([[0, 0], [0, 5], [10, 10], [20, 20]], np.float32)
    found = calc_anchors(sizes, 2, seed=0)
    assert np.isfinite(found.centres).all()
    assert 0 <= found.average_iou <= 1
    with pytest.raises(DarknetError, match="5 clusters of 4 boxes"):
        calc_anchors(sizes, 5)


def test_darknet_prints_whole_pixels_or_four_decimals() -> None:
    centres = np.array([[10.4, 13.6], [116.2, 90]])
    assert anchors_text(centres, is_whole=True) == " 10, 14, 116, 90"
    assert anchors_text(centres, is_whole=False) == "10.4000,13.6000, 116.2000,90.0000"


NINE = np.array([[k * 10 + 10, k * 12 + 9] for k in range(9)], np.float32)


def changed_lines(before: bytes, after: bytes) -> dict[int, bytes]:
    """Line number → the new line, of those that differ."""
    old, new = before.split(b"\n"), after.split(b"\n")
    assert len(old) == len(new)
    return {number: b for number, (a, b) in enumerate(zip(old, new, strict=True), 1) if a != b}


def test_as_many_anchors_change_nothing_but_the_anchors() -> None:
    before = (CFGS / "yolov3.cfg").read_bytes()
    changed = changed_lines(before, with_anchors(CFGS / "yolov3.cfg", NINE))
    assert set(changed.values()) == {
        b"anchors=10,  9,  20, 21,  30, 33,  40, 45,  50, 57,  60, 69,  70, 81,  80, 93,  90,105"
    }
    assert len(changed) == 3


@pytest.mark.parametrize(
    ("cfg", "count", "masks"),
    [
        ("yolov3", 6, [(4, 5), (2, 3), (0, 1)]),
        ("yolov3", 7, [(5, 6), (3, 4), (0, 1, 2)]),
        ("yolov3", 12, [(8, 9, 10, 11), (4, 5, 6, 7), (0, 1, 2, 3)]),
        ("yolov4", 6, [(0, 1), (2, 3), (4, 5)]),
        ("yolov3-tiny", 9, [(5, 6, 7, 8), (0, 1, 2, 3, 4)]),
    ],
)
def test_another_number_of_anchors_is_shared_the_largest_for_the_coarsest_map(
    tmp_path: Path, cfg: str, count: int, masks: list[tuple[int, ...]]
) -> None:
    source = CFGS / f"{cfg}.cfg"
    after = with_anchors(source, np.resize(NINE, (count, 2)) + np.arange(count)[:, None])
    (tmp_path / "new.cfg").write_bytes(after)
    network = Network(parse_cfg(tmp_path / "new.cfg"))
    heads = network.head_layers()
    shares = [
        tuple(sorted(mask))
        for mask in np.split(np.arange(count), np.cumsum([len(mask) for mask in sorted(masks)])[:-1])
    ]
    assert sorted(masks) == shares
    assert [head.options.mask for head in heads] == masks
    assert all(head.options.num == count and len(head.options.anchors) == 2 * count for head in heads)
    keys = {line.split(b"=")[0].strip() for line in changed_lines(source.read_bytes(), after).values()}
    assert keys <= {b"anchors", b"num", b"mask", b"filters"}
    for head, mask in zip(heads, masks, strict=True):
        assert network.layers[head.index - 1].shape.c == len(mask) * (head.classes + 5)


def test_region_anchors_are_in_cells() -> None:
    cells = np.array([[1.25, 1.5], [3, 4], [5, 8], [9.5, 5], [11, 10]])
    source = CFGS / "yolov2-voc.cfg"
    changed = changed_lines(source.read_bytes(), with_anchors(source, cells))
    assert list(changed.values()) == [
        b"anchors=1.2500,1.5000, 3.0000,4.0000, 5.0000,8.0000, 9.5000,5.0000, 11.0000,10.0000"
    ]
    changed = changed_lines(source.read_bytes(), with_anchors(source, cells[:3]))
    assert {line.split(b"=")[0] for line in changed.values()} == {b"filters", b"anchors", b"num"}
    assert b"filters=75" in changed.values()


def test_comments_spaces_line_ends_and_marks_stay(tmp_path: Path) -> None:
    text = (
        b"\xef\xbb\xbf[net]\r\nwidth=64\r\nheight = 64 # small\r\nchannels=3\r\n\r\n[convolutional]\r\nstride=32\r\n"
        b" filters =\t14  # two anchors\r\nactivation=linear\r\n[yolo]\r\nanch ors = 1,2,  3,4 ; in pixels\r\n"
        b"num=2\r\nclasses=2\r\n# \xe9nd"
    )
    (tmp_path / "x.cfg").write_bytes(text)
    expected = text.replace(b"1,2,  3,4 ;", b"10, 11,  12, 13 ;")
    assert with_anchors(tmp_path / "x.cfg", np.array([[10, 11], [12, 13]])) == expected
    expected = text.replace(b"1,2,  3,4 ;", b"10, 11 ;").replace(b"=\t14 ", b"=\t7 ").replace(b"num=2", b"num=1")
    assert with_anchors(tmp_path / "x.cfg", np.array([[10, 11]])) == expected


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(DarknetError, match="2 anchors for 3 heads; write --clusters 3 or more"):
        with_anchors(CFGS / "yolov3.cfg", NINE[:2])
    with pytest.raises(DarknetError, match=r"none of its layers has anchors"):
        with_anchors(CFGS / "darknet19.cfg", NINE)
    with pytest.raises(DarknetError, match=r"none of its layers has anchors"):
        with_anchors(CFGS / "yolov1.cfg", NINE)
    text = (CFGS / "yolov3-tiny.cfg").read_text()
    (tmp_path / "x.cfg").write_text(text.replace("num=6\n", "", 1))
    with pytest.raises(CfgError, match=r"\[yolo\]: there is no line num= to change; write num=4"):
        with_anchors(tmp_path / "x.cfg", NINE[:4])


@needs_realdata
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, new = CFGS / "yolov3-tiny.cfg", tmp_path / "new.cfg"
    arguments = [
        str(BCCD / "bccd.data"),
        "--cfg",
        str(source),
        "--seed",
        "1",
        "--out",
        str(tmp_path),
        "--write",
        str(new),
    ]
    assert anchors.main(arguments) == 0
    printed = capsys.readouterr().out
    assert " num_of_clusters = 6, width = 416, height = 416 " in printed
    assert "counters_per_class = 2381, 214, 209" in printed
    assert " avg IoU = 8" in printed
    line = printed.split("anchors = ")[1].split("\n")[0]
    assert (tmp_path / "anchors.txt").read_text() == line
    assert (tmp_path / "counters_per_class.txt").read_text() == "counters_per_class = 2381, 214, 209"
    assert f"anchors={line.strip()}".encode() in changed_lines(source.read_bytes(), new.read_bytes()).values()
    assert anchors.main([str(BCCD / "bccd.data"), "--size", "13x13", "--clusters", "5", "--method", "notes"]) == 0
    assert "." in capsys.readouterr().out.split("anchors = ")[1]
    assert anchors.main([str(BCCD / "bccd.data"), "--cfg", str(CFGS / "yolov2-voc.cfg")]) == 0
    assert " num_of_clusters = 5, width = 13, height = 13 " in capsys.readouterr().out


@needs_realdata
def test_the_image_of_anchors(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert (
        anchors.main([str(BCCD / "bccd.data"), "--size", "416", "--plot", str(tmp_path / "a.png"), "--seed", "0"]) == 0
    )
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@needs_realdata
def test_mistakes_at_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = str(BCCD / "bccd.data")
    for arguments, text in (
        ([data], "write --cfg FILE or --size WxH"),
        ([data, "--size", "416", "--write", "x.cfg"], "--write makes a copy of a cfg"),
        ([data, "--size", "416", "--clusters", "9999"], "9999 clusters of 2804 boxes"),
        ([data, "--size", "416", "--clusters", "0"], "0 clusters of 2804 boxes"),
        (["nowhere.data", "--size", "416"], "nowhere.data: cannot read"),
    ):
        assert run_command(lambda arguments=arguments: anchors.main(arguments)) == 2
        assert text in capsys.readouterr().err
    source, new = CFGS / "yolov3.cfg", tmp_path / "new.cfg"
    with pytest.warns(UserWarning, match="the anchors are for 608x608, but .* has width=416 height=416"):
        anchors.main([data, "--cfg", str(source), "--size", "608", "--write", str(new)])
    assert new.is_file()


def test_anchors_are_written_into_a_cfg_of_two_bytes_a_letter(tmp_path: Path) -> None:
    """As UTF-8: bytes of UTF-8 between those of UTF-16 would be other letters."""
    text = (ROOT / "cfg" / "shapes.cfg").read_text()
    (tmp_path / "wide.cfg").write_bytes(text.encode("utf-16"))
    centres = np.array([[10, 12], [20, 24], [30, 31], [40, 44], [50, 55], [60, 66]], np.float32)
    written = with_anchors(tmp_path / "wide.cfg", centres)
    assert written == with_anchors(ROOT / "cfg" / "shapes.cfg", centres)


def test_boxes_without_area_are_no_boxes_of_anchors(tmp_path: Path) -> None:
    image = tmp_path / "1.png"
    cv2.imwrite(str(image), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "1.txt").write_text("0 .5 .5 .2 .3\n1 .5 .5 -.2 .3\n2 .5 .5 0 .3\n")
    (tmp_path / "list.txt").write_text(f"{image}\n")
    (tmp_path / "x.data").write_text(f"classes=3\ntrain={tmp_path}/list.txt\n")
    sizes, classes = box_sizes(open_dataset(tmp_path / "x.data"))
    assert sizes.tolist() == [pytest.approx([0.2, 0.3])]
    assert classes.tolist() == [0]
