"""A published video whose tables are to be made again, and the stored data that suffices for them.

There are three bases. The first one that suffices is taken.

- Scores: `links` holds every pair that was measured. `detections`, `tracklets` and `faces` hold the data that persons
  are made of. Any threshold can be moved, and the limits of the measured pairs can be narrowed (cores.relink).
- Embeddings: cover all other knobs of `identity`, if biometrics are kept. The tracking result is read back.
- Chunks: the tracker runs again over the boxes and embeddings in the working area, if biometrics are kept.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.config import Config
from pipeline.cores.plan import disjoint
from pipeline.cores.relink import num_crowded_out
from pipeline.errors import UserError
from pipeline.planning.changes import Basis, Change, cheapest_basis, compare
from pipeline.planning.published import read_links, read_presence
from pipeline.planning.recipe import SHAPED_BY, Recipe, reduced_id
from pipeline.storage.ledger import ChunkSpan, Ledger, is_whole
from pipeline.storage.store import Store

RELINKED = SHAPED_BY["reduced"]
"""The sections of the configuration that act on stored data."""
KEPT_BY = "`rollcall process` with biometrics.keep=true keeps them"


@dataclass(frozen=True, slots=True, kw_only=True)
class Relink:
    """A published video whose tables are to be made again.

    store: of the output.
    row: its row of `videos`.
    recipe: of its published tables.
    wanted: of its new tables.
    before: the old configuration.
    after: the new configuration.
    csv_names: names of the CSV files to write.
    durable: its durable chunks, if they are kept.
    in_sequence: whether later files of a sequence may be linked with the persons of this video.
    """

    store: Store
    row: Mapping[str, Any]
    recipe: Recipe
    wanted: Recipe
    before: Config
    after: Config
    csv_names: tuple[str, ...]
    durable: tuple[ChunkSpan, ...]
    in_sequence: bool = False

    @property
    def video_id(self) -> str:
        return self.row["video_id"]

    @property
    def config_id(self) -> str:
        """The config_id of the new tables."""
        return reduced_id(self.wanted.keys, self.after, self.wanted.likenesses)

    @property
    def changes(self) -> list[Change]:
        return compare(self.recipe, self.wanted)


def kept_chunks(store: Store, recipe: Recipe) -> dict[str, tuple[ChunkSpan, ...]]:
    """Return the durable chunks of every video made by a recipe, if they cover the whole video."""
    by_video = Ledger(store, recipe.keys).durable()
    whole = {video_id: tuple(disjoint(chunks)) for video_id, chunks in by_video.items()}
    return {video_id: chunks for video_id, chunks in whole.items() if is_whole(chunks)}


def choose_basis(task: Relink) -> Basis:
    """Return the basis for a video's new tables. Raises UserError if the stored data does not suffice."""
    needs = cheapest_basis(task.changes)
    lacking = _lacks_scores(task, needs)
    if not lacking:
        return Basis.SCORES
    if task.durable and needs <= Basis.CHUNKS:
        has_vectors = task.store.exists(f"embeddings/{task.video_id}.parquet")
        return Basis.EMBEDDINGS if needs <= Basis.EMBEDDINGS and has_vectors else Basis.CHUNKS
    raise UserError(f"{task.row['uri']}: {lacking}")


def crowded_out(task: Relink) -> str:
    """Return the reason why scores do not suffice for a shorter `identity.shot_max_s`. Empty if they do."""
    before, after = task.before.identity, task.after.identity
    if after.shot_max_s >= before.shot_max_s:
        return ""
    links, presence = read_links(task.store, task.video_id), read_presence(task.store, task.video_id)
    if count := num_crowded_out(links, presence, before, after):
        return (
            f"{count} of its tracklets had more candidates than the {before.candidates} that were written down, and "
            f"the embeddings of the others are not kept"
        )
    return ""


def _lacks_scores(task: Relink, needs: Basis) -> str:
    """Return the reason why new tables cannot be made from the published ones. Empty if they can."""
    changes = [change for change in task.changes if change.needs is needs]
    if needs >= Basis.CHUNKS:
        names = ", ".join(change.name for change in changes)
        return f"{names}: needs the boxes and embeddings of all frames, which are not kept; {KEPT_BY}"
    if needs is Basis.EMBEDDINGS:
        described = ", ".join(f"{change.name} from {change.before} to {change.after}" for change in changes)
        return f"{described}: needs the embeddings of its tracklets, which are not kept; {KEPT_BY}"
    crowded = crowded_out(task)
    return crowded and f"identity.shot_max_s={task.after.identity.shot_max_s:g}: {crowded}; {KEPT_BY}"
