import importlib
import inspect
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from jobs.bench import COMMANDS, app
from jobs.benchmarks import decoders, earlier_way, made_videos, overhead, page, report, setting, startup
from jobs.benchmarks.overhead import PlainLoop, _build_waiting, differing_files
from jobs.benchmarks.side_by_side import Spread, ratio_of, spread_of, take_turns
from pipeline import rows
from pipeline.config import Config, load
from pipeline.errors import UserError
from pipeline.flow.events import Work
from pipeline.flow.stage import Limits, PoolOfStages, Resources, Stage
from pipeline.media.probing import probe
from pipeline.planning import spans
from pipeline.storage.blobs import fetch
from pipeline.storage.source_files import opener
from pipeline.storage.store import Store
from pipeline.video.reduce import reduce_video
from pipeline.video.track import track_part
from pipeline.weights import Registry
from tests import builders, clips
from tests.builders import Film, Walker
from tests.patience import PATIENCE_S
from tests.shared import SHARED, needs_shared

FILM = Film(4, [Walker(0, 4, 50), Walker(1, 4, 300, look=1)])


def pool(ledger: Any, *stages: Stage) -> PoolOfStages:
    resources = Resources(num_cpus=1, num_gpus=0, min_workers=1, max_workers=1)
    limits = Limits(ledger=ledger, run_id="run", max_attempts=1, deadline_s=60)
    return PoolOfStages(name="pool", stages=stages, resources=resources, limits=limits)


def stage(name: str, core: Callable[..., Any]) -> Stage:
    return Stage(name=name, build=lambda: core, needs=rows.SPAN, adds=rows.COMMITTED)


def test_the_plain_loop_publishes_what_the_reduce_does_and_looks_ahead_meanwhile(tmp_path: Path) -> None:
    job = builders.job(FILM, [2], str(tmp_path / "plain"))
    (span,) = spans.spans_to_decode(job.probe, job.config, [])
    work = Work(job=replace(job, chunks=()), rows=spans.span_rows("v", job.uri, job.probe, [span]))
    is_observing_second = threading.Event()

    def observe(row: pa.Table) -> Iterator[pa.Table]:
        assert row["uri"].to_pylist() == ["/in/v.mp4"]
        yield pa.table({"first_cell": [0], "end_cell": [2], "num_frames": [-1]})
        is_observing_second.set()
        yield pa.table({"first_cell": [2], "end_cell": [-1], "num_frames": [-1]})

    def judge(chunk: pa.Table) -> pa.Table:
        assert is_observing_second.wait(PATIENCE_S)
        return pa.table({"num_frames": [7]})

    def commit(chunk: pa.Table) -> pa.Table:
        assert chunk["num_frames"].to_pylist() == [7]  # a column that a stage adds replaces the old one
        return pa.table({"num_frames": [8]})

    first = pool(job.ledger, stage("observe", observe))
    timing = PlainLoop([first, pool(job.ledger, stage("judge", judge), stage("commit", commit))])(work)
    assert set(timing.stages) == {"observe", "judge", "commit", "reduce"}
    assert 0 < timing.map_seconds < timing.spent.seconds

    by_itself = builders.job(FILM, [2], str(tmp_path / "reduced"))
    reduce_video(by_itself, lambda parts: [track_part(part) for part in parts])
    assert by_itself.ledger.store.exists("persons/v.parquet")
    assert differing_files(job.ledger.store, by_itself.ledger.store) == []


def test_files_that_differ_or_are_missing_are_named_but_the_working_area_is_not_looked_at(tmp_path: Path) -> None:
    first, second = Store(str(tmp_path / "one")), Store(str(tmp_path / "other"))
    for store, content in ((first, b"1"), (second, b"2")):
        store.put("persons/v.parquet", content)
        store.put("shots/v.parquet", b"the same")
        store.put(f"_work/v/{content.decode()}", b"")
    second.put("csv/v.csv", b"")
    assert differing_files(first, second) == ["csv/v.csv", "persons/v.parquet"]


def not_videos(folder: Path) -> dict[str, tuple[Path, str]]:
    """Return files and a folder that are no videos, with what is said about each."""
    (folder / "a.mp4").mkdir()
    return {
        "text": (clips.text_named_video(folder / "README.md"), "not a video or a picture of a known format"),
        "text named as a video": (clips.text_named_video(folder / "fake.mp4"), "not a video or a picture of a known"),
        "nothing": (clips.empty_file(folder / "empty.mp4"), "the file is empty"),
        "sound": (clips.sound_only(folder / "sound.mp4"), "holds no video, only audio"),
        "picture": (clips.picture_file(folder / "one.jpg"), "a picture, not a video"),
        "folder": (folder / "a.mp4", "not a file"),
        "missing": (folder / "absent.mkv", "there is no video"),
    }


CLIP_OF = {name: "--clip" for name in ("overhead", "startup", "seeds", "limit", "naive", "scale")} | {"gpu": "--sparse"}


@pytest.mark.parametrize("bench", CLIP_OF)
def test_a_clip_that_is_no_video_ends_every_bench_before_any_work(
    bench: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_work(config: Config) -> None:
        pytest.fail("the clip must be checked before")

    module = importlib.import_module(f"jobs.bench.{bench}")
    monkeypatch.setattr(setting, "verified_models", is_work)
    monkeypatch.setattr(module, "verified_models", is_work, raising=False)
    monkeypatch.setattr(module, "has_gpu", lambda: True, raising=False)
    quick = [] if bench in ("overhead", "startup") else ["--quick"]
    for file, reason in not_videos(tmp_path).values():
        for options in ([], quick):
            error = CliRunner().invoke(app, [bench, CLIP_OF[bench], str(file), *options]).exception
            assert isinstance(error, UserError)
            assert len(str(error).splitlines()) == 1
            assert str(file) in str(error)
            assert reason in str(error)


def test_every_bench_that_takes_a_video_is_tried_with_one_that_is_none() -> None:
    benches = {name: getattr(importlib.import_module(f"jobs.bench.{name}"), name) for name in COMMANDS}
    options = {name: inspect.signature(bench).parameters.keys() for name, bench in benches.items()}
    assert {name for name in COMMANDS if {"clip", "sparse"} & options[name]} == CLIP_OF.keys()


def test_seeds_verifies_the_models_of_both_halves_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def verified(config: Config) -> Registry:
        if config.restore.mode != "off":
            raise UserError("the weights of the restorer are missing; fetch them")
        return Registry.of(config, fetch)

    monkeypatch.setattr(setting, "verified_models", verified)
    monkeypatch.setattr(earlier_way.EarlierModels, "load", lambda *_: pytest.fail("all models must be verified before"))
    made_videos.write_video(tmp_path / "v.mp4", made_videos.scene(160, 96, 20))
    words = ["seeds", "--quick", "--clip", str(tmp_path / "v.mp4"), "--restoration", "auto"]
    words += ["--set", "compute.device=cpu", "--set", "restore.mode=off"]
    error = CliRunner().invoke(app, words).exception
    assert isinstance(error, UserError)
    assert "the restorer" in str(error)


def test_a_quick_report_says_first_that_its_figures_mean_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(report.os, "getloadavg", lambda: (1000.0, 1000.0, 1000.0))
    said = {}
    for quick in (True, False):
        made = report.Report("decode", {"repeats": 1}, quick=quick)
        with made.published(tmp_path / "decode.json"):
            made.rows.append(report.Row({}, "a", {"seconds": Spread((2.0,))}))
        said[quick] = capsys.readouterr().out
        written = json.loads((tmp_path / "decode.json").read_text())
        assert written["settings"] == {"repeats": 1} | ({"quick": True} if quick else {})
        assert ("figures mean nothing" in page.page(tmp_path)) is quick
    assert said[True].splitlines()[0] == report.QUICK
    assert "believe" not in said[True]
    assert "believe ratios and CPU seconds" in said[False]
    assert report.QUICK not in said[False]


def test_decode_measures_every_codec_with_an_encoder_here_and_says_which_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(made_videos.FORMATS, "av1", made_videos.Format({"an-encoder-of-nobody": {}}))
    figures = tmp_path / "figures" / "decode.json"
    told = CliRunner().invoke(app, ["decode", "--quick", "--json", str(figures)], catch_exceptions=False).stdout
    assert "no encoder for av1 here: it is left out" in told
    told_json = json.loads(figures.read_text())
    assert {row["codec"] for row in told_json["rows"]} == {"h264", "hevc", "vp9"}
    for row in told_json["rows"]:
        compared = {name for name in row["figures"] if name.endswith("over ours")}
        assert bool(compared) == row["way"].startswith("rollcall")
        assert row["figures"]["frames per s"]["median"] > 0
    assert {"processor", "versions", "commit"} <= told_json["environment"].keys()
    assert told_json["settings"]["quick"] is True
    assert report.QUICK in told.splitlines()


def test_the_bench_counts_the_frames_of_every_way(tmp_path: Path) -> None:
    video = tmp_path / "v.mp4"
    assert made_videos.write_video(video, made_videos.scene(160, 96, 13)) == 13
    probed = probe(opener(str(video)))
    for work in (decoders.FRAMES, decoders.PICTURES):
        ways = decoders.ways_of(work, video, probed, load(profile="starter"))
        assert {name: way() for name, way in ways.items()} == dict.fromkeys(ways, 13)


def test_a_crowd_has_as_many_people_as_are_asked_for() -> None:
    empty, few = (next(made_videos.crowd(people, 320, 180, 1)).astype(int) for people in (0, 2))
    changed = np.abs(few - empty).max(axis=(0, 2)) > 60
    assert np.count_nonzero(np.diff(changed.astype(int)) == 1) >= 2
    assert not changed[:10].any()


def test_a_repeated_video_is_as_long_as_is_asked_for_and_another_one_by_its_number(tmp_path: Path) -> None:
    made_videos.write_video(tmp_path / "short.mp4", made_videos.scene(160, 96, 20))
    long = [made_videos.repeat_video(tmp_path / "short.mp4", tmp_path / f"{n}.mp4", 3, n) for n in (0, 1)]
    assert long[0].read_bytes() != long[1].read_bytes()
    assert probe(opener(str(long[0]))).duration_s == pytest.approx(3)


@pytest.mark.parametrize("name", ["v.dat", "v", "v.md", "v.webm", "v.jpg", "v.mkv"])
def test_a_video_is_repeated_whatever_its_name_says(tmp_path: Path, name: str) -> None:
    made_videos.write_video(tmp_path / "short.mp4", made_videos.scene(160, 96, 20))
    (tmp_path / "short.mp4").rename(tmp_path / name)
    copy = made_videos.repeat_video(tmp_path / name, tmp_path / f"copy-{name}", 2)
    assert probe(opener(str(copy))).duration_s == pytest.approx(2, abs=0.15)


@pytest.mark.parametrize(("container", "seconds"), [("matroska", 0.4), ("mpegts", 0.4), ("mpegts", 3), ("avi", 0.4)])
def test_a_video_is_cut_whatever_its_clock_says(tmp_path: Path, container: str, seconds: float) -> None:
    made = clips.write_video(tmp_path / f"v-{container}", clips.scene(30), container=container)
    copy = made_videos.repeat_video(made, tmp_path / "copy", seconds)
    assert probe(opener(str(copy))).duration_s == pytest.approx(seconds, abs=0.15)


def test_a_video_without_times_cannot_be_repeated_and_is_named(tmp_path: Path) -> None:
    bare = clips.write_video(tmp_path / "bare.h264", clips.scene(10), container="h264")
    with pytest.raises(UserError, match=r"bare\.h264 cannot be cut or repeated: .*no time stamps; name another"):
        made_videos.repeat_video(bare, tmp_path / "copy.mp4", 1)


def test_the_page_of_benches_is_what_the_figures_beside_it_say() -> None:
    assert (page.FOLDER / "tables.md").read_text() == page.page(), "run `make docs`"
    for path in page.FOLDER.glob("*.json"):
        assert f" --json docs/benchmarks/{path.name}" in json.loads(path.read_text())["command"]


def test_a_report_on_the_page_has_its_command_its_machine_and_all_figures(tmp_path: Path) -> None:
    made = report.Report("naive", {}, load_before=1.0)
    made.rows = [report.Row({"what": "a"}, "ours", {"cpu_seconds": Spread((2.0, 1.0, 4.0))})]
    made.rows += [report.Row({"what": "b"}, "theirs", {"seconds": Spread((7.0,))})]
    made.ratios = {"theirs over ours": Spread((3.0,))}
    made.facts = {"found": {"people": 2, "ages": None}}
    made.publish(tmp_path / "naive.json")
    lines = page.page(tmp_path).splitlines()
    assert "| a | ours | 2 (1 to 4) |" in lines
    assert "| b | theirs | 7 |" in lines
    assert "| theirs over ours | 3 |" in lines
    assert "found: people 2, ages none" in lines
    assert any(line.startswith("`rollcall bench") for line in lines)
    assert any("cores; load 1 before" in line for line in lines)


def test_ways_take_turns_and_ratios_are_those_within_a_round() -> None:
    gone: list[str] = []

    def way(name: str, seconds: list[float]) -> Callable[[], dict[str, float]]:
        left = iter(seconds)
        return lambda: gone.append(name) or {"seconds": next(left)}

    rounds = take_turns({"a": way("a", [2, 30, 3]), "b": way("b", [1, 10, 1])}, 3)
    assert gone == ["a", "b", "b", "a", "a", "b"]
    ratio = ratio_of(rounds, "seconds", "a", "b")
    assert ratio.values == (2, 3, 3)
    assert ratio.text() == "3 (2 to 3)"
    assert spread_of(rounds, "b", "seconds").plain() == {"median": 1, "low": 1, "high": 10, "values": [1, 10, 1]}


def interrupting(rounds: int) -> Callable[[], dict[str, float]]:
    """Return a way that is interrupted after some rounds."""
    left = iter(range(rounds))

    def way() -> dict[str, float]:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return {"seconds": 1.0}

    return way


def test_an_interrupted_bench_writes_the_rounds_that_finished(tmp_path: Path) -> None:
    made = report.Report("decode", {})

    def measure() -> None:
        rounds = take_turns({"a": lambda: {"seconds": 2.0}, "b": interrupting(2)}, 3)
        made.rows.append(report.Row({"codec": "h264"}, "a", {"seconds": spread_of(rounds, "a", "seconds")}))
        take_turns({"a": lambda: pytest.fail("no other turns may begin")}, 1)

    with pytest.raises(KeyboardInterrupt), made.published(tmp_path / "decode.json"):
        measure()
    written = json.loads((tmp_path / "decode.json").read_text())
    assert written["partial"]
    assert [row["figures"]["seconds"]["values"] for row in written["rows"]] == [[2, 2]]
    assert "interrupted" in page.page(tmp_path)


def test_a_bench_that_is_interrupted_before_a_round_finishes_writes_nothing(tmp_path: Path) -> None:
    made = report.Report("decode", {})
    with pytest.raises(KeyboardInterrupt), made.published(tmp_path / "decode.json"):
        take_turns({"a": interrupting(0)}, 1)
    assert not list(tmp_path.iterdir())


def test_a_bench_that_ends_by_itself_is_not_partial(tmp_path: Path) -> None:
    made = report.Report("decode", {})
    with made.published(tmp_path / "decode.json"):
        take_turns({"a": interrupting(3)}, 3)
    assert "partial" not in json.loads((tmp_path / "decode.json").read_text())


def test_an_unknown_benchmark_is_wrong_usage() -> None:
    assert CliRunner().invoke(app, ["overhaed"]).exit_code == 2


RUN = """
import pathlib, sys, time
print("rollcall 1: looking at the sources")
print("processing 1 video")
print('{"event": "chunk_began"}')
chunk = pathlib.Path(sys.argv[1], "_work", "v", "enriched-k", "0.parquet")
chunk.parent.mkdir(parents=True)
chunk.touch()
sum(range(10**7))
time.sleep(0.5)
print("done")
sys.exit(int(sys.argv[2]))
"""


def test_the_parts_of_a_run_are_timed_as_it_tells_of_them(tmp_path: Path) -> None:
    reached = startup.watch([sys.executable, "-c", RUN, str(tmp_path), "0"], tmp_path)
    parts = ["first line", "loading models", "models loaded", "first chunk", "end"]
    times = [reached[part] for part in parts]
    assert sorted(times) == times
    assert reached["end" + startup.CPU] > 0


def test_the_last_words_of_a_run_are_heard_though_it_ends_at_once(tmp_path: Path) -> None:
    talk = "import sys; sys.stdout.write('many\\n' * 9000 + 'the last words'); sys.exit(1)"  # all that a pipe holds
    for _ in range(5):
        with pytest.raises(UserError, match="cannot be measured: the last words; name another"):
            startup.watch([sys.executable, "-c", talk], tmp_path)


def test_a_run_that_fails_is_not_measured(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be measured: done; name another"):
        startup.watch([sys.executable, "-c", RUN, str(tmp_path), "1"], tmp_path)


def test_a_run_that_quarantines_its_video_says_why(tmp_path: Path) -> None:
    run = "print('quarantined at observe: v.mp4: it is cut off\\n0 videos done -> /tmp/gone'); raise SystemExit(1)"
    with pytest.raises(UserError, match=r"measured: quarantined at observe: v\.mp4: it is cut off; name another"):
        startup.watch([sys.executable, "-c", run], tmp_path)


@needs_shared
@pytest.mark.ray
@pytest.mark.slow
def test_overhead_of_a_short_clip(tmp_path: Path) -> None:
    clip = clips.re_encode(SHARED / "clips" / "talkshow.mp4", tmp_path / "short.mp4", limit_s=3, width=640)
    figures = tmp_path / "figures.json"
    options = ["--clip", str(clip), "--json", str(figures), "--no-startup"]
    result = CliRunner().invoke(app, ["overhead", *options], catch_exceptions=False)
    assert "all tables are the same, byte for byte" in result.stdout
    told = json.loads(figures.read_text())
    ways = {row["way"]: row["figures"] for row in told["rows"]}
    assert told["ratios"]["seconds of Ray over the plain loop"]["median"] == pytest.approx(
        ways["Ray"]["seconds"]["median"] / ways["plain loop"]["seconds"]["median"], rel=0.001
    )
    for figures_of_way in ways.values():
        stages = {"observe", "find_faces", "estimate", "commit", "reduce"}
        assert {f"{stage} s" for stage in stages} <= set(figures_of_way)


@pytest.mark.parametrize("order", [["picture", "clip", "clip"], ["clip", "picture", "clip"]])
def test_the_picture_goes_first_and_once_and_the_clip_waits_for_the_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: list[str]
) -> None:
    job = builders.job(FILM, [], str(tmp_path))
    (span,) = spans.spans_to_decode(job.probe, job.config, [])
    row = {name: spans.span_rows(name, f"/in/{name}", job.probe, [span])[0] for name in ("picture", "clip")}
    go, arrived, waits = tmp_path / "go", [], []

    def observe(table: pa.Table) -> Iterator[pa.Table]:
        arrived.append((table["video_id"][0].as_py(), go.exists()))
        yield table

    def give_the_word(seconds: float) -> None:
        waits.append(seconds)
        go.touch()

    monkeypatch.setattr(overhead, "time", SimpleNamespace(sleep=give_the_word, perf_counter=time.perf_counter))
    worker = _build_waiting(lambda threads: observe, row["picture"], go)
    for name in order:
        list(worker(row[name].table()))
    assert arrived == [("picture", False), ("clip", True), ("clip", True)]
    assert len(waits) == 1
    (waited,) = tmp_path.glob("waited-*")
    assert float(waited.read_text()) > 0
