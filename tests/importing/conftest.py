from pathlib import Path

import pytest

from tests.conftest import Cluster
from tests.importing.world import World


@pytest.fixture
def world(cluster_18: Cluster, tmp_path: Path) -> World:
    """An empty old database and an empty Syncline."""
    return World.on(cluster_18, tmp_path)


@pytest.fixture
def both_versions(cluster: Cluster, tmp_path: Path) -> World:
    """The same on each PostgreSQL that is promised."""
    return World.on(cluster, tmp_path)
