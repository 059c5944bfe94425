"""The schemas of all rows: rows between stages, durable objects of a chunk, and the published datasets.

It is long because it is the one reference of all columns: a writer, a reader and docs/tables.md take them from here.

Times are int64 nanoseconds from the first displayed frame; published times are float64 seconds. Spans are half-open.
Boxes are xyxy px of the displayed picture, with rotation, pixel aspect and edit lists applied; published boxes are
bb_xmin, bb_ymin, bb_height, bb_width. Every batch is cast to its schema when it is made: if Ray infers the types, it
writes blocks that cannot be read together.
"""

from dataclasses import dataclass

import pyarrow as pa

SCHEMA_VERSION = "1"

BOX = pa.list_(pa.float32(), 4)
AGE_DIST = pa.list_(pa.float32())
"""The 12 probabilities of the groups of cores.age_dist. Parquet cannot read back null lists of a fixed size."""
ERROR = pa.struct([("stage", pa.string()), ("kind", pa.string()), ("message", pa.string())])
TIMING = pa.struct([("stage", pa.string()), ("seconds", pa.float64()), ("gpu_seconds", pa.float64())])
VECTOR = pa.struct([("codes", pa.binary()), ("scale", pa.float32())])
"""An embedding as int8 codes with one scale (arrays.Quantised)."""

# --- rows between stages ---------------------------------------------------------------------------------------------

SPAN = pa.schema(
    [
        ("video_id", pa.string()),
        ("uri", pa.string()),
        ("first_cell", pa.int64()),  # the span is [first_cell, end_cell), in cells
        ("end_cell", pa.int64()),  # -1: the end of the video
        ("borders", pa.list_(pa.int64())),  # first cells of the chunks in the span, ascending, including first_cell
        ("durable", pa.list_(pa.int64())),  # first cells of the chunks that are durable already
        ("probe", pa.string()),  # media.probe.Probe as JSON
    ]
)
"""A part of a video that is decoded in one pass.

It usually is one chunk. If the decoder cannot start in the middle of a video, one span holds all of its chunks.
"""

KEPT_FACES = pa.schema(
    [
        ("video_id", pa.string()),
        ("uri", pa.string()),
        ("first_cell", pa.int64()),
        ("end_cell", pa.int64()),  # -1: the end of the video
        ("enriched", pa.string()),  # key of the durable object that holds the faces
    ]
)
"""A durable chunk whose kept faces are estimated again without decoding."""

CHUNK = pa.schema(
    [
        ("video_id", pa.string()),
        ("uri", pa.string()),
        ("first_cell", pa.int64()),
        ("end_cell", pa.int64()),  # -1: the end of the video
        ("warning", pa.string()),
        ("timings", pa.list_(TIMING)),
        ("attempts", pa.int32()),
        ("error", ERROR),
    ]
)
COMMITTED = pa.schema([("num_frames", pa.int64()), ("num_detections", pa.int64())])
"""The size of a chunk that has just become durable. num_detections: of those that this run has made."""

FRAME = pa.struct(
    [
        ("time_ns", pa.int64()),
        ("cell", pa.int64()),
        ("analysed", pa.bool_()),
        # PySceneDetect's sums of absolute differences between the thumbnails of this frame and the NEXT frame.
        # Null in the last frame of the video.
        ("hue", pa.int64()),
        ("saturation", pa.int64()),
        ("lightness", pa.int64()),
        # The motion of the camera from the last analysed frame to the NEXT frame: real and imaginary parts of a and b
        # in z -> a * z + b of complex px x + iy. Null if the next frame is not analysed, if the camera stands still,
        # or if camera motion is not measured.
        ("motion", pa.list_(pa.float64())),
        # The sketch by media.place.sketch of the place in an analysed frame: cores.place.SIZE bytes.
        ("place", pa.binary()),
    ]
)
DETECTION = pa.struct(
    [
        ("frame", pa.int32()),  # index into the frames of the chunk
        ("box", BOX),
        ("score", pa.float32()),
        ("bodiless", pa.bool_()),  # a face without a body: the box is a guess of head and shoulders
        ("embedding", VECTOR),
    ]
)
CANDIDATE = pa.struct(
    [
        ("detection", pa.int32()),  # index into the detections of the chunk
        ("chain", pa.int32()),  # the first detection of the same person in the cell; equal for all crops of the person
        ("crop", pa.large_binary()),  # JPEG
        ("x", pa.float32()),  # px of the displayed picture, upper left corner of the crop
        ("y", pa.float32()),
        ("scale", pa.float32()),  # crop px per picture px
        ("body", pa.large_binary()),  # JPEG of the whole box; null unless estimate.uses asks for bodies
        ("body_x", pa.float32()),
        ("body_y", pa.float32()),
        ("body_scale", pa.float32()),
    ]
)
FACE = pa.struct(
    [
        ("detection", pa.int32()),  # index into the detections of the chunk; null: the face belongs to no detection
        ("frame", pa.int32()),  # index into the frames of the chunk
        ("box", BOX),
        ("landmarks", pa.list_(pa.float32(), 10)),  # x, y of left eye, right eye, nose, left and right mouth corner
        ("score", pa.float32()),
        ("sharpness", pa.float32()),
        ("quality", pa.float32()),  # 0..1, the weight of its estimate
        ("judged", pa.bool_()),
        ("why_not", pa.string()),  # null if judged
        ("restored", pa.bool_()),
        ("age", pa.float32()),
        ("age_std", pa.float32()),
        ("age_lean", pa.float32()),  # null if the interval is symmetric
        ("female_prob", pa.float32()),
        ("age_dist", AGE_DIST),
        ("embedding", VECTOR),
    ]
)
ALIGNED = pa.struct([("face", pa.int32()), ("picture", pa.large_binary())])
"""An upright picture of a judged face.

A restored face has two: first the picture before restoration, which alone is used for identity, then the restored one.
"""

BODY = pa.struct(
    [
        ("detection", pa.int32()),  # index into the detections of the chunk
        ("frame", pa.int32()),  # index into the frames of the chunk
        ("quality", pa.float32()),  # 0..1, the weight of its estimate
        ("age", pa.float32()),  # estimated from the body alone; null if the body was judged together with its face
        ("age_std", pa.float32()),
        ("female_prob", pa.float32()),
        ("picture", pa.large_binary()),  # JPEG in which other people and all faces are black
    ]
)
FRAMES = pa.schema(
    [
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("thumbnail_pixels", pa.int32()),  # divisor of the sums of differences
        ("frames", pa.list_(FRAME)),
    ]
)
DETECTIONS = pa.schema([("detections", pa.list_(DETECTION))])
CANDIDATES = pa.schema([("candidates", pa.list_(CANDIDATE))])
FACES = pa.schema([("faces", pa.list_(FACE))])
ALIGNED_FACES = pa.schema([("aligned", pa.list_(ALIGNED))])  # JPEGs of 224 px for restoration and estimation


BODIES = pa.schema([("bodies", pa.list_(BODY))])


def join(*schemas: pa.Schema) -> pa.Schema:
    """Return the columns of all `schemas`, in order."""
    return pa.schema([field for schema in schemas for field in schema])


OBSERVED = join(pa.schema([("warning", pa.string())]), FRAMES, DETECTIONS)
"""The durable object of a chunk with its frames and detections: one row."""

ENRICHED = join(FACES, ALIGNED_FACES, BODIES)
"""The durable object of a chunk with its faces, bodies and estimates: one row. Pictures are in it if biometrics are
kept."""


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Cast `table` to `schema`. Raises TypeError if the columns differ."""
    if table.column_names != schema.names:
        raise TypeError(f"expected columns {schema.names}, got {table.column_names}")
    return table.cast(schema)


def blank(schema: pa.Schema, num_rows: int) -> pa.Table:
    """Return `num_rows` rows of nulls."""
    return pa.table([pa.nulls(num_rows, field.type) for field in schema], schema=schema)


# --- published datasets ----------------------------------------------------------------------------------------------

TEXT, INT, REAL, FLAG = pa.string(), pa.int64(), pa.float64(), pa.bool_()
REALS = pa.list_(REAL)
BODY_ESTIMATES = pa.list_(
    pa.struct([("frame_num", INT), ("quality", REAL), ("age", REAL), ("age_std", REAL), ("female_prob", REAL)])
)
TIME = pa.timestamp("us", tz="UTC")
STAGES = pa.list_(pa.struct([("stage", TEXT), ("seconds", REAL), ("gpu_seconds", REAL), ("cost", REAL)]))
"""Working time, GPU time and cost of each stage."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a published dataset, as docs/tables.md describes it.

    unit: part of the Parquet metadata; empty if there is none or if `meaning` states it.
    null_when: completes "null when"; empty if the column is never null.
    """

    name: str
    type: pa.DataType
    unit: str
    meaning: str
    null_when: str = ""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A published dataset. row: completes "one row is"."""

    row: str
    columns: tuple[Column, ...]

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema. Meanings are left out, because they would change the bytes of every file."""
        fields = [pa.field(c.name, c.type, metadata={"unit": c.unit} if c.unit else None) for c in self.columns]
        return pa.schema(fields, metadata={"rollcall.schema": SCHEMA_VERSION})


def _dataset(row: str, *columns: Column) -> Dataset:
    return Dataset(row, columns)


_VIDEO_ID = Column("video_id", TEXT, "", "Identity of the content: a digest of its bytes.")
_BB = (
    Column("bb_xmin", REAL, "px", "Left edge of the box."),
    Column("bb_ymin", REAL, "px", "Upper edge of the box."),
    Column("bb_height", REAL, "px", "Height of the box."),
    Column("bb_width", REAL, "px", "Width of the box."),
)
_AGE_DIST = "Probabilities of the ages 0–9, 10–19, …, 100–109, and 110 and more."
_NO_AGE_DIST = "the estimator has no distribution"
_SEQUENCE_POSITION = "Position of the file in the sequence, from 1."

PUBLISHED: dict[str, Dataset] = {
    "sources": _dataset(
        "an input as it was named",
        Column("uri", TEXT, "", "Absolute path or URI."),
        Column("video_id", TEXT, "", "Identity of the content: a digest of its bytes.", "the source could not be read"),
        Column("status", TEXT, "", "`pending`, `done`, `quarantined` or `forgotten`."),
        Column("stage", TEXT, "", "Stage that failed.", "nothing failed"),
        Column("reason", TEXT, "", "Reason of the failure.", "nothing failed"),
        Column(
            "failed_config_id",
            TEXT,
            "",
            "Configuration under which newer tables could not be made. Those of `videos.config_id` stay.",
            "no newer tables failed",
        ),
        Column("current", FLAG, "", "False if an earlier run named the source and it has vanished since."),
        Column("csv", TEXT, "", "Path of its CSV below the output."),
        Column("size_bytes", INT, "", "Size in bytes.", "the source is missing"),
        Column("etag", TEXT, "", "Mark of the storage that changes with the content.", "the storage gives none"),
        Column("named_by", TEXT, "", "Argument that named the source: a file, folder, prefix, pattern or list."),
        Column("sequence", TEXT, "", "Name of the sequence that the file belongs to.", "in no sequence"),
        Column("position", INT, "", _SEQUENCE_POSITION, "in no sequence"),
        Column("recorded_at", TIME, "", "Start of the recording by the list.", "the list states none"),
    ),
    "videos": _dataset(
        "a content: all sources with the same bytes",
        _VIDEO_ID,
        Column("uri", TEXT, "", "Source that was read: the first with this content."),
        Column("status", TEXT, "", "`done` or `quarantined`."),
        Column("stage", TEXT, "", "Stage that failed.", "done"),
        Column("reason", TEXT, "", "Reason for the quarantine.", "done"),
        Column("warning", TEXT, "", "Damage, guessed times and other oddities.", "there are none, or quarantined"),
        Column("config_id", TEXT, "", "Configuration and models: recipes/ID.json explains it."),
        Column("width", INT, "px", "Width of the displayed picture.", "quarantined"),
        Column("height", INT, "px", "Height of the displayed picture.", "quarantined"),
        Column("fps", REAL, "Hz", "Average frame rate.", "a picture, unknown, or quarantined"),
        Column("duration_s", REAL, "s", "Time from the first frame to the end of the last one.", "quarantined"),
        Column("num_frames", INT, "", "Number of frames.", "quarantined"),
        Column("num_analysed", INT, "", "Number of analysed frames: frames that the detector saw.", "quarantined"),
        Column("num_shots", INT, "", "Number of shots.", "quarantined"),
        Column("num_persons", INT, "", "Number of persons.", "quarantined"),
        Column("recorded_at", TIME, "", "Start of the recording by the container.", "not stated, or quarantined"),
    ),
    "shots": _dataset(
        "a run of frames between two cuts",
        _VIDEO_ID,
        Column("shot", INT, "", "Number of the shot in the video, from 1."),
        Column("start_s", REAL, "s", "Start of its first frame."),
        Column("end_s", REAL, "s", "End of its last frame."),
    ),
    "detections": _dataset(
        "a person in a frame",
        _VIDEO_ID,
        Column("frame_num", INT, "", "Number of the frame in the video, from 1."),
        Column("time_s", REAL, "s", "Start of the frame."),
        Column("shot", INT, "", "Shot of the frame."),
        Column("tracklet_id", INT, "", "Tracklet of the box."),
        Column("person_id", INT, "", "Person of the tracklet."),
        *_BB,
        Column("score", REAL, "", "Score of the detector, 0 to 1.", "interpolated"),
        Column("interpolated", FLAG, "", "True if the box was not detected but filled in."),
        Column("age_min", INT, "years", "Start of the group of five years that holds age_actual. -1: no age."),
        Column("age_max", INT, "years", "age_min + 5. -1: no age."),
        Column("age_actual", INT, "years", "Age of the person in whole years. -1: no age."),
        Column("gender", TEXT, "", "`M`, `F`, or `N` for none, as in `persons`."),
        Column("age_low", REAL, "years", "Lower end of the 80 % interval, as in `persons`.", "there is no age"),
        Column("age_high", REAL, "years", "Upper end of the 80 % interval, as in `persons`.", "there is no age"),
        Column("age_why_not", TEXT, "", "Why there is no age, as in `persons`.", "there is an age"),
        Column("gender_why_not", TEXT, "", "Why there is no gender, as in `persons`.", "gender is M or F"),
    ),
    "tracklets": _dataset(
        "an unbroken appearance of a person inside a shot",
        _VIDEO_ID,
        Column("tracklet_id", INT, "", "Number of the tracklet in the video, from 1, by first appearance."),
        Column("person_id", INT, "", "Person of the tracklet."),
        Column("shot", INT, "", "Shot of the tracklet."),
        Column("start_s", REAL, "s", "Start of its first frame."),
        Column("end_s", REAL, "s", "End of its last frame."),
        Column("num_frames", INT, "", "Number of its rows in `detections`."),
        Column("num_faces", INT, "", "Number of its judged faces."),
        Column(
            "bodies",
            BODY_ESTIMATES,
            "",
            "Estimates from its body alone, in order of frames.",
            "no body was judged alone",
        ),
    ),
    "faces": _dataset(
        "a face that was found in an analysed frame",
        _VIDEO_ID,
        Column("frame_num", INT, "", "Number of the frame in the video, from 1."),
        Column("person_id", INT, "", "Person who has the face.", "the face is on no tracked person"),
        Column("tracklet_id", INT, "", "Tracklet that has the face.", "the face is on no tracked person"),
        *_BB,
        Column("score", REAL, "", "Score of the face detector, 0 to 1."),
        Column("quality", REAL, "", "Weight of its estimate, 0 to 1."),
        Column("judged", FLAG, "", "True if the face is good enough for estimates."),
        Column("why_not", TEXT, "", "Why the face is not judged: see below.", "judged"),
        Column("restored", FLAG, "", "True if the estimate used a restored picture."),
        Column("age", REAL, "years", "Estimated age.", "not judged, or no estimator"),
        Column("age_std", REAL, "years", "Standard error of the age.", "not judged, or no estimator"),
        Column(
            "age_lean",
            REAL,
            "",
            "How far the 80 % interval leans to older ages, -1 to 1. It reaches from "
            "age - 1.28 * age_std * (1 - age_lean) to age + 1.28 * age_std * (1 + age_lean).",
            "not judged, or the estimator's intervals are symmetric",
        ),
        Column("female_prob", REAL, "", "Probability of female, 0 to 1.", "not judged, or no estimator"),
        Column("age_dist", REALS, "", _AGE_DIST, f"not judged, or {_NO_AGE_DIST}"),
    ),
    "persons": _dataset(
        "a person of a video",
        _VIDEO_ID,
        Column(
            "person_id",
            INT,
            "",
            "Number of the person in the video, from 1, by first appearance. `forget` leaves gaps.",
        ),
        Column("start_s", REAL, "s", "Start of the person's first frame."),
        Column("end_s", REAL, "s", "End of the person's last frame."),
        Column("num_frames", INT, "", "Number of the person's rows in `detections`."),
        Column("num_tracklets", INT, "", "Number of the person's tracklets."),
        Column("num_faces", INT, "", "Number of the person's judged faces."),
        Column("age", REAL, "years", "Estimated age.", "age_why_not is given"),
        Column("age_low", REAL, "years", "Lower end of the 80 % interval of the age.", "age_why_not is given"),
        Column("age_high", REAL, "years", "Upper end of the 80 % interval of the age.", "age_why_not is given"),
        Column("gender", TEXT, "", "`M`, `F`, or `N` for none."),
        Column("female_prob", REAL, "", "Probability of female, 0 to 1.", "no gender was estimated"),
        Column("age_why_not", TEXT, "", "Why there is no age: see below.", "there is an age"),
        Column("gender_why_not", TEXT, "", "Why there is no gender: see below.", "gender is M or F"),
        Column("age_dist", REALS, "", _AGE_DIST, f"there is no age, or {_NO_AGE_DIST}"),
        Column("age_group", TEXT, "", "Group of the age: `person.age_groups`.", "there is no age, or no such group"),
        Column("estimated_from", TEXT, "", "`face`, or `body` for bodies alone.", "there is neither age nor gender"),
    ),
    "links": _dataset(
        "a pair of tracklets that was compared",
        _VIDEO_ID,
        Column("tracklet_a", INT, "", "tracklet_id of the one that appeared first."),
        Column("tracklet_b", INT, "", "tracklet_id of the other."),
        Column(
            "kind",
            TEXT,
            "",
            "`gap`: a short gap in one place; `stay`: one over a change of light; `seat`: two who keep still over a "
            "jump in time; `shot`: others.",
        ),
        Column("gap_s", REAL, "s", "Time from the end of one to the start of the other. 0 if they interleave."),
        Column("motion", REAL, "body heights", "Distance between the predicted and the true place.", "kind is `shot`"),
        Column(
            "size",
            REAL,
            "",
            "Larger height divided by the smaller one, at the gap, freed from perspective.",
            "kind is `shot`",
        ),
        Column("size_limit", REAL, "", "Largest size that counts as one person's in this video.", "kind is `shot`"),
        Column("body_similarity", REAL, "", "Cosine of the body embeddings.", "a tracklet has none"),
        Column("face_similarity", REAL, "", "Cosine of the face embeddings.", "a tracklet has none"),
        Column("score", REAL, "", "Natural log-likelihood ratio of one person to two.", "nothing could be compared"),
        Column("joined", FLAG, "", "True if both are one person in the end."),
        Column("why", TEXT, "", "Why they are joined or not: see below."),
    ),
    "likenesses": _dataset(
        "the calibration of one kind of embedding on a video",
        _VIDEO_ID,
        Column("kind", TEXT, "", "`body` or `face`."),
        Column("space", TEXT, "", "Embedding space."),
        Column("same_mean", REAL, "", "Mean of ln(cosine distance) within one person."),
        Column("same_std", REAL, "", "Standard deviation of the same logarithms."),
        Column("num_same", INT, "", "Number of tracklets that same_mean and same_std come from."),
        Column("other_mean", REAL, "", "Mean of ln(cosine distance) between two people in one frame."),
        Column("other_std", REAL, "", "Standard deviation of the same logarithms."),
        Column("num_other", INT, "", "Number of tracklets that other_mean and other_std come from."),
        Column("share", REAL, "", "Estimated share of pairs from different shots that are the same person."),
    ),
    "crossings": _dataset(
        "a person who crosses a line, a side of the picture, or the border of a zone",
        _VIDEO_ID,
        Column("person_id", INT, "", "Person who crosses it."),
        Column("line", TEXT, "", "Name of the line or zone, or `left`, `right`, `top`, `bottom`."),
        Column("direction", TEXT, "", "`in` or `out`: see below."),
        Column("time_s", REAL, "s", "Time of the crossing."),
        Column("kind", TEXT, "", "`line`, `zone` or `side`."),
        Column("crossed", FLAG, "", "False if the person appeared or vanished inside the zone."),
        Column("dwell_s", REAL, "s", "Time that the person has been in the zone.", "the person does not leave a zone"),
    ),
    "sequences": _dataset(
        "a person of a file that belongs to a sequence",
        Column("sequence", TEXT, "", "Name of the sequence."),
        Column("position", INT, "", _SEQUENCE_POSITION),
        _VIDEO_ID,
        Column("person_id", INT, "", "Person in the file."),
        Column("sequence_person_id", INT, "", "Person in the whole sequence, from 1."),
    ),
    "runs": _dataset(
        "a video that a run worked on",
        Column("run_id", TEXT, "", "Identity of the run."),
        _VIDEO_ID,
        Column("started_at", TIME, "", "Start of the work on the video."),
        Column("seconds", REAL, "s", "Working time of all workers together."),
        Column("gpu_seconds", REAL, "s", "GPU time of all workers together."),
        Column("cost", REAL, "", "Cost in the currency of the prices (run.cpu_hour_price).", "no price is set"),
        Column("attempts", INT, "", "Most attempts that one chunk needed."),
        Column("num_chunks", INT, "", "Number of chunks of the video."),
        Column("chunks_reused", INT, "", "Number of chunks that were decoded in an earlier run."),
        Column("stages", STAGES, "", "The same work and cost by stage, in order of names.", "an older version ran"),
    ),
    "embeddings": _dataset(
        "the mean body embedding of a tracklet, or the embedding of a judged face",
        _VIDEO_ID,
        Column("tracklet_id", INT, "", "Tracklet of the body or face.", "the face is on no tracked person"),
        Column("frame_num", INT, "", "Frame of the face.", "kind is `body`"),
        Column("kind", TEXT, "", "`body` or `face`."),
        Column("space", TEXT, "", "Embedding space: only vectors of one space may be compared."),
        Column("vector", pa.list_(pa.float32()), "", "Unit vector."),
    ),
}
"""Every dataset that a user reads. docs/tables.md is made from it by `python -m pipeline.tables_page`."""

BIOMETRIC_DATASETS = {"embeddings": PUBLISHED["embeddings"].schema}
"""The schemas of the datasets that exist only with `biometrics.keep: true`."""
DATASETS = {name: dataset.schema for name, dataset in PUBLISHED.items() if name not in BIOMETRIC_DATASETS}
"""The schemas of all other datasets."""

SUMMARY = pa.schema(
    [
        ("tracklet_id", INT),
        ("head_ns", pa.list_(INT)),
        ("head_boxes", pa.list_(BOX)),
        ("tail_ns", pa.list_(INT)),
        ("tail_boxes", pa.list_(BOX)),
        ("head_cut_off", FLAG),
        ("tail_cut_off", FLAG),
        ("body", pa.list_(pa.float32())),
        ("body_space", TEXT),
        ("face", pa.list_(pa.float32())),
        ("face_space", TEXT),
    ]
)
"""A tracklet as the working area keeps it for later files of its sequence (cores.link.tracklets.Tracklet)."""

VIDEO_TABLES = ("shots", "detections", "tracklets", "faces", "persons", "links", "likenesses", "crossings")
"""The datasets that publishing a video writes before the row in `videos`."""
OPTIONAL_TABLES = frozenset({"crossings"})
"""The datasets of VIDEO_TABLES in which a video has a file only if the configuration asks for it. Without a file it has
no rows."""

CSV_HEADER = "frame num,person id,bb_xmin,bb_ymin,bb_height,bb_width,age_min,age_max,age_actual,gender"
