#!/bin/bash
# glibc's getaddrinfo(AF_UNSPEC) turns "the resolver failed" into "this name has no address" when only one of its two queries fails.
#
# It asks for A and AAAA together. One would expect the worse of two answers, or the temporary one, to win: a caller that asks again would
# find the address. With A answered by SERVFAIL and AAAA by NOERROR without records (what a resolver without IPv6 says) it returns
# EAI_NODATA, which is final; for the A query alone it returns EAI_AGAIN. A resolver that answers AAAA by itself, because it knows that there
# is no IPv6, must therefore hold that answer back until the A query is decided.
#
# Also shown: REFUSED is EAI_AGAIN ("Temporary failure in name resolution"), although a refusal is final; NXDOMAIN is EAI_NONAME.
#
# Seen with glibc 2.36 (Debian 12). Uses the installed Python and C library in a network and mount namespace of their own; nothing outside is
# asked. Exits with 1 when the behaviour has changed, 2 when it cannot be tried here.
set -u
if [ "${INSIDE:-}" != 1 ]; then
    exec env INSIDE=1 unshare --user --map-root-user --mount --net "$0" "$@"
fi
folder=$(mktemp -d) || exit 2
trap 'rm -rf "$folder"' EXIT
ip link set lo up || exit 2
printf 'nameserver 127.0.0.1\noptions timeout:1 attempts:1\n' >"$folder/resolv.conf"
printf 'hosts: files dns\n' >"$folder/nsswitch.conf"
mount --bind "$folder/resolv.conf" /etc/resolv.conf && mount --bind "$folder/nsswitch.conf" /etc/nsswitch.conf || exit 2
cat >"$folder/try.py" <<'PYTHON'
import ctypes, socket, struct, sys, threading
SERVFAIL, NXDOMAIN, REFUSED = 2, 3, 5
# For each name: how A and AAAA are answered. None of the answers has a record.
NAMES = {"failing": (SERVFAIL, 0), "refused": (REFUSED, REFUSED), "none": (NXDOMAIN, NXDOMAIN)}
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))
def serve():
    while True:
        query, client = server.recvfrom(4096)
        name = query[13:13 + query[12]].decode()
        end = query.index(0, 12) + 5
        kind = struct.unpack("!H", query[end - 4:end - 2])[0]
        code = NAMES[name][kind == 28]
        server.sendto(query[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, 0, 0, 0) + query[12:end], client)
threading.Thread(target=serve, daemon=True).start()
libc = ctypes.CDLL(None)
libc.gnu_get_libc_version.restype = ctypes.c_char_p
print("glibc", libc.gnu_get_libc_version().decode())
words = {getattr(socket, word): word for word in dir(socket) if word.startswith("EAI_")}
def ask(name, family):
    try: return str(socket.getaddrinfo(name + ".test", 80, family, socket.SOCK_STREAM))
    except socket.gaierror as error: return words[error.errno]
seen = [(name, ask(name, socket.AF_INET), ask(name, socket.AF_UNSPEC)) for name in NAMES]
for row in seen: print("%-8s AF_INET %-10s AF_UNSPEC %s" % row)
sys.exit(seen != [("failing", "EAI_AGAIN", "EAI_NODATA"), ("refused", "EAI_AGAIN", "EAI_AGAIN"), ("none", "EAI_NONAME", "EAI_NONAME")])
PYTHON
python3 "$folder/try.py"
