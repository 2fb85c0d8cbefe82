"""Where a run's result came back without the run being executed again."""

from __future__ import annotations

from collections.abc import Iterable

from mlflow_dovetail.dvc_link.scanning import Arrival, Index
from mlflow_dovetail.dvc_link.verdicts import WORKSPACE, RunFacts
from mlflow_dovetail.repository import Git


def find_reused(git: Git, index: Index, arrivals: Iterable[Arrival], run: RunFacts, again_at: str) -> set[str]:
    """The commits that have the result of a run that was not executed for them.

    A commit is *reached* by a result when it has the link file and none of its parents has. Reached without
    execution, hence reused, is

    - a DVC experiment other than the run's own: from the run cache, or saved from a workspace to which the run's
      experiment was applied. The run's own is the one that has the name (and baseline) of its tags; after a rename
      the earliest one; of a run outside experiments, the earliest commit of all that the result has reached.
    - a commit whose line had the result before and lost it meanwhile: the run cache or a revert brought it back.

    Any other commit is where the result was put by git alone (commit, amend, rebase, cherry-pick, squash, `dvc exp
    apply` and a commit): the run belongs to it as to the first. A run-cache hit that is committed on a line that
    never had the result cannot be told from these, because it leaves the same content.

    Args:
        git: In the repository.
        index: Its history.
        arrivals: Those of the run's link file.
        run: The run.
        again_at: A commit without the result, whose work tree has it; empty if there is none.

    Returns:
        Commits; "workspace" among them when the result came back in the work tree.
    """
    reached = [arrival for arrival in arrivals if arrival.blob not in arrival.gone]
    named = {tip.commit: tip.experiments for tip in index.tips if tip.experiments}
    experiments = [arrival for arrival in reached if arrival.commit in named]
    others = {arrival.commit for arrival in reached} - {*named}
    return _not_own(experiments, reached, named, run) | _came_back(git, others, again_at)


def _not_own(
    experiments: list[Arrival], reached: list[Arrival], named: dict[str, list[tuple[str, str]]], run: RunFacts
) -> set[str]:
    own = [arrival for arrival in experiments if _is_of(named[arrival.commit], run)]
    among = own or (experiments if run.experiment else reached)
    home = min(among, key=lambda arrival: arrival.time_seconds, default=None)
    return {arrival.commit for arrival in experiments if home and arrival.commit != home.commit}


def _is_of(experiments: list[tuple[str, str]], run: RunFacts) -> bool:
    return any(name == run.experiment and run.baseline in ("", base) for base, name in experiments)


def _came_back(git: Git, commits: set[str], again_at: str) -> set[str]:
    """Those below which another one lies."""
    ends = sorted(commits | ({again_at} if again_at else set()))
    if len(ends) < 2:
        return set()
    lines = git.run("rev-list", "--topo-order", "--reverse", "--parents", *ends, "--").decode().splitlines()
    below: set[str] = set()  # commits that have a reached one among their ancestors, or are one
    found: set[str] = set()
    for line in lines:
        commit, *parents = line.split(" ")
        had_it = not below.isdisjoint(parents)
        if had_it or commit in commits:
            below.add(commit)
        if had_it and commit in commits:
            found.add(commit)
    return found | ({WORKSPACE} if again_at in below else set())
