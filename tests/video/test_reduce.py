"""From durable chunks to tables, without Ray and without a model. Any fault here is one of the reduce itself."""

import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from pipeline.cores.pauses import Segment
from pipeline.cores.place import GRID, LIGHT_GRID
from pipeline.errors import DataError
from pipeline.models.tracker_options import TRACKERS
from pipeline.rows import DATASETS, VIDEO_TABLES
from pipeline.video import blocks, parts, track, windows
from pipeline.video.blocks import TrackingResult
from pipeline.video.parts import Part
from pipeline.video.reduce import reduce_video
from pipeline.video.track import track_part
from tests.builders import FPS, HEIGHT, WIDTH, Film, Walker, job

TWO_AND_A_CUT = Film(
    12.0,
    [
        Walker(0.0, 7.0, x=20, look=1, age=30.4),
        Walker(1.3, 7.0, x=500, speed=-20, look=2, age=61.2, female_prob=0.1),
        Walker(7.0, 12.0, x=300, speed=10, look=1),
    ],
    cuts=[7.0],
    shift_ns=3_000_000,
)


def reduce(film: Film, place: Path, borders: Sequence[int] = (), *settings: str) -> dict[str, pd.DataFrame]:
    work = job(film, borders, str(place), *settings)
    reduce_video(work, lambda parts: [track_part(part) for part in parts])
    return {name: pd.read_parquet(place / name) for name in (*VIDEO_TABLES, "videos")}


def contents(place: Path) -> dict[str, bytes]:
    return {
        path.relative_to(place).as_posix(): path.read_bytes()
        for path in sorted(place.rglob("*"))
        if path.is_file() and not path.relative_to(place).as_posix().startswith("_")
    }


@pytest.mark.parametrize("borders", [[1], [3, 5, 6], [7], list(range(1, 12)), [2, 4, 6, 8, 10]])
def test_the_length_of_chunks_changes_no_byte(tmp_path: Path, borders: list[int]) -> None:
    reduce(TWO_AND_A_CUT, tmp_path / "one")
    reduce(TWO_AND_A_CUT, tmp_path / "many", borders)
    one, many = contents(tmp_path / "one"), contents(tmp_path / "many")
    assert list(one) == list(many)
    assert [name for name in one if one[name] != many[name]] == []


def test_tracking_the_shots_apart_changes_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reduce(TWO_AND_A_CUT, tmp_path / "one")
    monkeypatch.setattr(parts, "MS_PER_PART", 1)
    seen: list[int] = []

    def run_parts(parts: Sequence[Part]) -> list[TrackingResult]:
        seen.append(len(parts))
        return [track_part(part) for part in parts]

    reduce_video(job(TWO_AND_A_CUT, [3, 8], str(tmp_path / "two")), run_parts)
    assert seen == [2]
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


ON_AND_OFF = Film(
    30.0,
    [
        Walker(0.5, 4.0, x=20, look=1, age=30.4, face=1),
        Walker(2.0, 4.2, x=400, speed=-10, look=2, hidden=((2.5, 3.1),)),
        Walker(9.0, 14.0, x=30, look=1, age=31.0, face=1),
        Walker(17.5, 22.0, x=200, look=3),
        Walker(22.0, 22.2, x=500, speed=0, look=5),
        Walker(26.0, 30.0, x=100, look=2, hidden=((27.0, 28.8),)),
    ],
    cuts=[19.0],
)


@pytest.mark.parametrize("tracker", ["occluboost", "bytetrack", "ocsort"])
def test_tracking_apart_what_pauses_divide_changes_no_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracker: str
) -> None:
    settings = [f"track.tracker={tracker}", "biometrics.keep=true"]
    with monkeypatch.context() as patched:
        patched.setattr(parts, "segments", unbroken)
        reduce(ON_AND_OFF, tmp_path / "one", (), *settings)
    monkeypatch.setattr(parts, "MS_PER_PART", 1)
    numbers: list[int] = []

    def backwards(parts: Sequence[Part]) -> list[TrackingResult]:
        numbers.extend(part.number for part in parts)
        return [track_part(part) for part in reversed(parts)][::-1]

    reduce_video(job(ON_AND_OFF, [5, 10, 20], str(tmp_path / "two"), *settings), backwards)
    assert numbers == [0, 1, 2, 3, 4]  # four stretches with people, one of which contains a cut
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


SWINGING = Film(
    9.0,
    [
        Walker(0.0, 9.0, x=400, speed=-8, look=1, hidden=((2.1, 5.2),)),
        Walker(1.0, 9.0, x=180, speed=8, look=2, hidden=((4.0, 4.7),)),
    ],
    shift_ns=3_000_000,
    swing_px=170,
)


@pytest.mark.parametrize("tracker", ["occluboost", "bytetrack"])
def test_people_are_followed_past_a_camera_that_pans(tmp_path: Path, tracker: str) -> None:
    settings = [f"track.tracker={tracker}", "track.min_score=0.5"]
    told = reduce(SWINGING, tmp_path / "told", (), *settings)
    untold = reduce(SWINGING, tmp_path / "untold", (), *settings, "observe.camera_motion=false")
    assert told["tracklets"].person_id.tolist() == [1, 2, 1]  # one of them is away for longer than the tracker's memory
    assert told["links"].joined.tolist() == [True]
    assert len(untold["tracklets"]) > 3
    for tables in (told, untold):  # the published boxes are those in the picture
        seen = tables["detections"].query("not interpolated")
        for time_s, left in zip(seen.time_s.tolist(), seen.bb_xmin.tolist(), strict=True):
            camera_x = SWINGING.camera_x(round(time_s * 1e9))
            assert left in [box[0] for walker in SWINGING.walkers if (box := walker.box(time_s, camera_x))]


def test_chunks_and_parts_leave_no_trace_where_the_camera_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = replace(ON_AND_OFF, swing_px=60)
    reduce(film, tmp_path / "one")
    reduce(film, tmp_path / "many", range(1, 30))
    monkeypatch.setattr(parts, "MS_PER_PART", 1)
    sizes: list[int] = []

    def run_parts(parts: Sequence[Part]) -> list[TrackingResult]:
        sizes.extend(len(piece.steady.frames) - len(piece.frames) for part in parts for piece in part.pieces)
        return [track_part(pickle.loads(pickle.dumps(part))) for part in parts]

    reduce_video(job(film, [5, 10, 20], str(tmp_path / "parts")), run_parts)
    assert len(sizes) > 3
    assert max(sizes) <= 0  # each part has only its own frames
    assert contents(tmp_path / "one") == contents(tmp_path / "many") == contents(tmp_path / "parts")


def unbroken(times_s: NDArray[np.float64], seen: NDArray[np.bool_], **_: Any) -> list[Segment]:
    return [Segment(0, len(times_s), 0)]


def test_full_blocks_go_to_the_working_area_and_leave_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reduce(ON_AND_OFF, tmp_path / "one")
    monkeypatch.setattr(blocks, "ROWS_PER_BLOCK", 7)
    monkeypatch.setattr(parts, "MS_PER_PART", 40)
    monkeypatch.setattr(windows, "FRAMES_PER_WINDOW", 11)
    work = job(ON_AND_OFF, [], str(tmp_path / "two"))
    found: list[TrackingResult] = []

    def run_parts(parts: Sequence[Part]) -> list[TrackingResult]:
        found.extend(track_part(part) for part in parts)
        return found

    reduce_video(work, run_parts)
    all_blocks = [block for each in found for block in each.blocks]
    held = [block.rows for block in all_blocks if not isinstance(block.rows, str)]
    assert len(found) > 1
    assert len(all_blocks) - len(held) > 10
    assert all(len(rows) < 7 for rows in held)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert not (tmp_path / "two" / "_work" / "v").exists()
    reduce(ON_AND_OFF, tmp_path / "kept", (), "biometrics.keep=true")
    assert sorted(path.name for path in (tmp_path / "kept" / "_work" / "v").iterdir()) == ["enriched-e", "observed-o"]


def test_of_a_reduce_that_breaks_off_nothing_is_seen_and_a_repeat_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reduce(ON_AND_OFF, tmp_path / "one")
    monkeypatch.setattr(blocks, "ROWS_PER_BLOCK", 7)
    monkeypatch.setattr(parts, "MS_PER_PART", 40)
    work = job(ON_AND_OFF, [], str(tmp_path / "two"))
    before = contents(tmp_path / "two")
    left: list[bool] = []

    def dies(parts: Sequence[Part]) -> list[TrackingResult]:
        track_part(parts[0])
        left.append((tmp_path / "two" / "_work" / "v" / "tracked").exists())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reduce_video(work, dies)
    assert left == [True]
    assert contents(tmp_path / "two") == before
    assert work.ledger.durable() == {"v": [(0, -1)]}
    # A killed process cannot clean up. The files that it left are overwritten or never read.
    for name in ("00000.00000", "00000.00001", "00077.00000"):
        work.ledger.store.put(f"_work/v/tracked/{name}.rows", b"half a block")
    assert work.ledger.durable() == {"v": [(0, -1)]}
    reduce_video(work, lambda parts: [track_part(part) for part in parts])
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert not (tmp_path / "two" / "_work" / "v").exists()


def test_a_track_is_finished_once_nobody_can_return_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = [(20, 0), (300, 250), (560, 0), (20, 250), (300, 0), (560, 250)]
    one_after_the_other = Film(
        60.0,
        [Walker(2.0 * n, 2.0 * n + 1.9, x=places[n % 6][0], y=places[n % 6][1], speed=0, look=n) for n in range(30)],
    )
    live: list[int] = []

    class Counted(track._Tracks):
        def finish(self, before: int | None = None) -> None:
            super().finish(before)
            live.append(len(self._live))

    monkeypatch.setattr(track, "_Tracks", Counted)
    tables = reduce(one_after_the_other, tmp_path, (), "track.min_frames=1")
    assert len(tables["tracklets"]) == 30
    assert len(live) > 20
    assert max(live) <= 5


@pytest.mark.parametrize("analysed_fps", [8, 25])
def test_how_long_somebody_must_be_seen_does_not_depend_on_how_many_frames_are_analysed(
    tmp_path: Path, analysed_fps: int
) -> None:
    guests = [Walker(1.02, 1.32, x=300, speed=0, look=2), Walker(1.02, 1.62, x=500, speed=0, look=3)]
    film = Film(4.0, [Walker(0, 4, x=20, look=1), *guests], analysed_fps=analysed_fps)
    tracklets = reduce(film, tmp_path)["tracklets"]
    assert tracklets.end_s.round(1).tolist() == [4.0, 1.6]


def test_the_size_of_windows_changes_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film = Film(6.0, [Walker(0, 6, x=10, hidden=((1.0, 1.6), (2.0, 3.9)), look=1), Walker(2.1, 4, x=400, look=2)])
    reduce(film, tmp_path / "one")
    monkeypatch.setattr(windows, "FRAMES_PER_WINDOW", 3)
    reduce(film, tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_everyone_has_a_row_in_every_frame_in_which_they_are_seen(tmp_path: Path) -> None:
    tables = reduce(TWO_AND_A_CUT, tmp_path)
    rows = tables["detections"]
    first = rows[(rows.person_id == 1) & (rows["shot"] == 1)]
    assert first.frame_num.tolist() == list(range(1, 7 * FPS + 1))
    measured = first[~first.interpolated]
    assert 0.25 < len(measured) / len(first) < 0.4  # 8 of 25
    # Filled boxes are at the place where the person walked at that time.
    np.testing.assert_allclose(first.bb_xmin, 20 + 30 * first.time_s, atol=4)
    assert first.score.isna().equals(first.interpolated)


def test_the_one_who_returns_after_a_cut_is_the_same_person(tmp_path: Path) -> None:
    tables = reduce(TWO_AND_A_CUT, tmp_path)
    assert tables["shots"].end_s.tolist() == [7.003, 12.003]
    assert tables["tracklets"].person_id.tolist() == [1, 2, 1]
    link = tables["links"].query("joined")
    assert link[["tracklet_a", "tracklet_b", "kind"]].values.tolist() == [[1, 3, "shot"]]
    assert tables["persons"].num_tracklets.tolist() == [2, 1]


def test_people_seen_together_are_never_joined_however_alike(tmp_path: Path) -> None:
    twins = Film(8.0, [Walker(0, 8, x=20, look=1), Walker(0, 8, x=400, speed=0, look=1)], cuts=[4.0])
    assert sorted(reduce(twins, tmp_path)["persons"].num_tracklets) in ([2, 2], [1, 1, 1, 1])


def test_one_estimate_per_person_stands_on_every_row(tmp_path: Path) -> None:
    tables = reduce(TWO_AND_A_CUT, tmp_path)
    persons, rows = tables["persons"], tables["detections"]
    assert (persons.age.tolist(), persons.gender.tolist()) == ([30.4, 61.2], ["F", "M"])
    assert ((persons.age_low < persons.age) & (persons.age < persons.age_high)).all()
    told = rows.groupby("person_id")[["age_min", "age_max", "age_actual", "gender"]].agg(["nunique", "first"])
    assert (told.xs("nunique", axis=1, level=1) == 1).to_numpy().all()
    assert told.xs("first", axis=1, level=1).to_numpy().tolist() == [[30, 35, 30, "F"], [60, 65, 61, "M"]]
    assert tables["faces"].person_id.value_counts().sort_index().tolist() == persons.num_faces.tolist()
    told = rows.merge(persons, on=["video_id", "person_id"], suffixes=("", "_of_person"))
    for name in ("age_low", "age_high", "age_why_not", "gender_why_not"):
        pd.testing.assert_series_equal(told[name], told[f"{name}_of_person"], check_names=False)
    assert persons[["age_why_not", "gender_why_not"]].isna().to_numpy().all()
    assert ((persons.age_low < persons.age_high - 5) & (rows.age_low.notna().all())).all()


@pytest.mark.parametrize(("seconds", "age"), [(6.0, 40.0), (4.0, 35.0)])
def test_restored_faces_speak_for_a_person_who_has_enough_of_them(tmp_path: Path, seconds: float, age: float) -> None:
    film = Film(seconds, [Walker(0, seconds, x=20, speed=5, look=1, age=30, restored_age=40)])
    assert reduce(film, tmp_path)["persons"].age.tolist() == [age]


def test_nobody_is_judged_without_faces(tmp_path: Path) -> None:
    tables = reduce(Film(3.0, [Walker(0, 3, x=20)]), tmp_path)
    assert tables["persons"][["age", "age_low", "age_high", "female_prob"]].isna().to_numpy().all()
    assert tables["persons"].gender.tolist() == ["N"]
    for table in (tables["persons"], tables["detections"]):
        assert set(table.age_why_not) == set(table.gender_why_not) == {"no face judged"}
        assert table[["age_low", "age_high"]].isna().to_numpy().all()
    assert set(
        tables["detections"][["age_min", "age_max", "age_actual", "gender"]].itertuples(index=False, name=None)
    ) == {(-1, -1, -1, "N")}


def test_a_video_without_people_is_done_and_empty(tmp_path: Path) -> None:
    tables = reduce(Film(2.0, []), tmp_path)
    assert tables["videos"][["status", "num_frames", "num_shots", "num_persons"]].values.tolist() == [
        ["done", 50, 1, 0]
    ]
    for name in ("detections", "tracklets", "persons", "faces", "links"):
        assert tables[name].columns.tolist() == DATASETS[name].names
        assert len(tables[name]) == 0
    assert len((tmp_path / "csv" / "v.mp4.csv").read_text().splitlines()) == 1


def test_a_video_of_one_frame_has_its_people(tmp_path: Path) -> None:
    tables = reduce(Film(1 / FPS, [Walker(0, 1, x=20), Walker(0, 1, x=300, look=1)]), tmp_path)
    assert tables["detections"].frame_num.tolist() == [1, 1]
    assert tables["videos"].duration_s.tolist() == [1 / FPS]


UNSURE = [
    Walker(0, 60, x=20 + 90 * n, speed=0, look=n, sure=sure) for n, sure in enumerate([0.9, 0.6, 0.5, 0.41, 0.39])
]


@pytest.mark.parametrize("tracker", sorted(TRACKERS))
@pytest.mark.parametrize("num_frames", [1, 2])
def test_in_a_brief_shot_everybody_above_the_working_point_exists(
    tmp_path: Path, tracker: str, num_frames: int
) -> None:
    film = Film(num_frames / 8, UNSURE, fps=8)
    rows = reduce(film, tmp_path, (), f"track.tracker={tracker}", "track.min_score=0.4")["detections"]
    found = sorted(zip(rows.frame_num.tolist(), rows.bb_xmin.tolist(), strict=True))
    assert found == [(frame + 1, x) for frame in range(num_frames) for x in (20, 110, 200, 290)]


def test_a_brief_shot_between_long_ones_has_the_people_of_its_only_analysed_frame(tmp_path: Path) -> None:
    film = Film(4.0, [replace(walker, start_s=2.0, end_s=2.12) for walker in UNSURE], cuts=[2.0, 2.12])
    rows = reduce(film, tmp_path, (), "track.min_score=0.4", "cuts.min_shot_s=0.1")["detections"]
    assert sorted(set(rows.bb_xmin)) == [20, 110, 200, 290]
    assert set(rows.frame_num) == {51, 52, 53}


def test_whoever_sets_the_score_of_new_tracks_himself_gets_it_in_pictures_too(tmp_path: Path) -> None:
    rows = reduce(Film(1 / 8, UNSURE, fps=8), tmp_path, (), "track.options.new_track_thresh=0.55")["detections"]
    assert sorted(rows.bb_xmin) == [20, 110]


@pytest.mark.parametrize(("kind", "fps"), [("video", 8), ("image", None)])
def test_a_picture_has_no_frames_a_second(kind: str, fps: float | None, tmp_path: Path) -> None:
    work = job(Film(1 / 8, UNSURE, fps=8), [], str(tmp_path))
    work = replace(work, probe=replace(work.probe, kind=kind))
    assert reduce_video(work, lambda parts: [track_part(part) for part in parts]).row["fps"] == fps


def test_a_video_without_a_frame_is_a_fault_of_the_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a single frame"):
        reduce(Film(0.0, []), tmp_path)


def test_a_video_with_a_missing_chunk_is_never_published(tmp_path: Path) -> None:
    work = job(TWO_AND_A_CUT, [4, 8], str(tmp_path))
    gap = work.with_chunks((work.chunks[0], work.chunks[2]))
    with pytest.raises(ValueError, match="before all of its chunks are durable"):
        reduce_video(gap, lambda parts: [track_part(part) for part in parts])
    assert len(pd.read_parquet(tmp_path / "videos")) == 0


def test_the_working_area_goes_with_publication_unless_biometrics_are_kept(tmp_path: Path) -> None:
    reduce(TWO_AND_A_CUT, tmp_path / "plain")
    assert not (tmp_path / "plain" / "_work" / "v").exists()
    assert not (tmp_path / "plain" / "embeddings").exists()
    reduce(TWO_AND_A_CUT, tmp_path / "kept", (), "biometrics.keep=true")
    assert (tmp_path / "kept" / "_work" / "v").exists()
    embeddings = pd.read_parquet(tmp_path / "kept" / "embeddings")
    assert embeddings[["kind", "space"]].drop_duplicates().values.tolist() == [["body", "looks"]]
    assert [len(vector) for vector in embeddings.vector] == [32] * 3


def place(seed: int, lightness: int) -> bytes:
    edges = np.random.default_rng(seed).integers(0, 256, 2 * GRID**2)
    return edges.astype(np.uint8).tobytes() + bytes([lightness]) * (2 * LIGHT_GRID**2)


DAY, NIGHT, ELSEWHERE = place(1, 150), place(1, 60), place(2, 60)
SITTERS = Film(
    8.0,
    [
        Walker(0, 4, x=100, speed=0, look=1),
        Walker(0, 4, x=400, speed=0, look=2),
        Walker(4, 8, x=101, speed=0, look=3),
        Walker(4, 8, x=402, speed=0, look=4),
    ],
    cuts=[4.0],
)


def test_sitters_stay_who_they_are_where_a_camera_goes_over_to_infrared(tmp_path: Path) -> None:
    film = replace(SITTERS, places=[DAY, NIGHT])
    tables = reduce(film, tmp_path / "one")
    assert tables["tracklets"].person_id.tolist() == [1, 2, 1, 2]
    assert tables["links"].query("joined").kind.tolist() == ["stay", "stay"]
    reduce(film, tmp_path / "many", range(1, 8))
    assert contents(tmp_path / "one") == contents(tmp_path / "many")


@pytest.mark.parametrize("places", [(), (DAY, ELSEWHERE), (DAY, DAY)])
def test_sitters_of_other_looks_are_others_at_every_other_cut(tmp_path: Path, places: Sequence[bytes]) -> None:
    tables = reduce(replace(SITTERS, places=places), tmp_path)
    assert tables["tracklets"].person_id.tolist() == [1, 2, 3, 4]


def test_boxes_stay_inside_the_picture(tmp_path: Path) -> None:
    walker = Walker(0, 4, x=0, speed=150)
    rows = reduce(Film(4.0, [walker]), tmp_path)["detections"]
    assert (rows.bb_xmin >= 0).all()
    assert (rows.bb_xmin + rows.bb_width <= WIDTH).all()
    assert (rows.bb_ymin + rows.bb_height <= HEIGHT).all()
    # The four numbers all differ, so that swapped axes would be noticed.
    np.testing.assert_allclose(rows.bb_xmin, 150 * rows.time_s, atol=2)
    assert rows.bb_xmin.max() > HEIGHT
    assert rows[["bb_ymin", "bb_width", "bb_height"]].drop_duplicates().values.tolist() == [[100, 60, 180]]


class Line(Walker):
    """A person whose boxes have no width."""

    def box(self, time_s: float, camera_x: float = 0) -> list[float] | None:
        found = super().box(time_s, camera_x)
        return found and [found[0], found[1], found[0], found[3]]


def test_a_stored_box_without_width_changes_no_byte(tmp_path: Path) -> None:
    films = [[*TWO_AND_A_CUT.walkers, *more] for more in ([], [Line(2.0, 12.0, x=100, look=3)])]
    one, other = (replace(TWO_AND_A_CUT, walkers=walkers) for walkers in films)
    reduce(one, tmp_path / "one")
    reduce(other, tmp_path / "other")
    assert contents(tmp_path / "one") == contents(tmp_path / "other")
