"""Kinds of failure: the data's (stays on its row), the user's (a line and exit 2); the rest are bugs and crash."""


class DataError(Exception):
    """This input cannot be processed, and retrying will not help. The run goes on without it."""


class UserError(Exception):
    """A person can put this right: the message says what is wrong, where, and the remedy."""
