# What a guest can reach. Each argument is one thing to try, in words; each is answered by one line:
#
#   tcp ADDRESS PORT [TEXT]            what comes back for TEXT, or how connecting failed
#   half ADDRESS PORT TEXT             the same after the guest has closed its half: everything up to the end
#   udp ADDRESS PORT TEXT              the reply
#   ping ADDRESS
#   ask NAME KIND SERVER [tcp]         what a resolver says: code, then the data of its records
#   http ADDRESS PORT HOST PATH        status and first line, length and sum of the body
#   post ADDRESS PORT HOST LENGTH      the same for a body of that length sent to /echo
#   ws ADDRESS PORT HOST TEXT          the message a WebSocket echoes
#   h2 ADDRESS PORT HOST               the status of / by HTTP/2 without TLS
#   hold ADDRESS PORT FILE             a connection that is kept in the background, on which something is said to an echo server now and
#                                      then; FILE says when and how it ends
#   listen ADDRESS PORT FILE           the same without a word: whatever is to be heard of its end must come from outside
#
# ADDRESS may be a name. A failure that took long ends in ` late`.
use strict; use Socket; use Errno; use IO::Socket::INET; $| = 1; $SIG{PIPE} = 'IGNORE';
my $patience = 8;

sub why { for my $name (qw(ECONNREFUSED ECONNRESET EHOSTUNREACH ENETUNREACH EACCES EPERM EPIPE ETIMEDOUT EAGAIN EINPROGRESS)) { return $name if $!{$name} } "errno $!" }
sub ready { my ($socket, $write) = @_; my $set = ''; vec($set, fileno $socket, 1) = 1; my ($r, $w) = $write ? (undef, $set) : ($set, undef); select($r, $w, undef, $patience) > 0 }
sub address { my $packed = inet_aton($_[0]) or die "unresolved\n"; $packed }
sub dial {
  my ($to, $port) = @_; my $at = sockaddr_in($port, address($to));
  socket(my $s, PF_INET, SOCK_STREAM, 0) or die why() . "\n";
  $s->blocking(0);
  unless (connect($s, $at)) {
    die why() . "\n" unless $!{EINPROGRESS};
    ready($s, 1) or die "silence\n";
    $! = unpack 'i', getsockopt($s, SOL_SOCKET, SO_ERROR); die why() . "\n" if $! + 0;
  }
  $s->blocking(1); binmode $s; $s
}
sub put { my ($s, $bytes) = @_; while (length $bytes) { my $n = syswrite $s, $bytes, 1 << 16; die why() . "\n" unless defined $n; substr($bytes, 0, $n, '') } }
sub take { my ($s) = @_; ready($s) or die "silence\n"; my $n = sysread $s, my $bytes, 1 << 16; die why() . "\n" unless defined $n; $bytes }
sub exactly { my ($s, $count) = @_; my $bytes = ''; while (length $bytes < $count) { my $n = sysread $s, $bytes, $count - length $bytes, length $bytes; die $n ? '' : (defined $n ? "end\n" : why() . "\n") unless $n } $bytes }
sub rest { my ($s) = @_; my $bytes = ''; while (length(my $more = take($s))) { $bytes .= $more } $bytes }
sub response {
  my ($s) = @_; my $bytes = rest($s); my ($head, $body) = split /\r\n\r\n/, $bytes, 2; return 'nothing' unless length $bytes;
  if ($head =~ /^transfer-encoding: *chunked/mi) { my $whole = ''; while ($body =~ s/^([0-9a-f]+)\r\n//i && hex $1) { $whole .= substr $body, 0, hex $1, ''; substr $body, 0, 2, '' } $body = $whole }
  my ($status) = $head =~ m{^HTTP/1.1 (\d+)}; my ($line) = $body =~ /^(.{0,200})/;
  sprintf '%s %s (%d bytes, sum %d)', $status // $head, $line, length $body, unpack '%32C*', $body
}
sub name_at { my ($m, $at) = @_; while (1) { my $n = unpack 'C', substr $m, $at, 1; return $at + 2 if $n >= 192; $at += 1 + $n; return $at unless $n } }

# Keeps a connection in the background, takes a turn on it now and then, and writes down how it ended.
sub linger {
  my ($turn, $to, $port, $file) = @_; my $s = dial($to, $port); unlink $file; return 'held' if fork;
  open STDIN, '<', '/dev/null'; open STDOUT, '>', '/dev/null'; open STDERR, '>', '/dev/null'; my $end;
  until (defined $end) { my $n = $turn->($s); $end = $n ? undef : defined $n ? 'end' : why(); select undef, undef, undef, 0.2 unless defined $end }
  open my $f, '>', "$file.new"; print $f $end; close $f; rename "$file.new", $file; exit
}

my %try = (
  tcp => sub { my ($to, $port, $text) = @_; my $s = dial($to, $port); return 'open' unless defined $text; put($s, $text); my $answer = take($s); length $answer ? "got $answer" : 'end' },
  half => sub { my ($to, $port, $text) = @_; my $s = dial($to, $port); put($s, $text); shutdown $s, 1; 'got ' . rest($s) },
  udp => sub {
    my ($to, $port, $text) = @_; socket(my $s, PF_INET, SOCK_DGRAM, 0); connect $s, sockaddr_in($port, address($to)); send $s, $text, 0 or die why() . "\n";
    ready($s) or die "silence\n"; defined(recv $s, my $answer, 65536, 0) or die why() . "\n"; "got $answer"
  },
  ping => sub {
    my ($to) = @_; socket(my $s, PF_INET, SOCK_RAW, 1); my $m = pack 'CCnnna8', 8, 0, 0, 77, 1, 'pingpong'; my $sum = 0; $sum += $_ for unpack 'n*', $m;
    $sum = ($sum >> 16) + ($sum & 0xffff); substr $m, 2, 2, pack 'n', ~($sum + ($sum >> 16)) & 0xffff; send $s, $m, 0, sockaddr_in(0, address($to)) or die why() . "\n";
    while (ready($s)) { recv $s, my $answer, 4096, 0; my ($kind, $code) = unpack 'CC', substr $answer, 20; next if $kind == 8; return $kind == 0 ? 'pong' : "icmp $kind $code" } die "silence\n"
  },
  ask => sub {
    my ($name, $kind, $server, $tcp) = @_; my %kinds = (A => 1, TXT => 16, AAAA => 28, CNAME => 5, HTTPS => 65, ANY => 255);
    my $m = pack('nnnnnn', 4711, 0x100, 1, 0, 0, 0) . join('', map { pack 'C/a', $_ } split /\./, $name) . pack 'Cnn', 0, $kinds{$kind}, 1; my $answer;
    if ($tcp) { my $s = dial($server, 53); put($s, pack 'n/a', $m); $answer = exactly($s, unpack 'n', exactly($s, 2)) }
    else { socket(my $s, PF_INET, SOCK_DGRAM, 0); connect $s, sockaddr_in(53, address($server)); send $s, $m, 0 or die why() . "\n"; ready($s) or die "silence\n"; defined(recv $s, $answer, 65536, 0) or die why() . "\n" }
    my ($id, $flags, $qd, $an) = unpack 'nnnn', $answer; my $at = name_at($answer, 12) + 4; my @said;
    for (1 .. $an) { $at = name_at($answer, $at); my ($k, $c, $ttl, $n) = unpack 'nnNn', substr $answer, $at, 10; my $d = substr $answer, $at + 10, $n; $at += 10 + $n; push @said, $k == 1 ? inet_ntoa($d) : $k == 16 ? substr($d, 1) : "kind$k"; push @said, "ttl=$ttl" if $ttl > 3600 }
    join ' ', (qw(NOERROR FORMERR SERVFAIL NXDOMAIN NOTIMP REFUSED))[$flags & 15], ($flags & 0x200 ? 'TRUNCATED' : ()), @said
  },
  http => sub { my ($to, $port, $host, $path) = @_; my $s = dial($to, $port); put($s, "GET $path HTTP/1.1\r\nHost: $host\r\nConnection: close\r\n\r\n"); response($s) },
  post => sub {
    my ($to, $port, $host, $count) = @_; my $s = dial($to, $port);
    if (!fork) { put($s, "POST /echo HTTP/1.1\r\nHost: $host\r\nConnection: close\r\nContent-Length: $count\r\n\r\n"); my $piece = join('', 'a' .. 'z') x 2048; while ($count) { my $n = $count < length $piece ? $count : length $piece; put($s, substr $piece, 0, $n); $count -= $n } exit }
    response($s)
  },
  ws => sub {
    my ($to, $port, $host, $text) = @_; my $s = dial($to, $port); put($s, "GET /ws HTTP/1.1\r\nHost: $host\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
    my $head = ''; $head .= exactly($s, 1) until $head =~ /\r\n\r\n$/; my ($status) = $head =~ m{^HTTP/1.1 (\d+)}; return "status $status" unless $status == 101;
    put($s, pack 'CCa4a*', 0x81, 0x80 | length $text, "\0\0\0\0", $text); my (undef, $n) = unpack 'CC', exactly($s, 2); 'got ' . exactly($s, $n)
  },
  h2 => sub {
    my ($to, $port, $host) = @_; my $s = dial($to, $port); my $head = "\x82\x86\x84\x41" . pack 'C/a', $host;
    put($s, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" . pack('CnCCN', 0, 0, 4, 0, 0) . pack('CnCCN', 0, length $head, 1, 5, 1) . $head);
    while (1) { my ($h, $l, $kind, $flags, $stream) = unpack 'CnCCN', exactly($s, 9); my $body = exactly($s, $h << 16 | $l); next unless $stream; return sprintf 'frame %d first byte %x', $kind, ord $body }
  },
  hold => sub { linger(sub { $! = 0; syswrite($_[0], '.') && sysread $_[0], my $bytes, 99 }, @_) },
  listen => sub { linger(sub { $! = 0; sysread $_[0], my $bytes, 99 }, @_) },
);
for (@ARGV) {
  my ($what, @words) = split / /; my $began = time; my $said = eval { $try{$what}->(@words) } // $@; $said =~ s/[\r\n]+/ /g; $said =~ s/ +$//;
  print $said, (time - $began > 4 && $said !~ /^\d|^got|^silence/ ? ' late' : ''), "\n";
}
