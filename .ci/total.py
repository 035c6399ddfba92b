"""Print how many tests passed, failed and were skipped, over all environments of a tox run.

Usage: total.py TOX_RESULT_JSON TOX_WORK_DIRECTORY

Rules of this file
  1. An environment with tests counts as its tests do; an error outside a test is a failure.
  2. One without (lint, types, an interpreter that this machine does not have) counts as one.
  3. One that failed although no test of it did (pytest could not start, or could not finish) has
     one failure.
  4. The exit code is 0 only if something passed and nothing failed.
"""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path


def tally(result: dict[str, object], report: Path) -> Counter[str]:
    """Count one environment.

    Args:
        result: what tox says about it: ``success``, ``skipped``.
        report: pytest's JUnit report, which need not exist.
    """
    if result.get("skipped"):
        return Counter(skipped=1)
    counts: Counter[str] = Counter()
    if report.exists():
        for suite in ElementTree.parse(report).getroot().iter("testsuite"):
            tests, failures, errors, skipped = (
                int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")
            )
            failed = failures + errors
            counts += Counter(passed=tests - failed - skipped, failed=failed, skipped=skipped)
    elif result["success"]:
        counts["passed"] = 1
    if not result["success"] and not counts["failed"]:
        counts["failed"] = 1
    return counts


def main(result_json: str, work_directory: str) -> int:
    try:
        environments = json.loads(Path(result_json).read_text(encoding="utf-8"))["testenvs"]
    except FileNotFoundError:  # tox did not come to an end
        environments = {}
    total: Counter[str] = Counter()
    for name, environment in environments.items():
        if "result" in environment:
            total += tally(environment["result"], Path(work_directory, name, "tests.xml"))
    print(f"{total['passed']} passed, {total['failed']} failed, {total['skipped']} skipped")
    return 0 if total["passed"] and not total["failed"] else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
