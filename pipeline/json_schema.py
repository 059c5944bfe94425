"""Describe the values that a JSON schema allows, in plain English."""

from collections.abc import Mapping, Sequence
from typing import Any

Node = Mapping[str, Any]

TYPES = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "object": "a mapping of names and values",
    "null": "null",
}


def describe_values(node: Node, schema: Node) -> str:
    """Return a description of the values that a node allows, such as 'a number from 0 to 1'."""
    if "anyOf" in node:
        return " or ".join(describe_values(option, schema) for option in node["anyOf"])
    node = resolved(node, schema)
    match node:
        case {"enum": choices}:
            return f"one of {', '.join(map(str, choices))}"
        case {"const": choice}:
            return str(choice)
        case {"type": "array", "items": items}:
            return f"a list of {describe_values(items, schema)}"
        case {"type": "object", "properties": properties}:
            return f"a mapping of {', '.join(properties)}"
    return _number(node) if node.get("type") in ("integer", "number") else TYPES[node["type"]]


def _number(node: Node) -> str:
    kind = f"a multiple of {node['multipleOf']:g}," if "multipleOf" in node else TYPES[node["type"]]
    if "minimum" in node and "maximum" in node:
        return f"{kind} from {node['minimum']:g} to {node['maximum']:g}"
    limits = [f"of at least {node['minimum']:g}"] if "minimum" in node else []
    limits += [f"more than {node['exclusiveMinimum']:g}"] if "exclusiveMinimum" in node else []
    limits += [f"at most {node['maximum']:g}"] if "maximum" in node else []
    return f"{kind} {' and '.join(limits)}".rstrip(" ,")


def node_at(schema: Node, path: Sequence[str]) -> tuple[Node, list[str]]:
    """Follow `path` into a schema as far as it goes, and return the last node and the keys that lead to it.

    The path may be longer than the schema, because pydantic ends some paths with the type that it tried.
    """
    node, keys = schema, []
    for part in path:
        if part not in properties(node, schema):
            break
        keys.append(part)
        node = properties(node, schema)[part]
    return node, keys


def properties(node: Node, schema: Node) -> Node:
    """Return the properties of the mapping that a node describes, none for other nodes."""
    return resolved(node, schema).get("properties", {})


def resolved(node: Node, schema: Node) -> Node:
    """Return the node that a reference leads to, also if null is its other choice. Other nodes are returned
    unchanged."""
    for choice in (node, *node.get("anyOf", ())):
        if "$ref" in choice:
            return schema["$defs"][choice["$ref"].rsplit("/", 1)[1]]
    return node
