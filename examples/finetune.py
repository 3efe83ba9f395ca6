"""Fine-tuning in a loop of your own: with a loss of your own, and with Darknet's losses and updates.

python examples/finetune.py [ITERATIONS]
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import darknet_py
from darknet_py.data.dataset import open_dataset
from darknet_py.data.loader import image_batches
from darknet_py.data.shapes import draw_scene, write_dataset
from darknet_py.training.step import Trainer

CFG, WEIGHTS = "cfg/shapes.cfg", "weights/shapes.weights"
BACKBONE_LAYERS = 13  # the layers before this one keep their weights; the rest starts with fresh ones


def scenes(count: int, seed: int) -> Tensor:
    """(count, 3, h, w) float32, 0..1, RGB: drawn images."""
    images = np.stack([draw_scene(np.random.default_rng(seed + number))[0] for number in range(count)])
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


def your_own_loss(iterations: int) -> list[float]:
    """A plain PyTorch loop: a network learns to give another one's raw outputs (distillation)."""
    teacher = darknet_py.load(CFG, WEIGHTS)
    teacher.save_weights("backbone.weights", cutoff=BACKBONE_LAYERS)
    student = darknet_py.load(CFG, "backbone.weights", cutoff=BACKBONE_LAYERS, trainable=True)
    optimizer = torch.optim.AdamW(student.parameters(), lr=0.003)
    losses = []
    for iteration in range(iterations):
        images = scenes(4, seed=4 * iteration)
        with torch.no_grad():
            targets = teacher(images)
        outputs = student(images)  # a tensor for each head: (n, anchors * (5 + classes), h, w)
        loss = torch.stack([F.mse_loss(output, target) for output, target in zip(outputs, targets, strict=True)]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    student.eval().save_weights("student.weights")
    return losses


def darknets_training(iterations: int, folder: Path) -> list[float]:
    """Darknet's step: its losses, its learning rates and its updates, as the cfg says."""
    dataset = open_dataset(write_dataset(folder, train=32, valid=1), "train")
    network = darknet_py.load(CFG, WEIGHTS)
    trainer = Trainer(network)
    needs = network.needs()  # which truths the head reads, and how its images are augmented
    assert needs is not None
    batches = image_batches(dataset, network.net, needs, mini_batch=trainer.mini_batch, seed=1, workers=0)
    losses = []
    for _ in range(iterations):
        for _ in range(network.net.subdivisions):
            batch = next(batches)
            step = trainer.accumulate(batch.images, batch.truths)
        trainer.update()
        losses.append(step.cost)
    return losses


def main(iterations: int) -> None:
    torch.manual_seed(0)
    losses = your_own_loss(iterations)
    print(f"your own loss: {losses[0]:.3f} -> {losses[-1]:.3f}; the student is in student.weights")
    with tempfile.TemporaryDirectory() as folder:
        losses = darknets_training(iterations, Path(folder))
    print(f"Darknet's loss: {losses[0]:.3f} -> {losses[-1]:.3f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
