"""Says of a run of tests, by its JUnit report, which tests took longest, and of each that failed why in a line.

Usage: test_report.py JUNIT_XML
"""

import sys
import xml.etree.ElementTree as ElementTree

SLOWEST = 20
MESSAGE_MAX = 600


def name(case):
    return f"{case.get('classname')} {case.get('name')}"


def main():
    cases = ElementTree.parse(sys.argv[1]).getroot().findall(".//testcase")
    cases.sort(key=lambda case: float(case.get("time", 0)), reverse=True)
    print(f"\nThe {SLOWEST} slowest:")
    for case in cases[:SLOWEST]:
        print(f"{float(case.get('time', 0)):8.1f} s  {name(case)}")
    flaky = [case for case in cases if case.find("flakyFailure") is not None]
    if flaky:
        print("\nWhat failed at first and passed at the second try:")
    for case in flaky:
        why = case.find("flakyFailure")
        print(f"{name(case)}: {(why.get('message') or why.get('type') or '').strip()[:MESSAGE_MAX]}")
    failed = [(case, case.find(kind)) for case in cases for kind in ("failure", "error") if case.find(kind) is not None]
    if failed:
        print("\nWhat failed:")
    for case, why in failed:
        print(f"{name(case)}: {(why.get('message') or why.get('type') or '').strip()[:MESSAGE_MAX]}")
    print(f"\n{len(cases) - len(failed)} passed, {len(failed)} failed")


if __name__ == "__main__":
    main()
