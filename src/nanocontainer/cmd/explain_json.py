"""--explain=json: an explanation as data. The keys are those of plan/explanation.py, and stay."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..plan.explanation import Explanation

VERSION = 1  # of the form: raised when a key changes its meaning


def show(explanation: Explanation) -> str:
    """JSON, indented, whole."""
    import json

    return json.dumps({"version": VERSION, **explanation.as_dict()}, indent=2, ensure_ascii=False)
