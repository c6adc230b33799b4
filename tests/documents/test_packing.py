"""Proposals in a column: what is packed comes back."""

from hypothesis import given
from hypothesis import strategies as st

from app.documents.model import Proposed
from app.documents.packing import pack, unpack
from merge_rules.state import Stored

STORED = st.builds(Stored, st.none() | st.binary(max_size=40), st.binary(max_size=40))


@given(st.text(max_size=8), st.builds(Proposed, STORED, st.none() | STORED))
def test_what_is_packed_comes_back(rule: str, proposed: Proposed) -> None:
    assert unpack(pack(rule, proposed)) == (rule, proposed)
