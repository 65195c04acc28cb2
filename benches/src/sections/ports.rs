//! Published ports: a web server in the guest, reached from the host through the channel, against the same server reached inside the guest.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::Bench;
use crate::{
    arguments::Section,
    bed::ENVIRONMENT,
    command,
    home::Standby,
    report::{Group, Report, Row, Whose},
    sample::{Samples, Unit},
};

/// One process with an event loop, so that what is measured is the way to it and not `fork` under translation. `/N` answers N bytes.
const SERVER: &str = r#"
use strict; use IO::Socket::INET; use IO::Select; use Socket qw(IPPROTO_TCP TCP_NODELAY); $SIG{PIPE} = 'IGNORE';
my $l = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 8080, Listen => 256, ReuseAddr => 1) or die;
my ($s, %in) = (IO::Select->new($l)); my $block = 'x' x 1048576;
sub out { my ($c, $b) = @_; my $o = 0; while ($o < length $b) { my $n = syswrite($c, $b, length($b) - $o, $o); return unless $n; $o += $n } }
while (1) { for my $c ($s->can_read) {
  if ($c == $l) { my $n = $l->accept; setsockopt($n, IPPROTO_TCP, TCP_NODELAY, 1); $s->add($n); next }
  if (!sysread($c, $in{$c}, 65536, length($in{$c} // ''))) { delete $in{$c}; $s->remove($c); close $c; next }
  while ($in{$c} =~ s/^GET \/(\d*)[^\n]*\n.*?\r\n\r\n//s) {
    my $n = $1 || 2; out($c, "HTTP/1.1 200 OK\r\nContent-Length: $n\r\n\r\n" . ($n == 2 ? 'ok' : ''));
    if ($n > 2) { while ($n > 0) { my $k = $n > 1048576 ? 1048576 : $n; out($c, substr($block, 0, $k)); $n -= $k } }
  } } }
"#;

/// The same questions from inside the guest: one line with the milliseconds of each.
const CLIENT: &str = r#"
use strict; use IO::Socket::INET; use Socket qw(IPPROTO_TCP TCP_NODELAY); use Time::HiRes 'time';
my $c = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => 8080) or die; setsockopt($c, IPPROTO_TCP, TCP_NODELAY, 1);
for (1 .. $ARGV[0]) { my $t = time; syswrite($c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); my $b = ''; while ($b !~ /ok$/) { sysread($c, $b, 4096, length $b) or die } printf "%.3f ", (time - $t) * 1000 }
"#;

const WARM_UP: u32 = 200;
const CONNECTIONS: &str = "16";
const MEBIBYTES: usize = 64;

struct Server {
    id: String,
    port: u16,
}

impl Server {
    fn ask(stream: &mut BufReader<TcpStream>, path: &str) -> Result<usize> {
        stream.get_mut().write_all(format!("GET /{path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())?;
        let mut length = 0;
        loop {
            let mut line = String::new();
            ensure!(stream.read_line(&mut line)? > 0, "the server hung up");
            if let Some(number) = line.strip_prefix("Content-Length: ") {
                length = number.trim().parse()?;
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        Ok(length)
    }

    fn connect(&self) -> Result<BufReader<TcpStream>> {
        let stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_nodelay(true)?;
        Ok(BufReader::with_capacity(1 << 20, stream))
    }
}

pub(super) async fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let mut group = Group::begin(Section::Ports, "a published port: `GET` of two bytes from a perl server in the guest");
    let home = bench.home("ports", Standby::None).await?;
    let run = async |arguments: &[&str]| -> Result<Vec<u8>> { Ok(command::time(home.cli(arguments)).await?.1.stdout) };
    let memory = bench.mem_mib.to_string();
    let create = ["workspace", "create", ENVIRONMENT, "--mem-mib", &memory, "--network-policy", "published-ports", "--id-only"];
    let id = String::from_utf8(run(&create).await?)?.trim().to_owned();
    for (name, text) in [("server.pl", SERVER), ("client.pl", CLIENT)] {
        run(&["workspace", "file", "write", &id, name, "--text", text]).await?;
    }
    let start =
        ["workspace", "service", "start", &id, "web", "--ready-tcp", "8080", "--publish", "8080", "--json", "--", "perl", "server.pl"];
    let service: Value = serde_json::from_slice(&run(&start).await?)?;
    let port = service["published_ports"][0]["host_port"].as_u64().context("a port was published")?;
    let server = Server { id, port: u16::try_from(port)? };

    let [mut kept, mut fresh, mut inside, mut transfer] = std::array::from_fn(|_| Samples::default());
    let mut stream = server.connect()?;
    for _ in 0..WARM_UP {
        Server::ask(&mut stream, "")?;
    }
    for _ in 0..bench.effort.fast_samples {
        let started = Instant::now();
        Server::ask(&mut stream, "")?;
        kept.push(command::milliseconds(started.elapsed()));
        let started = Instant::now();
        Server::ask(&mut server.connect()?, "")?;
        fresh.push(command::milliseconds(started.elapsed()));
    }
    let count = bench.effort.fast_samples + WARM_UP;
    let times = String::from_utf8(run(&["workspace", "exec", &server.id, "--", "perl", "client.pl", &count.to_string()]).await?)?;
    for time in times.split_whitespace().skip(WARM_UP as usize) {
        inside.push(time.parse()?);
    }
    for _ in 0..bench.effort.slow_samples {
        let started = Instant::now();
        let bytes = Server::ask(&mut stream, &(MEBIBYTES << 20).to_string())?;
        transfer.push(bytes as f64 / 1e6 / started.elapsed().as_secs_f64());
    }
    let url = format!("http://127.0.0.1:{port}/");
    let seconds = if bench.effort.slow_samples > 1 { "5s" } else { "1s" };
    let flood = command::time(command::command(&["wrk", "-t", "1", "-c", CONNECTIONS, "-d", seconds, "--latency", &url])).await;
    home.close().await?;

    group.add(Row::new(Whose::Pyro, "through the port, one connection", Unit::Milliseconds, kept));
    group.add(Row::new(Whose::Part, "  of it inside the guest, client and server", Unit::Milliseconds, inside));
    group.add(Row::new(Whose::Pyro, "through the port, a connection each", Unit::Milliseconds, fresh));
    group.add(Row::new(Whose::Pyro, format!("a body of {MEBIBYTES} MiB"), Unit::MegabytesPerSecond, transfer));
    let subject = format!("wrk, {CONNECTIONS} connections");
    group.add(match flood {
        Ok((_, output)) => Row::new(Whose::Pyro, subject, Unit::RequestsPerSecond, requests_per_second(&output.stdout)?),
        Err(error) => Row::missing(Whose::Pyro, subject, Unit::RequestsPerSecond, error.to_string()),
    });
    report.finish(group);
    Ok(())
}

fn requests_per_second(output: &[u8]) -> Result<f64> {
    let text = String::from_utf8_lossy(output);
    let line = text.lines().find_map(|line| line.strip_prefix("Requests/sec:")).context("wrk tells the rate")?;
    ensure!(!text.contains("Non-2xx"), "the server answered with errors");
    Ok(line.trim().parse()?)
}
