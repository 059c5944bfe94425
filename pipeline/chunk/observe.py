"""Stage observe: turn a span of one video into the frames, people, embeddings and candidates of each of its chunks.

Its output holds only facts of single frames and single cells, so the borders of a chunk change none of them. It
streams: besides the frames that wait in the decoder it holds the full pictures of one batch, or of a few on a CPU,
where threads find people ahead. Several spans may be observed at the same time, each in a thread of its own. They
share the models and the memory for pictures.
"""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import pyarrow as pa

from pipeline import rows
from pipeline.chunk.decoder import card_decoder, decoder_of_span, say_once
from pipeline.chunk.portions import ObserverModels, Portions
from pipeline.chunk.recorder import ChunkRecorder
from pipeline.columns import as_list
from pipeline.config import Config, fixed
from pipeline.cores.plan import OPEN_END
from pipeline.interfaces import BodyEmbedder, CardPixels, FaceDetector, PersonDetector
from pipeline.media.container import Opener
from pipeline.media.decode import SpanDecoder
from pipeline.media.frame_planes import MOST_PIXELS
from pipeline.media.nvdec import CardDecoder, NotOnCard
from pipeline.media.probe import Probe
from pipeline.media.shown import Damaged
from pipeline.media.warnings import read_notes
from pipeline.models.threads import ModelThreads
from pipeline.weights import Registry

NEEDS = rows.SPAN
ADDS = rows.join(rows.FRAMES, rows.DETECTIONS, rows.CANDIDATES)
"""The columns of one observed chunk."""
BYTES_OF_PICTURES = 1 << 30
"""Memory for the full pictures of all spans that share a process. A single span needs less."""


def build(
    config: Config, registry: Registry, opener: Callable[[str], Opener], threads: int = 0
) -> Callable[[pa.Table], Iterator[pa.Table]]:
    """Return the core of the stage with its models. It makes one row per chunk from a row of one span.

    opener: returns the function that opens the source at a URI.
    threads: number of threads that may run models at the same time on a CPU. 0: none but the caller's.
    """
    from pipeline.models.loading import Loader

    num_spans = fixed(config.run.observe.spans)
    load = Loader(config, registry, num_spans, threads)
    detector, embedder = load.person_detector(), load.body_embedder()
    observer = SpanObserver(
        config,
        detector,
        embedder,
        load.face_check(),
        load.whole_frame_face_detector(),
        num_spans,
        load.card_pixels(detector, embedder, num_spans, bytes_of_planes(num_spans)),
        load.threads,
        card_decoder(config),
    )
    working = load.executor.working if load.executor else contextlib.nullcontext

    def observe(row: pa.Table) -> Iterator[pa.Table]:
        span = row.to_pylist()[0]
        chunks = observer.observe(span, opener(span["uri"]))
        while True:
            with working():  # not while a consumer keeps this span waiting
                chunk = next(chunks, None)
            if chunk is None:
                return
            columns: Mapping[str, Any] = {name: span.get(name) for name in rows.CHUNK.names} | {
                name: chunk[name] for name in ("first_cell", "end_cell", "warning")
            }
            extended = pa.table({f.name: pa.array([columns[f.name]], f.type) for f in rows.CHUNK}, schema=rows.CHUNK)
            observed = as_row(chunk)
            for field in observed.schema:
                extended = extended.append_column(field, observed[field.name])
            yield extended

    return observe


def bytes_of_planes(num_spans: int) -> int:
    """Return the memory of a card for the pictures of one of several spans. A picture as planes has half the bytes of
    one as RGB."""
    return max(BYTES_OF_PICTURES // (4 * num_spans), 2 * MOST_PIXELS)


class SpanObserver:
    """Observes spans with the same models, up to `num_spans` at the same time. `ObserverModels` says which of the
    models may be None.

    threads: in which people are found and embedded, so that a single span keeps several cores busy. None if the
        caller's thread runs all models, as it does where pictures stay planes.
    card: decodes what it can. None if the CPU decodes everything.
    """

    def __init__(
        self,
        config: Config,
        detector: PersonDetector,
        embedder: BodyEmbedder | None,
        face_check: FaceDetector | None,
        whole_frame_face_detector: FaceDetector | None,
        num_spans: int = 1,
        card_pixels: CardPixels | None = None,
        threads: ModelThreads | None = None,
        card: CardDecoder | None = None,
    ) -> None:
        self._config, self._num_spans, self._card = config, num_spans, card
        self._threads = threads if card_pixels is None else None
        self._models = ObserverModels(detector, embedder, face_check, whole_frame_face_detector, card_pixels)

    def observe(self, span: Mapping[str, Any], open_source: Opener) -> Iterator[dict[str, Any]]:
        """Yield the chunks of a rows.SPAN that are not durable yet, each as soon as its last frame is decoded.

        Each chunk is a dict of first_cell, end_cell, warning, and the columns of ADDS for `as_row`. If a card cannot
        decode the source, the rest of the span is decoded again on the CPU, and if the source is damaged, in the
        careful mode. The chunks yielded before stay valid. Raises DataError if the source cannot be decoded.
        """
        probe = Probe.from_json(span["probe"])
        borders = [*span["borders"], span["end_cell"]]
        chunks = [pair for pair in pairwise(borders) if pair[0] not in set(span["durable"])]
        card, is_careful = decoder_of_span(self._card, probe, self._seconds(probe, chunks)), False
        while chunks:
            try:
                for chunk in self._decode(probe, chunks, open_source, card, is_careful):
                    chunks = chunks[1:]
                    yield chunk
            except NotOnCard as limit:
                say_once(str(limit))
                card = None
            except Damaged:
                if is_careful:
                    raise
                is_careful = True

    def _decode(
        self,
        probe: Probe,
        chunks: Sequence[tuple[int, int]],
        open_source: Opener,
        card: CardDecoder | None,
        is_careful: bool,
    ) -> Iterator[dict[str, Any]]:
        """Decode once from the first to the last of `chunks`. Frames between the chunks are decoded but not used."""
        observe = self._config.observe
        decoder = SpanDecoder(
            open_source,
            probe,
            chunks[0][0],
            chunks[-1][1],
            fps=observe.fps,
            cell_seconds=self._config.chunk.cell_seconds,
            thumbnail_px=observe.thumbnail_px,
            threads=observe.decode_threads,
            camera_motion=observe.camera_motion,
            careful=is_careful,
            keep_planes=self._models.card_pixels is not None,
            card=card,
        )
        size = self._portion(probe)
        portions = Portions(
            self._models, self._threads, size=size, waiting=self._waiting(probe, size), alone=probe.kind == "image"
        )
        with portions.of(decoder, chunks) as ready:
            for first_cell, end_cell in chunks:
                recorder = ChunkRecorder(self._config, self._models, probe, decoder.thumbnail_pixels, self._threads)
                for portion in iter(partial(next, ready), None):
                    recorder.add(portion)
                warning = _warning(decoder.warning, first_cell, end_cell)
                yield {"first_cell": first_cell, "end_cell": end_cell, "warning": warning, **recorder.close()}

    def _seconds(self, probe: Probe, chunks: Sequence[tuple[int, int]]) -> float:
        """Return the approximate length of consecutive chunks of a video."""
        cell_s = self._config.chunk.cell_seconds
        ends = [probe.duration_s if end == OPEN_END else end * cell_s for _, end in chunks[-1:]]
        return sum(ends) - sum(first * cell_s for first, _ in chunks[:1])

    def _waiting(self, probe: Probe, size: int) -> int:
        """Return the number of portions in which people are found ahead, as many at a time as there are threads.

        The pictures of two more portions are in memory: of the one that is recorded, and of one that is decoded.
        """
        in_memory = BYTES_OF_PICTURES // (3 * probe.width * probe.height * size)
        return max(1, min(self._threads.number, in_memory - 2)) if self._threads else 0

    def _portion(self, probe: Probe) -> int:
        """Return the number of pictures of a span that wait for the models, and of frames that are decoded ahead.

        A single span fills whole batches by itself. Of several, each has its share of the memory, so that none can keep
        another from going on. Their samples meet in the same batches. Memory of a card has a bound for every span.
        """
        batch, pixels = self._models.detector.batch, probe.width * probe.height
        if self._models.card_pixels is not None:
            colours = ((probe.width + 1) // 2) * ((probe.height + 1) // 2)
            batch = min(batch, bytes_of_planes(self._num_spans) // (pixels + 2 * colours))
        if self._num_spans > 1:
            batch = min(batch, BYTES_OF_PICTURES // (3 * pixels) // (2 * self._num_spans))
        return max(1, batch)


def _warning(of_span: str | None, first_cell: int, end_cell: int) -> str | None:
    """Return the part of a span's warning that concerns one chunk. A chunk's row depends on no other chunk."""
    notes_of_chunk = [
        (cell, what)
        for cell, what in read_notes([of_span])
        if first_cell <= cell and (end_cell == OPEN_END or cell < end_cell)
    ]
    return json.dumps(notes_of_chunk) if notes_of_chunk else None


def as_row(chunk: Mapping[str, Any]) -> pa.Table:
    """Return one row of ADDS from a chunk that SpanObserver yields."""
    columns = []
    for column in ADDS:
        value = chunk[column.name]
        is_items = isinstance(value, pa.Array)
        columns.append(as_list(value).cast(column.type) if is_items else pa.array([value], column.type))
    return pa.table(columns, schema=ADDS)
