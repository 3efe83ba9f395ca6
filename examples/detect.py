"""Finds objects from Python, in files and in arrays.

python examples/detect.py [IMAGE …]            # without arguments: the bundled sample image
"""

import sys

import numpy as np

import darknet_py


def main(images: list[str]) -> None:
    network = darknet_py.load("cfg/shapes.cfg", "weights/shapes.weights")
    detector = darknet_py.Detector(network, names="cfg/shapes.names")

    for image, detections in zip(images, detector(images, thresh=0.25, nms=0.45), strict=True):
        print(f"{image}:")
        for detection in detections:
            left, top, right, bottom = detection.box  # pixels of the image
            print(f"  {detection.name} {detection.confidence:.2f}  {left:.0f},{top:.0f} - {right:.0f},{bottom:.0f}")

    # arrays work like files: (height, width, channels), uint8, RGB
    grey = np.full((120, 160, 3), 128, np.uint8)
    print(f"objects in a grey array: {len(detector(grey)[0])}")


if __name__ == "__main__":
    main(sys.argv[1:] or ["weights/shapes.png"])
