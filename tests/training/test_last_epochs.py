"""In the last `close_mosaic` epochs no image is blended with others, and YOLOX's loss has its last term, also after a
resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from darknet_py.data.samples import SampleMaker
from darknet_py.data.shapes import write_dataset
from darknet_py.train import main
from darknet_py.training import loop
from darknet_py.training.step import Step, Trainer

IMAGES, BATCH, EPOCHS, LAST = 6, 4, 4, 2
ITERATIONS = EPOCHS * 2  # of 4 images, from 6
CFG = """[net]
width=32
height=32
channels=3
batch=4
subdivisions=1
epochs=4
close_mosaic=2
optimizer=sgd
learning_rate=0.001
policy=constant
image_fit=yolox
{recipe}

[convolutional]
filters=8
size=8
stride=8
batch_normalize=1
activation=leaky

[convolutional]
filters=11
activation=linear

[anchor_free]
classes=6
coords=xywh
objectness=1
"""
RECIPES = {
    "yolov5": ("augmentation=yolov5\nmosaic=1\nmixup_probability=1", {8}),
    "yolox": ("augmentation=yolox\nmosaic=1\nmixup_probability=1", {4, 5, 6, 7, 8}),  # a partner with objects is sought
    "darknet": ("mosaic=1", {1, 4}),
    "darknet mixup": ("mixup=1", {1, 2}),
}
"""Words of [net], and of how many images samples are before the last epochs."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write_dataset(tmp_path_factory.mktemp("shapes"), train=IMAGES, valid=2)
    path.write_text(f"{path.read_text()}savelast = 1\n")
    return path


class Record:
    """What iterations did: the images that their samples were made of, and the parts of their losses."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, stop_before: int | None = None) -> None:
        self.images: list[list[str]] = []
        self.parts: list[set[str]] = []
        self.loaded: list[str] = []
        load, step, iterate = SampleMaker.load, loop._step, loop._iteration

        def loading(maker: SampleMaker, request: Any) -> Any:
            image = load(maker, request)
            self.loaded.append(Path(image.path).name)
            return image

        def stepping(trainer: Trainer, batch: Any) -> Step:
            self.images.append(list(self.loaded))
            self.loaded.clear()
            result = step(trainer, batch)
            self.parts.append(set(result.parts))
            return result

        def iterating(trainer: Trainer, *arguments: Any) -> Any:
            if trainer.iteration == stop_before:
                raise KeyboardInterrupt
            return iterate(trainer, *arguments)

        monkeypatch.setattr(SampleMaker, "load", loading)
        monkeypatch.setattr(loop, "_step", stepping)
        monkeypatch.setattr(loop, "_iteration", iterating)


def run(data: Path, cfg: Path, out: Path, *arguments: str) -> int:
    return main([str(data), str(cfg), "--out", str(out), "--workers", "0", "--device", "cpu", *arguments])


@pytest.mark.parametrize(
    ("name", "stop"), [("yolov5", 2), ("yolox", 4), ("yolox", 6), ("darknet", 4), ("darknet mixup", 6)]
)
def test_the_last_epochs_are_plain_also_across_a_resume(
    name: str, stop: int, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is interrupted before, at the beginning of, or within the last epochs, which begin after 4 iterations."""
    words, counts = RECIPES[name]
    cfg = tmp_path / "my.cfg"
    cfg.write_text(CFG.format(recipe=words))
    with monkeypatch.context() as patch:
        whole = Record(patch)
        assert run(data, cfg, tmp_path / "whole") == 0
    last = ITERATIONS - LAST * 2
    assert len(whole.images) == ITERATIONS
    assert all(len(images) == BATCH for images in whole.images[last:]), "one image a sample"
    assert all(len(images) > BATCH for images in whole.images[:last] if min(counts) > 1)
    assert sum(len(images) for images in whole.images[:last]) > BATCH * last
    assert all(len(images) <= BATCH * max(counts) for images in whole.images)
    assert ["L1" in parts for parts in whole.parts] == [False] * last + [True] * (ITERATIONS - last)
    with monkeypatch.context() as patch:
        first = Record(patch, stop_before=stop)
        with pytest.raises(KeyboardInterrupt):
            run(data, cfg, tmp_path / "out")
    with monkeypatch.context() as patch:
        second = Record(patch)
        assert run(data, cfg, tmp_path / "out", "--resume") == 0
    assert first.images + second.images == whole.images
    assert first.parts + second.parts == whole.parts
    final = [(tmp_path / folder / "my_final.weights").read_bytes() for folder in ("whole", "out")]
    assert final[0] == final[1]
