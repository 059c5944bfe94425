"""Reading of pictures that a user named, for jobs on labelled pictures."""

from pathlib import Path

from pipeline.arrays import Picture
from pipeline.errors import UserError
from pipeline.media.pictures import decode_jpeg
from pipeline.media.sizes import HugeError, refuse_huge


def read_picture(path: Path) -> Picture:
    """Return the picture in the file `path` as (H, W, 3) uint8 RGB. OpenCV must know its format.

    Raises UserError if the file cannot be read or is no picture.
    """
    try:
        with path.open("rb") as file:
            refuse_huge(file)
            file.seek(0)
            return decode_jpeg(file.read())
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); correct the path, or take its row out") from None
    except HugeError as error:
        raise UserError(f"{path} is too large: {error}; make it smaller, or take it out") from None
    except ValueError:
        raise UserError(f"{path} is no picture; replace the file, or take it out") from None
