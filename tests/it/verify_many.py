"""Verifies envelopes with nothing of Airlift: verify_many.py FILE.

Each line of the file is {"envelope", "keys": {keyid: TUF key object}, "threshold", "type", "ours"}. Two verifiers that
share no code judge each: OpenSSL (through `cryptography`) and securesystemslib's own Ed25519. Both must say what
`ours` says; the counts of verdicts are printed.
"""

import base64
import json
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Signature, SSlibKey


def openssl(key, keyid, signature, message):
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key["keyval"]["public"]))
    try:
        public.verify(signature, message)
        return True
    except InvalidSignature:
        return False


def securesystemslib(key, keyid, signature, message):
    try:
        SSlibKey.from_dict(keyid, json.loads(json.dumps(key))).verify_signature(
            Signature(keyid, signature.hex()), message
        )
        return True
    except UnverifiedSignatureError:
        return False


def accepts(verify, case):
    envelope, keys = case["envelope"], case["keys"]
    if envelope["payloadType"] != case["type"]:
        return False
    payload, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"].encode()
    message = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
    signers = set()
    for one in envelope["signatures"]:
        key = keys.get(one["keyid"])
        if key and verify(key, one["keyid"], base64.b64decode(one["sig"]), message):
            signers.add(key["keyval"]["public"])
    return len(signers) >= case["threshold"]


counts = {True: 0, False: 0}
with open(sys.argv[1], encoding="utf-8") as lines:
    for number, line in enumerate(lines):
        case = json.loads(line)
        verdicts = [case["ours"], accepts(openssl, case), accepts(securesystemslib, case)]
        if len(set(verdicts)) > 1:
            sys.exit(f"document {number}: ours, OpenSSL, securesystemslib say {verdicts}: {line}")
        counts[case["ours"]] += 1
print(counts[True], "accepted", counts[False], "refused")
