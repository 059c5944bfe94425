"""Files of one camera, from durable chunks to `sequences`, without Ray and without a model."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise, permutations
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from jobs.relink import relink
from jobs.shared.cleanup import clear_work, prune_output
from pipeline.cores.sequence import FilePerson
from pipeline.flow.sequence_ends import link_here
from pipeline.storage import records, tombstones
from pipeline.storage.ledger import WORK, drop_older_summaries
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.sources import Listing, Source
from pipeline.storage.store import Store
from pipeline.video import forgetting, sequence_link, sequences
from pipeline.video.reduce import reduce_video
from pipeline.video.sequence_link import link_sequence
from pipeline.video.sequences import SequenceJob
from pipeline.video.track import track_part
from tests.builders import Film, Walker, job, target, with_recipe
from tests.golden.by_hand import contents

WHOLE = Film(
    18.0,
    [
        Walker(0, 18, x=20, speed=20, look=1),
        Walker(3, 5.5, x=500, speed=0, look=5),
        Walker(10, 14, x=500, speed=0, look=8, hidden=((11.5, 12.5),)),
        Walker(16, 18, x=200, speed=0, look=5),
    ],
)


def cut(film: Film, *borders: float) -> list[Film]:
    """Return the pieces of a film. Each one begins at time zero."""
    edges = [0.0, *borders, film.duration_s]
    pieces = []
    for start, end in pairwise(edges):
        walkers = [
            replace(
                walker,
                start_s=walker.start_s - start,
                end_s=walker.end_s - start,
                hidden=tuple((a - start, b - start) for a, b in walker.hidden),
            )
            for walker in film.walkers
            if walker.start_s < end and walker.end_s > start
        ]
        pieces.append(Film(end - start, walkers))
    return pieces


FILES = dict(zip("abc", cut(WHOLE, 6, 12), strict=True))


def name(store: Store, named: Mapping[str, Sequence[str]], **told: Any) -> OutputIndex:
    """Enter the files of sequences into the output's index. Each file is named after its content."""
    index = OutputIndex.load(store)
    index.name_sources(
        Listing(
            tuple(
                Source(uri=f"/in/{video}.mp4", name=f"{video}.mp4", named_by="@l", sequence=of, place=place, **told)
                for of, videos in named.items()
                for place, video in enumerate(videos)
            ),
            0,
            ("@other",),
        )
    )
    for videos in named.values():
        for video in videos:
            index.set_source(f"/in/{video}.mp4", video_id=video.split("=")[0])
    return index


def publish(store: Store, video: str, film: Film, *settings: str, in_sequence: bool = True, **told: Any) -> None:
    work = with_recipe(job(film, [], store.uri, *settings, video_id=video))
    work = replace(work, in_sequence=in_sequence, probe=replace(work.probe, **told))
    reduce_video(work, lambda parts: [track_part(part) for part in parts])


def link(index: OutputIndex) -> list[str]:
    """Do the last step of `process`. Return the names of the linked sequences."""
    index = OutputIndex(index.store, index.sources, OutputIndex.load(index.store).videos)
    index.save_sources()
    sequences.drop_ended(index)
    jobs = sequences.find_work(index)
    for one in jobs:
        link_sequence(one)
    return [one.name for one in jobs]


def rows(store: Store) -> list[tuple[Any, ...]]:
    """Return (position, video_id, person_id, sequence_person_id) of each row, in order."""
    table = pd.read_parquet(store.full("sequences"))
    return list(table[["position", "video_id", "person_id", "sequence_person_id"]].itertuples(index=False, name=None))


def test_whom_the_edge_cuts_off_is_known_when_files_are_linked(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for video, y in (("a", 0.0), ("b", 100.0)):
        publish(store, video, Film(2.0, [Walker(0, 2, x=100, y=y, speed=0)]))
    linked: list[FilePerson] = []

    def keep(persons: Sequence[FilePerson], *_: object) -> list[int]:
        linked.extend(persons)
        return [1] * len(persons)

    monkeypatch.setattr(sequence_link, "number_sequence", keep)
    link(name(store, {"s": ["a", "b"]}))
    assert [person.summary.cut_off for person in linked if person.summary] == [(True, True), (False, False)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "out"))


@pytest.fixture
def linked(store: Store) -> Store:
    """An output in which the three files are linked."""
    for video, film in FILES.items():
        publish(store, video, film)
    link(name(store, {"cam": "abc"}))
    return store


def standing(store: Store, sequence: str = "cam") -> str:
    return next(
        str(status) for status in sequences.sequence_statuses(OutputIndex.load(store)) if status.sequence == sequence
    )


def forget(store: Store, *videos: str) -> None:
    """Age the summaries of these videos until they expire, and clear them."""
    long_ago = time.time() - 9 * 86400
    for video in videos:
        os.utime(store.full(f"_work/sequences/{video}.parquet"), (long_ago, long_ago))
    clear_work(OutputIndex.load(store), target("c"))


def test_the_files_have_the_persons_of_the_whole(linked: Store) -> None:
    assert rows(linked) == [
        (1, "a", 1, 1),
        (1, "a", 2, 2),
        (2, "b", 1, 1),
        (2, "b", 2, 3),
        (3, "c", 1, 1),
        (3, "c", 2, 3),
        (3, "c", 3, 4),  # looks like the second, but inside a shot that is no evidence after so long
    ]
    assert standing(linked) == "cam: 3 of 3 files done, 4 persons, times end to end"


def test_only_the_dataset_of_sequences_is_written(store: Store) -> None:
    for video, film in FILES.items():
        publish(store, video, film)
    index = name(store, {"cam": "abc"})
    index.save_sources()
    before = contents(Path(store.uri))
    link(index)
    after = contents(Path(store.uri))
    assert {path.split("/")[0] for path in after if after[path] != before.get(path)} == {"sequences"}
    assert before.keys() <= after.keys()


def test_the_order_of_publishing_changes_no_byte(tmp_path: Path, linked: Store) -> None:
    expected = contents(Path(linked.uri))
    for number, order in enumerate(permutations("abc")):
        other = Store(str(tmp_path / str(number)))
        for video in order:
            publish(other, video, FILES[video])
            if number % 2:  # as if every run had been interrupted
                link(name(other, {"cam": "abc"}))
        link(name(other, {"cam": "abc"}))
        assert contents(Path(other.uri)) == expected


def test_what_is_linked_is_not_linked_again(linked: Store) -> None:
    assert link(name(linked, {"cam": "abc"})) == []
    forget(linked, "a", "b", "c")
    assert link(name(linked, {"cam": "abc"})) == []


def test_a_file_that_comes_later_is_linked_as_if_it_had_been_there(store: Store, tmp_path: Path, linked: Store) -> None:
    other = Store(str(tmp_path / "later"))
    for video in "ab":
        publish(other, video, FILES[video])
    link(name(other, {"cam": "ab"}))
    before = rows(other)
    publish(other, "c", FILES["c"])
    assert link(name(other, {"cam": "c"})) == ["cam"]
    assert rows(other)[: len(before)] == before
    assert contents(Path(other.uri)) == contents(Path(linked.uri))


@pytest.mark.parametrize(("lost", "found"), [("a", [1, 3, 4]), ("b", [4, 5, 6])])
def test_a_file_that_comes_after_the_time_to_live_is_linked_with_what_is_still_there(
    store: Store, lost: str, found: list[int]
) -> None:
    for video in "ab":
        publish(store, video, FILES[video])
    link(name(store, {"cam": "ab"}))
    before = rows(store)
    forget(store, lost)
    assert "1 of 2 files can no longer be linked" in standing(store)
    publish(store, "c", FILES["c"])
    link(name(store, {"cam": "c"}))
    assert rows(store)[: len(before)] == before
    assert [row[3] for row in rows(store)[len(before) :]] == found
    assert "1 of 3 files can no longer be linked" in standing(store)


def test_files_published_before_they_were_a_sequence_stand_side_by_side(store: Store) -> None:
    for video in "ab":
        publish(store, video, FILES[video], in_sequence=False)
    assert not Path(store.full("_work/sequences")).exists()
    link(name(store, {"cam": "ab"}))
    assert [row[3] for row in rows(store)] == [1, 2, 3, 4]
    assert "2 of 2 files can no longer be linked" in standing(store)


def test_a_quarantined_file_leaves_a_hole_and_the_others_go_on(store: Store) -> None:
    for video in "ac":
        publish(store, video, FILES[video])
    bad = records.quarantined_row("b", "/in/b.mp4", "c", "observe", "too bad")
    records.write_video(store, bad)
    link(name(store, {"cam": "abc"}))
    # Nobody is followed across the missing file, but appearance still counts.
    assert rows(store) == [(1, "a", 1, 1), (1, "a", 2, 2), (3, "c", 1, 1), (3, "c", 2, 3), (3, "c", 3, 2)]
    assert "2 of 3 files done" in standing(store)


def test_the_same_content_twice_counts_at_its_first_place(linked: Store) -> None:
    before = rows(linked)
    index = name(linked, {"cam": ["a", "b", "a=copy", "c"]})
    link(index)
    assert rows(linked) == [(4 if row[1] == "c" else row[0], *row[1:]) for row in before]


def test_a_content_can_be_in_two_sequences(linked: Store) -> None:
    link(name(linked, {"other": ["b=copy", "c=copy"]}))
    table = pd.read_parquet(linked.full("sequences"))
    assert table.groupby("sequence").sequence_person_id.max().to_dict() == {"cam": 4, "other": 3}


def test_a_file_that_is_named_in_another_sequence_later_moves_there(linked: Store) -> None:
    assert link(name(linked, {"other": "c"})) == ["cam", "other"]
    table = pd.read_parquet(linked.full("sequences"))
    assert table.groupby("sequence").video_id.unique().map(list).to_dict() == {"cam": ["a", "b"], "other": ["c"]}
    link(name(linked, {"other": "abc"}))
    assert set(pd.read_parquet(linked.full("sequences")).sequence) == {"other"}


def test_other_knobs_of_its_files_link_it_anew(linked: Store) -> None:
    sequences.withdraw(linked, {"c"})
    assert [row[1] for row in rows(linked)] == list("aabb")
    publish(linked, "c", FILES["c"], "identity.max_gap_s=0.01", "identity.shot_max_s=0")
    assert link(name(linked, {"cam": "abc"})) == ["cam"]
    assert [row[3] for row in rows(linked) if row[1] != "c"] == [1, 2, 3, 4]


def test_the_place_of_a_video_that_is_to_change_is_empty_until_it_is_linked_again(linked: Store) -> None:
    before = rows(linked)
    sequences.withdraw(linked, {"b"})
    assert rows(linked) == [row for row in before if row[1] != "b"]
    assert "not linked yet" in standing(linked)
    assert link(name(linked, {"cam": "abc"})) == ["cam"]
    assert rows(linked) == before


def test_recording_times_are_used_where_all_files_have_them(store: Store) -> None:
    start = datetime(2024, 5, 1, 10, tzinfo=UTC)
    for number, (video, film) in enumerate(FILES.items()):
        publish(store, video, film, recorded_at=(start + timedelta(hours=number)).isoformat())
    link(name(store, {"cam": "abc"}))
    assert "times as recorded" in standing(store)
    # After hours, neither motion nor clothes link two persons.
    assert [row[3] for row in rows(store)] == [1, 2, 3, 4, 5, 6, 7]


def test_vectors_of_two_spaces_are_never_compared(store: Store) -> None:
    for video, film in FILES.items():
        work = with_recipe(job(film, [], store.uri, video_id=video))
        work = replace(work, in_sequence=True, spaces={"body": "old" if video == "a" else "new"})
        reduce_video(work, lambda parts: [track_part(part) for part in parts])
    link(name(store, {"cam": "abc"}))
    assert [row[3] for row in rows(store)] == [1, 2, 3, 4, 3, 4, 5]


def test_what_links_need_lies_in_the_working_area_and_goes_with_closing(linked: Store) -> None:
    link(name(linked, {"other": ["c=copy"]}))
    there = Path(linked.full("_work/sequences"))
    assert sorted(path.stem for path in there.iterdir()) == ["a", "b", "c"]
    assert not list(Path(linked.uri).rglob("embeddings/*"))
    index = OutputIndex.load(linked)
    sequences.close(index, {"cam"})
    assert [path.stem for path in there.iterdir()] == ["c"]  # the other sequence still needs it
    before = rows(linked)
    assert link(index) == []
    assert rows(linked) == before


def test_kept_biometrics_keep_it_too(store: Store) -> None:
    publish(store, "a", FILES["a"], "biometrics.keep=true", in_sequence=False)
    index = name(store, {"cam": "a"})
    link(index)
    index = OutputIndex.load(store)
    sequences.close(index, {"cam"})
    limit = datetime.now(UTC) + timedelta(days=1)
    drop_older_summaries(store, store.stamps(WORK), limit, spared=sequences.keeping(index))
    assert Path(store.full("_work/sequences/a.parquet")).exists()


def test_pruning_takes_a_file_out_of_its_sequence(linked: Store) -> None:
    index = OutputIndex.load(linked)
    index.sources["/in/a.mp4"]["current"] = False
    prune_output(index)
    link(index)
    assert [(row[0], row[1]) for row in rows(linked)] == [(1, "b"), (1, "b"), (2, "c"), (2, "c"), (2, "c")]
    assert [row[3] for row in rows(linked)] == [1, 2, 1, 2, 3]
    assert not Path(linked.full("_work/sequences/a.parquet")).exists()


def test_a_sequence_without_anybody_and_one_without_a_file_that_is_done(store: Store) -> None:
    publish(store, "a", Film(2.0, []))
    link(name(store, {"cam": "a", "none": "z"}))
    assert rows(store) == []
    assert "1 of 1 file done, 0 persons" in standing(store)
    assert "0 of 1 file done, not linked yet" in standing(store, "none")


def test_relink_leaves_no_sequence_behind(linked: Store) -> None:
    before = rows(linked)
    relink(linked.uri, ["identity.wrong_joins=1e-12"])
    assert [row[3] for row in rows(linked)] == [1, 2, 3, 4, 5, 6, 7]
    relink(linked.uri, ["identity.wrong_joins=0.05"])
    assert rows(linked) == before
    assert sequences.find_work(OutputIndex.load(linked)) == []


def failures(jobs: Sequence[SequenceJob]) -> dict[str, str]:
    return {end.name: end.why for end in link_here(jobs) if end.why}


def test_a_sequence_that_cannot_be_linked_stops_no_other(store: Store) -> None:
    for video, film in FILES.items():
        publish(store, video, film, *(["person.min_faces=4"] if video == "a" else []))
    index = name(store, {"one": "a", "two": "bc"})
    (own,) = [row["config_id"] for row in OutputIndex.load(store).videos.values() if row["video_id"] == "a"]
    store.delete(f"recipes/{own}.json")
    index = OutputIndex(store, index.sources, OutputIndex.load(store).videos)
    faults = failures(sequences.find_work(index))
    assert list(faults) == ["one"]
    assert f"recipes/{own}.json is missing" in faults["one"]
    assert {row[1] for row in rows(store)} == {"b", "c"}
    assert [status.persons is None for status in sequences.sequence_statuses(index)] == [True, False]


@pytest.mark.parametrize("damaged", ["_work/sequences/a.parquet", "tracklets/a.parquet", "likenesses/a.parquet"])
def test_damage_is_a_reason_and_no_end(linked: Store, damaged: str) -> None:
    before = rows(linked)
    linked.put(damaged, linked.read(damaged)[:-20])
    sequences.withdraw(linked, {"b"})
    faults = failures(sequences.find_work(OutputIndex.load(linked)))
    assert list(faults) == ["cam"]
    assert "cannot be read" in faults["cam"]
    assert {row[1] for row in rows(linked)} == {row[1] for row in before} - {"b"}


def test_a_damaged_part_of_the_dataset_is_made_anew(linked: Store) -> None:
    (part,) = [name for name in linked.names("sequences") if "schema" not in name]
    whole = linked.read(part)
    linked.put(part, whole[:-20])
    assert link(OutputIndex.load(linked)) == ["cam"]
    assert linked.read(part) == whole


def test_a_person_of_a_sequence_is_forgotten_in_all_of_its_files(linked: Store) -> None:
    before = rows(linked)
    tombstones.begin(linked, forgetting.plan_persons(OutputIndex.load(linked), [("b", 2)]))
    forgetting.finish(linked)
    assert rows(linked) == [row for row in before if row[3] != 3]
    assert standing(linked).startswith("cam: 3 of 3 files done, 3 persons")
    persons = pd.read_parquet(linked.full("persons"))
    assert set(zip(persons.video_id, persons.person_id, strict=True)) == {row[1:3] for row in rows(linked)}


def test_files_are_linked_to_one_with_a_forgotten_person(store: Store) -> None:
    for video in "ab":
        publish(store, video, FILES[video])
    link(name(store, {"cam": "ab"}))
    tombstones.begin(store, forgetting.plan_persons(OutputIndex.load(store), [("a", 1)]))
    forgetting.finish(store)
    assert rows(store) == [(1, "a", 2, 2), (2, "b", 2, 3)]
    publish(store, "c", FILES["c"])
    link(name(store, {"cam": "abc"}))
    numbers = {row[1:3]: row[3] for row in rows(store)}
    assert numbers.keys() == {("a", 2), ("b", 2), ("c", 1), ("c", 2), ("c", 3)}
    assert numbers["b", 2] == numbers["c", 2] != numbers["a", 2]


def test_the_other_files_of_a_sequence_stay_linked_when_one_is_forgotten(linked: Store) -> None:
    before = rows(linked)
    tombstones.begin(linked, forgetting.plan_videos(OutputIndex.load(linked), "b"))
    forgetting.finish(linked)
    assert rows(linked) == [row for row in before if row[1] != "b"]
    assert standing(linked) == "cam: 2 of 2 files done, 4 persons, times end to end"
