"""Whom a certificate signing request names."""

from base64 import b64encode

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from detector.csr import subject_values
from tests.sigma.build import Event, activity, event, verdict, write


def request_for(name: str, *groups: str) -> str:
    """A signed request as `spec.request` holds it."""
    subject = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
    subject += [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
    signed = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return b64encode(signed.public_bytes(Encoding.PEM)).decode()


def certificate_request(**changes: object) -> Event:
    """The creation of a CertificateSigningRequest."""
    reference = {"resource": "certificatesigningrequests", "apiGroup": "certificates.k8s.io", "name": "a"}
    return write(objectRef=reference, **changes)


def test_the_subject_is_the_user_and_the_groups() -> None:
    """Every organization is a group."""
    request = request_for("eve", "system:masters", "developers")

    assert subject_values(request, "commonName") == ("eve",)
    assert subject_values(request, "organizationName") == ("system:masters", "developers")


@pytest.mark.parametrize("request_text", ["", "!", "bm8gUEVN", "\ufffd", "A" * 100_000])
def test_what_is_no_request_names_nobody(request_text: str) -> None:
    """Neither does it raise."""
    assert subject_values(request_text, "commonName") == ()


def test_a_rule_reads_the_subject() -> None:
    """The group in the request is compared, whatever the object is called."""
    privileged = certificate_request(requestObject={"spec": {"request": request_for("eve", "system:masters")}})

    assert verdict({"detector.csr.organization": "system:masters"}, privileged) is True
    assert verdict({"detector.csr.common_name": "ana"}, privileged) is False


def test_a_hidden_request_leaves_the_rule_undecided() -> None:
    """At level Metadata nobody knows whom it names."""
    assert verdict({"detector.csr.organization": "system:masters"}, certificate_request(level="Metadata")) is None


@pytest.mark.parametrize("body", [{"spec": {}}, {"spec": {"request": 7}}, {"spec": {"request": ["", None]}}, []])
def test_a_body_of_another_shape_names_nobody(body: object) -> None:
    """What a client sends may have any shape."""
    assert verdict({"detector.csr.common_name|exists": True}, certificate_request(requestObject=body)) is False


@pytest.mark.parametrize(
    ("uri", "verb", "body", "dry"),
    [
        ("/api/v1/pods?dryRun=All", "create", None, True),
        ("/api/v1/pods?fieldManager=a&dryRun=All", "patch", None, True),
        ("/api/v1/pods?fieldManager=a?dryRun=All", "create", None, False),
        ("/api/v1/pods/dryRun=All", "create", None, False),
        ("/api/v1/pods", "create", {"dryRun": ["All"]}, False),
        ("/api/v1/pods", "delete", {"kind": "DeleteOptions", "dryRun": ["All"]}, True),
        ("/api/v1/pods", "delete", {"kind": "DeleteOptions"}, False),
        ("/api/v1/pods", "deletecollection", ["dryRun"], False),
    ],
)
def test_a_dry_run_is_told_by_the_parameter_or_the_options_of_a_delete(
    uri: str, verb: str, body: object, dry: bool
) -> None:
    """As the API server reads them."""
    assert activity(event(requestURI=uri, verb=verb, requestObject=body)).dry_run is dry


def test_the_path_is_decoded_once_and_has_no_query() -> None:
    """A twice encoded slash stays encoded, as it does in the API server."""
    assert (
        activity(event(requestURI="/api/v1/nodes/a/proxy/%65xec%252f?x=/run/")).path == "/api/v1/nodes/a/proxy/exec%2f"
    )


@pytest.mark.parametrize(
    ("address", "scope"),
    [("8.8.8.8", "public"), ("10.1.2.3", "private"), ("::1", "private"), ("2606:4700::1111", "public")],
)
def test_the_scope_of_the_trusted_hop_is_public_or_private(address: str, scope: str) -> None:
    """Whatever the client claims before it."""
    claimed = event(sourceIPs=["1.1.1.1" if scope == "private" else "10.0.0.1", address])

    assert verdict({"detector.source.scope": scope}, claimed) is True
    assert verdict({"detector.client.scope": scope}, claimed) is False


def test_an_address_that_is_none_has_no_scope() -> None:
    """Clouds write names there."""
    assert verdict({"detector.source.scope|exists": True}, event(sourceIPs=["gce-internal-ip"])) is False
