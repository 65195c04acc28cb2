# What a guest that is root can put on its card. Each argument is one kind of attack; each answers with one line when it has been sent.
# The first two arguments are an allowed server and an allowed server that never answers.
use strict; use Socket; $| = 1;
my ($friend, $deaf, @attacks) = @ARGV;
my ($us, $gateway) = ("\x52\x54\0\x12\x34\x56", "\x52\x55\x0a\0\2\2");
my ($guest, $router) = map { inet_aton $_ } '10.0.2.15', '10.0.2.2';
my @inner = qw(127.0.0.1 127.8.8.8 0.0.0.0 10.0.0.5 169.254.169.254 192.0.2.1 192.0.2.2 192.168.1.1 172.16.0.1 100.64.0.1 198.18.0.1 168.63.129.16 192.0.0.192 100.100.100.200 224.0.0.251 239.255.255.250 240.0.0.1 255.255.255.255 10.0.2.2 10.0.2.255 203.0.113.10);
open my $file, '<', '/sys/class/net/eth0/ifindex' or die "no card\n"; my $index = <$file> + 0;
socket(my $card, 17, 3, unpack 'n', pack 'S', 3) or die "cannot open the card: $!\n";
my $to = pack 'S n l S C C a8', 17, 3, $index, 1, 0, 6, $gateway;
my $sent = 0;

# The card's queue may be full for a moment; too long a frame is refused by the guest's own kernel.
sub frame { my ($frame) = @_; for (1 .. 50) { if (defined send $card, $frame, 0, $to) { $sent++; return } last unless $!{ENOBUFS} || $!{EAGAIN}; select undef, undef, undef, 0.01 } }
sub sum { my $sum = unpack '%32n*', $_[0] . (length($_[0]) % 2 ? "\0" : ''); $sum = ($sum >> 16) + ($sum & 0xffff) while $sum >> 16; ~$sum & 0xffff }
sub ip { my ($from, $dst, $protocol, $payload, $fragment, $options) = @_; $options //= ''; my $words = 5 + length($options) / 4;
  my $head = pack('CCnnnCCn', 0x40 | $words, 0, $words * 4 + length $payload, 7, $fragment // 0, 64, $protocol, 0) . $from . $dst . $options; substr $head, 10, 2, pack 'n', sum($head); $head . $payload }
sub ether { my ($type, $payload, $from, $dst) = @_; ($dst // $gateway) . ($from // $us) . pack('n', $type) . $payload }
sub packet { frame(ether(0x800, ip(@_))) }
sub tcp { my ($from, $port, $flags, $seq, $offset, $data) = @_; pack('nnNNCCnnn', $from, $port, $seq // 1, 0, ($offset // 5) << 4, $flags, 65535, 0, 0) . ($data // '') }
sub udp { my ($from, $port, $data) = @_; pack('nnnn', $from, $port, 8 + length $data, 0) . $data }
my $echo = pack 'CCnnna8', 8, 0, 0, 1, 1, 'pingpong'; substr $echo, 2, 2, pack 'n', sum($echo);
sub everything { my ($from, $dst) = @_; packet($from, $dst, 6, tcp(30000, $_, 2)) for 7, 22, 53, 80, 443, 8080; packet($from, $dst, 17, udp(30000, $_, 'leak')) for 7, 69, 123, 8080; packet($from, $dst, 1, $echo) }

my %attack = (
  inner => sub { everything($guest, inet_aton $_) for @inner },
  spoof => sub { for my $from (qw(10.0.2.16 10.0.2.2 127.0.0.1 192.0.2.2 203.0.113.66 0.0.0.0 255.255.255.255)) { everything(inet_aton($from), inet_aton $_) for $friend, '10.0.0.5' } },
  arp => sub { for my $from ("\x52\x54\0\x12\x34\x56", "\2\0\0\0\0\2", $gateway, "\xff" x 6) { for my $ip (qw(10.0.2.2 10.0.2.15 192.0.2.2 192.0.2.1 10.0.0.5)) {
      frame(ether(0x806, pack('nnCCn', 1, 0x800, 6, 4, $_) . $from . inet_aton($ip) . $gateway . inet_aton($ip), $from, "\xff" x 6)) for 1, 2 } } },
  macs => sub { for my $from ("\2\0\0\0\0\1", $gateway, "\xff" x 6, "\0" x 6) { frame(ether(0x800, ip($guest, inet_aton($friend), 6, tcp(30001, 7, 2)), $from)) }
    for my $dst ("\2\0\0\0\0\1", "\1\0\x5e\0\0\xfb", "\x33\x33\0\0\0\1", "\xff" x 6) { frame(ether(0x800, ip($guest, inet_aton('10.0.0.5'), 6, tcp(30001, 80, 2)), $us, $dst)) } },
  ethertypes => sub { my $inside = ip($guest, inet_aton('10.0.0.5'), 6, tcp(30002, 80, 2)); frame(ether($_, pack('n', 5) . pack('n', 0x800) . $inside)) for 0x8100, 0x88a8; frame(ether($_, $inside)) for 0x8847, 0x8863, 0x8864, 0x88cc, 0x9000, 0x0, 0x05dc, 0xffff; frame(ether(0x8035, "\0" x 28)) },
  ipv6 => sub { my @to = map { Socket::inet_pton(Socket::AF_INET6(), $_) } qw(ff02::1 ff02::2 fe80::1 ::1 ::ffff:10.0.0.5 2001:db8::1 64:ff9b::a00:5); my $from = Socket::inet_pton(Socket::AF_INET6(), 'fe80::5054:ff:fe12:3456');
    for my $dst (@to) { for ([6, tcp(30003, 80, 2)], [17, udp(30003, 53, 'x')], [58, "\x85\0\0\0\0\0\0\0"], [58, "\x80\0\0\0\0\0\0\1"], [0, "\x3a\0\5\2\0\0\1\0\x8f\0\0\0\0\0\0\0"]) { my ($next, $payload) = @$_; frame(ether(0x86dd, pack('NnCC', 0x60000000, length $payload, $next, 255) . $from . $dst . $payload, $us, $_)) for $gateway, "\x33\x33\0\0\0\1" } } },
  fragments => sub { for my $dst ('10.0.0.5', $friend) { my ($at, $whole) = (inet_aton($dst), tcp(30004, 80, 2, 1, 5, 'x' x 44)); packet($guest, $at, 6, substr($whole, 0, 8), 0x2000); packet($guest, $at, 6, substr($whole, 8, 24), 0x2001); packet($guest, $at, 6, substr($whole, 32), 4);
      packet($guest, $at, 6, substr($whole, 0, 24), 0x2000); packet($guest, $at, 6, "\0P" . substr($whole, 10), 1); packet($guest, $at, 17, 'y' x 64, 0x1fff); packet($guest, $at, 17, substr(udp(9, 53, 'z' x 64), 0, 8 * (1 + $_ % 3)), 0x2000 | $_) for 0 .. 200 } },
  options => sub { for my $option ("\x83\x07\x04" . inet_aton('10.0.0.5') . "\0", "\x89\x07\x04" . inet_aton('169.254.169.254') . "\0", "\x07\x07\x04\0\0\0\0\0", "\x94\x04\0\0", "\xff\xff\xff\xff", "\x83\x00\x00\x00") { packet($guest, inet_aton($friend), 6, tcp(30005, 7, 2), 0, $option) } },
  tunnels => sub { my $inside = ip($guest, inet_aton('10.0.0.5'), 6, tcp(30006, 80, 2)); for my $dst ($friend, '10.0.0.5', '10.0.2.2') { packet($guest, inet_aton($dst), 4, $inside); packet($guest, inet_aton($dst), 47, pack('nn', 0, 0x800) . $inside); packet($guest, inet_aton($dst), $_, $inside) for 2, 41, 50, 51, 89, 115, 132, 136, 255 } },
  malformed => sub { my $at = inet_aton($friend);
    packet($guest, $at, 6, tcp(30007, 7, $_ & 0xff, 1 << ($_ % 32), $_ % 16, 'd' x ($_ % 40))) for 0 .. 255;
    packet($guest, $at, 6, substr(tcp(30008, 7, 2), 0, $_)) for 0 .. 19; packet($guest, $at, 17, pack('nnnn', 9, 9, $_, 0)) for 0, 7, 9, 65535; packet($guest, $at, 1, substr($echo, 0, $_)) for 0 .. 8;
    my $ip = ip($guest, $at, 6, tcp(30009, 7, 2)); for my $bit (0 .. 159) { my $bent = $ip; vec($bent, $bit, 1) ^= 1; frame(ether(0x800, $bent)) } frame(ether(0x800, substr $ip, 0, $_)) for 0 .. 40; frame(substr ether(0x800, $ip), 0, $_) for 1 .. 14;
    packet($guest, $at, 6, tcp(30010, 7, 2, 1, 15, "\2\0" . "\3\1\x08\0" . "\2\xff" . "\1" x 32)); packet($guest, $at, 6, tcp(30011, 7, 2, 1, 6, "\2\4\0\0")); packet($router, $guest, 6, tcp(7, 7, 0x12)) },
  lease => sub { for my $dst ('255.255.255.255', '10.0.2.2', '10.0.0.5') { for my $length (0, 10, 236, 240, 244, 576) { my $request = substr pack('CCCCNnnN4', 1, 1, 6, 0, 7, 0, 0x8000, 0, 0, 0, 0) . $us . ("\0" x 202) . "\x63\x82\x53\x63\x35\1\1\x32\4" . inet_aton('192.0.2.2') . "\xff" . "\0" x 400, 0, $length; packet(inet_aton($_), inet_aton($dst), 17, udp(68, 67, $request)) for '0.0.0.0', '10.0.2.15' } } },
  flood => sub { my $at = inet_aton($deaf); packet($guest, $at, 6, tcp(1024 + $_, 7, 2, $_)) for 1 .. 10_000 },
  datagrams => sub { my $at = inet_aton($friend); packet($guest, $at, 17, udp(1024 + $_, 7, 'x' x 100)) for 1 .. 1_000 },
);
for (@attacks) { $sent = 0; $attack{$_}->(); print "$_ $sent\n" }
