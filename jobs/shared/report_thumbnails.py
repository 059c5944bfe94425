"""Small pictures of persons for the report, from those that `rollcall export --format pictures` has written.

That command writes them only for videos that were processed with `biometrics.keep: true`.
"""

import base64
import re
from collections.abc import Mapping
from fractions import Fraction

from pipeline.storage.output_view import OutputView
from pipeline.storage.store import side_by_side

FOLDER = "export/pictures"
NAME = re.compile(r"(?P<place>.+)/(?P<person>\d{4,})(?P<face>-face)?\.jpg")
MOST = 500
"""The most pictures in a page, which are about 1 MB."""
SIDE_PX, JPEG_QUALITY = 96, 80


def thumbnails(view: OutputView) -> Mapping[tuple[str, int], str]:
    """Return data URIs of JPEGs by (video_id, person_id): the face of a person, or else the body.

    A picture that is older than the tables of its video is left out, because its number may be another person's now.
    """
    store = view.store
    pictures = store.stamps(FOLDER)
    if not pictures:
        return {}
    tables = store.stamps("videos")
    video_of = {view.index.file_names(video_id)[0]: video_id for video_id in view.index.done()}
    chosen: dict[tuple[str, int], str] = {}
    for name, stamp in sorted(pictures.items()):  # of a person, -face.jpg comes before .jpg
        match = NAME.fullmatch(name.removeprefix(f"{FOLDER}/"))
        video_id = match and video_of.get(match["place"])
        if match is None or video_id is None or len(chosen) == MOST:
            continue
        written = tables[f"videos/{video_id}.parquet"].changed
        if stamp.changed is not None and written is not None and stamp.changed >= written:
            chosen.setdefault((video_id, int(match["person"])), name)
    contents = side_by_side(store, store.read, chosen.values())
    return {key: uri for key, content in zip(chosen, contents, strict=True) if (uri := _data_uri(content))}


def _data_uri(encoded: bytes) -> str | None:
    """Return a small copy of a JPEG, or None if it is none."""
    from pipeline.media.pictures import decode_jpeg, encode_jpeg, resized

    try:
        picture = decode_jpeg(encoded)
    except ValueError:
        return None
    small = resized(picture, min(Fraction(1), Fraction(SIDE_PX, max(picture.shape[:2]))))
    return f"data:image/jpeg;base64,{base64.b64encode(encode_jpeg(small, JPEG_QUALITY)).decode()}"
