"""Create tonight's RayJob, wait for its end, and try again where that helps. Runs in the pod of the CronJob.

`ray job` and KubeRay know only success and failure. The exit status of `rollcall process` says more, and Ray reports
it in the message of the job. Wrong usage fails again in every new cluster. A lost head does not.

A pod that replaces this one finds the RayJob by its name and goes on waiting. The RayJob belongs to the Job of the
night, so deleting the Job stops the run and removes the cluster.
"""

import json
import os
import re
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
POLL_S = 15
PAUSE_S = 300
"""Seconds before another try. Storage recovers, and the lease of a driver that was lost runs out."""
TIMEOUT_S = 30
TRIES = 3
ENDED = {"Complete", "Failed", "ValidationFailed"}
FAILED, USAGE, QUARANTINED, HELD, OUT_OF_TIME, INTERRUPTED = 1, 2, 3, 5, 124, 130
NO_USE_TO_REPEAT = {USAGE, QUARANTINED, OUT_OF_TIME, INTERRUPTED}
EXIT_STATUS = re.compile(r"failed with exit code (\d+)")
TOO_MANY, SERVER_FAULTS = 429, 500
EXPECTED = {"POST": 409, "GET": 404}

Ask = Callable[[str, str, Mapping[str, Any] | None], dict[str, Any] | None]
"""Send a request: method, name of a RayJob or "", body. Returns the answer. Returns None if a new RayJob exists
already, or if the named one does not exist."""


def run_night(template: Mapping[str, Any], job: Mapping[str, str], ask: Ask, sleep: Callable[[float], None]) -> int:
    """Return the exit status of the night.

    template: the RayJob.
    job: name and uid of the Job of this night.
    """
    status = FAILED
    for attempt in range(1, TRIES + 1):
        name = f"{job['name']}-{attempt}"
        created = ask("POST", "", named(template, name, job)) is not None
        say(f"{name}: {'created' if created else 'is there already'}")
        status = wait(name, ask, sleep)
        # Another run holds the output. In a later try it is probably the lost driver of the try before.
        if status == 0 or status in NO_USE_TO_REPEAT or (status == HELD and attempt == 1):
            break
        if attempt < TRIES:
            say(f"trying again in {PAUSE_S} s")
            sleep(PAUSE_S)
    return status


def named(template: Mapping[str, Any], name: str, job: Mapping[str, str]) -> dict[str, Any]:
    """Return the RayJob under a name that every pod of the night finds again, with the Job as its owner."""
    metadata = {key: value for key, value in template["metadata"].items() if key != "generateName"}
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": job["name"], "uid": job["uid"]}
    return {**template, "metadata": {**metadata, "name": name, "ownerReferences": [owner]}}


def wait(name: str, ask: Ask, sleep: Callable[[float], None]) -> int:
    """Wait for the end of a RayJob. Return the exit status of its command, or 1 if the command has none."""
    before = None
    while True:
        found = ask("GET", name, None)
        if found is None:
            say(f"{name}: somebody has deleted it")
            return INTERRUPTED
        status = found.get("status") or {}
        deployment, outcome = status.get("jobDeploymentStatus") or "new", status.get("jobStatus") or ""
        if (deployment, outcome) != before:
            say(f"{name}: {deployment} {outcome}".rstrip())
            before = (deployment, outcome)
        if deployment in ENDED:
            return exit_status(deployment, outcome, status)
        sleep(POLL_S)


def exit_status(deployment: str, outcome: str, status: Mapping[str, Any]) -> int:
    """Return the exit status for a RayJob that has ended, and print its last words."""
    if outcome == "SUCCEEDED":
        return 0
    message = str(status.get("message") or "")
    say("\n".join(part for part in (str(status.get("reason") or ""), message) if part))
    if deployment == "ValidationFailed":
        return USAGE
    if outcome == "STOPPED":
        return INTERRUPTED
    if status.get("reason") == "DeadlineExceeded":
        return OUT_OF_TIME
    code = EXIT_STATUS.search(message)
    return int(code[1]) if code else FAILED


def say(line: str) -> None:
    print(line, flush=True)


def asker(environ: Mapping[str, str], account: Path, sleep: Callable[[float], None]) -> Ask:
    """Return a function that asks the API server of this cluster, again and again where the fault may pass."""
    host, port = environ["KUBERNETES_SERVICE_HOST"], environ["KUBERNETES_SERVICE_PORT"]
    host = f"[{host}]" if ":" in host else host
    namespace = (account / "namespace").read_text().strip()
    url = f"https://{host}:{port}/apis/ray.io/v1/namespaces/{namespace}/rayjobs"
    trust = ssl.create_default_context(cafile=str(account / "ca.crt"))

    def ask(method: str, name: str, body: Mapping[str, Any] | None) -> dict[str, Any] | None:
        while True:
            request = urllib.request.Request(f"{url}/{name}".rstrip("/"), method=method)
            # Kubernetes renews the token in its file.
            request.add_header("Authorization", f"Bearer {(account / 'token').read_text().strip()}")
            request.add_header("Content-Type", "application/json")
            data = json.dumps(body).encode() if body is not None else None
            try:
                with urllib.request.urlopen(request, data, timeout=TIMEOUT_S, context=trust) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                if error.code == EXPECTED[method]:
                    return None
                words = error.read().decode(errors="replace")
                if error.code != TOO_MANY and error.code < SERVER_FAULTS:
                    raise SystemExit(
                        f"the API server refuses {method} {name or 'rayjobs'}: {error.code} {words}"
                    ) from None
                say(f"the API server answers {error.code}; asking again")
            except OSError as error:
                say(f"the API server does not answer ({error}); asking again")
            sleep(POLL_S)

    return ask


def main() -> None:
    template = yaml.safe_load(Path(sys.argv[1]).read_text())
    job = {"name": os.environ["JOB_NAME"], "uid": os.environ["JOB_UID"]}
    sys.exit(run_night(template, job, asker(os.environ, ACCOUNT, time.sleep), time.sleep))


if __name__ == "__main__":
    main()
