"""ATT&CK: the names behind the tags of rules, pinned to version 19, so that checking a tag never needs the network.

Source: MITRE ATT&CK v19 (April 2026), which renamed TA0005 to Stealth, split off TA0112 Defense Impairment and replaced
T1562 by T1685 and T1686. (c) The MITRE Corporation; reproduced with permission under the ATT&CK terms of use. Only the
techniques that Kubernetes detections use are listed.
"""

from typing import Final

VERSION: Final = "19"

TACTICS: Final = {
    "reconnaissance": ("TA0043", "Reconnaissance"),
    "resource-development": ("TA0042", "Resource Development"),
    "initial-access": ("TA0001", "Initial Access"),
    "execution": ("TA0002", "Execution"),
    "persistence": ("TA0003", "Persistence"),
    "privilege-escalation": ("TA0004", "Privilege Escalation"),
    "stealth": ("TA0005", "Stealth"),
    "defense-impairment": ("TA0112", "Defense Impairment"),
    "credential-access": ("TA0006", "Credential Access"),
    "discovery": ("TA0007", "Discovery"),
    "lateral-movement": ("TA0008", "Lateral Movement"),
    "collection": ("TA0009", "Collection"),
    "command-and-control": ("TA0011", "Command and Control"),
    "exfiltration": ("TA0010", "Exfiltration"),
    "impact": ("TA0040", "Impact"),
}
"""Tactic as a Sigma tag spells it -> id and name."""

TECHNIQUES: Final = {
    "T1036.005": "Match Legitimate Resource Name or Location",
    "T1040": "Network Sniffing",
    "T1048": "Exfiltration Over Alternative Protocol",
    "T1053.007": "Container Orchestration Job",
    "T1059.004": "Unix Shell",
    "T1069.003": "Cloud Groups",
    "T1070": "Indicator Removal",
    "T1078": "Valid Accounts",
    "T1078.001": "Default Accounts",
    "T1078.004": "Cloud Accounts",
    "T1087.004": "Cloud Account",
    "T1090.003": "Multi-hop Proxy",
    "T1098": "Account Manipulation",
    "T1098.006": "Additional Container Cluster Roles",
    "T1105": "Ingress Tool Transfer",
    "T1133": "External Remote Services",
    "T1134": "Access Token Manipulation",
    "T1136": "Create Account",
    "T1190": "Exploit Public-Facing Application",
    "T1485": "Data Destruction",
    "T1489": "Service Stop",
    "T1496.001": "Compute Hijacking",
    "T1498": "Network Denial of Service",
    "T1525": "Implant Internal Image",
    "T1528": "Steal Application Access Token",
    "T1530": "Data from Cloud Storage",
    "T1543.005": "Container Service",
    "T1546": "Event Triggered Execution",
    "T1550.001": "Application Access Token",
    "T1552": "Unsecured Credentials",
    "T1552.001": "Credentials In Files",
    "T1552.005": "Cloud Instance Metadata API",
    "T1552.007": "Container API",
    "T1557": "Adversary-in-the-Middle",
    "T1565.001": "Stored Data Manipulation",
    "T1572": "Protocol Tunneling",
    "T1595": "Active Scanning",
    "T1595.003": "Wordlist Scanning",
    "T1609": "Container Administration Command",
    "T1610": "Deploy Container",
    "T1611": "Escape to Host",
    "T1613": "Container and Resource Discovery",
    "T1685": "Disable or Modify Tools",
    "T1685.002": "Disable or Modify Cloud Log",
    "T1686": "Disable or Modify System Firewall",
}
"""Technique id -> name."""
