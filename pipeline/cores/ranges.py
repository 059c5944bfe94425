"""Ranges of knobs. The annotation of a field states its range for `check`, the configuration and its JSON schema."""

from dataclasses import fields
from typing import Annotated, Any, get_type_hints

from annotated_types import Ge, Gt, Le, Lt

Share = Annotated[float, Ge(0), Le(1)]
Distance = Annotated[float, Ge(0)]
"""A distance, a time or an amount, which may be 0."""
Count = Annotated[int, Ge(1)]


def check(params: Any) -> None:
    """Raise ValueError for the first field of a dataclass that lies outside the range of its annotation."""
    hints = get_type_hints(type(params), include_extras=True)
    for name in (field.name for field in fields(params)):
        value = getattr(params, name)
        for rule in getattr(hints[name], "__metadata__", ()):
            match rule:
                case Ge(ge=limit) if not value >= limit:
                    raise ValueError(f"{name} must be at least {limit}, got {value:g}")
                case Gt(gt=limit) if not value > limit:
                    raise ValueError(f"{name} must be more than {limit}, got {value:g}")
                case Le(le=limit) if not value <= limit:
                    raise ValueError(f"{name} must be at most {limit}, got {value:g}")
                case Lt(lt=limit) if not value < limit:
                    raise ValueError(f"{name} must be less than {limit}, got {value:g}")
                case _:
                    pass
