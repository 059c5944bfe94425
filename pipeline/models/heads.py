"""The metadata of a file of `rollcall train heads`: the vectors it needs, and the meaning of its outputs."""

from dataclasses import asdict, dataclass
from pathlib import Path

from torch import nn

from pipeline.errors import UserError
from pipeline.models.aligned import Window
from pipeline.models.attributes import Calibration, read_calibration
from pipeline.models.face_embedder import View
from pipeline.models.networks import read_facts, write_checkpoint

KIND = "heads"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadsFile:
    """The metadata of a heads file.

    dimensions: of the vectors.
    view: the embedder's view of a face.
    embedder: sha256 of the embedder's file.
    calibration: of the raw outputs.
    """

    dimensions: int
    view: View
    embedder: str
    calibration: Calibration

    def write(self, path: Path, heads: nn.Module) -> None:
        """Write the file."""
        write_checkpoint(path, heads.state_dict(), {"kind": KIND, **asdict(self)}, half=False)


def read_heads_file(path: Path) -> HeadsFile:
    """Return the metadata of `path`. Raises UserError."""
    facts = read_facts(path)
    try:
        if facts["kind"] != KIND:
            raise ValueError(f"kind {facts['kind']}")
        view = View(Window(**facts["view"]["window"]), float(facts["view"]["half_range"]))
        calibration = read_calibration(facts["calibration"])
        return HeadsFile(
            dimensions=int(facts["dimensions"]), view=view, embedder=str(facts["embedder"]), calibration=calibration
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"weights {path} are no heads of `rollcall train heads` ({error!r}); train them with that command"
        ) from None
