"""The failures of storage places, divided by what they concern: a moment, one object, or everything.

| kind | error | examples |
|---|---|---|
| it may pass | PassingError | 429, 500, 503, SlowDown, a timeout, a broken connection |
| this object | FileNotFoundError, DataError | 404, 403 of one object |
| this object, now | ChangedError | an object that changed while it was read |
| everything in the place | UserError | an expired token, an unknown key, no such bucket |

The names of S3's codes are those of https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html.
"""

import errno
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from pipeline.errors import ChangedError, DataError, MachineError, PassingError, UserError, shortage

Result = TypeVar("Result")
FOUND_NOTHING = (FileNotFoundError, NotADirectoryError)
PASSING_CODES = frozenset(
    {
        "BandwidthLimitExceeded",
        "ConditionalRequestConflict",
        "InternalError",
        "OperationAborted",
        "PriorRequestNotComplete",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)
PASSING_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
RENEW = "renew them, and run the same command again: what is finished is kept"
FOR_ALL = {
    "ExpiredToken": ("its credentials have expired", RENEW),
    "ExpiredTokenException": ("its credentials have expired", RENEW),
    "TokenRefreshRequired": ("its credentials have expired", RENEW),
    "InvalidToken": ("it does not accept these credentials", "correct them"),
    "InvalidAccessKeyId": ("it does not know the access key", "correct the credentials"),
    "SignatureDoesNotMatch": ("the secret key does not fit the access key", "correct the credentials"),
    "RequestTimeTooSkewed": ("the clock of this machine is wrong", "set it"),
    "AccountProblem": ("there is a problem with the account", "ask its owner"),
    "AllAccessDisabled": ("all access is disabled", "ask the owner of the bucket"),
    "NoSuchBucket": ("there is no such bucket", "correct the name"),
    "InvalidBucketName": ("this is no name of a bucket", "correct it"),
    "AuthorizationHeaderMalformed": ("the bucket lies in another region", "set AWS_DEFAULT_REGION"),
    "PermanentRedirect": ("the bucket lies in another region", "set AWS_DEFAULT_REGION"),
}
"""The codes that concern every object of a place, each with its cause and remedy."""
CREDENTIALS = frozenset(
    {
        "CredentialRetrievalError",
        "NoCredentialsError",
        "PartialCredentialsError",
        "ProfileNotFound",
        "SSOTokenLoadError",
        "TokenRetrievalError",
        "UnauthorizedSSOTokenError",
    }
)
"""The classes of botocore's errors about credentials that are missing here."""
CHANGED_CODES = frozenset({"PreconditionFailed", "InvalidRange"})
CHANGED_STATUSES = frozenset({412, 416})
CONNECTIONS = frozenset(
    {
        "ClientConnectionError",
        "ClientConnectorError",
        "ClientOSError",
        "ClientPayloadError",
        "ConnectTimeoutError",
        "ConnectionClosedError",
        "ConnectionTimeoutError",
        "ContentLengthError",
        "EndpointConnectionError",
        "HTTPClientError",
        "IncompleteRead",
        "IncompleteReadError",
        "ProtocolError",
        "ReadTimeoutError",
        "ResponseStreamingError",
        "ServerDisconnectedError",
        "ServerTimeoutError",
        "SocketTimeoutError",
    }
)
"""The classes of errors of aiohttp, botocore and urllib3 that say that a connection broke or did not come about."""
PASSING_ERRNOS = frozenset(
    {
        errno.ECONNABORTED,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.EPIPE,
        errno.ESTALE,
        errno.ETIMEDOUT,
    }
)
OURS = (DataError, UserError, MachineError, PassingError)
TRIES = 6
PATIENCE_S = 90.0
"""The most seconds that one request may take with its repetitions. Only tries that time out slowly come near it."""
FIRST_WAIT_S = 1.0
"""The longest random wait before the second try. It doubles with every try, to 16 s before the last one."""

retry_listeners: list[Callable[[str, str, float], None]] = []
"""Are called before a request is repeated, with the kind of the failure, a line about it, and the wait in seconds."""
asleep: set[str] = set()
"""The places whose last request failed to the end. The first answer takes a place out again."""


def patiently(
    action: Callable[[], Result],
    uri: str,
    *,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Result:
    """Return the result of `action`, which is repeated while the place at `uri` fails in a way that may pass.

    The waits are random up to a bound that doubles (full jitter: Brooker 2015, "Exponential Backoff And Jitter"), so
    that many workers do not come back at the same moment. `action` must be repeatable. Raises what `fault_of` returns.

    If a request to a place fails to the end, the next ones are tried once until one of them is answered (a circuit
    breaker: Nygard 2018, "Release It!"). Otherwise a run over a place that is down would wait for each request anew.
    """
    started = now()
    place = _place(uri)
    for wait_s in _waits():
        try:
            result = action()
        except Exception as error:
            fault = fault_of(error, uri)
            may_pass = isinstance(fault, PassingError)
            if may_pass and wait_s is not None and place not in asleep and now() - started + wait_s <= PATIENCE_S:
                for listener in retry_listeners:
                    listener(kind_of(error), str(fault), wait_s)
                sleep(wait_s)
                continue
            (asleep.add if may_pass else asleep.discard)(place)
            if fault is error:
                raise
            raise fault from error
        asleep.discard(place)
        return result
    raise AssertionError("the last wait is None")


def _place(uri: str) -> str:
    """Return the bucket or server of a URI."""
    return "/".join(uri.split("/", 3)[:3])


def _waits() -> Iterator[float | None]:
    longest_s = FIRST_WAIT_S
    for _ in range(TRIES - 1):
        yield random.uniform(0, longest_s)
        longest_s *= 2
    yield None


def fault_of(error: Exception, uri: str) -> Exception:
    """Return the error that stands for `error`, which a library raised for the remote place at `uri`.

    An error of this project, one about a missing file and one of an unknown kind come back unchanged.
    """
    links = list(_chain(error))
    if ours := next((link for link in links if isinstance(link, OURS)), None):
        return ours
    cause = plain_cause(error)
    answer = answer_of(error)
    names = {kind.__name__ for link in links for kind in type(link).__mro__}
    if answer[0] in FOR_ALL:
        why, remedy = FOR_ALL[answer[0]]
        return UserError(f"{uri}: {why} ({cause}); {remedy}")
    if names & CREDENTIALS:
        return UserError(f"{uri}: {cause}; give credentials that may read and write there")
    if answer[0] in CHANGED_CODES or answer[1] in CHANGED_STATUSES or "FileExpired" in names:
        return ChangedError("it was replaced or changed while it was read; the next run reads the new file")
    if answer[0] in PASSING_CODES or answer[1] in PASSING_STATUSES or names & CONNECTIONS:
        return PassingError(f"{uri}: {cause}")
    return _of_system(links, uri, cause) or error


def answer_of(error: BaseException) -> tuple[str, int]:
    """Return the code and the HTTP status of the answer that an error tells of, or an empty text and 0."""
    return next(filter(any, ((_code(link), _status(link)) for link in _chain(error))), ("", 0))


def kind_of(error: BaseException) -> str:
    """Return one word for the cause of an error: the code of an S3 server, else the HTTP status, else the class of
    the first cause. There are few such words."""
    code, status = answer_of(error)
    return code if code and not code.isdigit() else str(status) if status else type(next(_chain(error))).__name__


def _of_system(links: Sequence[BaseException], uri: str, cause: str) -> Exception | None:
    """Return the fault for an error of the operating system, or None for one of another kind."""
    for link in links:
        if isinstance(link, FOUND_NOTHING):
            return link
        if isinstance(link, OSError) and (link.errno in PASSING_ERRNOS or isinstance(link, TimeoutError)):
            return PassingError(f"{uri}: {cause}")
        if isinstance(link, OSError) and (lack := shortage(link)):
            return lack
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its causes, the first cause first."""
    if error.__cause__ is not None:
        yield from _chain(error.__cause__)
    yield error


def _code(error: BaseException) -> str:
    """Return the code of an S3 server's answer, or an empty text."""
    answer: Any = getattr(error, "response", None)
    return str(answer.get("Error", {}).get("Code", "")) if isinstance(answer, dict) else ""


def _status(error: BaseException) -> int:
    """Return the HTTP status of an answer, as botocore, aiohttp and gcsfs keep it, or 0."""
    answer: Any = getattr(error, "response", None)
    if isinstance(answer, dict):
        return int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)
    for name in ("status", "code"):
        value = getattr(error, name, None)
        if isinstance(value, int) and 100 <= value < 600:
            return value
    return 0


def plain_cause(error: BaseException) -> str:
    """Return the first cause of `error` in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if isinstance(error, FileNotFoundError) and not error.strerror:
        reason = "there is no such file"  # the library states only the name
    return (reason or type(error).__name__).splitlines()[0]
