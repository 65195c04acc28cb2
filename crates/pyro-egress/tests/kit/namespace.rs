//! A network namespace with the addresses of an outside world, for tests that dial more than loopback.
//!
//! The test runs itself again inside the namespace, which ends with it, so nothing is left behind and the host's network is not touched.

use std::net::Ipv4Addr;
use std::process::Command;

/// An address of the outside world.
pub(crate) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// Another one.
pub(crate) const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
/// An address of the inside, with servers that a guest must not reach.
pub(crate) const INSIDE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);

const SET_UP: &str = "ip link set lo up && for address in 203.0.113.1 203.0.113.2 10.0.0.5 169.254.169.254; do \
                      ip address add $address/32 dev lo || exit 70; done; \
                      echo '0 2147483647' >/proc/sys/net/ipv4/ping_group_range; exec \"$@\"";

#[expect(clippy::print_stdout, reason = "a test that is skipped says why")]
/// Runs a test in a namespace of its own; `name` is the test's.
pub(crate) fn in_namespace(name: &str, test: impl FnOnce()) {
    // This address exists nowhere else, so where it does the test is inside already.
    if pyro_egress::host_addresses().unwrap().contains(&OUTSIDE) {
        test();
        return;
    }
    if !rustix::process::geteuid().is_root() {
        println!("skipped: {name} needs root to make a network namespace");
        return;
    }
    let own = std::env::current_exe().unwrap();
    let mut command = Command::new("unshare");
    command.args(["--net", "--", "sh", "-c", SET_UP, "sh"]).arg(own).args(["--exact", name, "--nocapture"]);
    let output = command.output().expect("util-linux is installed");
    assert!(
        output.status.success() && String::from_utf8_lossy(&output.stdout).contains("1 passed"),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
