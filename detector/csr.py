"""CSR: whom a certificate signing request names, read out of its PKCS#10 body."""

from base64 import b64decode
from functools import lru_cache
from typing import Final

_OIDS: Final = {"commonName": "2.5.4.3", "organizationName": "2.5.4.10"}
_TEXT_MAX: Final = 64 * 1024  # real requests have one or two kilobytes


@lru_cache(maxsize=256)
def subject_values(request: str, attribute: str) -> tuple[str, ...]:
    """The values of an attribute of the subject: `commonName` is the user, each `organizationName` a group.

    Args:
        request: `spec.request` of a CertificateSigningRequest: base64 of PEM (certificates.k8s.io/v1).
        attribute: one of `commonName`, `organizationName`.

    Returns nothing for a request that cannot be read: the API server refuses it too.
    """
    from cryptography import x509  # noqa: PLC0415 20 ms, and hardly any stream holds a certificate request

    if len(request) > _TEXT_MAX:
        return ()
    try:
        subject = x509.load_pem_x509_csr(b64decode(request)).subject
        values = subject.get_attributes_for_oid(x509.ObjectIdentifier(_OIDS[attribute]))
    except ValueError:
        return ()
    return tuple(value.value for value in values if isinstance(value.value, str))
