"""A folder keeps results that depend on the same things, and refuses others."""

import pytest

from isthmus.bench.measure import claim
from isthmus.errors import IsthmusError


def test_a_folder_is_taken_once(tmp_path):
    given = {"budget": 4, "training texts": "abc"}
    claim(tmp_path / "new", given)
    claim(tmp_path / "new", given)
    with pytest.raises(IsthmusError, match="has results of other budget; use the same command"):
        claim(tmp_path / "new", given | {"budget": 16})
    with pytest.raises(IsthmusError, match="other training texts"):
        claim(tmp_path / "new", given | {"training texts": "abd"})
    claim(tmp_path / "another", given | {"budget": 16})
