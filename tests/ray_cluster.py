"""Several nodes of a Ray cluster on this machine, which tests take away and add.

Ray writes the address of such a cluster to a place that all of a machine's users share, so only one can run at a time.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any

import ray
from ray.cluster_utils import Cluster

from tests.patience import PATIENCE_S

STORE_BYTES = 100 << 20
PREEMPTION = 2
"""ray.core.generated.autoscaler_pb2.DRAIN_NODE_REASON_PREEMPTION."""
FAST_FAILURES = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 4}


class Nodes:
    """The nodes of a cluster beside its head, which has no CPUs."""

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster

    def have(self, count: int, num_cpus: int = 2) -> None:
        """Add or remove nodes until there are `count`."""
        for node in self._cluster.worker_nodes - set(list(self._cluster.worker_nodes)[:count]):
            self._cluster.remove_node(node, allow_graceful=True)
        while len(self._cluster.worker_nodes) < count:
            self._cluster.add_node(num_cpus=num_cpus, object_store_memory=STORE_BYTES)
        self._cluster.wait_for_nodes(PATIENCE_S)

    def kill(self, node_id: str) -> None:
        """Kill a node as if its machine had lost its power."""
        self._cluster.remove_node(self._node(node_id), allow_graceful=False)

    def drain(self, node_id: str) -> None:
        """Announce that a node will be taken away, as spot machines do, and take it away."""
        client: Any = import_module("ray._raylet").GcsClient(address=ray.get_runtime_context().gcs_address)
        accepted, why = client.drain_node(node_id, PREEMPTION, "preemption", 2**63 - 1)
        assert accepted, why
        self.kill(node_id)

    def _node(self, node_id: str) -> Any:
        return next(node for node in self._cluster.worker_nodes if node.node_id == node_id)


@contextmanager
def ray_cluster() -> Iterator[Nodes]:
    """Start a cluster with a head, connect this process to it, and end it."""
    with tempfile.TemporaryDirectory(prefix="rc", dir="/tmp", ignore_cleanup_errors=True) as folder:
        before = {name: os.environ.get(name) for name in ("RAY_AUTH_MODE", "RAY_ADDRESS")}
        os.environ["RAY_AUTH_MODE"] = "disabled"
        os.environ.pop("RAY_ADDRESS", None)
        head = {"num_cpus": 0, "object_store_memory": STORE_BYTES, "temp_dir": folder, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=head | {"_system_config": FAST_FAILURES})
        try:
            ray.init(address=cluster.address, log_to_driver=False)
            yield Nodes(cluster)
        finally:
            with suppress(Exception):
                ray.shutdown()
            cluster.shutdown()
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value
