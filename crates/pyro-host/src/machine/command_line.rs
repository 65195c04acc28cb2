//! QEMU's command line. Part of a template's key: raise `pyro_store::COMMAND_LINE_GENERATION` with every change here.
//!
//! QEMU opens no path of ours. Everything comes as a descriptor: disks through fd sets, kernel and memory through `/proc/self/fd`, sockets
//! by number.

use std::ffi::OsString;

use pyro_store::{Accelerator, MachineShape};
use serde_json::json;

/// The three disks that a machine writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disk {
    /// Changes to `/`.
    Root,
    /// `/workspace`.
    Workspace,
    /// What a standby machine warms itself on.
    Scratch,
}

impl Disk {
    /// Name of its qcow2 node; `NAME-file` is the node of its file, which needs a name of its own for `blockdev-reopen`.
    pub(crate) const fn node(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Workspace => "workspace",
            Self::Scratch => "scratch",
        }
    }
}

/// Numbers of the descriptors QEMU inherits.
pub(crate) mod descriptor {
    pub(crate) const MONITOR: i32 = 3;
    pub(crate) const AGENT: i32 = 4;
    pub(crate) const CONSOLE: i32 = 5;
    pub(crate) const MEMORY: i32 = 6;
    pub(crate) const ENVIRONMENT: i32 = 7;
    pub(crate) const ROOT: i32 = 8;
    pub(crate) const WORKSPACE: i32 = 9;
    pub(crate) const SCRATCH: i32 = 10;
    pub(crate) const KERNEL: i32 = 11;
    pub(crate) const INITRAMFS: i32 = 12;
    pub(crate) const NETWORK: i32 = 13;
    /// A lock that says that this process lives; QEMU knows nothing of it.
    pub(crate) const LIFE: i32 = 14;
    pub(crate) const LAST: u32 = 14;
}

/// Whether a machine boots to become a template, or is a copy of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Boots the kernel; its memory is shared with the file.
    Boot {
        /// The host's TSC rate: calibration under TCG is a coin toss, and a kernel that loses it hangs.
        tsc_khz: u64,
    },
    /// Waits for device state; its memory is a private mapping of the template's.
    Clone,
}

/// Translation buffer per virtual CPU set. 128 MiB holds a Python test run without a flush; it is touched as it is used.
const TRANSLATION_BUFFER_MIB: u32 = 128;

/// The card's hardware address. Each machine has a network of its own, so they can all have the same.
pub(crate) const NETWORK_CARD: [u8; 6] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];
/// The largest packet: what fits into QEMU's largest frame (`NET_BUFSIZE`), in multiples of 8.
pub(crate) const NETWORK_MTU_BYTES: u16 = 65_520;

fn colons(address: [u8; 6]) -> String {
    address.map(|byte| format!("{byte:02x}")).join(":")
}

/// Returns QEMU's arguments.
pub(crate) fn arguments(shape: &MachineShape, origin: Origin) -> Vec<OsString> {
    let mut arguments: Vec<String> = Vec::new();
    let mut add = |parts: &[&str]| arguments.extend(parts.iter().map(ToString::to_string));
    let (accelerator, cpu) = match shape.accelerator {
        Accelerator::Kvm => ("kvm".to_owned(), "host"),
        // Without ERMS kernel and libc copy by vector moves; TCG executes `rep movsb` one byte at a time, which made output three times
        // slower (32–63 against 116–184 MB/s).
        Accelerator::Tcg => (format!("tcg,thread=multi,tb-size={TRANSLATION_BUFFER_MIB}"), "max,-erms"),
    };
    let share = match origin {
        Origin::Boot { .. } => "on",
        Origin::Clone => "off",
    };
    add(&["-name", "pyro", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-msg", "timestamp=off"]);
    add(&[
        "-M",
        "microvm,acpi=on,pit=off,memory-backend=ram,suppress-vmdesc=on,dump-guest-core=off",
        "-global",
        "migration.send-configuration=off",
    ]);
    add(&["-accel", &accelerator, "-cpu", cpu, "-smp", &shape.vcpu_count.to_string(), "-m", &format!("{}M", shape.mem_mib)]);
    add(&[
        "-object",
        &format!("memory-backend-file,id=ram,size={}M,mem-path=/proc/self/fd/{},share={share}", shape.mem_mib, descriptor::MEMORY),
    ]);
    add(&["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]);

    add(&["-add-fd", &format!("fd={},set=0", descriptor::ENVIRONMENT)]);
    let environment = json!({
        "driver": "raw", "node-name": "environment", "read-only": true,
        // Never written by anyone, so a lock would only cost.
        "file": { "driver": "file", "filename": "/dev/fdset/0", "read-only": true, "auto-read-only": false, "locking": "off" },
    });
    add(&["-blockdev", &environment.to_string(), "-device", "virtio-blk-device,drive=environment,serial=pyro-env"]);
    for (disk, number) in [(Disk::Root, descriptor::ROOT), (Disk::Workspace, descriptor::WORKSPACE), (Disk::Scratch, descriptor::SCRATCH)] {
        let node = disk.node();
        add(&["-add-fd", &format!("fd={number},set={}", number)]);
        let file = json!({
            "driver": "file", "node-name": format!("{node}-file"), "filename": format!("/dev/fdset/{number}"), "auto-read-only": false,
        });
        let image = json!({ "driver": "qcow2", "node-name": node, "file": format!("{node}-file"), "backing": null });
        add(&["-blockdev", &file.to_string(), "-blockdev", &image.to_string()]);
        add(&["-device", &format!("virtio-blk-device,drive={node},serial=pyro-{node}")]);
    }

    add(&["-device", "virtio-serial-device,max_ports=2", "-chardev", &format!("socket,id=agent,fd={}", descriptor::AGENT)]);
    add(&["-device", "virtserialport,chardev=agent,name=pyro", "-device", "virtio-rng-device"]);
    if shape.network_card {
        // A frame is whatever the two ends agree on: no wire carries it. Large ones cost a translated guest a tenth per byte.
        let card = format!("virtio-net-device,netdev=network,mac={},host_mtu={NETWORK_MTU_BYTES}", colons(NETWORK_CARD));
        add(&["-netdev", &format!("stream,id=network,addr.type=fd,addr.str={}", descriptor::NETWORK), "-device", &card]);
    }
    add(&["-chardev", &format!("socket,id=console,fd={}", descriptor::CONSOLE), "-serial", "chardev:console"]);
    add(&["-chardev", &format!("socket,id=monitor,fd={}", descriptor::MONITOR), "-mon", "chardev=monitor,mode=control"]);
    match origin {
        Origin::Boot { tsc_khz } => {
            add(&[
                "-kernel",
                &format!("/proc/self/fd/{}", descriptor::KERNEL),
                "-initrd",
                &format!("/proc/self/fd/{}", descriptor::INITRAMFS),
            ]);
            // lpj is jiffies' loops: TSC ticks per 1/250 s, Debian's HZ.
            // panic=-1 and reboot=t turn a kernel panic into a triple fault at once, which ends QEMU (-no-reboot): microvm has no other way
            // to reset, and a kernel that looks for one spins.
            // tsc=reliable and nowatchdog silence two kernel timers that wake an idle guest twice a second and every four seconds: the
            // TSC is the host's, and a guest that hangs is its supervisor's business.
            let append = format!(
                "console=ttyS0 loglevel=4 panic=-1 reboot=t mitigations=off init_on_alloc=0 tsc_early_khz={tsc_khz} no_timer_check lpj={} \
                 random.trust_cpu=on tsc=reliable nowatchdog",
                tsc_khz * 4
            );
            add(&["-append", &append]);
        }
        Origin::Clone => add(&["-S", "-incoming", "defer"]),
    }
    arguments.into_iter().map(OsString::from).collect()
}
