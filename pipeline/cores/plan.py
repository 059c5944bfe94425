"""Cut a video's time into cells and chunks. No pixels, no container: integers in, integers out."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkParams:
    """cell_seconds: the atom of time, in s. max_seconds: about how long a chunk may be, in s."""

    cell_seconds: float
    max_seconds: float

    def __post_init__(self) -> None:
        if self.cell_seconds <= 0:
            raise ValueError(f"cell_seconds must be positive, got {self.cell_seconds}")
        if self.max_seconds < self.cell_seconds:
            raise ValueError(f"max_seconds must be at least cell_seconds, got {self.max_seconds}")
