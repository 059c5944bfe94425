"""Pictures of persons, as `rollcall export --format pictures` has written them."""

import io
from typing import TYPE_CHECKING

from pipeline.errors import UserError
from pipeline.storage import records
from pipeline.storage.output_index import OutputIndex

if TYPE_CHECKING:
    from PIL.Image import Image

FOLDER = "export/pictures"
KEEP = "biometrics.keep"


def read_pictures(index: OutputIndex, video_id: str, person_id: int) -> "list[Image]":
    """Return the picture of a person and, if one was judged, that of the face.

    Raises UserError if the video was processed without biometrics.keep, if no pictures have been exported since, or if
    the video has no such person.
    """
    store, file = index.store, index.file_names(video_id)[0]
    recipe = records.read_recipe(store, index.videos[video_id]["config_id"])
    if recipe is None or not recipe["knobs"].get(KEEP):
        raise UserError(
            f"{file} was processed without {KEEP}: true, so no picture of a person is kept; "
            f"run `rollcall process` with --set {KEEP}=true, and `rollcall export {store.uri} --format pictures`"
        )
    folder = f"{FOLDER}/{file}"
    stamps = {name: stamp for name, stamp in store.stamps(folder).items() if name.rpartition("/")[0] == folder}
    command = f"run `rollcall export {store.uri} --format pictures`"
    if not stamps:
        raise UserError(f"there are no pictures of the persons of {file} yet; {command}")
    published_at = store.stamps("videos")[f"videos/{video_id}.parquet"].changed
    made_at = [stamp.changed for stamp in stamps.values() if stamp.changed]
    if published_at and made_at and min(made_at) < published_at:
        raise UserError(f"the pictures of {file} are older than its tables, and may show others; {command} again")
    names = [f"{folder}/{person_id:04d}{end}.jpg" for end in ("", "-face")]
    contents = [store.read(name) for name in names if name in stamps]
    if not contents:
        raise UserError(f"{file} has no person {person_id}; name one of its table `persons`")
    from PIL import Image

    return [Image.open(io.BytesIO(content)) for content in contents]
