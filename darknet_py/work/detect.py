"""What `python -m darknet_py.detect` does: sources in, files and lines out."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import TypeVar

import cv2
from tqdm import tqdm

from darknet_py.command import UNREADABLE, say
from darknet_py.detection_files import DetectionFiles
from darknet_py.detections import Detections
from darknet_py.detector import Detector, load_detector
from darknet_py.errors import DarknetError, ImageError
from darknet_py.files import fresh_folder, remove_empty
from darknet_py.pictures.addresses import shown
from darknet_py.pictures.codecs import Codec
from darknet_py.pictures.draw import Style, draw
from darknet_py.pictures.read import Image
from darknet_py.pictures.serving import JsonPort, MjpegPort, Port
from darknet_py.pictures.sources import ImageSource, Source, VideoSource
from darknet_py.pictures.threads import Behind, batched, read_ahead
from darknet_py.pictures.videos import LiveVideo, Rate, open_video
from darknet_py.pictures.write import VideoFile, pick_codec, write_image
from darknet_py.tiling import detect_in_tiles

WINDOW = "darknet_py"
MANY_IMAGES = 32  # from which on the network is fused
P = TypeVar("P", bound=Port)


def run(
    args: argparse.Namespace,
    sources: Sequence[Source],
    *,
    save_as: str | None = None,
    labels: Callable[[str], str] | None = None,
    json_lines: bool | None = None,
    asked_for: Iterable[Source] | None = None,
) -> int:
    """Detects in the sources; see `detect.start`. Returns the exit status.

    asked_for: sources that the user names one by one, in place of `sources`.
    """
    json_on_stdout = args.json == "-"
    if args.show:
        _check_window()
    detector = load_detector(
        args.cfg, args.weights, args.names, data=args.data, device=args.device, size=args.size, strict=args.strict,
        letterbox=args.letterbox, nms_kind=args.nms_kind, agnostic=args.agnostic,
        precision=args.precision, batch=args.batch if args.tile else _batch(args.batch, sources),
        fused=_is_worth_compiling(sources), engine=args.engine,
    )  # fmt: skip
    if args.engine != "torch" and not args.quiet:
        print(f"engine: {detector.runner.engine}", file=sys.stderr)
    if json_lines is None:
        json_lines = any(isinstance(source, VideoSource) for source in sources)
    asks = asked_for is not None
    whole = Run(detector, args, json_lines=json_lines, save_as=save_as, labels=labels, asks=asks)
    with redirect_stdout(sys.stderr) if json_on_stdout else nullcontext():  # of all that is not JSON
        return whole.over([source] for source in asked_for) if asked_for is not None else whole.over([sources])


def _batch(most: int, sources: Sequence[Source]) -> int:
    """Images per forward pass: no more than there are, as what is compiled is compiled for so many."""
    if any(isinstance(source, VideoSource) and not source.live for source in sources):
        return most
    return min(most, max(1, sum(isinstance(source, ImageSource) for source in sources)))


def _is_worth_compiling(sources: Sequence[Source]) -> bool:
    """Whether there is so much to detect that a fused network saves more time than it takes to make."""
    return len(sources) >= MANY_IMAGES or any(isinstance(source, VideoSource) for source in sources)


def _check_window() -> None:
    """Opens a window in another process, as Qt ends its own where there is no screen."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", "import cv2; cv2.namedWindow('w')"], capture_output=True, timeout=60
        )
        works = not done.returncode
    except subprocess.TimeoutExpired:
        works = False
    if not works:
        raise DarknetError(
            "--show: cannot open a window (no screen, or an OpenCV without windows: install opencv-python)"
        )


class Run:
    """One run of the command: sources in, files and lines out.

    asks: the sources are answers to a question, and so is what is printed of each of them, errors included.
    """

    def __init__(
        self,
        detector: Detector,
        args: argparse.Namespace,
        *,
        json_lines: bool,
        save_as: str | None = None,
        labels: Callable[[str], str] | None = None,
        asks: bool = False,
    ) -> None:
        self.detector, self.args, self.save_as, self.asks = detector, args, save_as, asks
        self.classes = args.classes.split(",") if args.classes else None
        detector.wanted(self.classes)
        self.unreadable = 0
        self.ports: list[Port] = []
        self.mjpeg = self._port(MjpegPort, args.mjpeg_port)
        self.json = self._port(JsonPort, args.json_port)
        with_labels = args.txt or args.txt_conf
        self.uses_folder = not args.no_pictures or with_labels or args.crops
        self.is_new = self.uses_folder and not args.out and not save_as
        self.folder = fresh_folder(Path("runs"), "detect") if self.is_new else Path(args.out or ".")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.files = DetectionFiles(
            self.folder, annotated=not args.no_pictures, labels=labels or with_labels, crops=args.crops,
            label_confidence=args.txt_conf, json_file=args.json, coco=args.coco, lines=json_lines, save_as=save_as,
            style=Style(args.line_width, args.font_size, not args.hide_labels, not args.no_boxes),
        )  # fmt: skip

    def _port(self, kind: type[P], number: int | None) -> P | None:
        if number is None:
            return None
        port = kind(self.args.host, number)
        self.ports.append(port)
        print(f"serving {port.content_type.partition(';')[0]} on {port.address}", file=sys.stderr)
        return port

    def over(self, groups: Iterable[Sequence[Source]]) -> int:
        """Runs over groups of sources; however it ends, the files are complete. Returns the exit status."""
        try:
            for sources in groups:
                self._group(sources)
        finally:
            for port in self.ports:
                port.close()
            self.files.close()
            if self.args.show:
                cv2.destroyAllWindows()
            if self.is_new and not self.files.count:
                remove_empty(self.folder)
        if self.uses_folder and not (self.args.quiet or self.asks) and self.files.count:
            say(f"results in {self.folder / (self.save_as or '')}")
        return UNREADABLE if self.unreadable else 0

    def _group(self, sources: Sequence[Source]) -> None:
        """The images of a group, then its videos."""
        images = [source.path for source in sources if isinstance(source, ImageSource)]
        videos = [source for source in sources if isinstance(source, VideoSource)]
        codecs: dict[bool, Codec] = {}
        if videos and not self.args.no_pictures:
            codecs = {video.live: self._codec(video.live) for video in videos}
        if images:
            self._images(images)
        for video in videos:
            self._video(video, codecs.get(video.live))

    def _codec(self, live: bool) -> Codec:
        return pick_codec(self.args.codec, Path(self.save_as).suffix.lower() if self.save_as else None, live=live)

    def _images(self, paths: list[str]) -> None:
        """Reads ahead, detects, and writes behind, each in threads of its own."""
        batch_size = self.detector.batch
        with (
            tqdm(total=len(paths), unit="image", disable=None if len(paths) > 1 else True) as bar,
            Behind(self.files.add_image, 2 * batch_size) as writer,
        ):
            for batch in batched(read_ahead(paths, self._read, 2 * batch_size), batch_size):
                readable = []
                for path, images in batch:
                    if isinstance(images, ImageError):
                        self._report(images)
                    else:
                        readable.append((path, *images))
                self._batch(readable, writer, single=len(paths) == 1)
                bar.update(len(batch))

    def _read(self, path: str) -> tuple[Image, Image]:
        """An image, and the same in the size of the network's input; where that is not made here, the image twice."""
        image = self.detector.read(path)
        return image, image if self.fits_later else self.detector.fitted_image(image)

    @property
    def fits_later(self) -> bool:
        return self.args.tile is not None or self.detector.fits_on_device

    def _report(self, error: ImageError) -> None:
        if self.asks:
            say(str(error))
        else:
            tqdm.write(f"error: {error}", file=sys.stderr)
        self.unreadable += 1

    def _batch(self, batch: Sequence[tuple[str, Image, Image]], writer: Behind[Image | None], single: bool) -> None:
        detections, milliseconds = self._detect(
            [image for _, image, _ in batch], fitted=None if self.fits_later else [fitted for *_, fitted in batch]
        )
        for (path, image, _), found in zip(batch, detections, strict=True):
            self._print(shown(path), milliseconds, found)
            written = writer.call(path, image, found)
            if self.args.show and (annotated := written.result()) is not None:
                self._show(annotated, wait=single)

    def _video(self, source: VideoSource, codec: Codec | None) -> None:
        try:
            video = open_video(source, self.args.time_limit)
        except ImageError as error:
            self._report(error)
            return
        stem = self.files.free_stem(source.name)
        target = self.folder / (self.save_as or f"{stem}{codec.suffix if codec else ''}")
        output = VideoFile(target, video.fps, codec) if codec else None
        step = 1 if source.live or self.detector.recurrent else self.detector.batch
        rate, start, number = Rate(), time.perf_counter(), 0
        if isinstance(video, LiveVideo) and self.args.time_limit:
            video.deadline = time.monotonic() + self.args.time_limit
        objects: Counter[str] = Counter()
        try:
            with tqdm(total=video.count or None, unit="frame", disable=None) as bar:
                for frames in batched(video, step):
                    images = [self.detector.read(frame) for frame in frames]
                    seconds = time.perf_counter() - start
                    detections, milliseconds = self._detect(images, continued=number > 0)
                    for frame, found in zip(frames, detections, strict=True):
                        at = seconds if source.live else number / video.fps
                        number += 1
                        objects.update(detection.name for detection in found)
                        if self.args.verbose or self.args.ext_output:
                            self._print(f"{source.shown} frame {number}", milliseconds, found)
                        head = {"frame_id": number, "filename": source.shown, "time": round(at, 3)}
                        self.files.add_frame(stem, frame, found, head)
                        if self.json:
                            self.json.send(found.to_dict(**head))
                        if not (output or self.args.frames or self.mjpeg or self.args.show):
                            continue
                        annotated = draw(frame, found, self.files.style)
                        if output:
                            output.add(annotated, at if source.live else None)
                        if not self._pass_on(annotated):
                            return
                    bar.update(len(frames))
                    bar.set_postfix_str(f"{rate.tick(len(frames)):.1f} FPS")
                    if self.args.time_limit and time.perf_counter() - start > self.args.time_limit:
                        return
        finally:
            video.close()
            if output:
                output.close()
            self._sum_up(source, number, time.perf_counter() - start, objects, output)
        if not number:
            self._report(ImageError(f"{source.shown}: cannot read this video: no frame of it"))

    def _pass_on(self, annotated: Image) -> bool:
        """A frame to those who watch; False when the user closes the window."""
        if self.args.frames:
            write_image(Path(f"{self.args.frames}_{self.files.frames:08d}.jpg"), annotated)
        if self.mjpeg:
            self.mjpeg.send(annotated)
        return not self.args.show or self._show(annotated, wait=False)

    def _sum_up(
        self, source: VideoSource, frames: int, seconds: float, objects: Counter[str], output: VideoFile | None
    ) -> None:
        """One line for a video."""
        if self.args.quiet:
            return
        found = ", ".join(f"{count} {name}" for name, count in objects.most_common()) or "nothing"
        text = f"{source.shown}: {frames} frames in {seconds:.1f} s ({frames / seconds:.1f} FPS): {found}"
        if output and output.written:
            browsers = "for browsers too" if output.codec.in_browsers else "not for browsers"
            text += f"; {output.path.name} is {output.codec.name}, {browsers}"
        say(text)

    def _detect(
        self, images: Sequence[Image], *, continued: bool = False, fitted: Sequence[Image] | None = None
    ) -> tuple[list[Detections], float]:
        """The detections, and the milliseconds that each image took."""
        if not images:
            return [], 0.0
        start = time.perf_counter()
        if self.args.tile:
            detections = detect_in_tiles(
                self.detector, images, self.args.tile, self.args.tile_overlap,
                thresh=self.args.thresh, nms=self.args.nms, classes=self.classes, max_det=self.args.max_det,
            )  # fmt: skip
            return detections, (time.perf_counter() - start) * 1000 / len(images)
        detections = self.detector.detect(
            images, self.args.thresh, self.args.nms,
            classes=self.classes, max_det=self.args.max_det, continued=continued, fitted=fitted,
        )  # fmt: skip
        return detections, (time.perf_counter() - start) * 1000 / len(images)

    def _print(self, name: str, milliseconds: float, detections: Detections) -> None:
        if self.args.quiet:
            return
        say(f"{name}: Predicted in {milliseconds:.3f} milli-seconds.")
        for detection in sorted(detections, key=lambda detection: detection.box[0]):
            left, top, right, bottom = detection.box
            size = f"width: {right - left:4.0f}   height: {bottom - top:4.0f}"
            pixels = f"\t(left_x: {left:4.0f}   top_y: {top:4.0f}   {size})" if self.args.ext_output else ""
            say(f"{detection.name}: {detection.confidence * 100:.0f}%{pixels}")

    def _show(self, image: Image, wait: bool) -> bool:
        """Shows an image; False when the user closes the window or presses q or Escape."""
        try:
            cv2.imshow(WINDOW, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
            return cv2.waitKey(0 if wait else 1) & 0xFF not in (27, ord("q"))
        except cv2.error:
            raise DarknetError(
                "--show: cannot open a window (no screen, or an OpenCV without windows: install opencv-python)"
            ) from None
