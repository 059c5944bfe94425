"""The nodes of a Ray cluster, for one of its workers."""

from collections.abc import Collection

import ray
import ray._private.state


class RayNodes:
    """The nodes as Ray lists them at the moment of the question."""

    def here(self) -> str:
        return ray.get_runtime_context().get_node_id()

    def worker(self) -> str | None:
        return ray.get_runtime_context().get_actor_id()

    def gone(self, nodes: Collection[str]) -> set[str]:
        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        leaving = set(ray._private.state.state.get_draining_nodes())
        return {node for node in nodes if node and (node not in alive or node in leaving)}
