"""The command that finds objects in images, folders, videos, cameras and streams.

python -m darknet_py.detect --cfg cfg/yolov3.cfg --weights yolov3.weights --names cfg/coco.names dog.jpg road.mp4
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import TypeVar

import cv2
from tqdm import tqdm

from darknet_py.bundled import bundled
from darknet_py.command import UNREADABLE, add_inference, add_model, add_size, fraction, positive, run_command, say
from darknet_py.detection_files import DetectionFiles
from darknet_py.detections import Detections
from darknet_py.detector import Detector, load_detector
from darknet_py.errors import DarknetError, ImageError
from darknet_py.files import check_writable, fresh_folder, remove_empty
from darknet_py.layers.head import NMS_KINDS
from darknet_py.pictures.addresses import shown
from darknet_py.pictures.draw import Style, draw
from darknet_py.pictures.read import Image
from darknet_py.pictures.read_ahead import batched, read_ahead
from darknet_py.pictures.serving import JsonPort, MjpegPort, Port
from darknet_py.pictures.sources import ImageSource, LiveVideo, Rate, Source, VideoSource, expand, open_video
from darknet_py.pictures.write import CODECS, Codec, VideoFile, pick_codec, write_image

WINDOW = "darknet_py"
MANY_IMAGES = 32  # from which on the network is fused
P = TypeVar("P", bound=Port)


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m darknet_py.detect",
        description="Finds objects in images, videos, cameras and streams; without arguments, in a sample image.",
        epilog="example: python -m darknet_py.detect --cfg cfg/yolov3.cfg --weights weights/yolov3.weights "
        "--names cfg/coco.names dog.jpg",
    )
    result.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="image, folder, glob, list (.txt), - (paths from standard input), video, camera number, "
        "rtsp:// or http:// address (of a picture, a video or a stream)",
    )
    result.add_argument("--recursive", action="store_true", help="read the folders in folders too")
    result.add_argument(
        "--time-limit", type=positive, metavar="SECONDS", help="end each video or stream after so many seconds"
    )
    model = result.add_argument_group("model")
    add_model(model, onnx=True)
    add_size(model)
    model.add_argument("--strict", action="store_true", help="treat warnings about the cfg as errors")
    detection = result.add_argument_group("detection")
    detection.add_argument(
        "--thresh", type=fraction, help="minimum confidence, 0..1 (default: as the cfg's [net] says, or else 0.25)"
    )
    detection.add_argument(
        "--nms",
        type=fraction,
        help="overlap above which the less confident box is suppressed; 0: no suppression (default: as the cfg's [net] "
        "says, or else 0.45)",
    )
    detection.add_argument("--nms-kind", choices=NMS_KINDS, help="measure of overlap (default: as the cfg says)")
    detection.add_argument(
        "--agnostic",
        action=argparse.BooleanOptionalAction,
        help="boxes of different classes suppress each other too (default: as the cfg's [net] says, or else not)",
    )
    detection.add_argument(
        "--letterbox",
        action=argparse.BooleanOptionalAction,
        help="keep the images' aspect ratio, or stretch them (default: the cfg's letter_box and image_fit; "
        "Darknet stretches)",
    )
    detection.add_argument(
        "--classes", metavar="NAME,…", help="report only these classes, by names or numbers (default: all)"
    )
    detection.add_argument(
        "--max-det",
        type=positive,
        metavar="N",
        help="report at most so many objects of an image (default: as the cfg's [net] says, or else all)",
    )
    add_inference(detection)
    detection.add_argument(
        "--half", action="store_const", dest="precision", const="fp16", help="the same as --precision fp16"
    )
    results = result.add_argument_group("results")
    results.add_argument("--out", help="folder for annotated images and videos (default: a new runs/detect-N)")
    results.add_argument("--no-pictures", action="store_true", help="write no annotated images and videos")
    results.add_argument(
        "--json",
        metavar="FILE",
        help="Darknet's JSON: a list for images; for videos and streams a line per frame, with its source and its time "
        "in seconds since the beginning; - for the standard output",
    )
    results.add_argument("--txt", action="store_true", help="Darknet's label files, in the folder's labels/")
    results.add_argument("--txt-conf", action="store_true", help="the same with the confidence at each line's end")
    results.add_argument("--coco", metavar="FILE", help="a COCO results file")
    results.add_argument(
        "--crops", action="store_true", help="each object as an image of its own, in the folder's crops/"
    )
    results.add_argument("--frames", metavar="PREFIX", help="each annotated frame as an image PREFIX_00000001.jpg")
    results.add_argument(
        "--codec",
        choices=sorted({codec.name for codec in CODECS}),
        help="of annotated videos (default: the first of h264, vp8 and mpeg4 that OpenCV can write, for streams h264 "
        "or mpeg4; browsers do not play mpeg4, but vp8 takes 20 times as long to write)",
    )
    results.add_argument("--show", action="store_true", help="open a window with the results")
    results.add_argument("--ext-output", action="store_true", help="print each box in pixels, of frames too")
    results.add_argument("--verbose", action="store_true", help="print the objects of every frame of a video")
    results.add_argument("--quiet", action="store_true", help="no line per image, no summary")
    drawing = result.add_argument_group("drawing")
    drawing.add_argument("--line-width", type=positive, metavar="PIXELS", help="of the boxes (default: fits the image)")
    drawing.add_argument("--font-size", type=positive, metavar="PIXELS", help="of the labels (default: fits the image)")
    drawing.add_argument("--hide-labels", action="store_true", help="draw boxes alone")
    drawing.add_argument("--no-boxes", action="store_true", help="draw nothing")
    serving = result.add_argument_group("serving a stream")
    serving.add_argument("--mjpeg-port", type=positive, metavar="PORT", help="serve the annotated frames to browsers")
    serving.add_argument("--json-port", type=positive, metavar="PORT", help="serve a JSON object for each frame")
    serving.add_argument(
        "--host", default="127.0.0.1", help="address to serve on; 0.0.0.0: to everyone (default: %(default)s)"
    )
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    return start(parser().parse_args(words or _first_look()))


def _first_look() -> list[str]:
    """Without arguments: the bundled model and its image."""
    print("no arguments (see --help); running the bundled model on its sample image:")
    return [
        *(part for what in ("cfg", "weights", "names") for part in (f"--{what}", str(bundled(what)))),
        str(bundled("image")),
    ]


def start(
    args: argparse.Namespace,
    *,
    save_as: str | None = None,
    labels: Callable[[str], str] | None = None,
    json_lines: bool | None = None,
) -> int:
    """Runs the command with parsed arguments.

    Args:
        save_as: one file for all annotated images, as Darknet's predictions.jpg, or for the video.
        labels: where the label file of an image is written, by its path; None: in the folder, if at all.
        json_lines: whether the JSON file has lines or is one list; None: lines if there is a video.
    """
    json_on_stdout = args.json == "-"
    check_writable(None if json_on_stdout else args.json, args.coco)
    if args.show:
        _check_window()
    sources = expand(args.sources, recursive=args.recursive)
    detector = load_detector(
        args.cfg, args.weights, args.names, data=args.data, device=args.device, size=args.size, strict=args.strict,
        letterbox=args.letterbox, nms_kind=args.nms_kind, agnostic=args.agnostic,
        precision=args.precision, batch=args.batch, fused=_is_worth_compiling(sources),
    )  # fmt: skip
    if json_lines is None:
        json_lines = any(isinstance(source, VideoSource) for source in sources)
    run = Run(detector, args, json_lines=json_lines, save_as=save_as, labels=labels)
    with redirect_stdout(sys.stderr) if json_on_stdout else nullcontext():  # of all that is not JSON
        return run.over(sources)


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
    """One run of the command: sources in, files and lines out."""

    def __init__(
        self,
        detector: Detector,
        args: argparse.Namespace,
        *,
        json_lines: bool,
        save_as: str | None = None,
        labels: Callable[[str], str] | None = None,
    ) -> None:
        self.detector, self.args, self.save_as = detector, args, save_as
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

    def over(self, sources: Sequence[Source]) -> int:
        """Runs over all sources; however it ends, the files are complete. Returns the exit status."""
        images = [source.path for source in sources if isinstance(source, ImageSource)]
        videos = [source for source in sources if isinstance(source, VideoSource)]
        codecs: dict[bool, Codec] = {}
        try:
            if videos and not self.args.no_pictures:
                codecs = {video.live: self._codec(video.live) for video in videos}
            if images:
                self._images(images)
            for video in videos:
                self._video(video, codecs.get(video.live))
        finally:
            for port in self.ports:
                port.close()
            self.files.close()
            if self.args.show:
                cv2.destroyAllWindows()
            if self.is_new and not self.files.count:
                remove_empty(self.folder)
        if self.uses_folder and not self.args.quiet and self.files.count:
            say(f"results in {self.folder / (self.save_as or '')}")
        return UNREADABLE if self.unreadable else 0

    def _codec(self, live: bool) -> Codec:
        return pick_codec(self.args.codec, Path(self.save_as).suffix.lower() if self.save_as else None, live=live)

    def _images(self, paths: list[str]) -> None:
        batch_size = self.args.batch
        with tqdm(total=len(paths), unit="image", disable=None if len(paths) > 1 else True) as bar:
            for batch in batched(read_ahead(paths, self.detector.read, 2 * batch_size), batch_size):
                readable = []
                for path, image in batch:
                    if isinstance(image, ImageError):
                        self._report(image)
                    else:
                        readable.append((path, image))
                self._batch(readable, single=len(paths) == 1)
                bar.update(len(batch))

    def _report(self, error: ImageError) -> None:
        tqdm.write(f"error: {error}", file=sys.stderr)
        self.unreadable += 1

    def _batch(self, batch: Sequence[tuple[str, Image]], single: bool) -> None:
        detections, milliseconds = self._detect([image for _, image in batch])
        for (path, image), found in zip(batch, detections, strict=True):
            self._print(shown(path), milliseconds, found)
            annotated = self.files.add_image(path, image, found)
            if self.args.show and annotated is not None:
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
        step = 1 if source.live or self.detector.recurrent else self.args.batch
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

    def _detect(self, images: Sequence[Image], continued: bool = False) -> tuple[list[Detections], float]:
        """The detections, and the milliseconds that each image took."""
        if not images:
            return [], 0.0
        start = time.perf_counter()
        detections = self.detector.detect(
            images, self.args.thresh, self.args.nms,
            classes=self.classes, max_det=self.args.max_det, continued=continued,
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


if __name__ == "__main__":
    sys.exit(run_command(main))
