"""`relink` makes the same bytes from a published output that `process` would have made with the same knobs."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from jobs.relink import find_work, relink
from pipeline.config import load
from pipeline.cores.link.times import apart_us
from pipeline.errors import UserError
from pipeline.planning import recipe
from pipeline.planning.catalog import Content, VideoStatus, video_status
from pipeline.planning.changes import Basis
from pipeline.planning.published import read_links, read_presence
from pipeline.planning.relink import choose_basis
from pipeline.storage import replacement, tables
from pipeline.storage.ledger import WORK, Keys
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.store import Store
from pipeline.video import track
from pipeline.video.relink import relink_video
from tests.builders import Film, Walker, publish

CROWD = Film(
    24.0,
    [
        Walker(0.0, 5.0, x=20, look=1, age=30.4, face=1),
        Walker(0.5, 3.0, x=300, look=2, age=50.2),
        Walker(4.2, 8.0, x=355, speed=5, look=2.25, age=55.0, female_prob=0.3),
        Walker(6.5, 8.0, x=180, look=1.3, age=24.9, face=1.2),
        Walker(8.0, 12.0, x=100, look=2.1, age=48.0, hidden=((9.0, 9.9),)),
        Walker(8.0, 11.0, x=400, speed=-20, look=1.2, face=1.1, age=31.7),
        Walker(12.9, 16.0, x=120, look=2.3, age=61.0),
        Walker(16.0, 20.0, x=50, look=3, age=12.0, face=3),
        Walker(14.0, 14.5, x=450, look=5),
        Walker(16.0, 24.0, x=400, speed=-5, look=2.2, hidden=((18.0, 18.5),)),
        Walker(21.5, 24.0, x=200, look=3.35, age=14.0, face=3.3),
    ],
    cuts=[8.0, 16.0],
    shift_ns=3_000_000,
)
CROSSED = [
    "crossings.lines.door=[[0.3, 0], [0.3, 1]]",
    "crossings.zones.room=[[0.2, 0.2], [0.5, 0.2], [0.5, 0.9], [0.2, 0.9]]",
    "crossings.sides=true",
]
ON_SCORES = [
    ["identity.wrong_joins=1e-6"],
    ["identity.wrong_joins=0.5"],
    ["identity.gap_motion=0.1"],
    ["identity.gap_motion_per_s=0"],
    ["identity.wrong_joins=1e-9"],
    ["identity.max_gap_s=1.3"],
    ["identity.shot_max_s=5"],
    ["identity.candidates=2"],
    ["identity.max_gap_s=1.3", "identity.shot_max_s=5", "identity.candidates=3", "identity.wrong_joins=0.01"],
    ["person.min_faces=4", "person.correlation=0.1", "person.min_gender_prob=0.97"],
    ["person.min_weight=6"],
]
ON_EMBEDDINGS = [
    ["identity.max_gap_s=20"],
    ["identity.shot_max_s=500"],
    ["identity.candidates=20"],
    ["identity.max_absence_s=30"],
]
ON_CHUNKS = [
    ["track.fill_gap_s=0.2", "track.min_frames=5"],
    ["track.tracker=bytetrack", "track.min_score=0.95"],
    ["cuts.threshold=200"],
    ["track.memory_s=0.5", "identity.max_gap_s=10", "person.min_faces=1"],
]


@pytest.fixture(scope="module", params=["plain", "kept"])
def published(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output under the default knobs, without and with kept biometrics."""
    place = tmp_path_factory.mktemp(request.param)
    publish(CROWD, [3, 9, 17], str(place), *_keep(place))
    return place


@pytest.fixture
def output(published: Path, tmp_path: Path) -> Path:
    """A copy to work on, in a folder whose name says whether biometrics are kept."""
    return Path(shutil.copytree(published, tmp_path / published.name))


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    publish(CROWD, [], str(tmp_path / "plain"))
    return tmp_path / "plain"


def _keep(place: Path) -> list[str]:
    return ["biometrics.keep=true"] if place.name.startswith("kept") else []


def contents(place: Path) -> dict[str, bytes]:
    """Return the files that do not depend on the time and place of a run."""
    names = {path.relative_to(place).as_posix(): path for path in sorted(place.rglob("*")) if path.is_file()}
    return {
        name: path.read_bytes()
        for name, path in names.items()
        if name != "run.json" and not name.startswith(("runs/", "recipes/", "_lease/", "_events/"))
    }


def from_the_start(output: Path, *settings: str) -> dict[str, bytes]:
    place = output.with_name(f"{output.name}-anew")
    publish(CROWD, [3, 9, 17], str(place), *_keep(output), *settings)
    return contents(place)


def differing(one: dict[str, bytes], other: dict[str, bytes]) -> list[str]:
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def persons(place: Path) -> pd.DataFrame:
    return pd.read_parquet(place / "persons")


def basis_of(place: Path, *settings: str) -> Basis:
    (task,) = find_work(OutputIndex.load(Store(str(place))), settings)
    return choose_basis(task)


# --- the same bytes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", ON_SCORES, ids=" ".join)
def test_thresholds_and_narrower_limits_act_on_stored_scores(output: Path, settings: list[str]) -> None:
    before = contents(output)
    assert basis_of(output, *settings) is Basis.SCORES
    relink(str(output), settings)
    after = contents(output)
    assert differing(after, from_the_start(output, *settings)) == []
    assert {"links/v.parquet", "persons/v.parquet"} & {*differing(before, after)}


@pytest.mark.parametrize("published", ["kept"], indirect=True)
@pytest.mark.parametrize("settings", ON_EMBEDDINGS, ids=" ".join)
def test_with_kept_embeddings_identity_is_found_again_without_tracking(
    output: Path, settings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = from_the_start(output, *settings)
    assert basis_of(output, *settings) is Basis.EMBEDDINGS
    monkeypatch.setattr(track, "track_part", lambda _: pytest.fail("tracked"))
    relink(str(output), settings)
    assert differing(contents(output), expected) == []


@pytest.mark.parametrize("published", ["kept"], indirect=True)
@pytest.mark.parametrize("settings", ON_CHUNKS, ids=" ".join)
def test_with_kept_boxes_and_embeddings_tracking_and_cuts_are_done_again(output: Path, settings: list[str]) -> None:
    before = contents(output)
    assert basis_of(output, *settings) is Basis.CHUNKS
    relink(str(output), settings)
    assert differing(contents(output), from_the_start(output, *settings)) == []
    assert "tracklets/v.parquet" in differing(before, contents(output))


@pytest.mark.parametrize("published", ["kept"], indirect=True)
def test_the_three_ways_agree(output: Path) -> None:
    made = []
    for one in (Basis.SCORES, Basis.EMBEDDINGS, Basis.CHUNKS):
        copy = Path(shutil.copytree(output, output.with_name(f"kept-{one.name}")))
        (task,) = find_work(OutputIndex.load(Store(str(copy))), ["identity.wrong_joins=0.001"])
        relink_video(task, one)
        made.append(contents(copy))
    assert made[0] == made[1] == made[2] != contents(output)


@pytest.mark.parametrize("moved", range(9))
def test_a_worker_that_dies_at_the_end_is_followed_by_one_that_ends_its_work(
    plain: Path, monkeypatch: pytest.MonkeyPatch, moved: int
) -> None:
    settings = ["identity.wrong_joins=0.001", "identity.max_gap_s=1.3"]
    expected = from_the_start(plain, *settings)
    (task,) = find_work(OutputIndex.load(Store(str(plain))), settings)
    with monkeypatch.context() as patch:
        _stopping_in_replacement(patch, moved)
        with pytest.raises(StopError):
            relink_video(task, Basis.SCORES)
    row = relink_video(task, Basis.SCORES)
    assert differing(contents(plain), expected) == []
    assert [row] == tables.read(Store(str(plain)), "videos").to_pylist()


def test_people_who_are_known_by_their_bodies_alone_are_linked_again(tmp_path: Path) -> None:
    film = Film(
        9.0, [Walker(0, 9, x=20, look=1, body_age=61.2), Walker(0, 9, x=400, speed=2, look=2, age=30.0, body_age=70.0)]
    )
    settings = ["estimate.uses=both"]
    publish(film, [4], str(tmp_path / "before"), *settings)
    publish(film, [4], str(tmp_path / "wanted"), *settings, "person.min_bodies=20")
    persons = pd.read_parquet(tmp_path / "before" / "persons")
    assert persons[["age", "estimated_from"]].values.tolist() == [[61.2, "body"], [30.0, "face"]]
    (bodies,) = pd.read_parquet(tmp_path / "before" / "tracklets").bodies.dropna()
    assert [body["frame_num"] for body in bodies] == [1 + 25 * second for second in range(9)]
    relink(str(tmp_path / "before"), ["person.min_bodies=20"])
    assert differing(contents(tmp_path / "before"), contents(tmp_path / "wanted")) == []
    assert pd.read_parquet(tmp_path / "before" / "persons").age.isna().tolist() == [True, False]


@pytest.mark.parametrize("settings", [ON_SCORES[2], ON_EMBEDDINGS[0], ON_CHUNKS[0]], ids=" ".join)
def test_a_camera_that_moves_is_taken_out_again(tmp_path: Path, settings: list[str]) -> None:
    film, keep = replace(CROWD, swing_px=15), ["biometrics.keep=true"]
    publish(film, [5], str(tmp_path / "one"), *keep)
    publish(film, [], str(tmp_path / "anew"), *keep, *settings)
    relink(str(tmp_path / "one"), settings)
    tables_of = [
        {name: held for name, held in contents(tmp_path / place).items() if "_work" not in name}
        for place in ("one", "anew")
    ]
    assert differing(*tables_of) == []


def test_a_line_is_drawn_and_removed_without_decoding(output: Path) -> None:
    before = contents(output)
    assert not (output / "crossings" / "v.parquet").exists()
    relink(str(output), CROSSED)
    table = pd.read_parquet(output / "crossings")
    assert set(table["kind"]) == {"line", "zone"}  # nobody comes in over a side
    assert differing(contents(output), from_the_start(output, *CROSSED)) == []
    assert table["time_s"].is_monotonic_increasing
    changed = differing(before, contents(output))
    assert {name.split("/")[0] for name in changed} == {"crossings", "videos"}  # `videos` has the config_id
    relink(str(output), ["crossings.lines.door=null", "crossings.zones=null", "crossings.sides=false"])
    assert differing(before, contents(output)) == []
    assert len(pd.read_parquet(output / "crossings")) == 0


def test_there_and_back_again_changes_no_byte(output: Path) -> None:
    before = contents(output)
    relink(str(output), ["identity.wrong_joins=0.0001", "person.min_faces=5"])
    assert differing(before, contents(output))
    relink(str(output), ["identity.wrong_joins=0.05", "person.min_faces=2"])
    assert differing(before, contents(output)) == []


def test_one_change_after_the_other_is_both_at_once(plain: Path) -> None:
    relink(str(plain), ["identity.wrong_joins=0.001"])
    relink(str(plain), ["person.min_faces=4"])
    expected = from_the_start(plain, "identity.wrong_joins=0.001", "person.min_faces=4")
    assert differing(contents(plain), expected) == []


def test_the_size_of_row_groups_and_windows_leaves_no_trace(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ["identity.wrong_joins=1e-9"]
    expected = pd.read_parquet(_relinked_copy(plain, settings) / "detections")
    order = [own.tracklet_id.tolist() for _, own in expected.groupby("frame_num")]
    assert order != [own.tracklet_id.tolist() for _, own in pd.read_parquet(plain / "detections").groupby("frame_num")]
    monkeypatch.setattr(tables, "ROWS_PER_GROUP", 7)
    small = plain.with_name("small")
    publish(CROWD, [], str(small))
    pd.testing.assert_frame_equal(pd.read_parquet(_relinked_copy(small, settings) / "detections"), expected)


def _relinked_copy(place: Path, settings: list[str]) -> Path:
    copy = Path(shutil.copytree(place, place.with_name(f"{place.name}-copy")))
    relink(str(copy), settings)
    return copy


@pytest.mark.parametrize(
    "film",
    [
        Film(2.0, []),
        Film(3.0, [Walker(0, 3, x=20)]),
        Film(1 / 25, [Walker(0, 1, x=20, age=30.0)]),
        Film(3 / 25, [Walker(0, 1, x=20, age=30.0)]),
    ],
    ids=["nobody", "one", "a picture", "one look"],
)
def test_videos_of_next_to_nothing(film: Film, tmp_path: Path) -> None:
    settings = ["identity.wrong_joins=0.2", "identity.max_gap_s=1", "person.min_faces=3"]
    publish(film, [], str(tmp_path / "one"))
    publish(film, [], str(tmp_path / "anew"), *settings)
    relink(str(tmp_path / "one"), settings)
    assert differing(contents(tmp_path / "one"), contents(tmp_path / "anew")) == []


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [*ON_EMBEDDINGS, *ON_CHUNKS], ids=" ".join)
def test_without_embeddings_the_rest_is_refused_and_what_is_missing_named(plain: Path, settings: list[str]) -> None:
    before = contents(plain)
    with pytest.raises(UserError) as refused:
        relink(str(plain), settings)
    told = str(refused.value)
    assert "/in/v.mp4" in told
    assert settings[0].partition("=")[0] in told
    assert "embeddings" in told
    assert "biometrics.keep=true" in told
    assert contents(plain) == before


def test_a_pair_that_was_crowded_out_is_missed(tmp_path: Path) -> None:
    # The person two shots later is more similar than the one in the next shot. With one candidate only that pair is
    # stored.
    walkers = [Walker(2 * shot, 2 * shot + 2, x=100, look=look) for shot, look in enumerate([1, 1.3, 1.0, 1.3])]
    film = Film(8.0, walkers, cuts=[2.0, 4.0, 6.0])
    near = ["identity.shot_max_s=1"]
    publish(film, [], str(tmp_path / "one"), "identity.candidates=1")
    told = r"identity\.shot_max_s=1: \d of its tracklets had more candidates than the 1 that were written down"
    with pytest.raises(UserError, match=told):
        relink(str(tmp_path / "one"), near)
    publish(film, [], str(tmp_path / "two"))
    relink(str(tmp_path / "two"), near)
    publish(film, [], str(tmp_path / "anew"), *near)
    assert differing(contents(tmp_path / "two"), contents(tmp_path / "anew")) == []


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("observe.fps=4", "rollcall process"),
        ("biometrics.keep=true", "rollcall process"),
        ("run.max_reduces=2", "rollcall process"),
        ("identity.max_gap=2", "did you mean identity.max_gap_s"),
        ("identity.max_gap_s=long", "identity.max_gap_s"),
        ("identity.candidates=0", "at least 1"),
    ],
)
def test_a_setting_that_it_cannot_follow_is_refused(plain: Path, setting: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        relink(str(plain), [setting])


def test_a_folder_that_is_no_output_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no output of rollcall"):
        relink(str(tmp_path), [])


def test_a_video_of_unknown_making_is_refused_and_named(plain: Path) -> None:
    shutil.rmtree(plain / "recipes")
    with pytest.raises(UserError, match=r"recipes/\w+\.json is missing, which says how /in/v\.mp4 was made"):
        relink(str(plain), ["identity.wrong_joins=0.2"])


def test_tables_of_another_reduce_are_made_from_the_chunks_or_not_at_all(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "REDUCE_REVISION", recipe.REDUCE_REVISION + 1)
    if _keep(output):
        assert basis_of(output) is Basis.CHUNKS
        relink(str(output), [])
        assert differing(contents(output), from_the_start(output)) == []
    else:
        with pytest.raises(UserError, match="another version of rollcall"):
            relink(str(output), [])


def test_the_working_area_is_left_as_it_was(output: Path) -> None:
    before = sorted(path.relative_to(output) for path in output.glob("_work/**"))
    relink(str(output), ["identity.wrong_joins=0.001"])
    assert sorted(path.relative_to(output) for path in output.glob("_work/**")) == before
    assert (output / "_work" / "v").exists() == bool(_keep(output))


# --- the books -------------------------------------------------------------------------------------------------------


def test_process_knows_what_is_up_to_date(plain: Path) -> None:
    def seen_with(*settings: str) -> VideoStatus:
        one = Content(video_id="v", uris=("/in/v.mp4",))
        config = load(settings=settings).on_device("cpu")
        return video_status(one, OutputIndex.load(Store(str(plain))), recipe.reduced_id(Keys("o", "e"), config, {}))

    assert (seen_with(), seen_with("identity.wrong_joins=0.001")) == (VideoStatus.DONE, VideoStatus.CHANGED)
    relink(str(plain), ["identity.wrong_joins=0.001"])
    assert (seen_with(), seen_with("identity.wrong_joins=0.001")) == (VideoStatus.CHANGED, VideoStatus.DONE)


def test_settings_come_on_top_of_how_each_video_was_made(tmp_path: Path) -> None:
    publish(CROWD, [], str(tmp_path), "person.min_faces=4", "identity.max_gap_s=3")
    relink(str(tmp_path), ["identity.wrong_joins=0.001"])
    content = json.loads((tmp_path / "run.json").read_text())
    configuration = content["configuration"]
    assert (configuration["person"]["min_faces"], configuration["identity"]["max_gap_s"]) == (4, 3)
    assert configuration["identity"]["wrong_joins"] == 0.001
    assert content["models"]["body"]["name"] == "looks"
    (row,) = pd.read_parquet(tmp_path / "videos").to_dict("records")
    assert (content["config_id"], content["videos"]) == (row["config_id"], {"done": 1, "quarantined": 0})
    assert pd.read_parquet(tmp_path / "runs").run_id.tolist() == [content["run_id"]]


def test_what_is_so_already_is_left_alone(plain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in plain.rglob("*.parquet")}
    relink(str(plain), ["identity.wrong_joins=0.05"])
    assert {path: path.stat().st_mtime_ns for path in plain.rglob("*.parquet")} == before
    assert "nothing to do" in capsys.readouterr().out


def test_when_a_tracklet_was_seen_is_read_back_as_it_was_measured(plain: Path) -> None:
    seen = read_presence(Store(str(plain)), "v")
    rows = pd.read_parquet(plain / "detections")
    for index, (_, own) in enumerate(rows.groupby("tracklet_id")):
        frames = [frame for start, end in seen.intervals[index].tolist() for frame in range(start, end)]
        assert frames == sorted(own.frame_num - 1)
    assert max(map(len, seen.intervals)) > 1
    assert (seen.last_us > seen.first_us).all()


def test_links_are_as_late_as_their_tracklets_to_the_microsecond(tmp_path: Path) -> None:
    publish(replace(CROWD, shift_ns=3_456_789), [], str(tmp_path))
    seen, links = read_presence(Store(str(tmp_path)), "v"), read_links(Store(str(tmp_path)), "v")
    late_us = apart_us(seen.first_us, seen.last_us, links.a, links.b)
    assert (links.gap_s == np.round(late_us / 1e6, 6)).all()
    assert (late_us % 1000).any()


# --- nothing half-written --------------------------------------------------------------------------------------------


class StopError(Exception):
    pass


def _stopping_after(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, times: int) -> None:
    """Make a method fail after so many calls."""
    plainly, calls = getattr(owner, name), []

    def failing(*arguments: object, **named: object) -> object:
        calls.append(name)
        if len(calls) > times:
            raise StopError
        return plainly(*arguments, **named)

    monkeypatch.setattr(owner, name, failing)


def _stopping_in_replacement(monkeypatch: pytest.MonkeyPatch, moved: int) -> None:
    """Stop after so many of the eight files are moved, or when the row is to be written, or never."""
    if moved < 8:
        _stopping_after(monkeypatch, Store, "move", moved)
    elif moved == 8:
        _stopping_after(monkeypatch, replacement, "show_video", 0)


@pytest.mark.parametrize("moved", range(10))
def test_an_interruption_while_tables_are_replaced_is_made_good(
    plain: Path, monkeypatch: pytest.MonkeyPatch, moved: int
) -> None:
    settings = ["identity.wrong_joins=0.001", "identity.max_gap_s=1.3"]
    expected = from_the_start(plain, *settings)
    with monkeypatch.context() as patch:
        _stopping_in_replacement(patch, moved)
        if moved < 9:
            with pytest.raises(StopError):
                relink(str(plain), settings)
            assert not pd.read_parquet(plain / "videos").query("status == 'done'").shape[0]
        else:
            relink(str(plain), settings)
    replacement.finish_replacing(Store(str(plain)), Store(str(plain)).names(WORK))
    assert differing(contents(plain), expected) == []


@pytest.mark.parametrize("written", range(8))
def test_an_interruption_before_that_leaves_what_was_there(
    plain: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    before = contents(plain)
    with monkeypatch.context() as patch:
        _stopping_after(patch, tables.pq.ParquetWriter, "write_table", written)
        with pytest.raises(StopError):
            relink(str(plain), ["identity.wrong_joins=0.001"])
    assert {name: old for name, old in contents(plain).items() if not name.startswith("_work")} == before
    replacement.finish_replacing(Store(str(plain)), Store(str(plain)).names(WORK))
    assert contents(plain) == before
