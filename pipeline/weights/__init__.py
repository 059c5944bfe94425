"""The registry of weights. A name stands for exact bytes under a known licence, and unverified bytes are never
loaded.

Entries come from conf/weights.yaml and from `weights.extra` of a configuration. Files on this machine are used in
place. Remote files are fetched into `weights.cache`, from `weights.mirror` first, and named by their sha256. An
entry without a known sha256 is pinned at its first pull in fetch.LOCK, beside the fetched files, and compared with it
afterwards.
"""

from pipeline.weights.entry import LISTED, Entry, fragment, local_path, read_entries
from pipeline.weights.fetch import LOCK, Fetch, sha256_of
from pipeline.weights.registry import Registry

__all__ = ["LISTED", "LOCK", "Entry", "Fetch", "Registry", "fragment", "local_path", "read_entries", "sha256_of"]
