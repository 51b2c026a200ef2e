#!/usr/bin/env python3
"""Reference for docs/WIRE-2.md: a second implementation, written from the document alone.

reference.py                                         prints the test vectors of the document
reference.py agent KEYFILE TRANSPORT PORT OPERATION NAME [ADDRESS CALLBACK_PORT]
reference.py daemon KEYFILE TRANSPORT PORT ANSWER

Agent and daemon speak on standard input and output. The request goes there by multicast too, where ADDRESS and
CALLBACK_PORT say where the agent waits, and PORT is that of the group. ANSWER is success, failure, off, denied or
list:NAME/UUID/on,NAME/UUID/off (list: alone is the empty one). The result is on standard error; the exit status is 1
if anything does not verify.
"""

import hashlib
import hmac
import ipaddress
import os
import struct
import sys
from dataclasses import dataclass
from typing import BinaryIO, Callable, NamedTuple, NoReturn

LABEL = b"fence_virt 2"
TRANSPORTS = {"multicast": 1, "tcp": 2, "vsock": 3}
OPERATIONS = {"null": 0, "off": 1, "reboot": 2, "on": 3, "status": 4, "devstatus": 5, "hostlist": 6}
ANSWERS = {"success": 0, "failure": 1, "off": 2, "denied": 3}
LIST, HOSTLIST, HASH = 253, 6, 4
STATES = {"on": 1, "off": 5}
# Operation, hash type, address length, flags, VM, address, port, salt, number, family; key id, nonce.
HEADER, REQUEST = struct.Struct("<BBBB64s28sH6sII16s16s"), 176
RECORD = struct.Struct("<64s64sBx")
END = bytes(RECORD.size)


class Refused(Exception):
    """A message that does not verify, or a connection that ended early."""


class Vm(NamedTuple):
    name: str
    uuid: str
    state: int


def mac(key: bytes, *parts: bytes) -> bytes:
    return hmac.new(key, b"".join(parts), hashlib.sha256).digest()


def verify(what: str, expected: bytes, found: bytes) -> None:
    if not hmac.compare_digest(expected, found):
        raise Refused(f"the MAC of the {what} is wrong")


class Keys:
    def __init__(self, content: bytes) -> None:
        k = content[:4096]
        self.id = hashlib.sha256(b"fence_virt key fingerprint" + b"\0" + k).digest()[:16]
        self.prk = mac(LABEL, k)
        self.request, self.challenge, self.proof, self.answer = (
            mac(self.prk, purpose, b"\x01") for purpose in (b"request", b"challenge", b"proof", b"answer"))


@dataclass
class Exchange:
    """The messages, in the order in which they are sent. Each MAC covers the one before it."""

    keys: Keys
    endpoint: bytes
    request: bytes = b""
    challenge: bytes = b""
    proof: bytes = b""

    def make_request(self, header: bytes) -> bytes:
        self.request = header + mac(self.keys.request, self.endpoint, header)
        return self.request

    def challenge_mac(self, nonce: bytes) -> bytes:
        return mac(self.keys.challenge, self.request[144:], nonce)

    def proof_mac(self) -> bytes:
        return mac(self.keys.proof, self.challenge[32:])

    def item_mac(self, number: int, item: bytes) -> bytes:
        return mac(self.keys.answer, self.proof, struct.pack("<I", number), item)

    def make_answer(self, code: int, vms: list[Vm]) -> bytes:
        records = [RECORD.pack(vm.name.encode(), vm.uuid.encode(), vm.state) for vm in vms]
        items = [bytes([code])] + (records + [END] if code == LIST else [])
        return b"".join(item + self.item_mac(i, item) for i, item in enumerate(items))


def endpoint_of(transport: str, port: int) -> bytes:
    return LABEL + struct.pack("<BI", TRANSPORTS[transport], port)


def header_of(keys: Keys, operation: str, name: str, salt: bytes, number: int, nonce: bytes,
              address: str = "", port: int = 0) -> bytes:
    """Bytes 0 to 143 of a request."""
    if len(name.encode()) > 63:
        raise ValueError("the name has more than 63 bytes")
    ip = ipaddress.ip_address(address) if address else None
    packed, family = (ip.packed, 2 if ip.version == 4 else 10) if ip else (b"", 0)
    return HEADER.pack(OPERATIONS[operation], HASH, len(packed), 0, name.encode(), packed, port, salt, number, family,
                       keys.id, nonce)


def text(field: bytes) -> str:
    return field.rstrip(b"\0").decode()


def agent(exchange: Exchange, header: bytes, read: Callable[[int], bytes], write: Callable[[bytes], None]) -> str:
    write(exchange.make_request(header))
    exchange.challenge = read(64)
    verify("challenge", exchange.challenge_mac(exchange.challenge[:32]), exchange.challenge[32:])
    exchange.proof = exchange.proof_mac()
    write(exchange.proof)

    def item(number: int, size: int) -> bytes:
        content = read(size)
        verify(f"answer's item {number}", exchange.item_mac(number, content), read(32))
        return content

    code = item(0, 1)[0]
    listing = exchange.request[0] == HOSTLIST
    if code != LIST:
        result = {number: name for name, number in ANSWERS.items()}.get(code)
        if result is None or (listing and result in ("success", "off")):
            raise Refused(f"{code} is no answer to this request")
        return result
    if not listing:
        raise Refused("the answer is a list, for which nobody asked")
    lines: list[str] = []
    while (record := item(len(lines) + 1, RECORD.size)) != END:
        name, uuid, state = RECORD.unpack(record)
        lines.append(f"{text(name)} {text(uuid)} {state}")
    return "\n".join(lines)


def daemon(exchange: Exchange, nonce: bytes, answer: tuple[int, list[Vm]],
           read: Callable[[int], bytes], write: Callable[[bytes], None]) -> str:
    exchange.request = read(REQUEST)
    header, found = exchange.request[:-32], exchange.request[-32:]
    operation, hash_type, length, _, name, address, port, _, _, family, key_id, _ = HEADER.unpack(header)
    multicast = exchange.endpoint[12] == TRANSPORTS["multicast"]
    if hash_type != HASH or key_id != exchange.keys.id:
        raise Refused("the request has another hash type, or another key's id")
    verify("request", mac(exchange.keys.request, exchange.endpoint, header), found)
    if (length, family) not in ([(4, 2), (16, 10)] if multicast else [(0, 0)]):
        raise Refused("the request is for another transport")
    if operation > HOSTLIST or name[-1:] != b"\0":
        raise Refused("the request has an unknown operation, or a name that does not end")
    where = f" {ipaddress.ip_address(address[:length])} {port}" if multicast else ""
    exchange.challenge = nonce + exchange.challenge_mac(nonce)
    write(exchange.challenge)
    exchange.proof = read(32)
    verify("proof", exchange.proof_mac(), exchange.proof)
    write(exchange.make_answer(*answer))
    return f"{list(OPERATIONS)[operation]} {text(name)}{where}".rstrip()


def answer_of(word: str) -> tuple[int, list[Vm]]:
    if not word.startswith("list:"):
        return ANSWERS[word], []
    rows = [row.split("/") for row in word[5:].split(",") if row]
    return LIST, [Vm(name, uuid, STATES[state]) for name, uuid, state in rows]


KEY_4096 = "00..ff repeated to 4096"
UUIDS = "11111111-aaaa-4111-8111-111111111111", "22222222-bbbb-4222-8222-222222222222"
# Title, key, transport, port, operation, name, address, call-back's port, answer.
VECTORS: list[tuple[str, str, str, int, str, str, str, int, str]] = [
    ("tcp status off", KEY_4096, "tcp", 1229, "status", "node1", "", 0, "off"),
    ("multicast off success", "32", "multicast", 1229, "off", "node1", "192.0.2.17", 1230, "success"),
    ("multicast ipv6 on failure", KEY_4096, "multicast", 1229, "on", UUIDS[0], "2001:db8::17", 50000, "failure"),
    ("vsock hostlist two VMs", "32", "vsock", 70000, "hostlist", "", "", 0,
     f"list:node1/{UUIDS[0]}/on,node2/{UUIDS[1]}/off"),
    ("vsock hostlist empty", KEY_4096, "vsock", 1229, "hostlist", "", "", 0, "list:"),
    ("tcp hostlist denied", "32", "tcp", 65535, "hostlist", "", "", 0, "denied"),
]


def vector(number: int, title: str, key: str, transport: str, port: int, operation: str, name: str, address: str,
           callback: int, word: str) -> str:
    """One section, each value as it stands in the messages; fixed bytes stand for random ones."""
    keys = Keys(bytes(range(256)) * 16 if key == KEY_4096 else bytes(range(0x80, 0xa0)))
    exchange = Exchange(keys, endpoint_of(transport, port))
    salt, agent_nonce = bytes(range(0x30 + number, 0x36 + number)), bytes(range(0x40 + number, 0x50 + number))
    daemon_nonce = bytes(range(0xc0 + number, 0xe0 + number))
    request = exchange.make_request(header_of(keys, operation, name, salt, 0x01020300 + number, agent_nonce,
                                              address, callback))
    exchange.challenge = daemon_nonce + exchange.challenge_mac(daemon_nonce)
    exchange.proof = exchange.proof_mac()
    code, vms = answer_of(word)
    fields: list[tuple[str, bytes]] = [
        ("id", keys.id), ("prk", keys.prk), ("k_request", keys.request), ("k_challenge", keys.challenge),
        ("k_proof", keys.proof), ("k_answer", keys.answer),
        ("transport", exchange.endpoint[12:13]), ("port", exchange.endpoint[13:]), ("endpoint", exchange.endpoint),
        ("operation", request[0:1]), ("name", name.encode()), ("address", request[68:68 + request[2]]),
        ("callback_port", request[96:98]), ("salt", salt), ("number", request[104:108]), ("family", request[108:112]),
        ("agent_nonce", agent_nonce), ("daemon_nonce", daemon_nonce), ("code", bytes([code]))]
    for i, vm in enumerate(vms, 1):
        fields += [(f"name_{i}", vm.name.encode()), (f"uuid_{i}", vm.uuid.encode()), (f"state_{i}", bytes([vm.state]))]
    fields += [("request", request), ("challenge", exchange.challenge), ("proof", exchange.proof),
               ("answer", exchange.make_answer(code, vms))]
    lines = [f"[{title}]", f"key = {key if key == KEY_4096 else bytes(range(0x80, 0xa0)).hex()}"]
    return "\n".join(lines + [f"{field} = {value.hex()}".rstrip() for field, value in fields])


def read_exactly(source: BinaryIO, size: int) -> bytes:
    content = source.read(size)
    if len(content) != size:
        raise Refused(f"the peer ended the connection after {len(content)} of {size} bytes")
    return content


def main(arguments: list[str]) -> str:
    def read(size: int) -> bytes:
        return read_exactly(sys.stdin.buffer, size)

    def write(content: bytes) -> None:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()

    role, key_file, transport, port = arguments[:4]
    with open(key_file, "rb") as file:
        keys = Keys(file.read())
    exchange = Exchange(keys, endpoint_of(transport, int(port)))
    if role == "daemon" and len(arguments) == 5:
        return daemon(exchange, os.urandom(32), answer_of(arguments[4]), read, write)
    if role == "agent" and len(arguments) == (8 if transport == "multicast" else 6):
        where = (arguments[6], int(arguments[7])) if transport == "multicast" else ("", 0)
        header = header_of(keys, arguments[4], arguments[5], os.urandom(6), int.from_bytes(os.urandom(4), "little"),
                           os.urandom(16), *where)
        return agent(exchange, header, read, write)
    raise ValueError("arguments do not fit: see the head of this file")


def run() -> NoReturn:
    if len(sys.argv) == 1:
        print("\n\n".join(vector(i, *row) for i, row in enumerate(VECTORS)))
        sys.exit(0)
    try:
        print(main(sys.argv[1:]), file=sys.stderr)
    except (Refused, ValueError, KeyError, OSError, struct.error) as error:
        print(f"refused: {error}", file=sys.stderr)
        sys.exit(1)
    sys.exit(0)


if __name__ == "__main__":
    run()
