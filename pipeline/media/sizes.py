"""The largest pictures and frames that are decoded. A file of a few kB may claim a size that fills all memory."""

from typing import BinaryIO

from pipeline.media import iso

MAX_PICTURE_PIXELS = 1 << 28
"""Most px of a picture, 16,384 x 16,384. Phones make up to 200 million. As RGB it takes .8 GB, and a few times as much
while it is decoded."""
MAX_FRAME_PIXELS = 1 << 27
"""Most px of a frame of a video, which is 16K (15,360 x 8,640). Workers hold some ten frames at a time."""
MAX_PICTURE_BYTES = (1 << 31) - 1
"""The largest picture file. OpenCV takes no larger one."""
DECODER_OPTIONS = {"max_pixels": str(MAX_FRAME_PIXELS)}
"""Options of FFmpeg's decoders. A larger frame in the middle of a video is then damage."""
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "PPM", "JPEG2000")
"""The formats, by Pillow's names, whose sizes are checked. WebP allows no larger ones, and HEIF has its own boxes."""


class HugeError(ValueError):
    """A picture or frame that is too large to be decoded. The text names its size and the limit."""


def refuse_huge(file: BinaryIO) -> None:
    """Raise HugeError if a picture file is too large to be decoded, by its header. Unknown formats pass."""
    num_bytes = file.seek(0, 2)
    if num_bytes > MAX_PICTURE_BYTES:
        raise HugeError(f"the file has {num_bytes / 1e9:.1f} GB; a picture may have {MAX_PICTURE_BYTES / 1e9:.1f}")
    width, height = iso.picture_size(file) if iso.is_still(file) else _stated_size(file)
    refuse(width, height, MAX_PICTURE_PIXELS)


def refuse(width: int, height: int, limit: int) -> None:
    """Raise HugeError if width x height px are more than `limit`, which is one of the limits of this module."""
    if width * height > limit:
        kind = "picture" if limit == MAX_PICTURE_PIXELS else "video"
        raise HugeError(f"it is {width:,} x {height:,} px, and a {kind} may have {limit / 1e6:.0f} million px")


def _stated_size(file: BinaryIO) -> tuple[int, int]:
    """Return width and height by the header of a picture, (0, 0) if its format is unknown or its header damaged."""
    from PIL import Image

    # Image.open would import any plugin, and Ultralytics replaces it by one that installs packages.
    Image.preinit()
    if not set(FORMATS) <= set(Image.OPEN):
        Image.init()
    file.seek(0)
    prefix = file.read(16)
    for name in FORMATS:
        factory, accept = Image.OPEN[name]
        if accept is None or accept(prefix) is True:
            file.seek(0)
            try:
                return factory(file, "").size
            except Exception:  # Pillow raises many types for damaged bytes; the decoder will state what is wrong
                continue
    return 0, 0
