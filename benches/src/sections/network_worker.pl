# The guest's half of the network benchmark: does what a server says by its control connection. Written without a module, so that a guest
# needs nothing but the interpreter. Arguments: the server's address and control port.
sub dial { my ($port) = @_; socket(my $s, 2, 1, 0) or die "socket: $!"; connect($s, pack 'SnCCCCx8', 2, $port, split /\./, $ARGV[0]) or die "connect: $!"; $s }
$| = 1; my $control = dial($ARGV[1]); my $block = 'x' x (1 << 18); select((select($control), $| = 1)[0]);
while (my $line = <$control>) {
  my ($what, $port, $count) = split / /, $line;
  if ($what eq 'take') { my $s = dial($port); my $taken; 1 while sysread $s, $taken, 1 << 18 }
  if ($what eq 'give') { my $s = dial($port); while ($count > 0) { my $n = syswrite $s, $block, $count < 1 << 18 ? $count : 1 << 18; die "write: $!" unless $n; $count -= $n } shutdown $s, 1; sysread $s, my $end, 1 }
  if ($what eq 'dial') { for (1 .. $count) { my $s = dial($port); sysread $s, my $byte, 1 } }
  print $control "done\n";
}
