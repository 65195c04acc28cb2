//! A stack for whoever connects to a unix socket, and its events as they happen: for trying a machine by hand.
//!
//! ```text
//! cargo run -p pyro-egress --example gateway SOCKET RESOLVER [RULE...]
//! qemu-system-x86_64 … -netdev stream,id=net,server=off,addr.type=unix,addr.path=SOCKET \
//!                      -device virtio-net-device,netdev=net,mac=52:54:00:12:34:56
//! ```

use std::error::Error;

use pyro_egress::policy::{Policy, Rule};
use pyro_egress::{Configuration, host_addresses};
use tokio::net::UnixListener;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(path), Some(resolver)) = (arguments.next(), arguments.next()) else {
        return Err("usage: gateway SOCKET RESOLVER [RULE...]".into());
    };
    let allow = arguments.map(|text| text.parse()).collect::<Result<Vec<Rule>, _>>()?;
    let configuration = Configuration { resolvers: vec![resolver.parse()?], ..Configuration::default() };
    let policy = Policy::new(allow, Vec::new(), host_addresses()?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = UnixListener::bind(&path)?;
        let (socket, _) = listener.accept().await?;
        let (mut handle, mut events) = pyro_egress::start(socket, configuration, policy)?;
        loop {
            tokio::select! {
                Some(event) = events.next() => println!("{event:?}"),
                result = handle.ended() => return Ok(result?),
            }
        }
    })
}
