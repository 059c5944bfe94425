"""The texts that the program can say, as its code has them."""

import ast
from pathlib import Path

VALUE = "…"
"""Stands for what is filled in."""


def texts_of(folders: list[Path]) -> list[str]:
    """Return every string in the code below folders. `…` stands for each value that is filled in."""
    texts = []
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.JoinedStr):
                    parts = [part.value if isinstance(part, ast.Constant) else VALUE for part in node.values]
                    texts.append("".join(map(str, parts)))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    texts.append(node.value)
    return texts
