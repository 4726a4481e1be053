"""Writes dsse.json: envelopes for each rule of the DSSE protocol, signed by OpenSSL (through `cryptography`).

    python3 dsse.py > dsse.json

Nothing of Airlift is used. Keys are those of RFC 8032, section 7.1, tests 1 to 3.
"""

import base64
import hashlib
import json

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SEEDS = {
    "one": "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
    "two": "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
    "three": "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
}
TYPE = "application/vnd.airlift.note.v1+json"
OTHER = "application/vnd.airlift.remark.v1+json"
ACCENT = "application/vnd.airlift.n\u00f6te.v1+json"
BODY = b'{"text":"a note"}'

keys = {name: Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed)) for name, seed in SEEDS.items()}
raw = (serialization.Encoding.Raw, serialization.PublicFormat.Raw)
public = {name: key.public_key().public_bytes(*raw).hex() for name, key in keys.items()}


def keyid(name):
    key = '{"keytype":"ed25519","keyval":{"public":"%s"},"scheme":"ed25519"}' % public[name]
    return hashlib.sha256(key.encode()).hexdigest()


def encoding(kind, body):
    return b"DSSEv1 %d %s %d %s" % (len(kind.encode()), kind.encode(), len(body), body)


def signature(name, kind=TYPE, body=BODY, id=keyid):
    sig = base64.b64encode(keys[name].sign(encoding(kind, body))).decode()
    return {"keyid": id(name), "sig": sig} if id else {"sig": sig}


def envelope(signatures, kind=TYPE, body=BODY):
    return {"payload": base64.b64encode(body).decode(), "payloadType": kind, "signatures": signatures}


def url_safe(value):
    value = json.loads(json.dumps(value))
    swap = str.maketrans("+/", "-_")
    value["payload"] = value["payload"].translate(swap)
    for one in value["signatures"]:
        one["sig"] = one["sig"].translate(swap)
    return value


rich = '{"text":"\u00fb\u00ff\u00fe???>>>"}'.encode()
cases = [
    ("one signature", TYPE, ["one"], 1, True, envelope([signature("one")])),
    ("either alphabet of base64", TYPE, ["one"], 1, True, url_safe(envelope([signature("one", body=rich)], body=rich))),
    ("the type is signed: another one in the envelope", OTHER, ["one"], 1, False, envelope([signature("one")], OTHER)),
    ("the type is expected: a good signature over another one", TYPE, ["one"], 1, False, envelope([signature("one", OTHER)], OTHER)),
    ("lengths are bytes, not characters", ACCENT, ["one"], 1, True, envelope([signature("one", ACCENT)], ACCENT)),
    ("a length in characters", ACCENT, ["one"], 1, False, {**envelope([], ACCENT), "signatures": [{
        "keyid": keyid("one"),
        "sig": base64.b64encode(keys["one"].sign(
            b"DSSEv1 %d %s %d %s" % (len(ACCENT), ACCENT.encode(), len(BODY), BODY))).decode()}]}),
    ("an empty type", TYPE, ["one"], 1, False, envelope([signature("one", "")], "")),
    ("an empty payload is signed like any other", TYPE, ["one"], 1, True, envelope([signature("one", body=b"")], body=b"")),
    ("two of two keys", TYPE, ["one", "two"], 2, True, envelope([signature("one"), signature("two")])),
    ("two of three keys", TYPE, ["one", "two", "three"], 2, True, envelope([signature("three"), signature("one")])),
    ("one of two keys", TYPE, ["one", "two"], 2, False, envelope([signature("one")])),
    ("one key twice", TYPE, ["one", "two"], 2, False, envelope([signature("one"), signature("one")])),
    ("one key under two ids", TYPE, ["one", "two"], 2, False, envelope([signature("one"), signature("one", id=lambda _: keyid("two"))])),
    ("two keys without ids", TYPE, ["one", "two"], 2, True, envelope([signature("one", id=None), signature("two", id=None)])),
    ("one key twice without ids", TYPE, ["one", "two"], 2, False, envelope([signature("one", id=None), signature("one", id=None)])),
    ("a stranger beside a good key", TYPE, ["one"], 1, True, envelope([signature("three"), signature("one")])),
    ("a stranger alone", TYPE, ["one", "two"], 1, False, envelope([signature("three")])),
    ("a stranger under a known id", TYPE, ["one"], 1, False, envelope([signature("three", id=lambda _: keyid("one"))])),
    ("no signature", TYPE, ["one"], 1, False, envelope([])),
    ("another payload", TYPE, ["one"], 1, False, {**envelope([signature("one")]), "payload": base64.b64encode(b'{"text":"another"}').decode()}),
    ("the payload signed without the encoding", TYPE, ["one"], 1, False, envelope([
        {"keyid": keyid("one"), "sig": base64.b64encode(keys["one"].sign(BODY)).decode()}])),
]
print(json.dumps({
    "keys": public,
    "cases": [
        {"name": name, "type": kind, "keys": trusted, "threshold": threshold, "accept": accept, "envelope": sealed}
        for name, kind, trusted, threshold, accept, sealed in cases
    ],
}, indent=1))
