"""Measure the memory of a run of `process` on a long video, against that on a short one.

    python -m tests.bench.long_video CLIP [--minutes 2 60] [--engine ray] [--fps 25] [--height 1080] [--set K=V …]

CLIP is encoded once in the wanted height and rate, so that it decodes fast, and repeated until the video is as long as
wanted. Its packets are only copied, so each repetition decodes to the same frames. Each video is processed with the
starter models in an empty output. A row has the greatest sum over all processes of the run, sampled twice a second, of
the memory that a process uses, and the processes that had it. Memory that processes of the run share is divided among
them. Pages of files, as those of libraries, count once, in the process that has most of them: other programs on the
machine may share them, and come and go.
The status is 1 if the last video needs over 15 % more than the first.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import psutil

SAMPLE_EVERY_S = 0.5
ALLOWED = 1.15


def encode(clip: Path, path: Path, height: int, fps: int) -> None:
    """Encode a clip anew in H.264 that decodes fast, with a keyframe every two seconds."""
    with av.open(str(clip)) as source, av.open(str(path), "w") as output:
        shown = source.streams.video[0]
        width = round(shown.width * height / shown.height / 2) * 2
        options = {"preset": "veryfast", "tune": "fastdecode", "crf": "28", "bf": "0", "g": str(2 * fps)}
        stream = output.add_stream("libx264", rate=fps, width=width, height=height, pix_fmt="yuv420p", options=options)
        num_frames = 0
        for frame in source.decode(shown):
            if frame.time is None or frame.time * fps < num_frames:
                continue
            picture = frame.reformat(width=width, height=height, format="yuv420p")
            picture.pts, picture.time_base = num_frames, Fraction(1, fps)
            num_frames += 1
            output.mux(stream.encode(picture))
        output.mux(stream.encode(None))


def repeat(clip: Path, path: Path, seconds: float) -> None:
    """Repeat the packets of a clip until the video is `seconds` long."""
    with av.open(str(clip)) as source:
        stream = source.streams.video[0]
        contents = [
            (bytes(packet), packet.pts, packet.dts, packet.duration or 0, packet.is_keyframe)
            for packet in source.demux(stream)
            if packet.pts is not None and packet.dts is not None
        ]
        length = max(pts + duration for _, pts, _, duration, _ in contents)
        assert stream.time_base is not None
        num_repeats = max(1, round(seconds / float(length * stream.time_base)))
        with av.open(str(path), "w") as output:
            copy = output.add_stream_from_template(stream)
            for number in range(num_repeats):
                for content, pts, dts, duration, is_keyframe in contents:
                    packet = av.Packet(content)
                    packet.pts, packet.dts, packet.duration = pts + number * length, dts + number * length, duration
                    packet.time_base, packet.stream, packet.is_keyframe = stream.time_base, copy, is_keyframe
                    output.mux(packet)


def watch(command: list[str]) -> dict[str, Any]:
    """Run a command. Return the memory of its processes at their peak, in MB, and its seconds."""
    started = time.perf_counter()
    peak: Counter[str] = Counter()
    over_time: list[int] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as run:
        while run.poll() is None:
            used = _used(run.pid)
            over_time.append(round(used.total()))
            peak = max(peak, used, key=Counter.total)
            time.sleep(SAMPLE_EVERY_S)
        said = run.stdout.read() if run.stdout else ""
    if run.returncode:
        raise RuntimeError(f"{command} ended with {run.returncode}:\n{said}")
    processes = {name: round(megabytes) for name, megabytes in peak.most_common(6)}
    seconds = round(time.perf_counter() - started, 1)
    tenths = [max(over_time[i * len(over_time) // 10 : (i + 1) * len(over_time) // 10], default=0) for i in range(10)]
    return {"megabytes": round(peak.total()), "processes": processes, "tenths": tenths, "seconds": seconds}


def _used(pid: int) -> Counter[str]:
    """Return the MB of each process of a run, by name, and of the pages of files."""
    used: Counter[str] = Counter()
    most_of_files: Any = 0.0
    with suppress(psutil.Error):
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            with suppress(psutil.Error, OSError):
                megabytes = _megabytes(process.pid)
                used[process.name()] += megabytes["Pss_Anon"] + megabytes["Pss_Shmem"]
                most_of_files = max(most_of_files, megabytes["RssFile"])
    used["files"] += most_of_files
    return used


def _megabytes(pid: int) -> dict[str, Any]:
    """Return what Linux knows of the memory of a process, by its names, in MB."""
    lines = "\n".join(Path(f"/proc/{pid}/{name}").read_text() for name in ("status", "smaps_rollup")).splitlines()
    sizes = [line.split() for line in lines if line.endswith(" kB")]
    return {name.rstrip(":"): int(kilobytes) * 1024 / 1e6 for name, kilobytes, _ in sizes}


def main() -> None:
    """Print a row for each length."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--minutes", type=float, nargs="+", default=[2, 60])
    parser.add_argument("--engine", choices=["local", "ray"], default="ray")
    parser.add_argument("--fps", type=int, default=25)
    parser.add_argument("--height", type=int, default=1080)
    parser.add_argument("--set", action="append", default=[], metavar="K=V")
    parser.add_argument("--place", type=Path, help="a folder for the videos; otherwise a temporary one")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(dir=arguments.place) as folder:
        encode(arguments.clip, clip := Path(folder) / "clip.mp4", arguments.height, arguments.fps)
        settings = [word for setting in arguments.set for word in ("--set", setting)]
        for minutes in arguments.minutes:
            repeat(clip, video := Path(folder) / f"{minutes:g}.mp4", minutes * 60)
            output = Path(folder) / f"out-{minutes:g}"
            command = [sys.executable, "-m", "jobs.main", "process", str(video), "--output", str(output)]
            rows.append({"minutes": minutes} | watch([*command, "--set", f"run.engine={arguments.engine}", *settings]))
            print(json.dumps(rows[-1]), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))
    ratio = rows[-1]["megabytes"] / rows[0]["megabytes"]
    print(f"{rows[-1]['minutes']:g} minutes need {ratio:.2f} times the memory of {rows[0]['minutes']:g}")
    sys.exit(ratio > ALLOWED)


if __name__ == "__main__":
    main()
