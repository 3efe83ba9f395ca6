"""The command that finds objects in images, folders, videos, cameras and streams.

python -m darknet_py.detect --cfg cfg/yolov3.cfg --weights yolov3.weights --names cfg/coco.names dog.jpg road.mp4
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
from tqdm import tqdm

from darknet_py.bundled import bundled
from darknet_py.command import UNREADABLE, add_inference, add_model, add_size, fraction, run_command
from darknet_py.detections import Detections
from darknet_py.detector import Detector, load_detector
from darknet_py.errors import DarknetError, ImageError
from darknet_py.files import check_writable, fresh_folder
from darknet_py.layers.head import NMS_KINDS
from darknet_py.pictures.detection_files import DetectionFiles
from darknet_py.pictures.read import Image
from darknet_py.pictures.read_ahead import batched, read_ahead
from darknet_py.pictures.sources import ImageSource, Rate, Source, VideoSource, expand, open_video
from darknet_py.pictures.write import VideoFile

WINDOW = "darknet_py"


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
        "rtsp:// or http:// address",
    )
    model = result.add_argument_group("model")
    add_model(model)
    add_size(model)
    model.add_argument("--strict", action="store_true", help="treat warnings about the cfg as errors")
    detection = result.add_argument_group("detection")
    detection.add_argument(
        "--thresh", type=fraction, default=0.25, help="minimum confidence, 0..1 (default: %(default)s)"
    )
    detection.add_argument(
        "--nms",
        type=fraction,
        default=0.45,
        help="overlap above which the less confident box is suppressed; 0: no suppression (default: %(default)s)",
    )
    detection.add_argument("--nms-kind", choices=NMS_KINDS, help="measure of overlap (default: as the cfg says)")
    detection.add_argument("--agnostic", action="store_true", help="boxes of different classes suppress each other too")
    detection.add_argument(
        "--letterbox",
        action=argparse.BooleanOptionalAction,
        help="keep the images' aspect ratio, or stretch them (default: the cfg's letter_box; Darknet stretches)",
    )
    add_inference(detection)
    detection.add_argument(
        "--half", action="store_const", dest="precision", const="fp16", help="the same as --precision fp16"
    )
    results = result.add_argument_group("results")
    results.add_argument("--out", help="folder for annotated images and videos (default: a new runs/detect-N)")
    results.add_argument("--no-pictures", action="store_true", help="write no annotated images and videos")
    results.add_argument(
        "--json", metavar="FILE", help="Darknet's JSON: a list for images, a line per frame for videos and streams"
    )
    results.add_argument("--txt", action="store_true", help="Darknet's label files, in the folder's labels/")
    results.add_argument("--coco", metavar="FILE", help="a COCO results file")
    results.add_argument(
        "--crops", action="store_true", help="each object as an image of its own, in the folder's crops/"
    )
    results.add_argument("--show", action="store_true", help="open a window with the results")
    results.add_argument("--ext-output", action="store_true", help="print each box in pixels")
    results.add_argument("--quiet", action="store_true", help="no line per image")
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


def start(args: argparse.Namespace, save_as: str | None = None) -> int:
    """Runs the command with parsed arguments.

    Args:
        save_as: one file for all annotated images, as Darknet's predictions.jpg.
    """
    check_writable(args.json, args.coco)
    if args.show:
        _check_window()
    sources = expand(args.sources)
    detector = load_detector(
        args.cfg, args.weights, args.names, data=args.data, device=args.device, size=args.size, strict=args.strict,
        letterbox=args.letterbox, nms_kind=args.nms_kind, agnostic=args.agnostic,
        precision=args.precision, batch=args.batch,
    )  # fmt: skip
    json_lines = any(isinstance(source, VideoSource) for source in sources)
    return Run(detector, args, json_lines=json_lines, save_as=save_as).over(sources)


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
        self, detector: Detector, args: argparse.Namespace, *, json_lines: bool, save_as: str | None = None
    ) -> None:
        self.detector, self.args, self.save_as = detector, args, save_as
        self.uses_folder = not args.no_pictures or args.txt or args.crops
        needs_new = self.uses_folder and not args.out and not save_as
        self.folder = fresh_folder(Path("runs"), "detect") if needs_new else Path(args.out or ".")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.files = DetectionFiles(
            self.folder, annotated=not args.no_pictures, labels=args.txt, crops=args.crops,
            json_file=args.json, coco=args.coco, lines=json_lines, save_as=save_as,
        )  # fmt: skip
        self.unreadable = 0

    def over(self, sources: Sequence[Source]) -> int:
        """Runs over all sources; however it ends, the files are complete. Returns the exit status."""
        images = [source.path for source in sources if isinstance(source, ImageSource)]
        videos = [source for source in sources if isinstance(source, VideoSource)]
        try:
            if images:
                self._images(images)
            for video in videos:
                self._video(video)
        finally:
            self.files.close()
            if self.args.show:
                cv2.destroyAllWindows()
        if self.uses_folder and not self.args.quiet and self.files.count:
            print(f"results in {self.folder / (self.save_as or '')}")
        return UNREADABLE if self.unreadable else 0

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
            self._print(path, milliseconds, found)
            annotated = self.files.add_image(path, image, found)
            if self.args.show and annotated is not None:
                self._show(annotated, wait=single)

    def _video(self, source: VideoSource) -> None:
        try:
            video = open_video(source)
        except ImageError as error:
            self._report(error)
            return
        target = self.folder / Path(self.files.name_for(f"{source.name}.mp4")).name
        output = None if self.args.no_pictures else VideoFile(target, video.fps)
        rate = Rate()
        try:
            with tqdm(total=video.count or None, unit="frame", disable=None) as bar:
                for frames in batched(video, 1 if source.live else self.args.batch):
                    detections, milliseconds = self._detect([self.detector.read(frame) for frame in frames])
                    for frame, found in zip(frames, detections, strict=True):
                        self._print(f"{source.name} frame {self.files.count + 1}", milliseconds, found)
                        annotated = self.files.add_frame(source.name, frame, found)
                        if output:
                            output.add(annotated)
                        if self.args.show and not self._show(annotated, wait=False):
                            return
                    bar.update(len(frames))
                    bar.set_postfix_str(f"{rate.tick(len(frames)):.1f} FPS")
        finally:
            video.close()
            if output:
                output.close()

    def _detect(self, images: Sequence[Image]) -> tuple[list[Detections], float]:
        """The detections, and the milliseconds that each image took."""
        if not images:
            return [], 0.0
        start = time.perf_counter()
        detections = self.detector.detect(images, self.args.thresh, self.args.nms)
        return detections, (time.perf_counter() - start) * 1000 / len(images)

    def _print(self, name: str, milliseconds: float, detections: Detections) -> None:
        if self.args.quiet:
            return
        tqdm.write(f"{name}: Predicted in {milliseconds:.3f} milli-seconds.")
        for detection in sorted(detections, key=lambda detection: detection.box[0]):
            left, top, right, bottom = detection.box
            size = f"width: {right - left:4.0f}   height: {bottom - top:4.0f}"
            pixels = f"\t(left_x: {left:4.0f}   top_y: {top:4.0f}   {size})" if self.args.ext_output else ""
            tqdm.write(f"{detection.name}: {detection.confidence * 100:.0f}%{pixels}")

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
