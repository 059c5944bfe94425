"""The cheapest work that leads from the stored data of a video to the tables that a configuration wants.

This module does no work on videos and opens none. It needs only the index of the output, the recipe of each
config_id and the names of the files. `process` carries out the plan, and the command `plan` reports it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from pipeline.config import Config, restored
from pipeline.cores.plan import beside, disjoint
from pipeline.errors import DataError, UserError
from pipeline.planning.catalog import Content
from pipeline.planning.changes import KEEP, Basis, Change, cheapest_basis, compare
from pipeline.planning.recipe import Recipe, config_id
from pipeline.planning.relink import Relink, crowded_out
from pipeline.rows import OPTIONAL_TABLES, VIDEO_TABLES
from pipeline.storage import records, tables
from pipeline.storage.ledger import WORK, ChunkSpan, Keys, Objects, is_whole, summarised
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.records import Row
from pipeline.weights import Registry

NAMED_CHANGES = 3
SHOT_MAX = "identity.shot_max_s"
NOT_KEPT = {
    Basis.EMBEDDINGS: "its embeddings are not kept",
    Basis.CHUNKS: "its boxes and embeddings are not kept",
    Basis.FACES: "its faces are not kept",
}


@dataclass(frozen=True, slots=True)
class WantedTables:
    """The tables that a run is to make.

    config: the configuration, with the device chosen.
    recipe: the recipe of the tables.
    config_id: the id of the recipe.
    """

    config: Config
    recipe: Recipe
    config_id: str

    @classmethod
    def of(cls, config: Config, registry: Registry) -> "WantedTables":
        """Return the target of a configuration. The sha256 of its models must be known."""
        return cls(config, Recipe.of(config, registry), config_id(config, registry))


@dataclass(frozen=True, slots=True)
class Step:
    """The cost of one change by itself.

    change: the difference between the recipes.
    basis: the cheapest available basis that can follow the change.
    why: what a cheaper basis lacks. Empty if `basis` is the cheapest that can follow the change.
    """

    change: Change
    basis: Basis
    why: str = ""

    def __str__(self) -> str:
        return f"{self.change}: {self.basis.step}{f' ({self.why})' if self.why else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoPlan:
    """The work for a video, and the reasons for it.

    basis: what the tables are made from: stored data, or the video.
    steps: the changes since its published tables, each with its cost.
    note: a further reason, empty if there is none.
    relink: how the new tables are made from published ones; None if they are not.
    keys: the keys of the durable chunks that are used.
    durable: the chunks that need no work. They do not overlap.
    faces: chunks whose faces are estimated again, each with the key of the enriched object that holds them.
    """

    basis: Basis
    steps: tuple[Step, ...] = ()
    note: str = ""
    relink: Relink | None = None
    keys: Keys
    durable: tuple[ChunkSpan, ...] = ()
    faces: tuple[tuple[ChunkSpan, str], ...] = ()

    @property
    def step(self) -> str:
        """The work in a few words."""
        if self.steps or self.note:
            return self.basis.step
        if self.basis is Basis.VIDEO:
            return "decode and detect"
        return "estimate, track and link" if self.basis is Basis.FACES else "track and link"

    @property
    def why(self) -> str:
        """The reasons for the work, in words for a person."""
        changes = _listed([str(step.change) for step in self.steps])
        if self.note or changes:
            return "; ".join(filter(None, (self.note, changes)))
        if self.basis is not Basis.VIDEO:
            return "all of its chunks are durable"
        return "an earlier run was interrupted" if self.durable or self.faces else "seen for the first time"

    def __str__(self) -> str:
        return f"{self.step}: {self.why}"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - NAMED_CHANGES
    return ", ".join(names[:NAMED_CHANGES]) + (f" and {more} more" if more > 0 else "")


class Planner:
    """Plans the work on videos from the stored data of an output. Each list is read on first use, and only once.

    index: of the output.
    work_names: the files of the working area, if they have just been listed.
    """

    def __init__(self, index: OutputIndex, work_names: Collection[str] | None = None) -> None:
        self._index = index
        self._given_work_names = work_names
        self._recipes: dict[str, Recipe | None] = {}

    def plans(self, chosen: Iterable[Content], target: WantedTables) -> dict[str, VideoPlan]:
        """Return, by video_id, the cheapest plan for each content that is not done."""
        return {content.video_id: self.plan(content, target) for content in chosen}

    def plans_anew(self, chosen: Iterable[Content], target: WantedTables) -> dict[str, VideoPlan]:
        """Return, by video_id, the cheapest plan that needs no published tables."""
        return {content.video_id: self._from_chunks(content.video_id, target) for content in chosen}

    def plan(self, content: Content, target: WantedTables) -> VideoPlan:
        """Return the cheapest plan for a content that is not done. Tables are read only if `identity.shot_max_s` is
        reduced."""
        plan = self._from_chunks(content.video_id, target)
        row = self._index.videos.get(content.video_id)
        if row is None:
            return plan
        if row["status"] != "done":
            return replace(plan, note=f"it was given up before, at {row['stage']}")
        recipe = self._recipe(row["config_id"])
        if recipe is None:
            return replace(plan, note=f"recipes/{row['config_id']}.json does not say how it was made")
        changes = compare(recipe, target.recipe)
        kept = tuple(disjoint(self._objects.durable(content.video_id, recipe.keys)))
        kept = kept if is_whole(kept) else ()
        relink = self._relink(content, row, recipe, target, kept)
        lacking = self._lacks_tables(relink)
        crowded = ""
        if relink is not None and not lacking and cheapest_basis(changes) is Basis.SCORES:
            try:
                with tables.damage_is_a_fault():
                    crowded = crowded_out(relink)
            except DataError as error:
                lacking = str(error)
        if crowded:
            changes = [
                replace(change, needs=Basis.EMBEDDINGS) if change.name == SHOT_MAX else change for change in changes
            ]
        there = {
            Basis.SCORES: not lacking,
            Basis.EMBEDDINGS: bool(kept) and relink is not None and content.video_id in self._named["embeddings"],
            Basis.CHUNKS: bool(kept),
            Basis.FACES: bool(kept) and bool(recipe.knobs.get(KEEP)),
            Basis.VIDEO: True,
        }
        steps = tuple(_step(change, there, crowded if change.name == SHOT_MAX else lacking) for change in changes)
        basis = next(basis for basis in Basis if there[basis] and basis >= cheapest_basis(changes))
        if basis <= Basis.EMBEDDINGS:
            return VideoPlan(basis=basis, steps=steps, relink=relink, keys=plan.keys)
        is_begun = plan.basis < basis or (basis > Basis.CHUNKS and plan.durable)
        return replace(plan, steps=steps, note="chunks of an earlier run are there" if is_begun else "")

    def _from_chunks(self, video_id: str, target: WantedTables) -> VideoPlan:
        """Return the plan from the chunks durable under the wanted or equivalent keys, with kept faces for the
        missing ones."""
        best = VideoPlan(basis=Basis.VIDEO, keys=target.recipe.keys)
        if video_id not in self._objects.chunks:
            return best
        alike = [target.recipe, *self._made_alike(target, Basis.CHUNKS)]
        for recipe in alike:
            durable = tuple(disjoint(self._objects.durable(video_id, recipe.keys)))
            if is_whole(durable):
                return VideoPlan(basis=Basis.CHUNKS, keys=recipe.keys, durable=durable)
        durable = disjoint(self._objects.durable(video_id, target.recipe.keys))
        faces: dict[ChunkSpan, str] = {}
        for recipe in self._made_alike(target, Basis.FACES):
            others = disjoint(self._objects.durable(video_id, recipe.keys))
            faces |= dict.fromkeys(beside(sorted([*durable, *faces]), others), recipe.keys.enriched)
        basis = Basis.FACES if is_whole(sorted([*durable, *faces])) else Basis.VIDEO
        return replace(best, basis=basis, durable=tuple(durable), faces=tuple(sorted(faces.items())))

    def _made_alike(self, target: WantedTables, limit: Basis) -> list[Recipe]:
        """Return the recipes with kept faces whose chunks lead to the wanted tables from a basis up to `limit`."""
        return [
            recipe
            for recipe in self._all_recipes
            if recipe.keys != target.recipe.keys
            and recipe.keys.observed == target.recipe.keys.observed
            and recipe.knobs.get(KEEP)
            and cheapest_basis(compare(recipe, target.recipe)) <= limit
        ]

    def _relink(
        self, content: Content, row: Row, recipe: Recipe, target: WantedTables, kept: tuple[ChunkSpan, ...]
    ) -> Relink | None:
        """Return the relink of a video. Return None if its tables are not whole, or if this version cannot read its
        recipe."""
        if not all(content.video_id in self._named[name] for name in VIDEO_TABLES if name not in OPTIONAL_TABLES):
            return None
        try:
            before = restored(recipe.knobs, f"recipes/{row['config_id']}.json")
        except UserError:
            return None
        return Relink(
            store=self._index.store,
            row=row | {"uri": content.uri},
            recipe=recipe,
            wanted=target.recipe,
            before=before,
            after=target.config,
            csv_names=tuple(self._index.csv_names(content.video_id)),
            durable=kept if before.biometrics.keep else (),
            in_sequence=content.video_id in self._in_sequences,
        )

    def _lacks_tables(self, relink: Relink | None) -> str:
        """Return the reason why the published tables do not suffice, whatever has changed. Empty if they do."""
        if relink is None:
            return "its published tables are not whole"
        if relink.in_sequence and relink.video_id not in self._summarised:
            return "links of its sequence need its embeddings, which are gone"
        return ""

    def _recipe(self, config_id: str) -> Recipe | None:
        """Return the recipe of a config_id. Return None if there is none that this version can read."""
        if config_id not in self._recipes:
            try:
                stored = records.read_recipe(self._index.store, config_id)
                self._recipes[config_id] = None if stored is None else Recipe.from_json(stored)
            except (UserError, TypeError, KeyError):
                self._recipes[config_id] = None
        return self._recipes[config_id]

    @cached_property
    def _all_recipes(self) -> list[Recipe]:
        names = self._index.store.names("recipes")
        recipes = [self._recipe(name.removeprefix("recipes/").removesuffix(".json")) for name in names]
        return [recipe for recipe in recipes if recipe is not None]

    @cached_property
    def _objects(self) -> Objects:
        return Objects.of(self._work_names)

    @cached_property
    def _work_names(self) -> Collection[str]:
        return self._index.store.names(WORK) if self._given_work_names is None else self._given_work_names

    @cached_property
    def _named(self) -> Mapping[str, set[str]]:
        """The videos that have a file in each dataset."""
        store = self._index.store
        return {
            dataset: {name.removeprefix(f"{dataset}/").removesuffix(".parquet") for name in store.names(dataset)}
            for dataset in (*VIDEO_TABLES, "embeddings")
        }

    @cached_property
    def _summarised(self) -> set[str]:
        return summarised(self._work_names)

    @cached_property
    def _in_sequences(self) -> set[str]:
        return {row["video_id"] for members in self._index.sequences().values() for row in members}


def _step(change: Change, there: Mapping[Basis, bool], lacking: str) -> Step:
    basis = next(basis for basis in Basis if there[basis] and basis >= change.needs)
    if basis is change.needs:
        return Step(change, basis)
    return Step(change, basis, lacking or f"{NOT_KEPT[change.needs]}; {KEEP}=true keeps them")
