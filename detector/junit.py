"""JUnit: a backtest as the XML that CI systems show, one test case for each rule and each campaign."""

from xml.etree.ElementTree import Element, SubElement, indent, tostring

from detector.backtest import Outcome, false_a_day
from detector.printable import printable


def junit(outcome: Outcome, false_a_day_max: float) -> str:
    """Write it: a rule fails that is wrong too often, a campaign is skipped that no rule found."""
    suite = Element("testsuite", name="detector rules backtest")
    wrong = false_a_day(outcome)
    failures = 0
    for rule in outcome.rules:
        case = SubElement(suite, "testcase", classname="rules", name=printable(rule.metadata.name))
        rate = wrong.get(rule.metadata.id, 0.0)
        if rate > false_a_day_max:
            failures += 1
            text = f"{rate:.2f} false alerts a day of severity 47 or more; at most {false_a_day_max:g} are allowed"
            failure = SubElement(case, "failure", message=text)
            failure.text = "\n".join(
                printable(hit.alert.document.message)
                for hit in outcome.hits
                if hit.severe and hit.verdict == "false" and hit.alert.document.rule.id == rule.metadata.id
            )
    for campaign in sorted(outcome.campaigns):
        case = SubElement(suite, "testcase", classname="campaigns", name=printable(campaign))
        if campaign not in outcome.found:
            SubElement(case, "skipped", message="no alert of severity 47 or more names a request of it")
    suite.set("tests", str(len(suite)))
    suite.set("failures", str(failures))
    suite.set("skipped", str(len(outcome.campaigns - outcome.found)))
    indent(suite)
    return tostring(suite, encoding="unicode", xml_declaration=True) + "\n"
