"""A C-STORE sender that costs next to nothing: PDUs (PS3.8 9.3, PS3.7 9.3.1) are made before the clock starts, and written as they are.

DCMTK's storescu, with Nagle's algorithm on and two small writes an object, waits 40 ms for delayed acknowledgements of servers that do not
ask for them; here every message is one write with TCP_NODELAY, so that the server is what is measured.
"""

import socket
import struct

APPLICATION, SYNTAX = "1.2.840.10008.3.1.1.1", "1.2.840.10008.1.2.1"
CONTEXT, MAX_PDU = 1, 131072


def item(kind, content):
    return struct.pack(">BxH", kind, len(content)) + content


def pdu(kind, content):
    return struct.pack(">BxI", kind, len(content)) + content


def request(sop_class, called, calling="STORESCU"):
    """A-ASSOCIATE-RQ with one presentation context."""
    context = bytes([CONTEXT, 0, 0, 0]) + item(0x30, sop_class.encode()) + item(0x40, SYNTAX.encode())
    user = item(0x51, struct.pack(">I", MAX_PDU)) + item(0x52, b"1.2.826.0.1.3680043.8.498.1")
    titles = called.ljust(16).encode() + calling.ljust(16).encode() + bytes(32)
    return pdu(1, struct.pack(">Hxx", 1) + titles + item(0x10, APPLICATION.encode()) + item(0x20, context) + item(0x50, user))


def element(number, value):
    return struct.pack("<HHI", 0, number, len(value)) + value


def command(sop_class, sop_instance, message):
    """C-STORE-RQ (PS3.7 9.3.1.1)."""
    uids = [uid.encode() + b"\0" * (len(uid) % 2) for uid in (sop_class, sop_instance)]
    content = (element(0x0002, uids[0]) + element(0x0100, b"\1\0") + element(0x0110, struct.pack("<H", message & 0xFFFF)) +
               element(0x0700, b"\0\0") + element(0x0800, b"\1\0") + element(0x1000, uids[1]))
    return element(0x0000, struct.pack("<I", len(content))) + content


def message(sop_class, sop_instance, number, data_set, max_pdu):
    """All PDUs of one C-STORE request."""
    def pdv(content, header):
        return pdu(4, struct.pack(">IBB", len(content) + 2, CONTEXT, header) + content)

    step = max_pdu - 6
    pieces = [data_set[i:i + step] for i in range(0, len(data_set), step)]
    made = [pdv(command(sop_class, sop_instance, number), 3)]
    return b"".join(made + [pdv(piece, 2 if i + 1 == len(pieces) else 0) for i, piece in enumerate(pieces)])


def data_set(part10):
    """What is behind the file meta information, whose length is its first element."""
    return part10[144 + struct.unpack_from("<I", part10, 140)[0]:]


class Association:
    def __init__(self, port, called, sop_class):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=120)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(request(sop_class, called))
        kind, content = self.receive()
        if kind != 2 or bytes([0x51, 0, 0, 4]) not in content:
            raise RuntimeError(f"the association was not accepted: PDU {kind}")
        at = content.index(bytes([0x51, 0, 0, 4])) + 4
        self.max_pdu = min(struct.unpack_from(">I", content, at)[0] or MAX_PDU, MAX_PDU)

    def exactly(self, n):
        got = bytearray()
        while len(got) < n:
            piece = self.socket.recv(n - len(got))
            if not piece:
                raise RuntimeError("the peer closed the connection")
            got += piece
        return bytes(got)

    def receive(self):
        kind, length = struct.unpack(">BxI", self.exactly(6))
        return kind, self.exactly(length)

    def store(self, pdus):
        """Sends one message and waits for success."""
        self.socket.sendall(pdus)
        kind, content = self.receive()
        status = element(0x0900, b"\0\0")
        if kind != 4 or status not in content:
            raise RuntimeError(f"not stored: PDU {kind}, {content[6:].hex()}")

    def release(self):
        self.socket.sendall(pdu(5, bytes(4)))
        self.receive()
        self.socket.close()
