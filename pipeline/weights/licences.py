"""The licences under which weights may be used."""

from collections.abc import Iterable, Mapping

from pipeline.errors import UserError


def refuse_licences(licences: Mapping[str, str | None], allow: Iterable[str] | None) -> None:
    """Raise UserError if an entry has a licence that is not in `allow`.

    licences: entry -> its licences, joined by " AND ". Each of them must be allowed.
    allow: compared without regard to case. None allows every licence.
    """
    if allow is None:
        return
    allowed = {licence.lower() for licence in allow}
    for name, licence in licences.items():
        if not {part.lower() for part in (licence or "").split(" AND ")} <= allowed:
            raise UserError(
                f"{name} is under {licence or ''}, and licences.allow has {', '.join(sorted(allow)) or 'nothing'}; "
                f"choose another model, or allow it"
            )
