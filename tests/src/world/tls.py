# What a guest meets by TLS. Arguments: the world's certificate, then tries: ADDRESS PORT NAME|- PROTOCOLS PATH HOST, one line each.
# The path /ws is a WebSocket that echoes.
import socket, ssl, sys

def exactly(stream, count):
    data = b""
    while len(data) < count:
        more = stream.recv(count - len(data))
        if not more:
            raise EOFError
        data += more
    return data

def h2(stream, host, path):
    field = lambda index, value: bytes([0x40 | index, len(value)]) + value.encode()
    head = b"\x82\x87" + field(4, path) + field(1, host)
    frame = lambda kind, flags, stream_id, body: len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream_id.to_bytes(4, "big") + body
    stream.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"") + frame(1, 5, 1, head))
    while True:
        header = exactly(stream, 9)
        body = exactly(stream, int.from_bytes(header[:3], "big"))
        if header[3] == 0:
            return body.decode()

def http(stream, host, path):
    stream.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    data = b""
    while more := stream.recv(65536):
        data += more
    return data.partition(b"\r\n\r\n")[2].decode()

def ws(stream, host, path):
    upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    stream.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{upgrade}\r\n\r\n".encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += exactly(stream, 1)
    text = b"hello"
    stream.sendall(bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text)
    return head[9:12].decode() + " " + exactly(stream, exactly(stream, 2)[1]).decode()

def attempt(address, port, name, protocols, path, host):
    context = ssl.create_default_context(cafile=sys.argv[1])
    context.set_alpn_protocols(protocols.split(","))
    if name == "-":
        context.check_hostname = False
    with socket.create_connection((address, int(port)), timeout=10) as plain:
        with context.wrap_socket(plain, server_hostname=None if name == "-" else name) as stream:
            protocol = stream.selected_alpn_protocol()
            speak = h2 if protocol == "h2" else ws if path == "/ws" else http
            return f"{protocol} {speak(stream, host, path)}"

for line in sys.argv[2:]:
    try:
        print(attempt(*line.split(" ")).strip())
    except Exception as error:
        print(type(error).__name__)
