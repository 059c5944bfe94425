"""Write pictures of the persons of an output, by their ids."""

from dataclasses import dataclass

from jobs.cli import console
from pipeline.errors import DataError, PassingError, UserError
from pipeline.exports.pictures import Enhance, PictureSource, find_portraits, take_pictures
from pipeline.planning.recipe import Recipe
from pipeline.storage import records
from pipeline.storage.names import Names, same
from pipeline.storage.output_index import OutputIndex
from pipeline.text import count

FAILED = 3
"""The exit status if the source of a video could not be read."""
KEEP = "biometrics.keep"
SHOWN = 25


@dataclass(slots=True)
class _Outcome:
    """num_pictures: number of files. failed: reasons by uri."""

    num_pictures: int
    failed: dict[str, str]


def export_pictures(index: OutputIndex, folder: str, enhance: Enhance | None, *, arrays: bool) -> int:
    """Write the pictures of every person of the videos that were processed with biometrics.keep.

    What an earlier export wrote for others is removed. Return the number of videos whose source could not be read;
    earlier pictures of their persons stay. arrays: write .npy files too.

    Raises UserError if no video may have pictures.
    """
    sources, num_without = _sources(index)
    for name in _others(index, folder, sources):
        index.store.delete(name)
    if not sources and num_without:
        raise UserError(
            f"{index.store.uri}: pictures of persons are biometric data, and no video of it was processed with {KEEP}: "
            f"true; run `rollcall process` with --set {KEEP}=true"
        )
    outcome = _Outcome(0, {})
    for place, source in sources.items():
        try:
            _write_video(index, place, source, enhance, arrays, outcome)
        except (DataError, PassingError) as error:
            outcome.failed[source.row["uri"]] = str(error)
    for uri, why in list(outcome.failed.items())[:SHOWN]:
        console.say(f"no pictures of {uri}: {why}")
    if num_without:
        console.say(f"{count(num_without, 'video')} left out, processed without {KEEP}: true")
    console.say(f"{count(outcome.num_pictures, 'file')} -> {index.store.full(folder)}")
    return len(outcome.failed)


def _sources(index: OutputIndex) -> tuple[dict[str, PictureSource], int]:
    """Return the videos that may have pictures, by the folder of these, and the number of the others."""
    names = Names(holds=index.store.holds)
    sources: dict[str, PictureSource] = {}
    recipes: dict[str, Recipe | None] = {}
    num_without = 0
    for video_id in sorted(index.done(), key=index.file_names):
        row = index.videos[video_id]
        config_id = row["config_id"]
        if config_id not in recipes:
            stored = records.read_recipe(index.store, config_id)
            recipes[config_id] = None if stored is None else Recipe.from_json(stored)
        recipe = recipes[config_id]
        if recipe is None or not recipe.knobs.get(KEEP):
            num_without += 1
            continue
        named = sorted(index.sources_of(video_id), key=lambda source: (not source["current"], source["uri"]))
        uris = [*(source["uri"] for source in named), row["uri"]]
        sources[names.give(index.file_names(video_id)[0], "")] = PictureSource(row, uris, recipe.knobs, recipe.keys)
    return sources, num_without


def _others(index: OutputIndex, folder: str, sources: dict[str, PictureSource]) -> list[str]:
    """Return the files of earlier exports that belong to no person of `sources`."""
    kept = {same(f"{folder}/{place}/") for place in sources}
    return [name for name in index.store.names(folder) if same(f"{name.rpartition('/')[0]}/") not in kept]


def _write_video(
    index: OutputIndex, place: str, source: PictureSource, enhance: Enhance | None, arrays: bool, outcome: _Outcome
) -> None:
    store, folder = index.store, f"export/pictures/{place}"
    expected = len(find_portraits(store, source.row))
    written: set[str] = set()
    persons: set[int] = set()
    for pictures in take_pictures(store, source, enhance):
        persons.add(pictures.person_id)
        for end, content in pictures.files(arrays):
            name = f"{folder}/{pictures.person_id:04d}{end}"
            store.put(name, content)
            written.add(name)
    outcome.num_pictures += len(written)
    for name in store.names(folder):
        if name.rpartition("/")[0] == folder and name not in written:
            store.delete(name)
    if len(persons) < expected:
        raise DataError(f"{expected - len(persons)} of its {expected} persons are in frames that cannot be decoded now")
