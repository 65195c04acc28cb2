//! Network namespaces without names: each is kept by a process of ours.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    os::fd::AsFd as _,
    process::{Child, Command, Stdio},
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{DEAF, HOST, NOWHERE, ROUTER};

/// Hardware addresses of the wire's two ends: the watcher tells directions by them.
pub(super) const HOST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
pub(super) const WORLD_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// One namespace. Dropping it ends its keeper; the namespace goes with the last process in it.
#[derive(Debug)]
pub(super) struct Side {
    keeper: Child,
}

/// A thread's visit to a namespace; dropping it takes the thread back to where it was.
#[derive(Debug)]
pub(super) struct Stay {
    before: File,
    // What is dropped on another thread would move that one.
    _this_thread: std::marker::PhantomData<*const ()>,
}

impl Side {
    pub(super) fn start() -> Self {
        // `cat` ends when its standard input does: when this is dropped, or when the test's process ends in whatever way.
        const KEEP: &str = "sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1; \
                            sysctl -qw 'net.ipv4.ping_group_range=0 2147483647'; ip link set lo up; echo; exec cat";
        let mut keeper = Command::new("unshare")
            .args(["--net", "--", "sh", "-c", KEEP])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("util-linux is installed");
        let mut line = String::new();
        let output = keeper.stdout.as_mut().expect("it was piped");
        BufReader::new(output).read_line(&mut line).expect("the keeper speaks");
        assert_eq!(line, "\n", "the keeper is in its namespace");
        Self { keeper }
    }

    fn id(&self) -> u32 {
        self.keeper.id()
    }

    /// Returns the namespace, for [`move_to`].
    pub(super) fn file(&self) -> File {
        File::open(format!("/proc/{}/ns/net", self.id())).expect("the keeper runs")
    }

    /// Moves the calling thread into the namespace.
    pub(super) fn enter(&self) -> Stay {
        let before = File::open("/proc/thread-self/ns/net").expect("Linux has them");
        move_to(&self.file());
        Stay { before, _this_thread: std::marker::PhantomData }
    }

    /// Runs a function on a thread of its own in the namespace; what it starts stays there.
    pub(super) fn within<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                let _stay = self.enter();
                act()
            });
            inside.join().expect("what is done inside does not panic")
        })
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        crate::kill(&mut self.keeper);
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        move_to(&self.before);
    }
}

/// Moves the calling thread, and the threads and processes it starts from then on, to a namespace.
pub(super) fn move_to(namespace: &File) {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may");
}

/// Lays the wire and says what lies where: the world answers for every address but one network.
pub(super) fn connect(host: &Side, world: &Side) {
    let mac = |mac: [u8; 6]| mac.map(|byte| format!("{byte:02x}")).join(":");
    host.within(|| {
        ip(&format!(
            "link add near address {} type veth peer name far address {} netns {}\naddress add {HOST}/24 dev near\nlink set near up\n",
            mac(HOST_MAC),
            mac(WORLD_MAC),
            world.id()
        ));
    });
    world.within(|| {
        // Only who forwards tells of what is unreachable.
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("root may");
        ip(&format!(
            "address add {ROUTER}/24 dev far\nlink set far up\nroute add local default dev lo table main\nroute add unreachable {NOWHERE}\nroute add blackhole {DEAF}\n"
        ));
    });
    host.within(|| ip(&format!("route add default via {ROUTER}\n")));
}

fn ip(lines: &str) {
    use std::io::Write as _;
    let mut child = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().expect("iproute2 is installed");
    child.stdin.take().expect("it was piped").write_all(lines.as_bytes()).expect("it reads");
    assert!(child.wait().expect("it ends").success(), "{lines}");
}
