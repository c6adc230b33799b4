"""Telling a copy of a local store from a retry."""

from app.documents.submission import Submission
from app.documents.workspace import Workspace


def forked(submission: Submission, workspace: Workspace) -> bool:
    """Whether a store that is behind sends anything new: a request that only repeats is no fork."""
    account, sent = submission.account, submission.together or submission.mutations
    new = any((account, mutation.id) not in workspace.seen for mutation in sent)
    return new and is_behind(submission, workspace)


def is_behind(submission: Submission, workspace: Workspace) -> bool:
    """Whether the server has accepted mutations of this device that this store does not know.

    A retry repeats mutations that were accepted already, so it is not behind if it holds all that
    were accepted since the one that the store knows.
    """
    account, device = submission.account, submission.device
    known = workspace.devices.get((account, device)) if device is not None else None
    if known is None or known.last is None or known.last == submission.previous:
        return False
    sent = [(account, mutation.id) for mutation in submission.together or submission.mutations]
    repeated = [workspace.seen[id] for id in sent if id in workspace.seen]
    if (account, known.last) not in sent:
        return True
    since: int | None = 0
    if submission.previous is not None:
        acknowledged = workspace.seen.get((account, submission.previous))
        since = None if acknowledged is None else acknowledged.number
    if since is None:
        return False
    numbers = {one.number for one in repeated if one.number is not None and one.number > since}
    return len(numbers) < known.accepted - since
