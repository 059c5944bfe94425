"""Single pictures: encode, decode, cut out and scale with OpenCV, which gives the same bits everywhere.

Contract: pictures are (H, W, 3) uint8 RGB, and every returned picture owns its memory.
"""

import io
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.arrays import Picture
from pipeline.errors import DataError
from pipeline.media import iso
from pipeline.media.container import Opener, opened_file
from pipeline.media.sizes import HugeError, refuse_huge
from pipeline.media.tone import HLG, PQ, tone_map

SHARP_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
QUALITY_95 = {
    ".jpg": SHARP_JPEG,
    ".jpeg": SHARP_JPEG,
    ".webp": [cv2.IMWRITE_WEBP_QUALITY, 95],
}


def encode_jpeg(picture: Picture, quality: int) -> bytes:
    """Encode an RGB picture as JPEG, with quality 1..100."""
    written, encoded = cv2.imencode(
        ".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    if not written:
        raise ValueError(f"picture must be (H, W, 3) uint8 and not empty, got {picture.shape} {picture.dtype}")
    return encoded.tobytes()


def encode_picture(picture: Picture, suffix: str) -> bytes:
    """Encode an RGB picture in the format of a suffix: .jpg, .jpeg, .png, .webp, .bmp, .tif or .tiff."""
    written, encoded = cv2.imencode(suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), QUALITY_95.get(suffix, []))
    if not written:
        raise ValueError(f"picture must be (H, W, 3) uint8 and not empty, got {picture.shape} {picture.dtype}")
    return encoded.tobytes()


def decode_jpeg(encoded: bytes) -> Picture:
    """Return the RGB picture in a JPEG. Raises ValueError if it is none.

    An EXIF orientation is ignored, because Rollcall writes none.
    """
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    picture = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags) if encoded else None
    if picture is None:
        raise ValueError(f"must be a JPEG, got {len(encoded)} bytes that are none")
    return np.asarray(picture, np.uint8)


def decode_picture(encoded: bytes) -> Picture:
    """Return the RGB picture in an image file of any kind as it is displayed: turned, mirrored, cropped,
    tone-mapped.

    Raises ValueError with a reason, also if the picture is too large to be decoded.
    """
    file = io.BytesIO(encoded)
    refuse_huge(file)
    if iso.is_still(file):
        return _decode_heif(file)
    try:
        picture = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:
        raise ValueError(error.err) from None
    if picture is None:
        raise ValueError("it is cut off, damaged, or of a kind that OpenCV does not read")
    return np.asarray(picture, np.uint8)


def read_picture(open_source: Opener) -> Picture:
    """Return the picture in an image file as it is displayed, with its EXIF orientation applied. Raises DataError."""
    try:
        with opened_file(open_source) as file:
            refuse_huge(file)
            file.seek(0)
            encoded = file.read()
        return decode_picture(encoded)
    except HugeError as error:
        raise DataError(f"too large to be decoded: {error}; make it smaller") from None
    except ValueError as error:
        raise DataError(f"the picture cannot be decoded: {error}") from None


def read_picture_file(path: Path, flags: int = cv2.IMREAD_COLOR_RGB) -> NDArray[np.uint8] | None:
    """Return the picture in a file of this machine as OpenCV reads it with `flags`: RGB by default, with its EXIF
    orientation applied. Return None if it cannot be read, or if it is too large to be decoded."""
    try:
        with path.open("rb") as file:
            refuse_huge(file)
    except (OSError, ValueError):
        return None
    picture = cv2.imread(str(path), flags)
    return None if picture is None else np.asarray(picture, np.uint8)


def _decode_heif(file: io.BytesIO) -> Picture:
    """Decode a HEIF or AVIF picture, including pictures that are stored as a grid of tiles."""
    import pillow_heif
    from PIL import Image, ImageOps

    pillow_heif.register_heif_opener()
    if iso.is_picture_cut_off(file):  # libheif leaves out missing tiles without an error
        raise ValueError("it is cut off")
    file.seek(0)
    try:
        with Image.open(file) as image:
            is_avif = image.format == "AVIF"
            stored = np.asarray(image.convert("RGB"), np.uint8)
            left, top, right, bottom = iso.picture_insets(file, *image.size) if is_avif else iso.WHOLE
            shown = Image.fromarray(stored[top : image.height - bottom, left : image.width - right])
            shown.info["exif"] = image.info.get("exif", b"")
            picture = np.asarray(ImageOps.exif_transpose(shown), np.uint8)
    except Exception as error:  # the two libraries raise many types for damaged bytes
        raise ValueError(f"{error}") from None
    transfer = iso.picture_transfer(file)
    return tone_map(picture, transfer) if transfer in (PQ, HLG) else picture


def cut_out(picture: Picture, box: ArrayLike) -> Picture:
    """Cut out every pixel that `box`, (4,) xyxy px, touches, clipped to the picture.

    The result is empty, (0, W, 3) or (H, 0, 3), if the box lies outside. The crop's upper left corner is
    (floor(x_min), floor(y_min)), at least 0.
    """
    height, width = picture.shape[:2]
    x_min, y_min, x_max, y_max = np.asarray(box, np.float64)
    left, top = max(0, int(np.floor(x_min))), max(0, int(np.floor(y_min)))
    right, bottom = min(width, int(np.ceil(x_max))), min(height, int(np.ceil(y_max)))
    return picture[top : max(top, bottom), left : max(left, right)].copy()


def resized(picture: Picture, scale: Fraction) -> Picture:
    """Scale a picture up or down. The result may be `picture` itself."""
    if scale == 1:
        return picture
    height, width = picture.shape[:2]
    size = max(1, round(width * scale)), max(1, round(height * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, size, interpolation=method), np.uint8)


def resize_to_long_side(picture: Picture, long_side: int) -> Picture:
    """Scale down so that the longer side has `long_side` px. A picture that is no longer is returned unchanged."""
    height, width = picture.shape[:2]
    scale = long_side / max(height, width)
    if scale >= 1:
        return picture
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def enlarge(picture: Picture, factor: int) -> Picture:
    """Enlarge a picture by Lanczos resampling, which invents no detail."""
    height, width = picture.shape[:2]
    size = (factor * width, factor * height)
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_LANCZOS4), np.uint8)


def fitted_into(picture: Picture, width: int, height: int) -> Picture:
    """Return a picture of this size in px with the whole of `picture` in its middle, on black."""
    scale = min(width / picture.shape[1], height / picture.shape[0])
    size = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas = np.zeros((height, width, 3), np.uint8)
    top, left = (height - size[1]) // 2, (width - size[0]) // 2
    canvas[top : top + size[1], left : left + size[0]] = cv2.resize(picture, size, interpolation=method)
    return canvas
