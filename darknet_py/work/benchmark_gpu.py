"""What `python -m darknet_py.benchmark --device cuda` does: are a GPU's numbers right, and how near is it to its limit?

Everything runs on a CPU, too; the tests do it there.
"""

from __future__ import annotations

import statistics
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from darknet_py.cfg import parse_cfg, parse_text
from darknet_py.choices import PRECISIONS
from darknet_py.detector import Detector
from darknet_py.devices import multiplying
from darknet_py.inference.fused import difference
from darknet_py.inference.runner import DTYPES, Runner, prepare
from darknet_py.layers.needs import BoxNeeds
from darknet_py.network import Network
from darknet_py.training.run import network_to_train
from darknet_py.training.step import Trainer

Size = tuple[int, int]
Results = dict[str, object]
FRAME = (720, 1280)  # height, width of the frames of a video
ROWS = 8192  # of the matrices whose product shows the most that the device can multiply
COPIED = 2**31  # bytes
TRUTHS = 8  # objects in an image that is trained with
DROPOUT = """[net]
width=16
height=16
channels=3
batch=2
learning_rate=0.01
[convolutional]
filters=18
size=3
pad=1
activation=leaky
[dropout]
probability=.5
[yolo]
mask=0,1,2
anchors=4,4, 8,8, 12,12
classes=1
num=3
"""


class Meter:
    """Times what a device does, and prints and keeps it."""

    def __init__(self, device: torch.device, seconds: float) -> None:
        self.device, self.seconds, self.results = device, seconds, Results()

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def milliseconds(self, action: Callable[[], object]) -> float:
        """The median of what fits into the time, at least three; the first one is not counted."""
        action()
        self.wait()
        times: list[float] = []
        end = time.perf_counter() + self.seconds
        while len(times) < 3 or time.perf_counter() < end:
            start = time.perf_counter()
            action()
            self.wait()
            times.append((time.perf_counter() - start) * 1000)
        return statistics.median(times)

    def say(self, name: str, value: float, text: str) -> None:
        self.results[name] = value
        print(f"  {name:60} {text}", flush=True)

    @contextmanager
    def part(self, title: str) -> Iterator[None]:
        """One measurement that fails, as the memory is full, is named and does not end the others."""
        print(f"\n{title}", flush=True)
        try:
            yield
        except (RuntimeError, NotImplementedError) as error:
            print(f"  failed: {type(error).__name__}: {str(error).splitlines()[0]}", flush=True)
            self.results[f"{title}: failed"] = str(error)

    def peak(self, action: Callable[[], object]) -> float:
        """Bytes of the device's memory that are taken at most, of all tensors."""
        if self.device.type != "cuda":
            return 0.0
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self.device)
        action()
        self.wait()
        return float(torch.cuda.max_memory_allocated(self.device))


def usual_network(cfg: str, size: Size | None = None) -> Network:
    """A network with random weights whose outputs keep their magnitude from layer to layer, as trained ones do."""
    network = Network(parse_cfg(cfg), size=size).initialise(0).eval().requires_grad_(False)
    for layer in network.layers:
        if getattr(layer, "rolling_variance", None) is not None:
            layer.rolling_variance.fill_(1.0 / 3)  # type: ignore[operator]
    return network


def usual_head(raw: Tensor) -> Tensor:
    """Values like those of a trained network: one box in two hundred is an object."""
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(raw.shape, generator=generator).to(raw.device, raw.dtype)
    return values - 2.6 if raw.ndim == 4 else values


def batch_of(network: Network, count: int, *, size: Size | None = None, seed: int = 0) -> Tensor:
    """Random images of the network's size, or another one, float32 0..1."""
    width, height = size or network.size
    shape = (count, network.net.channels, height, width)
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def random_truths(network: Network, count: int) -> Tensor:
    """Boxes of all sizes, in the form that the network's loss reads: (count, …) float32."""
    needs = network.needs()
    if not isinstance(needs, BoxNeeds):
        raise NotImplementedError("only detectors are trained here")
    random = np.random.default_rng(0)
    made = []
    for _ in range(count):
        sides = np.exp(random.uniform(np.log(0.05), np.log(0.6), (TRUTHS, 2)))
        centres = random.uniform(sides / 2, 1 - sides / 2)
        classes = random.integers(0, max(network.head_layers()[-1].options.classes, 1), (TRUTHS, 1))
        rows = np.concatenate((centres, sides, classes, np.zeros((TRUTHS, 1))), 1).astype(np.float32)
        made.append(needs.truth_format(rows))
    return torch.from_numpy(np.stack(made))


@torch.inference_mode()
def check_forward(meter: Meter, cfg: str, size: Size | None) -> None:
    """Each number format, and the captured graph, against float32 on the CPU."""
    network = usual_network(cfg, size)
    images = batch_of(network, 2)
    expected = prepare(network, batch=2)(images)
    for precision in PRECISIONS:
        for fused in (False, True):
            if precision == "fp16" and meter.device.type == "cpu":
                continue
            runner = prepare(network, device=meter.device, precision=precision, batch=2, fused=fused)
            found = runner(images.to(meter.device, runner.dtype))
            worst = difference([one.float().cpu() for one in _flat(found)], _flat(expected))
            graph = runner.runs_graph
            name = f"{cfg}: {precision}{', graph' if fused else ''}, greatest difference from the CPU's fp32"
            meter.say(name, worst, f"{worst:.1e} of the largest value" + ("" if graph == fused else " (no graph)"))


def _flat(raw: Sequence[Any]) -> list[Tensor]:
    """The raw outputs; those of a two-stage network's head are several."""
    return [part for one in raw for part in (one if isinstance(one, tuple) else (one,))]


def check_training(meter: Meter, cfg: str, size: Size | None) -> None:
    """Loss and gradients of a step on the device against those on the CPU."""
    costs, gradients = [], []
    for device in ("cpu", meter.device):
        network = trained_network(cfg, 2).to(device)
        trainer = Trainer(network)
        images, truths = batch_of(network, 2, size=size), random_truths(network, 2)
        costs.append(trainer.accumulate(images.to(device), truths.to(device)).cost)
        gradients.append([one.grad.cpu() for one in trainer.optimizer.parameters() if one.grad is not None])
    differences = [
        float((one - other).norm() / one.norm().clamp(min=1e-12)) for one, other in zip(*gradients, strict=True)
    ]
    loss = abs(costs[1] - costs[0]) / max(abs(costs[0]), 1e-12)
    median, worst = statistics.median(differences), max(differences)
    meter.say(f"{cfg}: loss", loss, f"{loss:.1e} of {costs[0]:.4g}")
    meter.say(f"{cfg}: gradients", median, f"{median:.1e} of their length in the median, {worst:.1e} at most")


def check_streams(meter: Meter, cfg: str, size: Size | None) -> None:
    """Two threads with streams of their own share a runner."""
    network = usual_network(cfg, size)
    runner = prepare(network, device=meter.device, batch=2, fused=True)
    batches = [batch_of(network, 2, seed=seed).to(meter.device) for seed in range(2)]
    expected = [runner(batch) for batch in batches]
    wrong = [0, 0]

    def work(number: int) -> None:
        stream = torch.cuda.Stream(meter.device) if meter.device.type == "cuda" else None
        with torch.cuda.stream(stream):
            for _ in range(20):
                found = runner(batches[number])
                wrong[number] += sum(
                    not torch.equal(one, other) for one, other in zip(found, expected[number], strict=True)
                )

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    meter.say("two streams at once: outputs that differ", sum(wrong), f"{sum(wrong)} of {40 * len(expected[0])}")


def check_resume(meter: Meter) -> None:
    """A network with dropout, trained on from its state: the device's random numbers come back."""
    network = Network(parse_text(DROPOUT)).initialise(0).to(meter.device)
    images, truths = (part.to(meter.device) for part in (batch_of(network, 2), random_truths(network, 2)))
    trainer = Trainer(network)

    def train(steps: int) -> list[float]:
        costs = []
        for _ in range(steps):
            costs.append(trainer.accumulate(images, truths).cost)
            trainer.update()
        return costs

    train(2)
    random = torch.cuda.get_rng_state(meter.device) if meter.device.type == "cuda" else torch.get_rng_state()
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    state, first = trainer.state_dict(), train(3)
    trainer = Trainer(Network(parse_text(DROPOUT)).initialise(1).to(meter.device))
    trainer.network.load_state_dict(weights)
    trainer.load_state_dict(state)
    if meter.device.type == "cuda":
        torch.cuda.set_rng_state(random, meter.device)
    else:
        torch.set_rng_state(random)
    again = train(3)
    worst = max(abs(one - other) / max(abs(one), 1e-12) for one, other in zip(first, again, strict=True))
    meter.say("losses after a resume with dropout", worst, f"differ by {worst:.1e}")


def measure_limits(meter: Meter, rows: int = ROWS, copied: int = COPIED) -> float:
    """The device's own speed: a large product of bfloat16 matrices, operations a second, and a copy."""
    left = torch.randn(rows, rows, device=meter.device, dtype=torch.bfloat16)
    right = torch.randn(rows, rows, device=meter.device, dtype=torch.bfloat16)
    rate = 2 * rows**3 / meter.milliseconds(lambda: left @ right) * 1e3
    meter.say("bf16 matrix product, operations/s", rate, f"{rate / 1e12:.1f} TFLOP/s")
    source = torch.empty(copied, device=meter.device, dtype=torch.uint8)
    target = torch.empty_like(source)
    bandwidth = 2 * copied / meter.milliseconds(lambda: target.copy_(source)) * 1e3
    meter.say("copy, bytes read and written/s", bandwidth, f"{bandwidth / 1e12:.2f} TB/s")
    return rate


@torch.inference_mode()
def measure_forward(meter: Meter, cfg: str, size: Size | None, batch: int, limit: float) -> None:
    """As trained, folded, in each number format, as a graph: of a batch."""
    network = usual_network(cfg, size).to(meter.device)
    operations = sum(layer.bflops for layer in network.layers) * 1e9 * batch
    images = batch_of(network, batch).to(meter.device)

    def report(name: str, action: Callable[[], object], peak: float) -> None:
        value = meter.milliseconds(action)
        rate = operations / value * 1e3
        text = f"{value:9.3f} ms {batch / value * 1e3:9.1f} images/s {rate / 1e12:6.1f} TFLOP/s"
        memory = f" {peak / 2**20:7.0f} MiB" if peak else ""
        width, height = network.size
        name = f"{cfg} {width}x{height}, batch {batch}: {name}"
        meter.say(name, value, f"{text} {rate / limit:5.1%} of the product's{memory}")

    with multiplying("fp32", meter.device):
        report("fp32, as trained", lambda: network(images), 0.0)
    for precision, fused in (("fp32", False), ("fp32", True), ("tf32", True), ("bf16", False), ("bf16", True),
                             ("fp16", True)):  # fmt: skip
        if meter.device.type == "cpu" and precision == "fp16":
            continue
        runner = prepare(network, precision=precision, batch=batch, fused=fused)
        given = images.to(runner.dtype).contiguous(memory_format=torch.channels_last)
        peak = meter.peak(lambda runner=runner, given=given: runner(given))  # type: ignore[misc]
        graph = " as a graph" if fused and runner.runs_graph else " (no graph)" if fused else ""
        report(f"{precision}{graph}", lambda runner=runner, given=given: runner(given), peak)  # type: ignore[misc]


def measure_compiled(meter: Meter, cfg: str, size: Size | None, batch: int) -> None:
    """torch.compile, in bfloat16, captured as a graph."""
    network = usual_network(cfg, size)
    start = time.perf_counter()
    runner = prepare(network, device=meter.device, precision="bf16", batch=batch, compiled=True)
    took = time.perf_counter() - start
    images = batch_of(network, batch).to(meter.device, runner.dtype).contiguous(memory_format=torch.channels_last)
    value = meter.milliseconds(lambda: runner(images))
    name = f"{cfg}, batch {batch}: bf16, torch.compile{'' if runner.runs_graph else ' (no graph)'}"
    meter.say(name, value, f"{value:9.3f} ms {batch / value * 1e3:9.1f} images/s, prepared in {took:.0f} s")


@torch.inference_mode()
def measure_whole(meter: Meter, cfg: str, size: Size | None, batch: int, precision: str = "bf16") -> None:
    """From decoded frames to detections, and its parts; how often the device is waited for."""
    network = usual_network(cfg, size)
    detector = Detector(prepare(network, device=meter.device, precision=precision, batch=batch, fused=True))
    random = np.random.default_rng(0)
    frames = [random.integers(0, 256, (*FRAME, network.net.channels), dtype=np.uint8) for _ in range(batch)]
    heads = [usual_head(head) for head in detector.runner(detector.prepare(frames))]
    sizes = [(FRAME[1], FRAME[0])] * batch
    network_time = _parts(meter, cfg, detector, frames, heads, sizes, precision)

    def whole() -> int:
        detector.runner(detector.prepare(frames))
        return sum(map(len, detector.postprocess(heads, sizes, 0.25, 0.45)))

    value, found = meter.milliseconds(whole), whole()
    share = 1 - network_time / value
    name = f"{cfg}, batch {batch}: whole, {precision}, {FRAME[1]}x{FRAME[0]} frames"
    text = f"{value:9.3f} ms {batch / value * 1e3:9.1f} images/s, {share:.0%} around the network, {found} objects"
    meter.say(name, value, text)
    waits = _waits(meter, whole)
    meter.say(f"{cfg}, batch {batch}: waits for the device in a batch", waits, f"{waits}")


def _parts(
    meter: Meter,
    cfg: str,
    detector: Detector,
    frames: Sequence[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]],
    heads: Sequence[Tensor],
    sizes: Sequence[Size],
    precision: str,
) -> float:
    """Milliseconds of the network."""
    runner: Runner = detector.runner
    images = detector.prepare(frames)
    actions: dict[str, Callable[[], object]] = {
        "resize": lambda: detector.prepare(frames),
        f"network, {precision}": lambda: runner(images),
        "boxes and NMS": lambda: detector.postprocess(heads, sizes, 0.25, 0.45),
    }
    times = {name: meter.milliseconds(action) for name, action in actions.items()}
    for name, value in times.items():
        meter.say(f"{cfg}, batch {len(frames)}: {name}", value, f"{value:9.3f} ms")
    return times[f"network, {precision}"]


def _waits(meter: Meter, action: Callable[[], object]) -> int:
    if meter.device.type != "cuda":
        return 0
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            action()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(one.message) for one in caught)


def trained_network(cfg: str, batch: int) -> Network:
    """A fresh network that is trained with mini-batches of so many images."""
    network = network_to_train(cfg)
    network.set_net(batch=batch, subdivisions=1)
    return network


def measure_training(meter: Meter, cfg: str, size: Size | None, batch: int) -> None:
    """A step in each number format, and the same network with a plain loss and PyTorch's own SGD."""
    operations = 3e9 * batch * sum(layer.bflops for layer in usual_network(cfg, size).layers)  # there, and twice back
    for precision in ("fp32", "tf32", "bf16"):
        network = trained_network(cfg, batch).to(meter.device).channels_last()
        trainer = Trainer(network, precision=precision)
        images = batch_of(network, batch, size=size).to(meter.device).contiguous(memory_format=torch.channels_last)
        truths = random_truths(network, batch).to(meter.device)

        def step(trainer: Trainer = trainer, images: Tensor = images, truths: Tensor = truths) -> None:
            trainer.accumulate(images, truths)
            trainer.update()

        peak = meter.peak(step)
        value = meter.milliseconds(step)
        waits = _waits(meter, step)
        rate = f"{batch / value * 1e3:9.1f} images/s {operations / value / 1e9:6.1f} TFLOP/s"
        name = f"{cfg}, batch {batch}: training step, {precision}"
        meter.say(name, value, f"{value:9.2f} ms {rate} {peak / 2**20:7.0f} MiB, waits {waits} times")
        plain = meter.milliseconds(_plain_step(cfg, batch, precision, images))
        meter.say(f"{cfg}, batch {batch}: plain step, {precision}", plain, f"{plain:9.2f} ms, x{plain / value:.2f}")


def _plain_step(cfg: str, batch: int, precision: str, images: Tensor) -> Callable[[], None]:
    """The network, a sum of squares, and SGD: what any training of it costs."""
    device = images.device
    network = trained_network(cfg, batch).to(device).channels_last()
    Trainer(network, exact=True)  # in training mode, with PyTorch's derivatives
    optimizer = torch.optim.SGD(network.parameters(), 1e-9, momentum=0.9)
    dtype = DTYPES[precision]

    def step() -> None:
        with multiplying(precision, device):
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                heads = network(images)
            torch.stack([head.float().square().sum() for head in heads]).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def measure_gpu(
    cfgs: Sequence[str], size: Size | None, device: torch.device, batches: Sequence[int], seconds: float, compiled: bool
) -> Results:
    """All of the above for some networks. Returns what was measured, by name."""
    meter = Meter(device, seconds)
    if meter.device.type == "cuda":
        print(f"{torch.cuda.get_device_name(meter.device)}, cuDNN {torch.backends.cudnn.version()}")
    small = {} if meter.device.type == "cuda" else {"rows": 256, "copied": 2**20}
    limit = measure_limits(meter, **small)
    for cfg in cfgs:
        with meter.part(f"{cfg}: numbers"):
            check_forward(meter, cfg, size)
        with meter.part(f"{cfg}: a training step's numbers"):
            check_training(meter, cfg, size)
    with meter.part("streams and random numbers"):
        check_streams(meter, cfgs[0], size)
        check_resume(meter)
    for cfg in cfgs:
        for batch in batches:
            with meter.part(f"{cfg}: forward pass, batch {batch}"):
                measure_forward(meter, cfg, size, batch, limit)
            if compiled:
                with meter.part(f"{cfg}: compiled, batch {batch}"):
                    measure_compiled(meter, cfg, size, batch)
        with meter.part(f"{cfg}: from frames to detections"):
            measure_whole(meter, cfg, size, max(batches))
        with meter.part(f"{cfg}: training"):
            measure_training(meter, cfg, size, max(batches))
    return meter.results
