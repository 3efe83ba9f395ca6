"""The command that finds objects in images, folders, videos, cameras and streams.

python -m darknet_py.detect --cfg cfg/yolov3.cfg --weights yolov3.weights --names cfg/coco.names dog.jpg road.mp4
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from darknet_py.bundled import bundled
from darknet_py.choices import NMS_KINDS
from darknet_py.command import (
    UNREADABLE,
    add_inference,
    add_model,
    add_size,
    check_files,
    fraction,
    lasting,
    positive,
    run_command,
    size_of,
)
from darknet_py.files import check_writable
from darknet_py.pictures.codecs import CODECS
from darknet_py.pictures.sources import all_missing, asked, expand


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
    detection.add_argument(
        "--tile",
        type=size_of,
        metavar="WxH",
        help="detect in tiles of so many pixels, and in the whole, of images that are much larger than the network's "
        "input; an object is reported once (default: in the whole alone)",
    )
    detection.add_argument(
        "--tile-overlap",
        type=fraction,
        default=0.25,
        metavar="FRACTION",
        help="of a tile's side that the next one shares: as large as the objects (default: %(default)s)",
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
    question: str = "",
) -> int:
    """Runs the command with parsed arguments.

    Args:
        save_as: one file for all annotated images, as Darknet's predictions.jpg, or for the video.
        labels: where the label file of an image is written, by its path; None: in the folder, if at all.
        json_lines: whether the JSON file has lines or is one list; None: lines if there is a video.
        question: asks for each path on standard input, where the source is `-`; its answer is printed before the next.
    """
    check_writable(None if args.json == "-" else args.json, args.coco)
    asks = bool(question) and args.sources == ["-"]
    sources = [] if asks else expand(args.sources, recursive=args.recursive)
    check_files(args.cfg, args.weights, args.names, args.data)
    if not asks and not args.json and not args.coco and all_missing(sources):
        return UNREADABLE
    with lasting():
        from darknet_py.work.detect import run

    asked_for = asked(question) if asks else None
    return run(args, sources, save_as=save_as, labels=labels, json_lines=json_lines, asked_for=asked_for)


if __name__ == "__main__":
    sys.exit(run_command(main))
