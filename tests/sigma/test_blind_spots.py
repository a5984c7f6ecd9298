"""The blind spots of other rule sets: each of them closed, shown on an event as a real API server logs it."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from detector.activity import Activity
from detector.address import Locator
from detector.event import decode_native
from detector.fold import Folder
from detector.formats import Format
from detector.identity import from_event
from detector.match import SEVERITY, Match
from detector.normalise import normalise
from detector.record import Position
from detector.sigma.cases import BASE_EVENT, differences_of, evaluate, merge
from detector.sigma.engine import group_values
from detector.sigma.load import BUNDLED, CompiledRule, load
from tests.sigma.build import activity

RULES = {rule.path.stem.removeprefix("kubernetes_audit_"): rule for rule in load(BUNDLED)}
PERSON = BASE_EVENT["user"]["username"]
REPLICASET_CONTROLLER = "system:serviceaccount:kube-system:replicaset-controller"
DRY_RUN = "?fieldManager=kubectl&dryRun=All"
NO_CHANGES = {"exec", "attach", "portforward", "proxy", "token"}
"""Subresources with which nothing is stored: a dry run of them is none."""
NOT_ABOUT_CHANGES = {
    "anon_allowed",
    "csr_other_bootstrap_credential",
    "impersonate_privileged",
    "impersonate_refused",
    "node_identity",
    "secret_denied_foreign_namespace",
    "sys_principal_public_ip",
}
"""Serious rules on who asks, whatever comes of it."""
REFUSALS = {"denied_burst_ip", "denied_burst_user", "perm_enum"}
"""Correlations of what was refused: whoever tries out rights may well do it by dry runs."""


def event(**changes: Any) -> dict[str, Any]:
    """The base event with a difference, laid over it as in a rule's cases."""
    return merge(BASE_EVENT, changes)


def write(resource: str, body: Any = None, **changes: Any) -> dict[str, Any]:
    """The creation of an object by a person; resources of the core group have no slash before their name."""
    group, _, kind = resource.rpartition("/")
    ref = {"resource": kind, "namespace": "shop", "name": "a", "apiGroup": group or None}
    created = {"verb": "create", "objectRef": ref, "responseStatus": {"code": 201}}
    written = event(**merge(created, changes))
    return written if body is None else {**written, "requestObject": body}


def verdicts(happened: Mapping[str, Any]) -> dict[str, bool | None]:
    """What each rule that does not say no says of an event: True, or None for undecided.

    Rules that remember are left out: they only note such a request, and no alert comes of one.
    """
    acted = activity(happened)
    said = {name: rule.node.evaluate(acted) for name, rule in RULES.items() if not rule.remembers}
    return {name: verdict for name, verdict in said.items() if verdict is not False}


def fired(happened: Mapping[str, Any]) -> set[str]:
    """The rules that surely match an event."""
    return {name for name, verdict in verdicts(happened).items() if verdict}


def undecided(happened: Mapping[str, Any]) -> set[str]:
    """The rules whose alert on an event would be degraded."""
    return {name for name, verdict in verdicts(happened).items() if verdict is None}


def serious(names: set[str]) -> set[str]:
    """Those of some rules that wake somebody."""
    return {name for name in names if SEVERITY[RULES[name].metadata.level] >= 47}


def pod(**spec: Any) -> dict[str, Any]:
    """A pod with one container and more in its spec."""
    return {"spec": {"containers": [{"name": "c", "image": "registry.example.test/c:1"}], **spec}}


PRIVILEGED = {"name": "p", "securityContext": {"privileged": True}}
ADMIN = {"kind": "ClusterRole", "name": "cluster-admin"}
RBAC = "rbac.authorization.k8s.io"


@pytest.mark.parametrize(
    ("subresource", "rule"), [("exec", "exec_pod"), ("attach", "exec_pod"), ("portforward", "portforward")]
)
@pytest.mark.parametrize("verb", ["get", "create"])
def test_a_session_is_seen_whatever_its_verb(subresource: str, rule: str, verb: str) -> None:
    """By WebSocket, as of kubectl 1.31, it is a `get` with code 101; by SPDY a `create`."""
    ref = {"resource": "pods", "subresource": subresource, "namespace": "shop", "name": "cart"}
    happened = event(verb=verb, stage="ResponseStarted", level="Metadata", objectRef=ref, responseStatus={"code": 101})

    assert rule in fired(happened)


@pytest.mark.parametrize(
    ("resource", "body", "rule"),
    [
        ("pods", pod(containers=[PRIVILEGED]), "pod_privileged"),
        ("apps/daemonsets", {"spec": {"template": pod(hostPID=True)}}, "pod_hostpid"),
        ("batch/cronjobs", {"spec": {}}, "cronjob_write"),
        (f"{RBAC}/clusterrolebindings", {"roleRef": ADMIN}, "bind_cluster_admin"),
        (f"{RBAC}/clusterroles", {"rules": [{"verbs": ["*"]}]}, "role_wildcard"),
        ("secrets", {"type": "kubernetes.io/service-account-token"}, "token_secret"),
    ],
)
def test_what_server_side_apply_creates_is_created(resource: str, body: Any, rule: str) -> None:
    """It is a `patch` with code 201."""
    assert rule in fired(write(resource, body, verb="patch"))


@pytest.mark.parametrize("verb", ["create", "update", "patch"])
@pytest.mark.parametrize("kind", ["clusterrolebindings", "rolebindings"])
def test_rights_of_an_administrator_are_seen_in_every_kind_of_binding_and_write(kind: str, verb: str) -> None:
    """A RoleBinding to cluster-admin gives a namespace away, and a binding can be changed after it was looked at."""
    happened = write(f"{RBAC}/{kind}", {"roleRef": ADMIN, "subjects": [{"kind": "User", "name": "x"}]}, verb=verb)

    assert "bind_cluster_admin" in fired(happened)


def test_a_subject_that_is_added_to_an_administrators_binding_is_seen() -> None:
    """The patch names no role; the answer does."""
    happened = write(f"{RBAC}/clusterrolebindings", {"subjects": [{"kind": "User", "name": "x"}]}, verb="patch")

    assert "bind_cluster_admin" in fired({**happened, "responseObject": {"roleRef": ADMIN}})
    assert "bind_cluster_admin" in undecided({**happened, "level": "Request"})


@pytest.mark.parametrize("verb", ["update", "patch"])
def test_a_role_that_exists_is_watched_too(verb: str) -> None:
    """Widening it gives the same rights to more people than making a new one."""
    happened = write(f"{RBAC}/roles", {"rules": [{"resources": ["*"]}]}, verb=verb, responseStatus={"code": 200})

    assert "role_widened" in fired(happened)


@pytest.mark.parametrize("containers", ["containers", "initContainers", "ephemeralContainers"])
def test_containers_of_every_kind_are_looked_at(containers: str) -> None:
    """An init container has the node as surely as one that stays."""
    assert "pod_privileged" in fired(write("pods", pod(**{containers: [PRIVILEGED]})))


def test_a_privileged_ephemeral_container_is_seen_where_it_is_added() -> None:
    """`kubectl debug --profile=sysadmin` patches a subresource of the pod."""
    ref = {"resource": "pods", "subresource": "ephemeralcontainers", "namespace": "shop", "name": "cart"}
    body = {"spec": {"ephemeralContainers": [PRIVILEGED]}}

    assert {"pod_privileged", "ephemeral_container"} <= fired(event(verb="patch", objectRef=ref, requestObject=body))


@pytest.mark.parametrize(
    "resource",
    ["apps/deployments", "apps/daemonsets", "apps/statefulsets", "apps/replicasets", "batch/jobs", "batch/cronjobs"],
)
def test_a_risky_template_is_blamed_on_who_wrote_it(resource: str) -> None:
    """The alert names the person; the controller that follows the template gives a note of low severity at most."""
    template = pod(containers=[PRIVILEGED], hostNetwork=True)
    spec = (
        {"jobTemplate": {"spec": {"template": template}}} if resource.endswith("cronjobs") else {"template": template}
    )
    written = activity(write(resource, {"spec": spec}))
    rule = RULES["pod_privileged"]

    (alert,) = Folder("prod").add([Match(rule.metadata, written, group_values(rule, written))])
    followed = write("pods", template, user={"username": REPLICASET_CONTROLLER})

    assert rule.node.evaluate(written) is True
    assert alert.document.user.name == PERSON
    assert {"pod_privileged_by_controller", "pod_hostnetwork_by_controller"} <= fired(followed)
    assert not serious(fired(followed))


@pytest.mark.parametrize("name", ["ALL", "all", "SYS_ADMIN", "CAP_SYS_ADMIN"])
def test_all_capabilities_are_more_than_any_one_of_them(name: str) -> None:
    """`ALL` is in no list of single capabilities, and some runtimes take the prefix."""
    container = {"name": "c", "securityContext": {"capabilities": {"add": ["CHOWN", name]}}}

    assert "pod_caps" in fired(write("pods", pod(containers=[container])))


@pytest.mark.parametrize(
    "path",
    [
        *("/", "//", "/.", "/./", "/..", "/etc", "/etc/", "//etc", "/./etc//", "/etc/.", "/var/../etc", "/opt/../etc/"),
        *("/etc/cron.d", "/etc/kubernetes/pki", "/var/log", "/var/lib/kubelet/", "/run/containerd/containerd.sock"),
        "/data/../../proc",
    ],
)
def test_a_path_of_the_node_is_seen_however_it_is_written(path: str) -> None:
    """Below a sensitive folder, with slashes and dots too many, and by a way round: in a pod and in a volume."""
    assert "pod_hostpath" in fired(write("pods", pod(volumes=[{"name": "v", "hostPath": {"path": path}}])))
    assert "pod_hostpath_persistent_volume" in fired(write("persistentvolumes", {"spec": {"hostPath": {"path": path}}}))


@pytest.mark.parametrize("path", ["/data", "/srv/etc", "/mnt/disks/ssd1", "/etcetera", "/data/..hidden"])
def test_a_path_that_only_looks_alike_is_none(path: str) -> None:
    """A prefix ends where a folder's name does."""
    assert "pod_hostpath" not in fired(write("pods", pod(volumes=[{"name": "v", "hostPath": {"path": path}}])))


def changes_of(rule: CompiledRule) -> list[dict[str, Any]]:
    """The events among a rule's matching cases that change something."""
    happened = [merge(BASE_EVENT, case.event) for case in rule.cases if case.match is True]
    return [one for one in happened if is_change(one)]


def is_change(happened: Mapping[str, Any]) -> bool:
    """Whether a request stores something."""
    if happened["verb"] not in ("create", "update", "patch", "delete", "deletecollection"):
        return False
    return happened.get("objectRef", {}).get("subresource") not in NO_CHANGES


def dry(happened: Mapping[str, Any], path: str = "/any") -> dict[str, Any]:
    """The same request as a dry run: a parameter, and for a delete an option in its body."""
    options = {"kind": "DeleteOptions", "dryRun": ["All"]}
    return {**happened, "requestURI": path + DRY_RUN} | (
        {"requestObject": options} if "delete" in happened["verb"] else {}
    )


def test_a_dry_run_is_no_change() -> None:
    """No serious rule on a change matches its own cases any more when nothing was stored."""
    checked = 0
    for name in serious(set(RULES)) - NOT_ABOUT_CHANGES:
        for happened in changes_of(RULES[name]):
            checked += 1
            assert RULES[name].node.evaluate(activity(dry(happened))) is False, name
    assert checked > 100


def test_a_dry_run_is_no_part_of_a_chain() -> None:
    """No correlation that counts changes comes to its alert when nothing of what its cases change was stored."""
    checked = 0
    for name in {name for name, rule in RULES.items() if rule.correlation} - REFUSALS:
        rule = RULES[name]
        for case in rule.cases:
            events = [merge(BASE_EVENT, difference) for difference in differences_of(case)]
            if case.match is False or not any(map(is_change, events)):
                continue
            checked += 1
            dried = [dry(one, one["requestURI"]) if is_change(one) else one for one in events]
            assert evaluate(rule, *events) is not False, name
            assert evaluate(rule, *dried) is False, f"{name}: {case.name}"
    assert checked > 8


def test_a_parameter_does_not_make_a_dry_run_of_a_delete_that_says_otherwise() -> None:
    """The API server takes the options from the body if there is one, so the parameter is a way to hide."""
    ref = {"resource": "networkpolicies", "namespace": "shop", "name": "a", "apiGroup": "networking.k8s.io"}
    happened = event(verb="delete", objectRef=ref, requestURI=f"/any{DRY_RUN}")

    assert "netpol_weaken" not in fired(happened)
    assert "netpol_weaken" in fired({**happened, "requestObject": {"kind": "DeleteOptions"}})
    assert "netpol_weaken" in fired({**happened, "level": "Metadata"})


def test_what_admission_refuses_is_no_refused_authorisation() -> None:
    """Quotas and Pod Security answer 403 as well, but authorisation had said yes."""
    happened = write("pods", pod(containers=[PRIVILEGED]), responseStatus={"code": 403, "message": "exceeded quota"})
    by_system = merge(happened, {"user": {"username": REPLICASET_CONTROLLER}})

    assert verdicts(happened) == {}
    assert verdicts(by_system) == {}


def test_a_refused_impersonation_is_seen_although_it_has_no_decision() -> None:
    """The answer's message alone tells it from other refusals; the person asked for is in no field."""
    message = 'users "system:admin" is forbidden: User "ana" cannot impersonate resource "users" in API group ""'
    refused = event(verb="list", responseStatus={"code": 403, "reason": "Forbidden", "message": message})
    del refused["annotations"]

    assert "impersonate_refused" in fired(refused)


def test_failed_authentication_is_counted_although_it_never_completes() -> None:
    """A 401 is logged as ResponseStarted only, without user, decision and end."""
    failed = event(stage="ResponseStarted", responseStatus={"code": 401}, user={})
    del failed["annotations"]
    failed["user"] = {}

    assert len(normalise([decode_native(json.dumps(failed).encode())])) == 1
    assert "denied_any" in fired(failed)


def needing_a_body() -> list[tuple[str, dict[str, Any]]]:
    """Each matching case of a write that does not match any more without its body."""
    needing: list[tuple[str, dict[str, Any]]] = []
    for name, rule in RULES.items():
        for case in rule.cases:
            happened = merge(BASE_EVENT, case.event)
            bodies = happened.pop("requestObject", None), happened.pop("responseObject", None)
            if (
                case.match is not True
                or bodies == (None, None)
                or happened["verb"] not in ("create", "update", "patch")
            ):
                continue
            if rule.node.evaluate(activity(happened)) is False:
                needing.append((f"{name}: {case.name}", happened))
    return needing


@pytest.mark.parametrize("hidden", [{"level": "Metadata"}, {"annotations": {"audit.k8s.io/truncated": "true"}}])
def test_a_rule_that_lacks_the_body_is_undecided_and_not_silent(hidden: Mapping[str, Any]) -> None:
    """Whether the policy asked for no bodies or the API server cut them off: the alert comes, and is degraded."""
    needing = needing_a_body()

    silent = [
        name
        for name, happened in needing
        if RULES[name.partition(":")[0]].node.evaluate(activity(merge(happened, hidden))) is False
    ]

    assert len(needing) > 100
    assert silent == []


def test_an_undecided_alert_is_of_less_weight() -> None:
    """It says that it is degraded, and does not wake anybody by itself."""
    acted = activity(write("pods", level="Metadata"))
    rule = RULES["pod_privileged"]

    (alert,) = Folder("prod").add([Match(rule.metadata, acted, group_values(rule, acted), degraded=True)])

    assert alert.document.detector.degraded
    assert alert.document.event.severity < SEVERITY[rule.metadata.level]


def test_a_padded_pod_is_seen_whole_and_cut() -> None:
    """What lies beside the padding is read at any length; cut off, the write itself is the alert."""
    padded = {**pod(containers=[PRIVILEGED]), "metadata": {"annotations": {"padding": "x" * 200_000}}}
    cut = write("pods", annotations={"audit.k8s.io/truncated": "true"})

    assert "pod_privileged" in fired(write("pods", padded))
    assert "degraded_evidence" in serious(fired(cut))
    assert "pod_privileged" in undecided(cut)


@pytest.mark.parametrize("resource", ["secrets", ["secrets"]])
def test_a_resource_that_comes_as_a_list_is_still_that_resource(resource: Any) -> None:
    """Some collectors write it so, and a test for equality would be blind to it."""
    happened = event(verb="list", requestURI="/api/v1/secrets")
    happened["objectRef"] = {"resource": resource, "apiVersion": "v1"}
    (decoded,) = Format().decode([json.dumps(happened).encode()], [Position("audit", 0)]).events
    acted = Activity(decoded, from_event(decoded), Locator(()).locate(decoded.source_ips))

    assert RULES["secret_list_cluster"].node.evaluate(acted) is True


@pytest.mark.parametrize(
    ("resource", "path", "rule"),
    [
        ("apps/deployments", "/spec/template/spec/containers/0/securityContext/privileged", "pod_privileged"),
        ("apps/deployments", "/spec/template/spec/containers/0/securityContext", "pod_privileged"),
        ("apps/deployments", "/spec/template/spec", "pod_hostpid"),
        ("batch/cronjobs", "/spec/jobTemplate", "pod_hostpid"),
        ("pods", "", "pod_privileged"),
        (f"{RBAC}/clusterroles", "/rules/0/verbs/-", "role_escalate_verbs"),
        (f"{RBAC}/clusterroles", "/rules", "role_widened"),
        ("namespaces", "/metadata/labels/pod-security.kubernetes.io~1enforce", "psa_label"),
        ("configmaps", "/data/password", "configmap_credentials"),
    ],
)
@pytest.mark.parametrize("op", ["copy", "move"])
def test_what_a_patch_fetches_from_elsewhere_is_undecided(op: str, resource: str, path: str, rule: str) -> None:
    """The value is in the object, which is not in the event: it may be the one that the rule looks for."""
    patch = [{"op": op, "from": "/metadata/annotations/parked", "path": path}]
    happened = write(resource, patch, verb="patch", level="Request", responseStatus={"code": 200})

    assert rule in undecided(happened)


def test_an_operation_that_fetches_does_not_hide_one_that_sets() -> None:
    """Else a copy beside it would turn a sure alert into an unproven one."""
    path = "/spec/template/spec/containers/0/securityContext/privileged"
    patch = [{"op": "add", "path": path, "value": True}, {"op": "copy", "from": "/metadata/labels/a", "path": path}]

    assert "pod_privileged" in fired(write("apps/deployments", patch, verb="patch"))


def test_an_operation_that_fetches_does_not_disturb_rules_on_other_fields() -> None:
    """Undecided is what lies below the path, and nothing else."""
    patch = [{"op": "copy", "from": "/metadata/labels/a", "path": "/metadata/labels/b"}]

    assert "pod_privileged" not in verdicts(
        write("apps/deployments", patch, verb="patch", responseStatus={"code": 200})
    )


def test_a_security_label_that_a_patch_takes_away_is_lowered_security() -> None:
    """`null` in a merge patch removes; the default of most clusters then lets everything in."""
    label = {"pod-security.kubernetes.io/enforce": None}

    happened = write("namespaces", {"metadata": {"labels": label}}, verb="patch", responseStatus={"code": 200})

    assert "psa_label" in fired(happened)
