# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Sums the reports of lit, gtest and pytest.

usage: summarize.py [--failed-steps N] [--expect FILE]... REPORT...

Prints why tests were skipped and which failed, then alone on the last line
`N passed, M failed, K skipped`. A report that was expected and is missing or
unreadable counts as one failure, as does each failed step. Exits with 1 when
anything failed.
"""

import argparse
import re
import sys
import xml.etree.ElementTree as xml
from collections import Counter
from pathlib import Path
from typing import NamedTuple


class Case(NamedTuple):
    """One test: its name, passed, failed or skipped, and why."""

    name: str
    outcome: str
    reason: str


def outcome_of(case):
    """The outcome and the reason of one <testcase> of any of the three."""
    for tag in ("failure", "error"):
        if case.find(tag) is not None:
            return "failed", case.find(tag).get("message") or ""
    skipped = case.find("skipped")
    if skipped is not None:
        reason = skipped.get("message") or "no reason given"
        if reason == "collection skipped":
            # Of a whole file: pytest has the reason in the text alone.
            found = re.search(r"Skipped: ([^'\"]+)", skipped.text or "")
            reason = found[1] if found else reason
        return "skipped", reason
    if case.get("status") == "notrun":
        return "skipped", "disabled in its source"
    if case.get("result") == "skipped":
        return "skipped", "skipped by itself"
    return "passed", ""


def cases_of(report):
    """All test cases of a report; ValueError where it cannot be read."""
    try:
        root = xml.parse(report).getroot()
    except (OSError, xml.ParseError) as error:
        raise ValueError(str(error)) from error
    for case in root.iter("testcase"):
        group = case.get("classname") or ""
        name = f"{group}.{case.get('name')}".strip(".")
        outcome, reason = outcome_of(case)
        # gtest puts the place in front of the reason.
        reason = re.sub(r"^\S+:\d+\s+", "", reason)
        yield Case(name, outcome, " ".join(reason.split()))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--failed-steps", type=int, default=0)
    parser.add_argument("--expect", action="append", default=[], type=Path)
    parser.add_argument("reports", nargs="*", type=Path)
    arguments = parser.parse_args()

    counts = Counter()
    reasons = Counter()
    for report in sorted(set(arguments.reports) | set(arguments.expect)):
        try:
            cases = list(cases_of(report))
        except ValueError as error:
            print(f"failed: {report.name}: no usable report ({error})")
            counts["failed"] += 1
            continue
        for case in cases:
            counts[case.outcome] += 1
            if case.outcome == "failed":
                print(f"failed: {case.name}")
            elif case.outcome == "skipped":
                reasons[case.reason] += 1
    for reason, count in sorted(reasons.items(), key=lambda item: -item[1]):
        print(f"skipped {count}: {reason}")
    counts["failed"] += arguments.failed_steps
    if not sum(counts.values()):
        print("failed: no test ran")
        counts["failed"] = 1
    print(
        f"{counts['passed']} passed, {counts['failed']} failed, "
        f"{counts['skipped']} skipped"
    )
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
