# Runs checks one after another; the table and the summary that come of it.
import json
import time
from dataclasses import dataclass
from typing import Callable

from session import CheckFailed, OutOfTime

PASSED, FAILED, NOT_RUN = "passed", "FAILED", "NOT RUN"


@dataclass(frozen=True)
class Check:
    name: str
    what: str
    limit_seconds: float
    run: Callable  # of a Session; returns an Outcome or raises CheckFailed
    needs_gpu: bool = True


@dataclass
class Result:
    name: str
    result: str
    seconds: float
    figure: str
    numbers: dict


def run_check(check, session, end):
    """`end`: the monotonic time at which all checks have to be done."""
    start = time.monotonic()
    session.deadline = min(start + check.limit_seconds, end)
    try:
        outcome = check.run(session)
        result, figure, numbers = PASSED, outcome.figure, outcome.numbers
    except OutOfTime as problem:
        allowed = session.deadline - start
        result, figure, numbers = FAILED, f"out of time after {allowed:.0f} s: {problem}", problem.numbers
    except CheckFailed as problem:
        result, figure, numbers = FAILED, str(problem), problem.numbers
    except Exception as problem:  # a check that breaks has not passed, and the others go on
        result, figure, numbers = FAILED, f"the check itself broke: {type(problem).__name__}: {problem}", {}
    return Result(check.name, result, round(time.monotonic() - start, 1), figure, numbers)


def run_checks(checks, session, end, on_result):
    """All results. The first check says whether there is a GPU; without one nothing that needs it is started."""
    results, gpu_missing = [], None
    for check in checks:
        if check.needs_gpu and gpu_missing:
            result = Result(check.name, NOT_RUN, 0.0, gpu_missing, {})
        elif time.monotonic() >= end:
            result = Result(check.name, NOT_RUN, 0.0, "no time was left", {})
        else:
            result = run_check(check, session, end)
            if check.name == "machine" and result.result != PASSED:
                gpu_missing = "no GPU" if result.figure.startswith("no GPU") else "the check `machine` failed"
        results.append(result)
        on_result(results)
    return results


def table(results):
    width = max([len("check"), *(len(result.name) for result in results)])
    lines = [f"{'check':<{width}}  {'result':<7}  {'seconds':>7}  figure"]
    for result in results:
        lines.append(f"{result.name:<{width}}  {result.result:<7}  {result.seconds:>7.1f}  {result.figure}")
    return "\n".join(lines)


def verdict(results, existing):
    """One line, and the exit status: 0 where every check that was asked for passed."""
    passed = sum(result.result == PASSED for result in results)
    line = f"{passed} of {len(results)} checks passed"
    if len(results) < existing:
        line += f"; {existing - len(results)} of the {existing} that exist were not asked for"
    return line, 0 if passed == len(results) else 1


def write_summary(path, results, facts):
    summary = {**facts, "checks": [vars(result) for result in results]}
    part = path.with_suffix(".part")
    part.write_text(json.dumps(summary, indent=2) + "\n")
    part.replace(path)
