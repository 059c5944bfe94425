"""Every row there is, by name: what crosses a stage, what is durable while a video runs, and what a user reads.

Times are int64 nanoseconds from the first displayed frame, or float64 seconds in the published tables; spans are
half-open. Boxes are xyxy px of the displayed picture (rotation, pixel aspect and edit lists applied); published ones
are bb_xmin, bb_ymin, bb_height, bb_width. Every batch is cast to its schema at the door: left to inference, Ray writes
types that cannot be read together.
"""

import pyarrow as pa

SCHEMA_VERSION = "1"

BOX = pa.list_(pa.float32(), 4)
ERROR = pa.struct([("stage", pa.string()), ("kind", pa.string()), ("message", pa.string())])
TIMING = pa.struct([("stage", pa.string()), ("seconds", pa.float64()), ("gpu_seconds", pa.float64())])
VECTOR = pa.struct([("codes", pa.binary()), ("scale", pa.float32())])
"""An embedding as int8 codes with one scale (arrays.Quantised)."""

# --- what crosses the stages -----------------------------------------------------------------------------------------

SPAN = pa.schema(
    [
        ("video_id", pa.string()),
        ("uri", pa.string()),
        ("first_cell", pa.int64()),  # the span is [first_cell, end_cell), in cells; -1: to the end of the video
        ("end_cell", pa.int64()),
        ("borders", pa.list_(pa.int64())),  # first cells of the chunks inside, ascending, first_cell among them
        ("durable", pa.list_(pa.int64())),  # first cells of the chunks that need no work
        ("probe", pa.string()),  # media.probe.Probe as JSON
    ]
)
"""What is decoded in one go: as a rule one chunk; a video that cannot be entered in the middle is one span of many."""

KEPT_FACES = pa.schema(
    [
        ("video_id", pa.string()),
        ("uri", pa.string()),
        ("first_cell", pa.int64()),
        ("end_cell", pa.int64()),  # -1: to the end of the video
        ("enriched", pa.string()),  # the key of the durable object that has the faces
    ]
)
"""A durable chunk whose kept faces are estimated again, without its pixels."""

CHUNK = pa.schema(
    [
        ("video_id", pa.string()),
        ("uri", pa.string()),
        ("first_cell", pa.int64()),
        ("end_cell", pa.int64()),  # -1: to the end of the video
        ("warning", pa.string()),
        ("timings", pa.list_(TIMING)),
        ("attempts", pa.int32()),
        ("error", ERROR),
    ]
)
COMMITTED = pa.schema([("num_frames", pa.int64())])

FRAME = pa.struct(
    [
        ("time_ns", pa.int64()),
        ("cell", pa.int64()),
        ("analysed", pa.bool_()),
        # PySceneDetect's sums of absolute differences to the NEXT frame of the video, on thumbnails; null at its end.
        ("hue", pa.int64()),
        ("saturation", pa.int64()),
        ("lightness", pa.int64()),
        # Of the camera, from the last analysed frame to the NEXT frame: real and imaginary parts of a and b in
        # z -> a * z + b of complex px x + iy; null where that is not analysed, the camera stands still or is not asked.
        ("motion", pa.list_(pa.float64())),
    ]
)
DETECTION = pa.struct(
    [
        ("frame", pa.int32()),  # index into the chunk's frames
        ("box", BOX),
        ("score", pa.float32()),
        ("bodiless", pa.bool_()),  # a face without a body: the box is head and shoulders, guessed
        ("embedding", VECTOR),
    ]
)
CANDIDATE = pa.struct(
    [
        ("detection", pa.int32()),  # index into the chunk's detections
        ("crop", pa.large_binary()),  # JPEG
        ("x", pa.float32()),  # px of the displayed picture: where the crop's left upper corner lies
        ("y", pa.float32()),
        ("scale", pa.float32()),  # crop px per picture px
    ]
)
FACE = pa.struct(
    [
        ("detection", pa.int32()),  # index into the chunk's detections; null: a face on no one
        ("frame", pa.int32()),  # index into the chunk's frames
        ("box", BOX),
        ("landmarks", pa.list_(pa.float32(), 10)),  # x, y of left eye, right eye, nose, left, right mouth corner
        ("score", pa.float32()),
        ("sharpness", pa.float32()),
        ("quality", pa.float32()),  # 0..1, the weight of its estimate
        ("judged", pa.bool_()),
        ("why_not", pa.string()),  # null where judged
        ("restored", pa.bool_()),
        ("age", pa.float32()),
        ("age_std", pa.float32()),
        ("female_prob", pa.float32()),
        ("embedding", VECTOR),
    ]
)
ALIGNED = pa.struct([("face", pa.int32()), ("picture", pa.large_binary())])
"""A judged face, upright. A restored one has two pictures: as it was seen, the only one for identity, then restored."""

FRAMES = pa.schema(
    [
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("thumbnail_pixels", pa.int32()),  # what the sums of differences are divided by
        ("frames", pa.list_(FRAME)),
    ]
)
DETECTIONS = pa.schema([("detections", pa.list_(DETECTION))])
CANDIDATES = pa.schema([("candidates", pa.list_(CANDIDATE))])
FACES = pa.schema([("faces", pa.list_(FACE))])
ALIGNED_FACES = pa.schema([("aligned", pa.list_(ALIGNED))])  # 224 px JPEG, on the way to restoration and estimate


def join(*schemas: pa.Schema) -> pa.Schema:
    """The columns of all `schemas`, in order."""
    return pa.schema([field for schema in schemas for field in schema])


OBSERVED = join(pa.schema([("warning", pa.string())]), FRAMES, DETECTIONS)
"""The durable object of a chunk that holds what was seen in single frames. One row."""

ENRICHED = join(FACES, ALIGNED_FACES)
"""The durable object of a chunk that holds faces and estimates. One row; `aligned` only where biometrics are kept."""


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Give `table` exactly `schema`, or say which column is wrong."""
    if table.column_names != schema.names:
        raise TypeError(f"expected columns {schema.names}, got {table.column_names}")
    return table.cast(schema)


def blank(schema: pa.Schema, num_rows: int) -> pa.Table:
    """`num_rows` rows of nulls."""
    return pa.table([pa.nulls(num_rows, field.type) for field in schema], schema=schema)


# --- what a user reads -----------------------------------------------------------------------------------------------


def _dataset(*fields: tuple[str, pa.DataType] | tuple[str, pa.DataType, str]) -> pa.Schema:
    columns = [pa.field(f[0], f[1], metadata={"unit": f[2]} if len(f) > 2 else None) for f in fields]
    return pa.schema(columns, metadata={"rollcall.schema": SCHEMA_VERSION})


TEXT, INT, REAL, FLAG = pa.string(), pa.int64(), pa.float64(), pa.bool_()
_BB = (("bb_xmin", REAL, "px"), ("bb_ymin", REAL, "px"), ("bb_height", REAL, "px"), ("bb_width", REAL, "px"))

DATASETS: dict[str, pa.Schema] = {
    "sources": _dataset(
        ("uri", TEXT),
        ("video_id", TEXT),
        ("status", TEXT),
        ("stage", TEXT),
        ("reason", TEXT),
        ("current", FLAG),
        ("csv", TEXT),
        ("size_bytes", INT),
        ("etag", TEXT),
        ("named_by", TEXT),
        ("sequence", TEXT),
        ("position", INT),  # in the sequence, from 1
        ("recorded_at", pa.timestamp("us", tz="UTC")),  # as a list says
    ),
    "videos": _dataset(
        ("video_id", TEXT),
        ("uri", TEXT),
        ("status", TEXT),
        ("stage", TEXT),
        ("reason", TEXT),
        ("warning", TEXT),
        ("config_id", TEXT),
        ("width", INT, "px"),
        ("height", INT, "px"),
        ("fps", REAL, "Hz"),
        ("duration_s", REAL, "s"),
        ("num_frames", INT),
        ("num_analysed", INT),
        ("num_shots", INT),
        ("num_persons", INT),
        ("recorded_at", pa.timestamp("us", tz="UTC")),
    ),
    "shots": _dataset(("video_id", TEXT), ("shot", INT), ("start_s", REAL, "s"), ("end_s", REAL, "s")),
    "detections": _dataset(
        ("video_id", TEXT),
        ("frame_num", INT),
        ("time_s", REAL, "s"),
        ("shot", INT),
        ("tracklet_id", INT),
        ("person_id", INT),
        *_BB,
        ("score", REAL),
        ("interpolated", FLAG),
        ("age_min", INT, "years"),  # the group of five years that age_actual falls into: no interval, see age_low
        ("age_max", INT, "years"),
        ("age_actual", INT, "years"),
        ("gender", TEXT),
        ("age_low", REAL, "years"),  # this and the next three: the person's, as in `persons`
        ("age_high", REAL, "years"),
        ("age_why_not", TEXT),
        ("gender_why_not", TEXT),
    ),
    "tracklets": _dataset(
        ("video_id", TEXT),
        ("tracklet_id", INT),
        ("person_id", INT),
        ("shot", INT),
        ("start_s", REAL, "s"),
        ("end_s", REAL, "s"),
        ("num_frames", INT),
        ("num_faces", INT),
    ),
    "faces": _dataset(
        ("video_id", TEXT),
        ("frame_num", INT),
        ("person_id", INT),
        ("tracklet_id", INT),
        *_BB,
        ("score", REAL),
        ("quality", REAL),
        ("judged", FLAG),
        ("why_not", TEXT),  # null where judged; else one of cores.gate.WHY_NOT, which says what each means
        ("restored", FLAG),
        ("age", REAL, "years"),
        ("age_std", REAL, "years"),
        ("female_prob", REAL),
    ),
    "persons": _dataset(
        ("video_id", TEXT),
        ("person_id", INT),
        ("start_s", REAL, "s"),
        ("end_s", REAL, "s"),
        ("num_frames", INT),
        ("num_tracklets", INT),
        ("num_faces", INT),
        ("age", REAL, "years"),
        ("age_low", REAL, "years"),  # age_low to age_high: an 80 % interval
        ("age_high", REAL, "years"),
        ("gender", TEXT),
        ("female_prob", REAL),
        ("age_why_not", TEXT),  # null where there is an age; else one of cores.vote.WHY_NOT, which says what each means
        ("gender_why_not", TEXT),  # null where gender is M or F; else likewise
    ),
    "links": _dataset(
        ("video_id", TEXT),
        ("tracklet_a", INT),
        ("tracklet_b", INT),
        ("kind", TEXT),
        ("gap_s", REAL, "s"),
        ("motion", REAL, "body heights"),
        ("size", REAL),  # of the heights on either side of a gap, the greater by the smaller
        ("body_similarity", REAL),
        ("face_similarity", REAL),
        ("score", REAL),
        ("joined", FLAG),
        ("why", TEXT),
    ),
    "likenesses": _dataset(
        ("video_id", TEXT),
        ("kind", TEXT),
        ("space", TEXT),
        ("same_mean", REAL),  # of the natural logarithm of cosine distances, as are the three that follow
        ("same_std", REAL),
        ("num_same", INT),
        ("other_mean", REAL),
        ("other_std", REAL),
        ("num_other", INT),
        ("share", REAL),
    ),
    "sequences": _dataset(
        ("sequence", TEXT), ("position", INT), ("video_id", TEXT), ("person_id", INT), ("sequence_person_id", INT)
    ),
    "runs": _dataset(
        ("run_id", TEXT),
        ("video_id", TEXT),
        ("started_at", pa.timestamp("us", tz="UTC")),
        ("seconds", REAL, "s"),
        ("gpu_seconds", REAL, "s"),
        ("cost", REAL),
        ("attempts", INT),
        ("num_chunks", INT),
        ("chunks_reused", INT),
    ),
}
BIOMETRIC_DATASETS: dict[str, pa.Schema] = {
    "embeddings": _dataset(
        ("video_id", TEXT),
        ("tracklet_id", INT),
        ("frame_num", INT),
        ("kind", TEXT),
        ("space", TEXT),
        ("vector", pa.list_(pa.float32())),
    ),
}
SUMMARY = pa.schema(
    [
        ("tracklet_id", INT),
        ("head_ns", pa.list_(INT)),
        ("head_boxes", pa.list_(BOX)),
        ("tail_ns", pa.list_(INT)),
        ("tail_boxes", pa.list_(BOX)),
        ("body", pa.list_(pa.float32())),
        ("body_space", TEXT),
        ("face", pa.list_(pa.float32())),
        ("face_space", TEXT),
    ]
)
"""What the working area remembers of a tracklet (cores.link.Tracklet) for the files that follow in its sequence."""

VIDEO_TABLES = ("shots", "detections", "tracklets", "faces", "persons", "links", "likenesses")
"""The tables that publishing a video writes, before its row of `videos`."""

CSV_HEADER = "frame num,person id,bb_xmin,bb_ymin,bb_height,bb_width,age_min,age_max,age_actual,gender"
