"""The least work that a difference between two recipes needs."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from pipeline.planning import recipe as recipes
from pipeline.planning.changes import Basis, cheapest_basis, compare
from pipeline.planning.recipe import Recipe
from pipeline.weights import Registry
from tests.builders import configured


def recipe(*settings: str) -> Recipe:
    config = configured(*settings)
    return Recipe.from_json(Recipe.of(config, Registry.of(config, lambda _: iter(()))).to_json())


def described(before: Recipe, after: Recipe) -> list[str]:
    return [f"{change}: {change.needs.name}" for change in compare(before, after)]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([], ["identity.wrong_joins=0.1"], ["identity.wrong_joins 0.05 -> 0.1: SCORES"]),
        ([], ["person.min_faces=3"], ["person.min_faces 2 -> 3: SCORES"]),
        ([], ["identity.max_gap_s=4"], ["identity.max_gap_s 5 -> 4: SCORES"]),
        ([], ["identity.max_gap_s=6"], ["identity.max_gap_s 5 -> 6: EMBEDDINGS"]),
        ([], ["identity.max_absence_s=20"], ["identity.max_absence_s 0 -> 20: EMBEDDINGS"]),
        (["identity.max_absence_s=20"], [], ["identity.max_absence_s 20 -> 0: SCORES"]),
        (
            ["identity.max_absence_s=20"],
            ["identity.max_absence_s=20", "identity.max_gap_s=4"],
            ["identity.max_gap_s 5 -> 4: EMBEDDINGS"],
        ),
        ([], ["cuts.threshold=30"], ["cuts.threshold 27 -> 30: CHUNKS"]),
        ([], ["track.options.new_track_thresh=0.7"], ["track.options.new_track_thresh unset -> 0.7: CHUNKS"]),
        (
            ["crossings.sides=true"],
            ["crossings.sides=true", "crossings.lines.door=[[0, 0.5], [1, 0.5]]"],
            ["crossings.lines.door unset -> [[0.0, 0.5], [1.0, 0.5]]: SCORES"],
        ),
        ([], ["crossings.jitter=0.2"], []),
        ([], ["compute.pixels=planes"], ["compute.pixels rgb -> planes: VIDEO"]),
        (["compute.pixels=planes"], [], ["compute.pixels planes -> rgb: VIDEO"]),
        ([], ["crossings.sides=true"], ["crossings.sides unset -> true: SCORES"]),
        (
            ["crossings.zones.a=[[0, 0], [1, 0], [1, 1]]"],
            [],
            ["crossings.zones.a [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]] -> unset: SCORES"],
        ),
        (
            ["crossings.sides=true"],
            ["crossings.sides=true", "crossings.jitter=0.2"],
            ["crossings.jitter 0.1 -> 0.2: SCORES"],
        ),
        ([], ["estimate.batch=8"], ["estimate.batch 16 -> 8: FACES"]),
        ([], ["estimate.estimator=null"], ["estimate.estimator bosch-heads -> null: FACES"]),
        ([], ["gate.min_score=0.9"], ["gate.min_score 0.8 -> 0.9: VIDEO"]),
        ([], ["restore.mode=auto"], ["restore.mode off -> auto: VIDEO"]),
        ([], ["observe.fps=4"], ["observe.fps 8 -> 4: VIDEO"]),
        ([], ["biometrics.keep=true"], ["biometrics.keep false -> true: VIDEO"]),
        (["biometrics.keep=true"], [], ["biometrics.keep true -> false: SCORES"]),
        ([], ["chunk.max_seconds=5", "run.max_reduces=2", "observe.decode_threads=1"], []),
    ],
)
def test_every_knob_has_the_cheapest_way_that_can_follow_it(
    before: Sequence[str], after: Sequence[str], expected: list[str]
) -> None:
    assert described(recipe(*before), recipe(*after)) == expected


def test_every_result_knob_but_those_of_the_reduce_and_the_estimate_needs_the_video() -> None:
    plain = recipe()
    for key in plain.knobs:
        (change,) = compare(plain, replace(plain, knobs={**plain.knobs, key: "another"} | _number(key)))
        section = key.split(".")[0]
        cheap = {"identity": Basis.EMBEDDINGS, "person": Basis.SCORES, "track": Basis.CHUNKS, "cuts": Basis.CHUNKS}
        limit = {**cheap, "estimate": Basis.FACES}.get(section, Basis.VIDEO)
        limit = Basis.VIDEO if key == "estimate.uses" else limit  # pictures of bodies are kept only if they are used
        assert change.needs <= limit, key
        assert change.needs is limit or section == "identity", key


def _number(key: str) -> dict[str, float]:
    return {key: 1e6} if key.startswith("identity.") else {}


def test_other_weights_count_as_a_change_of_their_stage() -> None:
    made = recipe()
    for role, basis in (("detector", Basis.VIDEO), ("face_detector", Basis.VIDEO), ("estimator.heads", Basis.FACES)):
        other = {**made.models, role: {**made.models[role], "sha256": "0123456789abcdef"}}
        (change,) = compare(made, replace(made, models=other))
        assert change.needs is basis
        assert str(change).startswith(f"weights of {role} {made.models[role]['name']} (")
        assert str(change).endswith(f"-> {made.models[role]['name']} (01234567)")


def test_another_version_of_the_code_is_named_where_no_knob_explains_another_key() -> None:
    made = recipe()
    observed = replace(made, keys=replace(made.keys, observed="x", enriched="y"))
    enriched = replace(made, keys=replace(made.keys, enriched="y"))
    reduced = replace(made, reduce_revision=recipes.REDUCE_REVISION + 1)
    version = "another version of rollcall"
    assert described(made, observed) == [f"{version}: VIDEO"]
    assert described(made, enriched) == [f"{version}: VIDEO"]
    assert described(made, reduced) == [f"{version}: CHUNKS"]


def test_a_knob_of_another_version_needs_what_its_section_acts_on() -> None:
    made = recipe()
    without = {key: value for key, value in made.knobs.items() if key not in ("person.min_faces", "observe.fps")}
    assert described(replace(made, knobs=without), made) == [
        "observe.fps unset -> 8: VIDEO",
        "person.min_faces unset -> 2: CHUNKS",
    ]


def test_a_knob_that_recipes_leave_out_at_its_default_is_described_by_that() -> None:
    made = recipe()
    on_card = replace(made, knobs={**made.knobs, "observe.decoder": "auto"})
    assert described(on_card, made) == ["observe.decoder auto -> cpu: VIDEO"]
    assert described(made, on_card) == ["observe.decoder cpu -> auto: VIDEO"]


def test_what_the_registry_says_of_likenesses_acts_on_embeddings() -> None:
    made = recipe()
    other = replace(made, likenesses={**made.likenesses, "body": {"same": [0.1, 0.5], "other": [0.5, 0.5]}})
    assert cheapest_basis(compare(made, other)) is Basis.CHUNKS
