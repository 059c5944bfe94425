"""`rollcall bench decode`: how fast videos are decoded, here and by others."""

from collections.abc import Callable, Mapping
from typing import Annotated

import typer

from jobs.benchmarks.decoders import FRAMES, OURS, PICTURES, memory_of_a_worker, torchcodec, ways_of
from jobs.benchmarks.made_videos import FORMATS, FPS, encoder_of, scene, write_video
from jobs.benchmarks.options import JsonFile, Quick, Repeats, words_of
from jobs.benchmarks.report import Report, Row
from jobs.benchmarks.setting import scratch_folder
from jobs.benchmarks.side_by_side import (
    CPU_SECONDS,
    SECONDS,
    Measures,
    Rounds,
    Spread,
    ratio_of,
    spread_of,
    stopwatch,
    take_turns,
)
from jobs.cli.console import say
from jobs.cli.options import STARTER, ConfigFiles, Profile, Settings
from jobs.shared.checks import decide_device
from pipeline.config import load
from pipeline.media.probing import probe
from pipeline.storage.source_files import opener

SIZES = {"360p": (640, 360), "720p": (1280, 720), "1080p": (1920, 1080), "4k": (3840, 2160)}


def decode(
    codecs: Annotated[str, typer.Option(help="Codecs, of h264, hevc, vp9 and av1.")] = "h264,hevc,vp9,av1",
    sizes: Annotated[str, typer.Option(help="Sizes, of 360p, 720p, 1080p and 4k.")] = "360p,720p,1080p,4k",
    seconds: Annotated[float, typer.Option(min=0.2, help="Length of each video.")] = 3,
    repeats: Repeats = 3,
    quick: Quick = False,
    config: ConfigFiles = None,
    settings: Settings = None,
    profile: Profile = STARTER,
    json_file: JsonFile = None,
) -> None:
    """Decode videos as `process` does, with PyAV, with OpenCV, and with torchcodec if it is installed.

    The command makes the videos itself. Two amounts of work are measured: every frame decoded ("frames"), and also a
    thumbnail of every frame and 8 pictures a second in RGB ("pictures"). For the second, `process` also compares the
    thumbnails, sketches the place and measures the motion of the camera, which the others do not. So what it takes for
    the pictures alone is measured, too.
    """
    chosen_sizes, chosen_codecs = words_of(sizes, SIZES, "--sizes"), words_of(codecs, FORMATS, "--codecs")
    if quick:
        chosen_sizes, seconds, repeats = ["360p"], min(seconds, 0.4), 1
    chosen = decide_device(load(config or [], settings or [], profile))
    observe = chosen.observe
    sizes_and_ways = {"seconds": seconds, "repeats": repeats, "decode_threads": observe.decode_threads}
    report = Report("decode", sizes_and_ways | {"decoder": observe.decoder}, quick=quick)
    with report.published(json_file), memory_of_a_worker():
        if torchcodec() is None:
            say("torchcodec is not installed or finds no FFmpeg: it is left out")
        with scratch_folder() as folder:
            for codec in chosen_codecs:
                encoder = encoder_of(codec)
                if encoder is None:
                    say(f"no encoder for {codec} here: it is left out")
                    continue
                for size in chosen_sizes:
                    say(f"{codec} {size}: making a video with {encoder}")
                    video = folder / f"{codec}-{size}{FORMATS[codec].suffix}"
                    count = write_video(video, scene(*SIZES[size], round(seconds * FPS)), codec)
                    probed = probe(opener(str(video)))
                    for work in (FRAMES, PICTURES):
                        ways = ways_of(work, video, probed, chosen)
                        rounds = take_turns({name: _timed(way, count) for name, way in ways.items()}, repeats)
                        _note(report, {"codec": codec, "size": size, "work": work}, rounds, count)
                    video.unlink()


def _timed(way: Callable[[], int], count: int) -> Callable[[], Measures]:
    def measure() -> Measures:
        with stopwatch() as spent:
            decoded = way()
        if decoded != count:
            raise RuntimeError(f"every way must decode all {count} frames, and one decoded {decoded}")
        return spent.measures()

    return measure


def _note(report: Report, case: Mapping[str, str], rounds: Rounds, count: int) -> None:
    """Add the rates of all ways, and how many times as long as ours the fastest other way takes."""
    others = [way for way in rounds[0] if way not in OURS]
    units = {"s": SECONDS, "CPU s": CPU_SECONDS}
    for way in rounds[0]:
        times = {unit: spread_of(rounds, way, measure) for unit, measure in units.items()}
        figures = {
            f"frames per {unit}": Spread(tuple(count / value for value in spread.values))
            for unit, spread in times.items()
        }
        for unit, measure in units.items() if way not in others else ():
            best = min(others, key=lambda other: spread_of(rounds, other, measure).median)
            figures[f"{unit} of the best other over ours"] = ratio_of(rounds, measure, best, way)
        report.rows.append(Row(case, way, figures))
