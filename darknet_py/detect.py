"""Finds objects in pictures, folders, videos, cameras and streams.

python -m darknet_py.detect --cfg cfg/yolov3.cfg --weights yolov3.weights --names cfg/coco.names dog.jpg pictures/ road.mp4
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import cv2
from tqdm import tqdm

from darknet_py.bundled import bundled
from darknet_py.command import add_size, fraction, run_command
from darknet_py.detections import Detections
from darknet_py.detector import Detector
from darknet_py.errors import DarknetError, ImageError
from darknet_py.inference.runner import PRECISIONS, pick_device
from darknet_py.layers.head import NMS_KINDS
from darknet_py.names import find_beside, read_data, read_lines
from darknet_py.network import load
from darknet_py.pictures.images import Picture
from darknet_py.pictures.outputs import Results, VideoFile, fresh_folder
from darknet_py.pictures.sources import ImageSource, Rate, Source, VideoSource, expand, open_video

UNREADABLE = 1  # exit status where a picture could not be read
WINDOW = "darknet_py"


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m darknet_py.detect",
        description="Finds objects in pictures, folders, videos, cameras and streams; without arguments, in a sample picture.",
        epilog="example: python -m darknet_py.detect --cfg cfg/yolov3.cfg --weights weights/yolov3.weights --names cfg/coco.names dog.jpg",
    )
    result.add_argument("sources", nargs="+", metavar="SOURCE",
                        help="picture, folder, glob, list (.txt), - (paths on standard input), video, camera number, rtsp:// or http:// address")  # fmt: skip
    model = result.add_argument_group("model")
    model.add_argument("--cfg", required=True, help="the network's .cfg")
    model.add_argument("--weights", required=True, help="its .weights or .safetensors")
    model.add_argument("--names", help="class names, one per line")
    model.add_argument("--data", help="a .data file that says where the names are")
    add_size(model)  # type: ignore[arg-type]
    model.add_argument("--strict", action="store_true", help="warnings about the cfg are errors")
    how = result.add_argument_group("detection")
    how.add_argument("--thresh", type=fraction, default=0.25, help="least confidence, 0..1 (default: %(default)s)")
    how.add_argument(
        "--nms",
        type=fraction,
        default=0.45,
        help="overlap from which the less sure box goes; 0: none goes (default: %(default)s)",
    )
    how.add_argument("--nms-kind", choices=NMS_KINDS, help="measure of overlap (default: as the cfg says)")
    how.add_argument("--agnostic", action="store_true", help="boxes of different classes suppress each other too")
    how.add_argument("--letterbox", action=argparse.BooleanOptionalAction,
                     help="keep the pictures' proportions, or stretch them (default: as the cfg's letter_box says; Darknet stretches)")  # fmt: skip
    how.add_argument("--device", default="auto", help="cpu, cuda, cuda:1 … (default: cuda where there is one)")
    how.add_argument(
        "--batch", type=int, default=8, help="pictures that pass the network at once (default: %(default)s)"
    )
    how.add_argument(
        "--precision",
        choices=tuple(PRECISIONS),
        default="fp32",
        help="of the network's numbers (default: %(default)s, Darknet's)",
    )
    how.add_argument(
        "--half", action="store_const", dest="precision", const="fp16", help="the same as --precision fp16"
    )
    out = result.add_argument_group("results")
    out.add_argument("--out", help="folder for annotated pictures and videos (default: a fresh runs/detect-N)")
    out.add_argument("--no-pictures", action="store_true", help="write no annotated pictures and videos")
    out.add_argument(
        "--json", metavar="FILE", help="Darknet's JSON: a list for pictures, a line per frame for videos and streams"
    )
    out.add_argument("--txt", action="store_true", help="Darknet's label files, under labels/ in the folder")
    out.add_argument("--coco", metavar="FILE", help="a COCO results file")
    out.add_argument("--crops", action="store_true", help="each object as a picture, under crops/ in the folder")
    out.add_argument("--show", action="store_true", help="open a window with the results")
    out.add_argument("--ext-output", action="store_true", help="print each box's pixels")
    out.add_argument("--quiet", action="store_true", help="no line per picture")
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    return start(parser().parse_args(given or _first_look()))


def _first_look() -> list[str]:
    """Without arguments: the bundled model and its picture."""
    print("no arguments (see --help), so here is the bundled model with its sample picture:")
    return [
        *(part for what in ("cfg", "weights", "names") for part in (f"--{what}", str(bundled(what)))),
        str(bundled("image")),
    ]


def start(given: argparse.Namespace, save_as: str | None = None) -> int:
    """Runs the command with parsed arguments; `save_as`: one file for all annotated pictures, as Darknet's predictions.jpg."""
    sources = expand(given.sources)
    lines = any(isinstance(one, VideoSource) for one in sources)
    return Run(make_detector(given), given, lines=lines, save_as=save_as).over(sources)


def make_detector(given: argparse.Namespace) -> Detector:
    names = given.names
    class_map = None
    if given.data:
        data = read_data(given.data)
        if not names and (found := data.get("names") or data.get("labels")):
            names = find_beside(found, given.data)
        if data.get("map"):
            class_map = [int(line) for line in read_lines(find_beside(data["map"], given.data), "map of classes")]
    network = load(given.cfg, given.weights, device=pick_device(given.device), size=given.size, strict=given.strict)
    if class_map is not None and not any(getattr(layer, "tree", None) for layer in network.head_layers()):
        class_map = None
    return Detector(
        network, names, letterbox=given.letterbox, nms_kind=given.nms_kind, agnostic=given.agnostic,
        precision=given.precision, batch=given.batch, class_map=class_map,
    )  # fmt: skip


class Run:
    """One call of the command: sources in, files and lines out."""

    def __init__(
        self, detector: Detector, given: argparse.Namespace, *, lines: bool, save_as: str | None = None
    ) -> None:
        self.detector, self.given, self.save_as = detector, given, save_as
        wants_folder = not given.no_pictures or given.txt or given.crops
        needs_fresh = wants_folder and not given.out and not save_as
        self.folder = fresh_folder(Path("runs"), "detect") if needs_fresh else Path(given.out or ".")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.results = Results(
            self.folder, pictures=not given.no_pictures, labels=given.txt, crops=given.crops,
            json_file=given.json, coco=given.coco, lines=lines, save_as=save_as,
        )  # fmt: skip
        self.unreadable = 0
        self.wants_folder = wants_folder

    def over(self, sources: Sequence[Source]) -> int:
        """Runs over all sources; whatever ends it, the files are complete. Returns the exit status."""
        images = [one.path for one in sources if isinstance(one, ImageSource)]
        videos = [one for one in sources if isinstance(one, VideoSource)]
        try:
            if images:
                self._images(images)
            for video in videos:
                self._video(video)
        finally:
            self.results.close()
            if self.given.show:
                cv2.destroyAllWindows()
        if self.wants_folder and not self.given.quiet:
            print(f"results in {self.folder / (self.save_as or '')}")
        return UNREADABLE if self.unreadable else 0

    def _images(self, paths: list[str]) -> None:
        with tqdm(total=len(paths), unit="image", disable=None if len(paths) > 1 else True) as bar:
            for group in batches(self._read_ahead(paths), self.given.batch):
                good = [(path, picture) for path, picture in group if picture is not None]
                if good:
                    start = time.perf_counter()
                    found = self.detector.detect([picture for _, picture in good], self.given.thresh, self.given.nms)
                    milliseconds = (time.perf_counter() - start) * 1000 / len(good)
                    for (path, picture), one in zip(good, found, strict=True):
                        self._line(path, milliseconds, one)
                        annotated = self.results.add_picture(path, picture, one)
                        if self.given.show and annotated is not None:
                            self._show(annotated, wait=len(paths) == 1)
                bar.update(len(group))

    def _read_ahead(self, paths: list[str]) -> Iterator[tuple[str, Picture | None]]:
        """Pictures in order, read while the network runs; None for one that cannot be read, which is named on stderr."""
        with ThreadPoolExecutor(2) as pool:
            waiting: deque[tuple[str, Future[Picture]]] = deque()
            rest = iter(paths)
            for path in islice(rest, 2 * self.given.batch):
                waiting.append((path, pool.submit(self.detector.read, path)))
            while waiting:
                path, future = waiting.popleft()
                try:
                    picture: Picture | None = future.result()
                except ImageError as error:
                    tqdm.write(f"error: {error}", file=sys.stderr)
                    self.unreadable += 1
                    picture = None
                for following in islice(rest, 1):
                    waiting.append((following, pool.submit(self.detector.read, following)))
                yield path, picture

    def _video(self, source: VideoSource) -> None:
        try:
            video = open_video(source)
        except ImageError as error:
            print(f"error: {error}", file=sys.stderr)
            self.unreadable += 1
            return
        target = self.folder / Path(self.results.name_for(f"{source.name}.mp4")).name
        output = None if self.given.no_pictures else VideoFile(target, video.fps)
        rate = Rate()
        try:
            with tqdm(total=video.count or None, unit="frame", disable=None) as bar:
                for frames in batches(iter(video), 1 if source.live else self.given.batch):
                    start = time.perf_counter()
                    pictures = [self.detector.read(frame) for frame in frames]
                    found = self.detector.detect(pictures, self.given.thresh, self.given.nms)
                    milliseconds = (time.perf_counter() - start) * 1000 / len(frames)
                    for frame, one in zip(frames, found, strict=True):
                        self._line(f"{source.name} frame {self.results.count + 1}", milliseconds, one)
                        annotated = self.results.add_frame(source.name, frame, one)
                        if output:
                            output.add(annotated)
                        if self.given.show and not self._show(annotated, wait=False):
                            return
                    bar.update(len(frames))
                    bar.set_postfix_str(f"{rate.tick(len(frames)):.1f} FPS")
        finally:
            video.close()
            if output:
                output.close()

    def _line(self, name: str, milliseconds: float, found: Detections) -> None:
        if self.given.quiet:
            return
        tqdm.write(f"{name}: Predicted in {milliseconds:.3f} milli-seconds.")
        for one in sorted(found, key=lambda one: one.box[0]):
            left, top, right, bottom = one.box
            pixels = f"\t(left_x: {left:4.0f}   top_y: {top:4.0f}   width: {right - left:4.0f}   height: {bottom - top:4.0f})"
            tqdm.write(f"{one.name}: {one.confidence * 100:.0f}%" + (pixels if self.given.ext_output else ""))

    def _show(self, picture: Picture, wait: bool) -> bool:
        """Shows a picture; False when the user closes the window or presses q or Escape."""
        try:
            cv2.imshow(WINDOW, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
            return cv2.waitKey(0 if wait else 1) & 0xFF not in (27, ord("q"))
        except cv2.error:
            raise DarknetError(
                "--show: no window can be opened here (no screen, or an OpenCV without windows: install opencv-python)"
            ) from None


def batches(items: Iterable[object], count: int) -> Iterator[list]:  # type: ignore[type-arg]
    """Lists of up to `count` items."""
    iterator = iter(items)
    while group := list(islice(iterator, count)):
        yield group


if __name__ == "__main__":
    sys.exit(run_command(main))
