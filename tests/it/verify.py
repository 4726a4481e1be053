"""Verifies a root's envelope with nothing of Airlift: verify.py ENVELOPE OUT_DIR.

The keys are those that the payload itself lists; a fleet's first root is
trusted by its digest. Writes message, key.pem-N and signature-N to OUT_DIR, for
`openssl pkeyutl -verify`.
"""

import base64
import hashlib
import json
import pathlib
import sys

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from securesystemslib.formats import encode_canonical
from securesystemslib.signer import Signature, SSlibKey

envelope = json.loads(pathlib.Path(sys.argv[1]).read_text())
out = pathlib.Path(sys.argv[2])
payload = base64.b64decode(envelope["payload"])
kind = envelope["payloadType"].encode()
# DSSE's pre-authentication encoding.
message = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
out.joinpath("message").write_bytes(message)
keys = json.loads(payload)["keys"]
for number, signature in enumerate(envelope["signatures"]):
    keyid, key = signature["keyid"], keys[signature["keyid"]]
    if hashlib.sha256(encode_canonical(key).encode()).hexdigest() != keyid:
        sys.exit(f"{keyid} is not the TUF key id of its key")
    raw = base64.b64decode(signature["sig"])
    SSlibKey.from_dict(keyid, dict(key)).verify_signature(Signature(keyid, raw.hex()), message)
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key["keyval"]["public"]))
    pem = public.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    out.joinpath(f"key.pem-{number}").write_bytes(pem)
    out.joinpath(f"signature-{number}").write_bytes(raw)
print(len(envelope["signatures"]), "signatures verified")
