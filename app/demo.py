"""Two phones."""

from rich.console import Console


def play(url: str, token: str, console: Console) -> bool:
    raise NotImplementedError
