"""The official weights files: where their projects publish them, and their sizes and hashes as far as they are known."""

from __future__ import annotations

import difflib
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from darknet_py.errors import DarknetError


class DownloadError(DarknetError):
    """A file that cannot be downloaded; the text says from where, why, and what to do."""


class Official(NamedTuple):
    """One file of the table below. What is not known is None; nothing here is guessed.

    Attributes:
        name: what the user types.
        file: its name in the folder.
        url: where its project publishes it.
        size: bytes.
        sha256: hexadecimal.
        cfg: this project's cfg that it belongs to.
        note: where size and hash come from.
        cutoff: for a backbone, what `load(…, cutoff=)` wants.
        sha512: where that is documented and SHA-256 is not.
        mirrors: addresses of copies, used when `url` fails; only for files whose hash is known.
    """

    name: str
    file: str
    url: str
    size: int | None = None
    sha256: str | None = None
    cfg: str = ""
    note: str = ""
    cutoff: int | None = None
    sha512: str | None = None
    mirrors: tuple[str, ...] = ()

    @property
    def hashes(self) -> list[tuple[str, str]]:
        """Kind and value of those that are known."""
        return [
            (kind, value) for kind, value in (("SHA-256", self.sha256), ("SHA-512", self.sha512)) if value is not None
        ]


# Joseph Redmon's files. Older texts name PJREDDIE_OLD, which has led to a web page since April 2025 (pjreddie/darknet issue 2655);
# the site's own pages (pjreddie/pjreddie.github.io, _darknet/yolo/yolo.md and imagenet.md) have named PJREDDIE since then.
PJREDDIE = "https://data.pjreddie.com/files/"
PJREDDIE_OLD = "https://pjreddie.com/media/files/"
ALEXEYAB = "https://github.com/AlexeyAB/darknet/releases/download/"
HANK_AI = "https://github.com/hank-ai/darknet/releases/download/v2.0/"  # "the same weights" (hank-ai/darknet issue 21)

FILES: tuple[Official, ...] = (
    Official(
        "yolov1", "yolov1.weights", PJREDDIE + "yolov1/yolov1.weights", 789312988,
        "df414df832ed10e3f2788df1e0e0ae573976573b97b5eec2c824ab9e5a8ae6d6", "cfg/yolov1.cfg",
        "size: that of the cfg with the old 16-byte header, and documented so for darkflow; SHA-256: the downloader of "
        "PurdueDualityLab/TensorFlowModels (yolo/utils/file_manager.py), one source",
        mirrors=(PJREDDIE_OLD + "yolov1/yolov1.weights",),
    ),
    Official(
        "yolov2", "yolov2.weights", PJREDDIE + "yolov2.weights", 203934260,
        "d9945162ed6f54ce1a901e3ec537bdba4d572ecae7873087bd730e5a7942df3f", "cfg/yolov2.cfg",
        "size: that of the cfg with the old 16-byte header, and logs of downloads; SHA-256: PurdueDualityLab/TensorFlowModels, "
        "a recipe of LG's for Yocto (darknet-ros) and Git LFS pointers of copies agree",
        mirrors=(PJREDDIE_OLD + "yolov2.weights", HANK_AI + "yolov2.weights"),
    ),
    Official(
        "yolov2-voc", "yolov2-voc.weights", PJREDDIE + "yolov2-voc.weights", 202704264, None, "cfg/yolov2-voc.cfg",
        "size: computed from the cfg with a 20-byte header (AMD's Dockerfile for darkflow, which knows 16-byte headers only, "
        "cuts 4 bytes off this file); no hash found",
    ),
    Official(
        "yolov2-tiny", "yolov2-tiny.weights", PJREDDIE + "yolov2-tiny.weights", 44948600, None, "cfg/yolov2-tiny.cfg",
        "size: computed from the cfg, and documented so for darkflow; SHA-512: vcpkg's port of darknet (2020). A recipe of LG's "
        "for Yocto gives SHA-256 16f4e870f1aed83f0089cb69bfda6b53cb7b2a4a01721be56eaf5c899dfac45f for leggedrobotics' copy",
        sha512="f0857a7a02cf4322354d288c9afa0b87321b23082b719bc84ea64e2f3556cc1f"
        "afeb836ee5bf9fb6dcf448839061b93623a067dfde7afa1338636865ea88989a",
        mirrors=(PJREDDIE_OLD + "yolov2-tiny.weights",),
    ),
    Official(
        "yolov3", "yolov3.weights", PJREDDIE + "yolov3.weights", 248007048,
        "523e4e69e1d015393a1b0a441cef1d9c7659e3eb2d7e15f793f060a21b32f297", "cfg/yolov3.cfg",
        "size: computed from the cfg, and documented widely (Streamlit's demo); SHA-256: Emgu CV, AUR's zmeventnotification and "
        "Git LFS pointers of copies agree",
        mirrors=(PJREDDIE_OLD + "yolov3.weights", HANK_AI + "yolov3.weights"),
    ),
    Official(
        "yolov3-spp", "yolov3-spp.weights", PJREDDIE + "yolov3-spp.weights", 252209544,
        "87a1e8c85c763316f34e428f2295e1db9ed4abcec59dd9544f8052f50de327b4", "cfg/yolov3-spp.cfg",
        "size: computed from the cfg; SHA-256: Emgu CV and PurdueDualityLab/TensorFlowModels agree",
        mirrors=(PJREDDIE_OLD + "yolov3-spp.weights",),
    ),
    Official(
        "yolov3-tiny", "yolov3-tiny.weights", PJREDDIE + "yolov3-tiny.weights", 35434956,
        "dccea06f59b781ec1234ddf8d1e94b9519a97f4245748a7d4db75d5b7080a42c", "cfg/yolov3-tiny.cfg",
        "size: computed from the cfg, and the Git LFS pointer of Hugging Face ggml-org/models; SHA-256: that pointer, Emgu CV and "
        "AUR's zmeventnotification agree",
        mirrors=(PJREDDIE_OLD + "yolov3-tiny.weights", HANK_AI + "yolov3-tiny.weights"),
    ),
    Official(
        "yolov4", "yolov4.weights", ALEXEYAB + "darknet_yolo_v3_optimal/yolov4.weights", 257717640,
        "e8a4f6c62188738d86dc6898d82724ec0964d0eb9d2ae0f0a9d53d65d108d562", "cfg/yolov4.cfg",
        "size: computed from the cfg, and Git LFS pointers of copies; SHA-256: those pointers, AUR's zmeventnotification and "
        "PurdueDualityLab/TensorFlowModels agree",
        mirrors=(HANK_AI + "yolov4.weights",),
    ),
    Official(
        "yolov4-csp", "yolov4-csp.weights", ALEXEYAB + "darknet_yolo_v4_pre/yolov4-csp.weights", 211944840,
        "019496affba568f7439e54797a1772657bb01126b707fbd93407c0b20c20dca1", "cfg/yolov4-csp.cfg",
        "size: computed from the cfg; SHA-256: the Git LFS pointer of Hugging Face homohapiens/darknet-yolov4 and the benchmark "
        "scripts of a fork of pyCLAD agree",
    ),
    Official(
        "yolov4-tiny", "yolov4-tiny.weights", ALEXEYAB + "darknet_yolo_v4_pre/yolov4-tiny.weights", 24251276,
        "cf9fbfd0f6d4869b35762f56100f50ed05268084078805f0e7989efe5bb8ca87", "cfg/yolov4-tiny.cfg",
        "size: computed from the cfg; SHA-256: AUR's zmeventnotification, Emgu CV and Git LFS pointers of copies agree. The file "
        "of June 2020 was another one (opencv_extra pull request 1026)",
        mirrors=(HANK_AI + "yolov4-tiny.weights",),
    ),
    Official(
        "yolov7", "yolov7.weights", ALEXEYAB + "yolov4/yolov7.weights", 147898248,
        "4ecf7ca13ec5039ec7b79b0f25b156fda5eaf819d6c2bb6828ba55fe4f928332", "cfg/yolov7.cfg",
        "size: computed from the cfg; SHA-256: a script that checks hank-ai's copy by it, one source",
        mirrors=(HANK_AI + "yolov7.weights",),
    ),
    Official(
        "yolov7-tiny", "yolov7-tiny.weights", ALEXEYAB + "yolov4/yolov7-tiny.weights", 24967560, None, "cfg/yolov7-tiny.cfg",
        "size: computed from the cfg; no hash found",
    ),
    Official(
        "darknet19", "darknet19.weights", PJREDDIE + "darknet19.weights", None, None, "cfg/darknet19.cfg",
        "classifier, ImageNet; size: 83427120 or 83427124 by the cfg, as its header is not known (its site says 80 MB); "
        "no hash found",
    ),
    Official(
        "darknet53", "darknet53.weights", PJREDDIE + "darknet53.weights", None, None, "cfg/darknet53.cfg",
        "classifier, ImageNet; size: 166582576 or 166582580 by the cfg, as its header is not known (its site says 159 MB); "
        "no hash found",
    ),
    Official(
        "darknet19_448.conv.23", "darknet19_448.conv.23", PJREDDIE + "darknet19_448.conv.23", 79327120, None, "cfg/yolov2.cfg",
        "backbone, for yolov2-voc too; size: that of the cfg's first 23 layers with the old 16-byte header, and programs that "
        "check it; SHA-512: vcpkg's port of darknet (2020)",
        cutoff=23,
        sha512="8016f5b7ddc15c5d7dad231592f5351eea65f608ebdb204f545034dde904e119"
        "62f693080dfeb5a4510e7b71bdda151a9121ba0f8a243018d680f01b1efdbd31",
        mirrors=(PJREDDIE_OLD + "darknet19_448.conv.23",),
    ),
    Official(
        "darknet53.conv.74", "darknet53.conv.74", PJREDDIE + "darknet53.conv.74", 162482580, None, "cfg/yolov3.cfg",
        "backbone, for yolov3-spp and yolov3-voc too; size: that of the cfg's first 75 layers, and logs of downloads; SHA-512: "
        "vcpkg's port of darknet (2020)",
        cutoff=75,
        sha512="8983e1c129e2d6e8e3da0cc0781ecb7a07813830ef5a87c24b53100df6a5f23d"
        "b6c6e6a402aec78025a93fe060b75d1958f1b8f7439a04b54a3f19c81e2ae99b",
        mirrors=(PJREDDIE_OLD + "darknet53.conv.74",),
    ),
    Official(
        "yolov4.conv.137", "yolov4.conv.137", ALEXEYAB + "darknet_yolo_v3_optimal/yolov4.conv.137", 170038676,
        "11c5286cfbffabc9a3059927401ab3480e9483ceafd3265779a0dc26c769bed0", "cfg/yolov4.cfg",
        "backbone; size: that of the cfg's first 137 layers, and logs of downloads; SHA-256: OpenNN's review of the file and the "
        "Git LFS pointer of a copy agree",
        cutoff=137,
    ),
    Official(
        "yolov4-csp.conv.142", "yolov4-csp.conv.142", ALEXEYAB + "darknet_yolo_v4_pre/yolov4-csp.conv.142",
        cfg="cfg/yolov4-csp.cfg", note="backbone; neither size nor hash found", cutoff=142,
    ),
    Official(
        "yolov4-tiny.conv.29", "yolov4-tiny.conv.29", ALEXEYAB + "darknet_yolo_v4_pre/yolov4-tiny.conv.29", 19789716,
        "3c794b8420b12ed2a609daa71d075880e7bd152671323f5eb3e8d9e57e31785b", "cfg/yolov4-tiny.cfg",
        "backbone; size: that of the cfg's first 29 layers; SHA-256: a training script that checks its download by it (Portcullis) "
        "and Git LFS pointers of copies agree",
        cutoff=29,
    ),
    Official(
        "yolov7.conv.132", "yolov7.conv.132", ALEXEYAB + "yolov4/yolov7.conv.132",
        cfg="cfg/yolov7.cfg", note="backbone; neither size nor hash found", cutoff=132,
    ),
)  # fmt: skip


def find(name: str) -> Official:
    """The file of the table with this name (`yolov3`, or `yolov3.weights`); for an address, a record with nothing known but that.

    Raises:
        DownloadError: there is none, or the address is none; the text names the closest.
    """
    if "://" in name:
        return _from_address(name)
    for official in FILES:
        if name.lower() in (official.name, official.file):
            return official
    closest = difflib.get_close_matches(
        name.lower().removesuffix(".weights"), [official.name for official in FILES], n=1
    )
    hint = f"did you mean '{closest[0]}'?" if closest else "--list shows them all"
    raise DownloadError(f"'{name}' is no official file; {hint}")


def _from_address(address: str) -> Official:
    _check_address(address)
    file = unquote(urlsplit(address).path).rpartition("/")[2]
    if file in ("", ".", "..") or not file.isprintable() or set(file) & set('\\:*?"<>|'):
        raise DownloadError(f"{address}: this address does not end in the name of a file")
    return Official(file, file, address)


def _check_address(address: str) -> None:
    try:
        parts = urlsplit(address)
        right = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        right = False
    if not right:
        raise DownloadError(f"{address}: not an address that can be downloaded; write http://… or https://…")


def table() -> str:
    """The official files as text."""
    rows = [("name", "bytes", "hash", "for")]
    for one in FILES:
        size = "not known" if one.size is None else f"{one.size:,}"
        known = one.hashes[0][0] if one.hashes else "-"
        rows.append((one.name, size, known, one.cfg + (f", cutoff={one.cutoff}" if one.cutoff else "")))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(f"{a:{widths[0]}}  {b:>{widths[1]}}  {c:{widths[2]}}  {d}" for a, b, c, d in rows)
