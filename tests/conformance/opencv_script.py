"""What a script of OpenCV 4 that detects in a folder usually looks like; `processes.py` measures it.

python opencv_script.py CFG WEIGHTS SIZE OUT IMAGES…
"""

import sys
from pathlib import Path

import cv2
import numpy as np


def main() -> None:
    cfg, weights, size, out, *images = sys.argv[1:]
    net = cv2.dnn.readNetFromDarknet(cfg, weights)
    names = net.getUnconnectedOutLayersNames()
    for path in images:
        image = cv2.imread(path)
        height, width = image.shape[:2]
        blob = cv2.dnn.blobFromImage(image, 1 / 255, (int(size), int(size)), swapRB=True, crop=False)
        net.setInput(blob)
        boxes, confidences, classes = [], [], []
        for output in net.forward(names):
            scores = output[:, 5:]
            for row in np.flatnonzero(scores.max(1) > 0.25):
                x, y, w, h = output[row, :4] * (width, height, width, height)
                boxes.append([int(x - w / 2), int(y - h / 2), int(w), int(h)])
                classes.append(int(scores[row].argmax()))
                confidences.append(float(scores[row, classes[-1]]))
        for index in np.array(cv2.dnn.NMSBoxes(boxes, confidences, 0.25, 0.45)).flatten():
            x, y, w, h = boxes[index]
            cv2.rectangle(image, (x, y), (x + w, y + h), (0, 255, 0), 2)
            text = f"{classes[index]} {confidences[index]:.2f}"
            cv2.putText(image, text, (x, y - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 255, 0), 2)
        cv2.imwrite(str(Path(out) / Path(path).name), image)


if __name__ == "__main__":
    main()
