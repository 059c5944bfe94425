"""The chart library of the page: Vega, Vega-Lite and Vega-Embed as one script, out of the package vl-convert-python."""

import os
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

PACKAGE = "vl-convert-python"


def chart_library() -> str:
    """Return the script, which sets `vegaEmbed`. To make it takes about a second, so that the user's cache keeps it."""
    kept = _kept_at()
    if kept is not None:
        with suppress(OSError, UnicodeDecodeError):
            return kept.read_text(encoding="utf-8")
    import vl_convert

    script = vl_convert.javascript_bundle("window.vegaEmbed=vegaEmbed;").replace("</script", "<\\/script")
    if kept is not None:
        with suppress(OSError):  # the report does not need the cache
            _keep(kept, script)
    return script


def _kept_at() -> Path | None:
    """Return the place of the script in the cache of this user, or None without a home folder."""
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        return None
    return cache / "rollcall" / f"charts-{version(PACKAGE)}.js" if cache.is_absolute() else None


def _keep(place: Path, script: str) -> None:
    """Write the script in one step, because another process may read it."""
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        partial.write_text(script, encoding="utf-8")
        partial.replace(place)
    finally:
        partial.unlink(missing_ok=True)
