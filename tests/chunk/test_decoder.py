"""The choice of the decoder, and what happens to a span, its chunks and its neighbours when a card gives up."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from av.video.frame import VideoFrame

from pipeline.arrays import Detections, Picture
from pipeline.chunk import decoder
from pipeline.chunk.decoder import card_decoder, decoder_in_words
from pipeline.chunk.observe import SpanObserver, as_row
from pipeline.config import Config, load
from pipeline.media import nvdec
from pipeline.media.container import BadPacket
from pipeline.media.nvdec import CardDecoder
from pipeline.media.probing import probe
from pipeline.media.warnings import read_notes
from pipeline.models import gpu
from tests import clips
from tests.fake_card import Change, FakeCard

END = 4


@pytest.fixture(autouse=True)
def short_spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let a card decode spans of 2 s, and forget what was said."""
    monkeypatch.setattr(nvdec, "LEAST_SPAN_S", 2)
    decoder.say_once.cache_clear()
    yield
    decoder.say_once.cache_clear()


@pytest.fixture
def reasons(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    heard: list[str] = []
    monkeypatch.setattr(decoder, "refusal_listeners", [heard.append])
    return heard


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clips.make_clip(tmp_path_factory.mktemp("in") / "a.mp4", seconds=END, keyframe_every=25)


class Brightest:
    """A detector that finds a person in each picture, whose score says what the picture shows."""

    batch = 4

    def __call__(self, pictures: Sequence[Picture], *, alone: bool = False) -> list[Detections]:
        scores = [np.array([picture.mean() / 255], np.float32).round(3) for picture in pictures]
        return [Detections(np.array([[8, 8, 40, 90]], np.float32), score) for score in scores]


def config(*settings: str) -> Config:
    return load(settings=["observe.fps=5", "candidates.look=null", *settings])


def observed(
    video: Path, card: CardDecoder | None, num_spans: int = 1, *, ends: Sequence[int] = (1, 2, 3, END), first: int = 0
) -> list[dict[str, Any]]:
    """Return the rows of the chunks of a span."""
    observer = SpanObserver(config(), Brightest(), None, None, None, num_spans, card=card)
    borders = [first, *ends[:-1]]
    span = {"borders": borders, "end_cell": ends[-1], "durable": [], "probe": probe(lambda: str(video)).to_json()}
    chunks = list(observer.observe(span, lambda: str(video)))
    return [
        as_row(chunk).to_pylist()[0] | {name: chunk[name] for name in ("first_cell", "end_cell", "warning")}
        for chunk in chunks
    ]


def bad_at(*numbers: int) -> Change:
    return lambda number, frame: BadPacket(frame.pts) if number in numbers else frame


def software(number: int, frame: VideoFrame) -> VideoFrame:
    return frame.reformat(format="yuv420p") if number == 0 else frame


CHANGES: dict[str, Change | None] = {
    "decodes all": None,
    "goes over to the CPU at once": software,
    "fails at its first frame": bad_at(0),
    "fails in the second chunk": bad_at(40),
    "fails at the last frame": bad_at(99),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_card_changes_no_row_wherever_it_fails(
    video: Path, monkeypatch: pytest.MonkeyPatch, reasons: list[str], name: str
) -> None:
    expected = observed(video, None)
    assert [chunk["first_cell"] for chunk in expected] == [0, 1, 2, 3]
    assert len({each["score"] for chunk in expected for each in chunk["detections"]}) > 5
    card = FakeCard(monkeypatch, CHANGES[name])
    assert observed(video, card) == expected
    assert card.num_frames > 0 or name == "fails at its first frame"
    assert len(reasons) == (CHANGES[name] is not None)


def test_a_span_that_is_short_never_reaches_the_card(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = FakeCard(monkeypatch)
    assert observed(video, card, ends=(2,), first=1) == observed(video, None, ends=(2,), first=1)
    assert observed(video, card, ends=(-1,), first=3) == observed(video, None, ends=(-1,), first=3)
    assert card.num_frames == 0
    assert observed(video, card, ends=(-1,), first=2) == observed(video, None, ends=(-1,), first=2)
    assert card.num_frames > 0


def test_damage_that_a_card_sees_is_named_by_the_cpu(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = clips.corrupt(video, tmp_path / "b.mp4", first=40, share=1)
    expected = observed(path, None)
    assert [cell for cell, _ in read_notes([chunk["warning"] for chunk in expected])] == [1]
    assert observed(path, FakeCard(monkeypatch)) == expected


def test_spans_beside_one_that_the_card_gives_up_go_on_there(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = clips.make_clip(tmp_path / "other.mp4", seconds=END, keyframe_every=25, width=176, cuts=(30,))
    expected = {path: observed(path, None, 3) for path in (video, other)}
    on_card: dict[int, int] = {160: 0, 176: 0}

    def change(_: int, frame: VideoFrame) -> VideoFrame | BadPacket:
        on_card[frame.width] += 1
        return BadPacket(frame.pts) if frame.width == 176 and on_card[176] == 30 else frame

    card = FakeCard(monkeypatch, change)
    todo = [video, other, video]
    with ThreadPoolExecutor(3) as threads:
        assert list(threads.map(lambda path: observed(path, card, 3), todo)) == [expected[path] for path in todo]
    assert on_card[160] == 2 * END * 25
    assert 30 <= on_card[176] < END * 25


REASON = "a reason"


@pytest.mark.parametrize(
    ("settings", "device", "why", "words"),
    [
        ([], "cuda", None, None),
        (["observe.decoder=auto"], "cpu", None, "the CPU decodes: the models run on the CPU (observe.decoder=auto)"),
        (["observe.decoder=auto"], "cuda", REASON, "the CPU decodes: a reason (observe.decoder=auto)"),
        (
            ["observe.decoder=auto", "chunk.max_seconds=9"],
            "cuda",
            None,
            "the CPU decodes: chunks of less than 10 s are not worth it (chunk.max_seconds) (observe.decoder=auto)",
        ),
        (["observe.decoder=auto"], "cuda", None, f"{decoder.ON_CARD} (observe.decoder=auto)"),
        (
            ["observe.decoder=auto", "run.address=ray://there"],
            "cuda",
            REASON,
            f"{decoder.ON_CARD} (observe.decoder=auto)",
        ),
    ],
)
def test_the_first_lines_of_a_run_say_who_decodes_and_why(
    monkeypatch: pytest.MonkeyPatch, settings: list[str], device: Any, why: str | None, words: str | None
) -> None:
    monkeypatch.setattr(gpu, "why_no_nvdec", lambda: why)
    assert decoder_in_words(config(*settings).on_device(device, "a card")) == words


def test_a_worker_without_nvdec_decodes_on_its_cpu_and_says_why_once(
    monkeypatch: pytest.MonkeyPatch, reasons: list[str]
) -> None:
    chosen = config("observe.decoder=auto").on_device("cuda", "a card")
    monkeypatch.setattr(gpu, "why_no_nvdec", lambda: REASON)
    assert [card_decoder(chosen), card_decoder(chosen)] == [None, None]
    assert reasons == [REASON]
    monkeypatch.setattr(gpu, "why_no_nvdec", lambda: None)
    assert card_decoder(chosen) is not None
    assert card_decoder(config().on_device("cuda", "a card")) is None
    assert card_decoder(config("observe.decoder=auto").on_device("cpu")) is None
    monkeypatch.setattr(decoder, "is_in_ffmpeg", lambda: False)
    assert card_decoder(chosen) is None
    assert reasons == [REASON, "the FFmpeg of PyAV is built without it"]


@pytest.mark.skipif(gpu.has_gpu(), reason="needs a machine without a GPU")
def test_a_machine_without_a_gpu_says_so_and_has_no_context() -> None:
    assert gpu.why_no_nvdec() == "there is no GPU"
    assert not gpu.enter_context()
