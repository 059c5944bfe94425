"""Kinds of failure: the data's (it stays on its row), the user's (one line and exit 2); anything else is a bug and crashes."""


class DataError(Exception):
    """This input cannot be processed, and retrying will not help. The run goes on without it."""


class UserError(Exception):
    """A person can put this right: the message says what is wrong, where, and the remedy."""
