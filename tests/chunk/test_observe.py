"""The core of `observe` with a scripted decoder and scripted models, and once with the real ones."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipeline.arrays import Detections, Faces, Picture
from pipeline.chunk import observe, recorder
from pipeline.chunk.candidates import CellCandidates
from pipeline.chunk.observe import ADDS, SpanObserver, as_row
from pipeline.config import Config, load
from pipeline.media.decode import DecodedFrame
from pipeline.media.pictures import decode_jpeg
from pipeline.media.probe import Probe
from pipeline.media.probing import probe
from pipeline.media.shown import Damaged
from pipeline.media.warnings import DAMAGED
from tests import builders
from tests.shared import SHARED, needs_shared

WIDTH, HEIGHT, RATE, CELLS = 320, 240, 10, 8
NUM_FRAMES = RATE * CELLS
THUMBNAIL_PIXELS = 100
CUT_AFTER = 33

PROBE = replace(
    builders.probe(builders.Film(CELLS, [], fps=RATE)),
    width=WIDTH,
    height=HEIGHT,
    stored=(WIDTH, HEIGHT),
    codec="none",
)


def picture_of(number: int) -> Picture:
    """Return grey noise whose first pixel holds the frame's number."""
    picture = np.random.default_rng(number).integers(0, 256, (HEIGHT, WIDTH, 1), np.uint8).repeat(3, axis=2)
    picture[0, 0] = number
    return picture


class ScriptedDecoder:
    """10 frames a second, every other one analysed, and a cut after frame 33. The class stands in for
    media.decode.SpanDecoder."""

    made: list["ScriptedDecoder"]
    damaged: int | None = None
    thumbnail_pixels = THUMBNAIL_PIXELS

    def __init__(
        self, open_source: object, probe: Probe, first_cell: int, end_cell: int, *, careful: bool, **knobs: object
    ) -> None:
        self.first_cell, self.end_cell, self.careful, self.knobs = first_cell, end_cell, careful, knobs
        self.num_frames = 0
        self.warning: str | None = None
        self.made.append(self)

    def __iter__(self) -> Iterator[DecodedFrame]:
        end = NUM_FRAMES if self.end_cell == -1 else self.end_cell * RATE
        for number in range(self.first_cell * RATE, end):
            if number == self.damaged:
                if not self.careful:
                    raise Damaged
                self.warning = json.dumps([(number // RATE, DAMAGED)])
            self.num_frames += 1
            picture = picture_of(number) if number % 2 == 0 else None
            change = (3000, 3000, 3000) if number == CUT_AFTER else (1, 2, 3)
            differences = None if number == NUM_FRAMES - 1 else change
            place = b"place %d" % number if number % 2 == 0 else None
            yield DecodedFrame(
                number * 10**9 // RATE, number // RATE, number % 2 == 0, picture, differences, place=place
            )


class ScriptedDetector:
    """Up to five people who walk. Their number differs between frames."""

    batch = 3

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.alone: set[bool] = set()

    def __call__(self, pictures: Sequence[Picture], *, alone: bool = False) -> list[Detections]:
        assert len(pictures) <= self.batch
        self.seen += [int(picture[0, 0, 0]) for picture in pictures]
        self.alone.add(alone)
        return [people_at(int(picture[0, 0, 0])) for picture in pictures]


def people_at(number: int) -> Detections:
    left = np.array([10 + 4 * (number % 10), 70, 140, 190, 250])[: 1 + number // 2 % 5]
    boxes = np.column_stack([left, 0 * left + 30, left + 50, 0 * left + 200]).astype(np.float32)
    return Detections(boxes, np.array([0.9, 0.8, 0.7, 0.3, 0.15], np.float32)[: len(left)])


class ScriptedEmbedder:
    """An embedder whose vectors encode the content of the crops."""

    batch = 4

    def __init__(self) -> None:
        self.batches: list[int] = []

    def crops(self, picture: Picture, boxes: NDArray[np.float32]) -> NDArray[np.uint8]:
        crops = np.zeros((len(boxes), 256, 128, 3), np.uint8)
        crops[:, 0, 0, 0] = picture[0, 0, 0]
        crops[:, 0, 0, 1] = boxes[:, 0]
        return crops

    def __call__(self, crops: NDArray[np.uint8], *, alone: bool = False) -> NDArray[np.float32]:
        self.batches.append(len(crops))
        vectors = np.column_stack([crops[:, 0, 0, 0] + 1, crops[:, 0, 0, 1], 0 * crops[:, 0, 0, 0] + 50]).astype(
            np.float32
        )
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def check_faces(crops: Sequence[Picture]) -> list[Faces]:
    """Return a face for each crop whose first pixel is bright. Its score is that brightness."""
    return [faces(*([[0, 0, 9, 9]] if crop[0, 0, 1] > 127 else []), score=crop[0, 0, 1] / 255) for crop in crops]


def faces(*boxes: Sequence[float], score: float = 0.9) -> Faces:
    corners = np.array(boxes, np.float32).reshape(-1, 4)
    return Faces(corners, np.full(len(boxes), score, np.float32), np.zeros((len(boxes), 5, 2), np.float32))


@pytest.fixture
def decoders(monkeypatch: pytest.MonkeyPatch) -> list[ScriptedDecoder]:
    ScriptedDecoder.made, ScriptedDecoder.damaged = [], None
    monkeypatch.setattr(observe, "SpanDecoder", ScriptedDecoder)
    return ScriptedDecoder.made


def config(*settings: str) -> Config:
    return load(settings=["candidates.look=yunet", *settings])


def observer(*settings: str, whole: Callable[[Sequence[Picture]], list[Faces]] | None = None) -> SpanObserver:
    return SpanObserver(config(*settings), ScriptedDetector(), ScriptedEmbedder(), check_faces, whole)


def span(*borders: int, end: int = -1, durable: Sequence[int] = (), of: Probe = PROBE) -> dict[str, Any]:
    return {
        "video_id": "v0",
        "uri": "mem://v0",
        "first_cell": borders[0],
        "end_cell": end,
        "borders": list(borders),
        "durable": list(durable),
        "probe": of.to_json(),
    }


def observed(core: SpanObserver, *spans: dict[str, Any]) -> list[dict[str, Any]]:
    return [chunk for each in spans for chunk in core.observe(each, lambda: "nowhere")]


def whole(chunks: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of several chunks as those of one, with indices that count on across chunks."""
    frames: list[dict[str, Any]] = []
    detections: list[dict[str, Any]] = []
    candidates: list[dict[str, Any]] = []
    for chunk in chunks:
        (row,) = as_row(chunk).to_pylist()
        num_frames, num_detections = len(frames), len(detections)
        frames += row["frames"]
        detections += [{**each, "frame": each["frame"] + num_frames} for each in row["detections"]]
        moved = [{name: each[name] + num_detections for name in ("detection", "chain")} for each in row["candidates"]]
        candidates += [each | numbers for each, numbers in zip(row["candidates"], moved, strict=True)]
    return {"frames": frames, "detections": detections, "candidates": candidates}


@pytest.mark.parametrize("embed", ["all", "candidates"])
@pytest.mark.parametrize("borders", [(0, 1), (0, 3, 4), tuple(range(CELLS))])
def test_where_chunks_begin_and_end_changes_no_row(
    decoders: list[ScriptedDecoder], embed: str, borders: tuple[int, ...]
) -> None:
    knobs = (f"observe.body.embed={embed}", "candidates.max_per_cell=3")
    expected = whole(observed(observer(*knobs), span(0)))
    assert len(expected["candidates"]) == 3 * CELLS
    assert whole(observed(observer(*knobs), span(*borders))) == expected
    ends = [*borders[1:], -1]
    apart = [span(first, end=end) for first, end in zip(borders, ends, strict=True)]
    assert whole(observed(observer(*knobs), *apart)) == expected


@pytest.mark.parametrize("asked", [True, False])
def test_how_the_camera_moves_is_only_told_where_it_is_asked_for(decoders: list[ScriptedDecoder], asked: bool) -> None:
    observed(observer(f"observe.camera_motion={str(asked).lower()}"), span(0))
    assert [decoder.knobs["camera_motion"] for decoder in decoders] == [asked]


def test_a_chunk_is_one_row_of_the_schema(decoders: list[ScriptedDecoder]) -> None:
    (chunk,) = observed(observer(), span(0))
    row = as_row(chunk)
    row.validate(full=True)
    assert row.schema == ADDS
    assert row.num_rows == 1
    assert [row[name][0].as_py() for name in ("width", "height", "thumbnail_pixels")] == [320, 240, 100]
    assert row["frames"][0][NUM_FRAMES - 1].as_py()["hue"] is None
    assert row["frames"][0][0].as_py() == {
        "time_ns": 0,
        "cell": 0,
        "analysed": True,
        "hue": 1,
        "saturation": 2,
        "lightness": 3,
        "motion": None,
        "place": b"place 0",
    }


def test_a_span_in_which_nobody_and_nothing_is_seen_still_gives_a_row(decoders: list[ScriptedDecoder]) -> None:
    (chunk,) = observed(observer(), span(CELLS + 3))
    row = as_row(chunk)
    row.validate(full=True)
    assert [len(row[name][0]) for name in ("frames", "detections", "candidates")] == [0, 0, 0]


def test_every_detection_of_every_analysed_frame_is_there_with_its_embedding(decoders: list[ScriptedDecoder]) -> None:
    found = whole(observed(observer("observe.body.reuse_s=0"), span(0, 3)))["detections"]
    expected = [
        (n, box, score) for n in range(0, NUM_FRAMES, 2) for box, score in zip(*pair(people_at(n)), strict=True)
    ]
    assert [(each["frame"], each["box"], each["score"]) for each in found] == expected
    assert not any(each["bodiless"] for each in found)
    for each in found:
        vector = np.frombuffer(each["embedding"]["codes"], np.int8) * each["embedding"]["scale"]
        shown = np.array([each["frame"] + 1, each["box"][0], 50])
        assert np.abs(vector - shown / np.linalg.norm(shown)).max() < 0.01


def test_a_person_alone_keeps_an_embedding_for_less_than_half_a_second_within_a_cell(
    decoders: list[ScriptedDecoder],
) -> None:
    detections = whole(observed(observer("observe.body.reuse_s=0.5"), span(0, 3)))["detections"]
    shown = {}  # frame -> frame in which the person to the left was embedded
    for each in detections:
        if each["box"][0] < 70:
            codes = np.frombuffer(each["embedding"]["codes"], np.int8)
            shown[each["frame"]] = round(codes[0] / codes[2] * 50) - 1
    # Every other frame is analysed, 0.2 s apart. The cut is after frame 33. In frames 8 and 38 a neighbour is close.
    assert [shown[frame] for frame in (0, 2, 4, 6, 8, 10)] == [0, 0, 0, 6, 8, 10]
    assert [shown[frame] for frame in (30, 32, 34, 36, 38)] == [30, 30, 34, 34, 38]


def pair(people: Detections) -> tuple[list[list[float]], list[float]]:
    return people.boxes.tolist(), people.scores.tolist()


def test_only_candidates_are_embedded_where_the_profile_says_so(decoders: list[ScriptedDecoder]) -> None:
    rows = whole(observed(observer("observe.body.embed=candidates"), span(0)))
    embedded = [index for index, each in enumerate(rows["detections"]) if each["embedding"] is not None]
    assert embedded == [each["detection"] for each in rows["candidates"]]
    everyone = whole(observed(observer("observe.body.reuse_s=0"), span(0)))["detections"]
    assert [rows["detections"][i]["embedding"] for i in embedded] == [everyone[i]["embedding"] for i in embedded]


def test_without_an_embedder_there_are_no_embeddings(decoders: list[ScriptedDecoder]) -> None:
    core = SpanObserver(config(), ScriptedDetector(), None, None, None)
    rows = whole(observed(core, span(0)))
    assert rows["candidates"]
    assert all(each["embedding"] is None for each in rows["detections"])


def test_body_crops_wait_for_full_batches(decoders: list[ScriptedDecoder]) -> None:
    embedder = ScriptedEmbedder()
    observed(SpanObserver(config(), ScriptedDetector(), embedder, None, None), span(0))
    assert all(count % embedder.batch == 0 for count in embedder.batches[:-1])


def test_a_candidate_is_the_crop_of_its_person(decoders: list[ScriptedDecoder]) -> None:
    rows = whole(observed(observer("candidates.jpeg_quality=100"), span(0)))
    for each in rows["candidates"]:
        person = rows["detections"][each["detection"]]
        assert person["score"] >= 0.4
        crop = decode_jpeg(each["crop"])
        left, top = int(each["x"]), int(each["y"])
        height, width = crop.shape[:2]
        assert (left, top) == (max(0, int(person["box"][0] - 4)), 16)
        assert each["scale"] == 1
        shown = picture_of(person["frame"])[top : top + height, left : left + width]
        # The difference is due to JPEG. Other noise would differ by 85.
        assert np.abs(crop.astype(int) - shown).mean() < 5


def test_a_cell_keeps_up_to_two_crops_that_show_a_face_for_each_person(decoders: list[ScriptedDecoder]) -> None:
    rows = whole(observed(observer(), span(0)))
    chosen = [rows["detections"][each["detection"]] for each in rows["candidates"]]
    per_cell = [sum(each["frame"] // RATE == cell and each["box"][0] < 60 for each in chosen) for cell in (0, 1, 2)]
    assert all(1 <= count <= 2 for count in per_cell)
    assert [each["detection"] for each in rows["candidates"]] == sorted(
        each["detection"] for each in rows["candidates"]
    )


def test_the_crops_of_a_person_in_a_cell_name_the_first_detection_of_that_person(
    decoders: list[ScriptedDecoder],
) -> None:
    rows = whole(observed(observer(), span(0)))
    chains = [each["chain"] for each in rows["candidates"]]
    for each in rows["candidates"]:
        person, first = (rows["detections"][each[name]] for name in ("detection", "chain"))
        assert each["chain"] <= each["detection"]
        assert person["frame"] // RATE == first["frame"] // RATE
        assert abs(person["box"][0] - first["box"][0]) < 40
    assert len(set(chains)) < len(chains), "some people have two crops in a cell"


def test_bodies_are_kept_for_candidates_alone_and_only_where_they_are_used(decoders: list[ScriptedDecoder]) -> None:
    without, kept = (whole(observed(observer(f"estimate.uses={uses}"), span(0))) for uses in ("faces", "both"))
    assert {each["body"] for each in without["candidates"]} == {None}
    assert len(kept["candidates"]) == len(without["candidates"])
    for each in kept["candidates"]:
        left, top, _, bottom = kept["detections"][each["detection"]]["box"]
        body = decode_jpeg(each["body"])
        assert (each["body_x"], each["body_y"]) == (max(0, round(left)), max(0, round(top)))
        assert max(body.shape) <= 512
        assert body.shape[0] == pytest.approx((bottom - max(0, top)) * each["body_scale"], abs=2)
    strip = [{name: each[name] for name in ("detection", "crop")} for each in kept["candidates"]]
    assert strip == [{name: each[name] for name in ("detection", "crop")} for each in without["candidates"]]


def test_a_cut_inside_a_cell_breaks_the_chains(
    decoders: list[ScriptedDecoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    def first_person(core: SpanObserver) -> list[int]:
        rows = whole(observed(core, span(3, end=4)))
        frames = [rows["detections"][each["detection"]] for each in rows["candidates"]]
        return [each["frame"] for each in frames if each["box"][0] < 60]

    without_check = SpanObserver(config("candidates.max_per_chain=1"), ScriptedDetector(), None, None, None)
    broken = first_person(without_check)
    assert [frame > CUT_AFTER - 30 for frame in broken] == [False, True]
    monkeypatch.setattr(recorder, "CUT", 1e9)
    assert len(first_person(without_check)) == 1


def test_durable_chunks_are_passed_over_without_a_model(decoders: list[ScriptedDecoder]) -> None:
    detector = ScriptedDetector()
    core = SpanObserver(config(), detector, None, None, None)
    chunks = observed(core, span(0, 2, 4, 6, durable=[0, 4]))
    assert [(chunk["first_cell"], chunk["end_cell"]) for chunk in chunks] == [(2, 4), (6, -1)]
    assert {number // RATE for number in detector.seen} == {2, 3, 6, 7}
    assert decoders[0].first_cell == 2
    everything = observed(core, span(0, 2, 4, 6))
    assert [as_row(chunk) for chunk in chunks] == [as_row(everything[1]), as_row(everything[3])]


def test_decoding_ends_with_the_last_chunk_that_needs_work(decoders: list[ScriptedDecoder]) -> None:
    observed(observer(), span(0, 2, 4, durable=[2, 4]))
    assert decoders[0].num_frames == 2 * RATE


def test_a_span_that_is_all_durable_is_not_even_opened(decoders: list[ScriptedDecoder]) -> None:
    assert observed(observer(), span(0, 2, durable=[0, 2])) == []
    assert decoders == []


def test_damage_makes_the_rest_be_decoded_carefully_and_nothing_come_twice(decoders: list[ScriptedDecoder]) -> None:
    expected = whole(observed(observer(), span(0, 2, 4)))
    decoders.clear()
    ScriptedDecoder.damaged = 37
    chunks = observed(observer(), span(0, 2, 4))
    assert [(decoder.first_cell, decoder.careful) for decoder in decoders] == [(0, False), (2, True)]
    assert [chunk["first_cell"] for chunk in chunks] == [0, 2, 4]
    assert [chunk["warning"] for chunk in chunks] == [None, '[[3, "damaged"]]', None]
    assert whole(chunks) == expected


def test_damage_to_careful_eyes_is_a_bug(decoders: list[ScriptedDecoder], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: ScriptedDecoder) -> Iterator[DecodedFrame]:
        raise Damaged
        yield

    monkeypatch.setattr(ScriptedDecoder, "__iter__", fail)
    with pytest.raises(Damaged):
        observed(observer(), span(0))


def test_a_picture_runs_in_a_batch_of_its_own(decoders: list[ScriptedDecoder]) -> None:
    for kind, alone in (("image", True), ("video", False)):
        detector = ScriptedDetector()
        observed(SpanObserver(config(), detector, None, None, None), span(0, of=replace(PROBE, kind=kind)))
        assert detector.alone == {alone}


def test_a_face_without_a_body_becomes_somebody_and_a_face_on_a_head_does_not(
    decoders: list[ScriptedDecoder],
) -> None:
    def find(pictures: Sequence[Picture]) -> list[Faces]:
        return [
            faces([25.0 + 4 * (p[0, 0, 0] % 10), 36, 45.0 + 4 * (p[0, 0, 0] % 10), 60], [280, 200, 300, 226])
            for p in pictures
        ]

    bodies = whole(observed(observer(), span(0, 4)))
    rows = whole(observed(observer(whole=find), span(0, 4)))
    extra = [each for each in rows["detections"] if each["bodiless"]]
    assert [each["frame"] for each in extra] == list(range(0, NUM_FRAMES, 2))
    assert all(each["box"] == pytest.approx([260, 184.4, 320, 240], abs=0.05) for each in extra)
    assert all(each["score"] == np.float32(0.9) and each["embedding"] for each in extra)
    rest = [each for each in rows["detections"] if not each["bodiless"]]
    assert rest == bodies["detections"]
    assert any(rows["detections"][each["detection"]]["bodiless"] for each in rows["candidates"])


def test_no_more_full_pictures_than_a_batch_wait_for_the_models(decoders: list[ScriptedDecoder]) -> None:
    """The detector asserts its batch. Here every frame of a long cell is worth crops, and few crops are kept."""
    core = observer("candidates.max_per_chain=1")
    kept: list[int] = []
    forget = CellCandidates.forget

    def watch(cell: CellCandidates, params: Any) -> None:
        forget(cell, params)
        kept.append(len(cell.crops))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CellCandidates, "forget", watch)
        observed(core, span(0))
    assert max(kept) <= 6


@pytest.fixture(scope="module")
def real() -> SpanObserver:
    from pipeline.models.body_embedder import BodyEmbedder
    from pipeline.models.loading import load_face_detector
    from pipeline.models.person_detector import PersonDetector

    torch.set_num_threads(1)
    chosen, weights = config(), SHARED / "weights"
    device: dict[str, Any] = {"device": "cpu", "half": False}
    detector = PersonDetector(
        weights / "yolov8n.pt", image_size=320, batch=4, min_score=0.1, nms_iou=0.7, max_per_frame=300, **device
    )
    embedder = BodyEmbedder(weights / "osnet_x0_25_msmt17.pt", batch=4, **device)
    files = {"path": weights / "yunet_n_640_640.onnx"}
    face_check = load_face_detector("yunet", files, input_px=160, batch=1, min_score=0.6, **device)
    return SpanObserver(chosen, detector, embedder, face_check, None)


@needs_shared
def test_where_real_chunks_begin_and_end_changes_no_row(real: SpanObserver) -> None:
    def open_source() -> str:
        return str(SHARED / "clips" / "talkshow.mp4")

    probed = probe(open_source)

    def of(*spans: dict[str, Any]) -> list[dict[str, Any]]:
        return [chunk for each in spans for chunk in real.observe(each, open_source)]

    expected = whole(of(span(0, of=probed)))
    assert len(expected["candidates"]) >= 4
    assert {len([d for d in expected["detections"] if d["frame"] == 0 and d["score"] > 0.5])} == {2}
    assert whole(of(span(0, end=1, of=probed), span(1, of=probed))) == expected
    assert whole(of(span(0, 1, 2, of=probed))) == expected
