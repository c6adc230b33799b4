"""What the tests of sockets stand on."""

import secrets

import pytest


@pytest.fixture
def account() -> str:
    """An account that no other test uses."""
    return f"live-{secrets.token_hex(6)}"
