//! The network card, where the machine has one. Everything behind it is the host's: the gateway answers names, and lets out what it may.

use std::io;

use pyro_sys::device::{LinkAddress, configure_link};

use crate::log;

/// What the kernel calls the first card.
const LINK: &str = "eth0";

/// Gives the card its address and makes it the way out. One that has them is left as it is.
pub(crate) fn configure(link: LinkAddress) -> io::Result<()> {
    // Before it is up: the kernel would send IPv6 solicitations, which nobody answers.
    let switch = format!("/proc/sys/net/ipv6/conf/{LINK}/disable_ipv6");
    if let Err(error) = std::fs::write(&switch, "1") {
        log::line(&format!("cannot write `{switch}`: {error}"));
    }
    configure_link(LINK, link)
}
