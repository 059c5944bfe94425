"""Make copies of the videos and pictures of an output in which something is drawn, and say how that goes."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial

from jobs.cli import console
from pipeline.config import Config, load
from pipeline.errors import UserError, nearest
from pipeline.flow.copying import CopyFailed, CopyMade, PieceMade, make_copies
from pipeline.flow.tasks import running_tasks
from pipeline.media.encoders import Encoding, choose_encoder
from pipeline.storage import copies
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.records import Row
from pipeline.video.annotation import Annotation
from pipeline.video.copies import CopyJob, Painting

FAILED, DEFERRED = 3, 4
"""The exit status if a source could not be copied, and if one could not be reached for the moment."""
ENCODER_THREADS = 2
SHOWN = 25


@dataclass(frozen=True, slots=True)
class CopyOptions:
    """The form of copies.

    codec: a codec (h264, hevc) or an encoder of FFmpeg.
    scale: size of the copy, as a share of the displayed size.
    """

    codec: str = "h264"
    scale: Fraction = Fraction(1)


@dataclass(frozen=True, slots=True)
class CopyOutcome:
    """The copies that a command has made or not.

    made: names of the copies in the output, also of those that were there already.
    num_failed: number of videos and pictures that could not be copied.
    num_deferred: number of those that could not be reached for the moment.
    """

    made: tuple[str, ...]
    num_failed: int
    num_deferred: int

    @property
    def status(self) -> int:
        """The exit status."""
        return DEFERRED if self.num_deferred else FAILED if self.num_failed else 0


NO_COPIES = CopyOutcome((), 0, 0)


def run_config(address: str | None, settings: Sequence[str]) -> Config:
    """Return the configuration of a command that copies videos: only run.* can be set, because no model runs.

    address: of a running Ray cluster, or None.

    Raises UserError.
    """
    for setting in settings:
        if not setting.startswith("run."):
            raise UserError(f"--set {setting}: only run.* acts here, as run.engine=ray; leave it out")
    return load(settings=[*settings, *([f"run.address={address}"] if address else [])])


def annotate_videos(
    index: OutputIndex,
    config: Config,
    annotation: Annotation | None = None,
    options: CopyOptions | None = None,
    video_ids: Collection[str] | None = None,
) -> CopyOutcome:
    """Make annotated copies of the finished videos and pictures of an output, below URI/annotated.

    The caller holds the output.

    annotation: what is drawn; None: boxes with labels.
    options: the form of the copies; None: H.264 in the displayed size.
    video_ids: only these; None: all, and copies of videos that are gone are removed.
    """
    return copy_videos(index, config, "annotated", annotation or Annotation(), options or CopyOptions(), video_ids)


def copy_videos(
    index: OutputIndex,
    config: Config,
    folder: str,
    painting: Painting,
    options: CopyOptions,
    video_ids: Collection[str] | None = None,
) -> CopyOutcome:
    """Make copies of the finished videos and pictures of an output, below URI/folder, which names what they are.

    video_ids: only these; None: all, and copies of videos that are gone are removed.
    """
    names = copies.copy_names(index, folder)
    if video_ids is None:
        copies.drop_others(index.store, folder, {name for of_video in names.values() for name in of_video})
    chosen = [video_id for video_id in names if video_ids is None or video_id in video_ids]
    rows = [index.videos[video_id] for video_id in chosen]
    if not rows:
        console.say("no finished video to copy")
        return NO_COPIES
    num_frames = sum(row["num_frames"] or 0 for row in rows)
    num_pictures = sum(map(console.is_picture, rows))
    noun = "videos" if not num_pictures else "pictures" if num_pictures == len(rows) else "videos and pictures"
    events: list[CopyMade | CopyFailed] = []
    with running_tasks(config, console.say) as tasks:
        # A worker chooses, because its machine may have another card than this one.
        encoder = tasks.submit(partial(choose_encoder, options.codec)).result()
        console.say(f"{_to_do(index, folder, names, rows)} ({encoder}) -> {index.store.full(folder)}")
        encoding = Encoding(encoder, options.scale, ENCODER_THREADS)
        jobs = [
            CopyJob(
                store=index.store,
                row=row,
                uris=sources_of(index, row["video_id"]),
                names=names[row["video_id"]],
                painting=painting,
                encoding=encoding,
            )
            for row in rows
        ]
        with console.meter(len(jobs), num_frames, noun, ("starting", "joining")) as meter:
            for event in make_copies(jobs, tasks):
                if isinstance(event, PieceMade):
                    meter.add_frames(event.num_frames)
                else:
                    events.append(event)
                    meter.add_video()
    return _report(events, folder, index)


def _to_do(index: OutputIndex, folder: str, names: Mapping[str, Sequence[str]], rows: Sequence[Row]) -> str:
    """Return how many copies are to be made, in words. A worker finds out whether an existing copy is still right."""
    existing = set(index.store.names(folder))
    missing: list[Row] = []
    there: list[Row] = []
    for row in rows:
        (there if existing.issuperset(names[row["video_id"]]) else missing).append(row)
    parts = [f"{console.contents(missing)} to be {folder}"] if missing else []
    if there:
        it_is = "it is" if len(there) == 1 else "they are"
        parts.append(f"{console.contents(there)} {folder} before, made again if {it_is} out of date")
    return "; ".join(parts)


def _report(events: Sequence[CopyMade | CopyFailed], folder: str, index: OutputIndex) -> CopyOutcome:
    """Print what was made and what was not, and return it."""
    made = [event for event in events if isinstance(event, CopyMade)]
    failed = [event for event in events if isinstance(event, CopyFailed)]
    for event in [event for event in made if event.remark][:SHOWN]:
        console.say(f"{console.last(event.job.names[0])}: {event.remark}")
    for event in failed[:SHOWN]:
        uri = event.job.uris[0] if event.job.uris else event.job.row["uri"]
        console.say(f"not {folder}: {uri}: {event.reason}")
    if len(failed) > SHOWN:
        console.say(f"… and {len(failed) - SHOWN} more")
    new = console.contents([event.job.row for event in made if event.is_new])
    so_already = len(made) - sum(event.is_new for event in made)
    earlier = f", {so_already} so already" if so_already else ""
    console.say(f"{new} {folder}{earlier} -> {index.store.full(folder)}")
    num_deferred = sum(event.may_pass for event in failed)
    names = tuple(name for event in made for name in event.job.names)
    return CopyOutcome(names, len(failed) - num_deferred, num_deferred)


def sources_of(index: OutputIndex, video_id: str) -> tuple[str, ...]:
    """Return the addresses of all sources with a content, current ones first."""
    rows = [row for row in index.sources.values() if row["video_id"] == video_id]
    uris = [row["uri"] for row in sorted(rows, key=lambda row: (not row["current"], row["uri"]))]
    return tuple(dict.fromkeys([*uris, index.videos[video_id]["uri"]]))


def select_videos(index: OutputIndex, wanted: Sequence[str]) -> set[str]:
    """Return the finished videos that `wanted` names: each by its video_id, the uri of a source, or the end of one.

    Raises UserError for a name that fits none, or several contents.
    """
    uris = {uri: video_id for video_id in index.done() for uri in sources_of(index, video_id)}
    chosen = set()
    for name in wanted:
        fitting = {name} & set(index.done()) or {
            video_id for uri, video_id in uris.items() if uri == name or uri.endswith(f"/{name.lstrip('/')}")
        }
        if not fitting:
            known = [uri.rpartition("/")[2] for uri in uris]
            raise UserError(f"--video {name}: is no finished video{nearest(name, known, 'see the dataset `sources`')}")
        if len(fitting) > 1:
            raise UserError(f"--video {name}: fits {len(fitting)} videos; give more of the path, or a video_id")
        chosen |= fitting
    return chosen
