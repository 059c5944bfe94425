"""The packages of the extra `train`, which a plain installation lacks."""

from pipeline.errors import UserError


def missing_package(error: ImportError) -> UserError:
    """Return the error for a package of the extra `train` that is not installed."""
    return UserError(f"this command needs the package {error.name}; install it: pip install 'rollcall[train]'")
