"""Pictures that a person named, for jobs that read labelled ones."""

from pathlib import Path

from pipeline.arrays import Picture
from pipeline.errors import UserError
from pipeline.media.pictures import decode_jpeg


def read_picture(path: Path) -> Picture:
    """The picture in the file `path`, of any format that OpenCV reads: (H, W, 3) uint8 RGB. Raises UserError."""
    try:
        return decode_jpeg(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); correct the path, or take its row out") from None
    except ValueError:
        raise UserError(f"{path} is no picture; replace the file, or take it out") from None
