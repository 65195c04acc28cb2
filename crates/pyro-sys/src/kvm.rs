//! Asks `/dev/kvm` the only question that counts: does it run a kernel's code, and fast?
//!
//! The device may exist, open and create machines and still be useless (design.md 3.1): on some hosts, such as virtual machines with a
//! software KVM, code in kernel mode is emulated one instruction at a time, and a Linux kernel never leaves its decompressor. So the
//! probe runs a small program the way a kernel runs: 64-bit, paging on, ring 0, with arithmetic on memory, a string copy, reloads of CR3,
//! RDMSR, CPUID, and a page fault that the guest itself handles, over and over, `ROUNDS` times.
//!
//! On an emulating KVM (a virtual machine with the module `kvm_pvm`) it was measured at 0.9 to 1.1 million instructions a second, 0.3 with
//! both cores busy. The other two figures are estimates, not measured with this program: hardware runs such a loop at a few thousand
//! million, and QEMU's translator, 7 to 10 times slower than hardware at a Python loop (design.md 2), at a few hundred million.
//! `ENOUGH_PER_SECOND` lies well away from both sides: below it KVM loses to the translator and is not worth having, and hardware that
//! reaches only a twentieth of its speed, because all cores are busy, still passes.
//!
//! `KVM_RUN` may never return, and on a broken host a signal may not help, so the program runs in a child process: killing it takes its
//! descriptors and memory along, no signal handler of ours is needed, and the caller is never stuck with it.
//!
//! ```text
//! parent: open, build guest memory ── fork ──> child: VM, vCPU, KVM_RUN … exit
//!    │ waits on the pidfd ≤ deadline − RESERVE        │ writes its stage, the guest its rounds, into shared memory
//!    └ kills, waits ≤ deadline, a thread reaps the rest
//! ```

use std::ffi::CStr;
use std::fmt;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd as _, FromRawFd as _, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, kvm_regs, kvm_segment, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::mm::{MapFlags, ProtFlags};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};

/// How long [`probe`] should be given: too short to notice, many times what hardware needs.
pub const DEADLINE: Duration = Duration::from_millis(200);
/// Kept of the deadline for killing the child and for the kernel to take its machine down, 20 ms here. What is left is still more than
/// twice what the slowest usable KVM needs.
const RESERVE: Duration = Duration::from_millis(100);

/// The least a usable KVM runs, in instructions a second; see the module's text.
const ENOUGH_PER_SECOND: u64 = 50_000_000;
/// How often the guest does everything: 1.8 million instructions, which the slowest usable KVM runs in 37 ms.
const ROUNDS: u64 = 64;
/// Passes of the inner loop in one round.
const PASSES: u64 = 4 * 1024;
/// Instructions in one pass; the few dozen outside the loop are not counted.
const INSTRUCTIONS_PER_PASS: u64 = 7;

/// Version of KVM's interface; there has been no other since Linux 2.6.22.
const API_VERSION: i32 = 12;
const DEVICE: &CStr = c"/dev/kvm";

/// What the probe has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// KVM runs a kernel's code at the speed of hardware.
    Usable,
    /// There is no `/dev/kvm`, or nothing behind it.
    Absent,
    /// This user may not open it.
    Forbidden {
        /// Why, in the system's words.
        error: String,
    },
    /// It runs a kernel's code, but emulates it.
    TooSlow {
        /// Instructions it ran in a second; 0 when it did not finish a single round.
        instructions_per_second: u64,
    },
    /// It fails at something every guest needs.
    Broken {
        /// What, as the end of a sentence that begins with "KVM".
        problem: String,
    },
}

impl Verdict {
    /// Tells whether machines should use KVM.
    #[must_use]
    pub const fn is_usable(&self) -> bool {
        matches!(self, Self::Usable)
    }

    /// Returns the verdict in one line for a person.
    #[must_use]
    pub fn reason(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usable => formatter.write_str("KVM runs guest code at the speed of hardware"),
            Self::Absent => {
                formatter.write_str("there is no `/dev/kvm`: the processor's virtualization is off or hidden from this machine")
            }
            Self::Forbidden { error } => write!(formatter, "this user may not open `/dev/kvm` ({error})"),
            Self::TooSlow { instructions_per_second } => write!(
                formatter,
                "`/dev/kvm` emulates guest kernels in software, {:.1} million instructions per second where {} are needed",
                *instructions_per_second as f64 / 1e6,
                ENOUGH_PER_SECOND / 1_000_000
            ),
            Self::Broken { problem } => write!(formatter, "KVM {problem}"),
        }
    }
}

/// Runs guest code under KVM and judges it, within `deadline` (see [`DEADLINE`]) whatever KVM does.
///
/// Blocks as long as the guest needs, about half of `deadline` where KVM is emulated. Leaves no process, descriptor or memory behind, except that a child the kernel cannot end in
/// time is reaped by a thread when it does.
#[must_use]
pub fn probe(deadline: Duration) -> Verdict {
    let started = Instant::now();
    match prepare() {
        Ok((kvm, cpuid, memory)) => observe(kvm, &cpuid, memory, started, deadline),
        Err(verdict) => verdict,
    }
}

/// Does what needs no child: opening the device is quick on every host, and allocating is not allowed after a fork.
fn prepare() -> Result<(Kvm, CpuId, Memory), Verdict> {
    let kvm = Kvm::new_with_path(DEVICE).map_err(|error| match error.errno() {
        libc::ENOENT | libc::ENODEV | libc::ENXIO => Verdict::Absent,
        libc::EACCES | libc::EPERM => Verdict::Forbidden { error: error.to_string() },
        _ => Verdict::Broken { problem: format!("cannot be opened: {error}") },
    })?;
    if kvm.get_api_version() != API_VERSION {
        return Err(Verdict::Broken { problem: format!("has the unknown interface version {}", kvm.get_api_version()) });
    }
    let failed = |error| Verdict::Broken { problem: format!("does not say what processor it offers: {error}") };
    let cpuid = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(failed)?;
    let memory = Memory::new().map_err(|error| Verdict::Broken { problem: format!("was not tried, there is no memory: {error}") })?;
    memory.build_guest();
    Ok((kvm, cpuid, memory))
}

/// Starts the child, waits for it, and judges what it has left in `memory`.
fn observe(kvm: Kvm, cpuid: &CpuId, memory: Memory, started: Instant, deadline: Duration) -> Verdict {
    // SAFETY: fork(2) itself has no requirement. Threads of the parent may hold locks for ever in the child, so the child calls only what
    // takes none: system calls through kvm-ioctls, rustix and libc, on objects allocated before.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        child(kvm, cpuid, &memory);
    }
    let Some(pid) = Pid::from_raw(pid).filter(|_| pid > 0) else {
        return Verdict::Broken { problem: format!("was not tried, no process can be started: {}", std::io::Error::last_os_error()) };
    };
    drop(kvm);
    let finished = wait(pid, started, deadline.saturating_sub(RESERVE));
    let after = started.elapsed();
    if !finished {
        // It may have ended in between; the number is still its own, since nobody has reaped it.
        let _ = rustix::process::kill_process(pid, Signal::KILL);
        if !wait(pid, started, deadline) {
            std::thread::spawn(move || rustix::process::waitpid(Some(pid), WaitOptions::empty()));
            return judge(memory.report(), Ended::Killed { after });
        }
    }
    let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
    judge(memory.report(), if finished { Ended::ByItself } else { Ended::Killed { after } })
}

/// How the child ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    ByItself,
    Killed { after: Duration },
}

/// Waits until the child has ended or `until` has passed since `started`; tells whether it has ended. Does not reap.
fn wait(pid: Pid, started: Instant, until: Duration) -> bool {
    let Ok(pidfd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { return false };
    loop {
        let left = until.saturating_sub(started.elapsed());
        let timeout = Timespec { tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX), tv_nsec: i64::from(left.subsec_nanos()) };
        match rustix::event::poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)) {
            Ok(count) => return count > 0,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

fn judge(report: &Report, ended: Ended) -> Verdict {
    let stage = report.stage.load(Ordering::Acquire);
    if stage < Stage::Running as u32 {
        let problem = match (report.errno.load(Ordering::Acquire), ended) {
            (0, Ended::ByItself) => format!("ended the probe while it tried to {}", Stage::name(stage)),
            (0, Ended::Killed { .. }) => format!("takes too long to {}", Stage::name(stage)),
            (errno, _) => format!("cannot {}: {}", Stage::name(stage), std::io::Error::from_raw_os_error(errno)),
        };
        return Verdict::Broken { problem };
    }
    // Hostile or broken, the guest could write any number.
    let (rounds, outcome) = (report.rounds.load(Ordering::Acquire).min(ROUNDS), report.outcome.load(Ordering::Acquire));
    let nanoseconds = match ended {
        Ended::ByItself => u128::from(report.run_nanoseconds.load(Ordering::Acquire)).max(1),
        // Setting up is in it too, a millisecond or two.
        Ended::Killed { after } => after.as_nanos().max(1),
    };
    let instructions_per_second =
        u64::try_from(u128::from(rounds * PASSES * INSTRUCTIONS_PER_PASS) * 1_000_000_000 / nanoseconds).unwrap_or(u64::MAX);
    match outcome {
        Outcome::HALTED if rounds == ROUNDS && instructions_per_second >= ENOUGH_PER_SECOND => Verdict::Usable,
        Outcome::HALTED if rounds == ROUNDS => Verdict::TooSlow { instructions_per_second },
        Outcome::NONE if ended != Ended::ByItself => Verdict::TooSlow { instructions_per_second },
        Outcome::NONE => Verdict::Broken { problem: "ended the process that ran guest code".to_owned() },
        Outcome::SHUTDOWN => Verdict::Broken { problem: format!("mishandles guest code: it crashed in round {} of {ROUNDS}", rounds + 1) },
        Outcome::REFUSED => Verdict::Broken { problem: "refuses to enter guest code in 64-bit mode".to_owned() },
        Outcome::UNEMULATED => {
            Verdict::Broken { problem: "emulates guest kernels in software, and met an instruction it cannot".to_owned() }
        }
        _ => Verdict::Broken { problem: format!("stopped guest code for no reason after {rounds} of {ROUNDS} rounds") },
    }
}

/// How far the child got.
#[derive(Clone, Copy)]
#[repr(u32)]
enum Stage {
    Machine = 1,
    Memory,
    Processor,
    Features,
    Registers,
    Running,
}

impl Stage {
    const fn name(stage: u32) -> &'static str {
        const NAMES: [&str; 7] = [
            "start the probe",
            "create a machine",
            "give a machine memory",
            "create a processor",
            "describe a processor",
            "set up 64-bit mode",
            "run guest code",
        ];
        NAMES[if stage as usize >= NAMES.len() { 0 } else { stage as usize }]
    }
}

/// Why the guest's processor stopped.
struct Outcome;

impl Outcome {
    const NONE: u32 = 0;
    const HALTED: u32 = 1;
    const SHUTDOWN: u32 = 2;
    const REFUSED: u32 = 3;
    const UNEMULATED: u32 = 4;
    const OTHER: u32 = 5;
}

/// What child and guest tell, in memory they share with the parent.
#[repr(C)]
struct Report {
    /// Written by the guest.
    rounds: AtomicU64,
    stage: AtomicU32,
    errno: AtomicI32,
    outcome: AtomicU32,
    run_nanoseconds: AtomicU64,
}

/// The child's life: it makes a machine out of `memory`, runs it, tells what happened, and ends.
fn child(kvm: Kvm, cpuid: &CpuId, memory: &Memory) -> ! {
    let report = memory.report();
    if let Err(errno) = run_guest(kvm, cpuid, memory, report) {
        report.errno.store(errno, Ordering::Release);
    }
    // SAFETY: `_exit` has no requirement; it skips the parent's exit handlers and buffers, which are not ours to run.
    unsafe { libc::_exit(0) }
}

fn run_guest(kvm: Kvm, cpuid: &CpuId, memory: &Memory, report: &Report) -> Result<(), i32> {
    // A parent that is killed right now must not leave us running; it may be gone already, which costs at most the guest's few rounds.
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    let kvm = keep_only(kvm)?;
    let reach = |stage: Stage| report.stage.store(stage as u32, Ordering::Release);
    let errno = |error: kvm_ioctls::Error| error.errno();
    reach(Stage::Machine);
    let machine = kvm.create_vm().map_err(errno)?;
    reach(Stage::Memory);
    // Old Intel processors need a hole for their real mode; others do not know the call.
    let _ = machine.set_tss_address(0xfffb_d000);
    let region = kvm_userspace_memory_region {
        slot: 0,
        flags: 0,
        guest_phys_addr: 0,
        memory_size: GUEST_BYTES as u64,
        userspace_addr: memory.base.as_ptr() as u64,
    };
    // SAFETY: the region is mapped for as long as this process lives, page-aligned, and nothing but the guest and atomics touch it.
    unsafe { machine.set_user_memory_region(region) }.map_err(errno)?;
    reach(Stage::Processor);
    let mut processor = machine.create_vcpu(0).map_err(errno)?;
    reach(Stage::Features);
    processor.set_cpuid2(cpuid).map_err(errno)?;
    reach(Stage::Registers);
    let mut special = processor.get_sregs().map_err(errno)?;
    let code = kvm_segment { limit: 0xffff_ffff, selector: 8, type_: 11, present: 1, s: 1, l: 1, g: 1, ..Default::default() };
    let data = kvm_segment { limit: 0xffff_ffff, selector: 16, type_: 3, present: 1, db: 1, s: 1, g: 1, ..Default::default() };
    special.cs = code;
    (special.ds, special.es, special.ss) = (data, data, data);
    (special.gdt.base, special.gdt.limit) = (GDT, 3 * 8 - 1);
    (special.idt.base, special.idt.limit) = (IDT, (PAGE_FAULT_VECTOR as u16 + 1) * 16 - 1);
    special.cr0 = 0x8001_0033; // PG, WP, NE, ET, MP, PE
    special.cr3 = PAGE_TABLES[0];
    special.cr4 = 0x20; // PAE
    special.efer = 0x500; // LMA, LME
    processor.set_sregs(&special).map_err(errno)?;
    let registers = kvm_regs {
        rip: CODE,
        rsp: STACK_TOP,
        rbp: BUFFER,
        r12: ROUNDS,
        r13: PASSES,
        r14: DEMAND_PAGE,
        r15: REPORT as u64,
        rflags: 2,
        ..Default::default()
    };
    processor.set_regs(&registers).map_err(errno)?;
    reach(Stage::Running);
    let started = Instant::now();
    let outcome = loop {
        match processor.run() {
            Ok(VcpuExit::Hlt) => break Outcome::HALTED,
            Ok(VcpuExit::Intr) => {}
            Ok(VcpuExit::Shutdown) => break Outcome::SHUTDOWN,
            Ok(VcpuExit::FailEntry(..)) => break Outcome::REFUSED,
            Ok(VcpuExit::InternalError) => break Outcome::UNEMULATED,
            Ok(_) => break Outcome::OTHER,
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {}
            Err(_) => break Outcome::OTHER,
        }
    };
    let nanoseconds = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1);
    report.run_nanoseconds.store(nanoseconds, Ordering::Release);
    report.outcome.store(outcome, Ordering::Release);
    Ok(())
}

/// Closes every descriptor the fork has copied except the device: a lock or a socket must not live longer because of us.
fn keep_only(kvm: Kvm) -> Result<Kvm, i32> {
    const KEPT: RawFd = 3;
    let last_error = || std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EBADF);
    // Its number is closed below, or is the one that is kept.
    let kvm = ManuallyDrop::new(kvm).as_raw_fd();
    if kvm != KEPT {
        // SAFETY: dup2 has no requirement on memory; whatever had this number belongs to nobody in this process, which only runs this file.
        if unsafe { libc::dup2(kvm, KEPT) } < 0 {
            return Err(last_error());
        }
    }
    // SAFETY: as above; closing is what this process wants. An old kernel without the call leaves them open until the child's end.
    unsafe { libc::close_range(0, KEPT as u32 - 1, 0) };
    // SAFETY: as above.
    unsafe { libc::close_range(KEPT as u32 + 1, u32::MAX, 0) };
    // SAFETY: the number is open, it is a KVM device by the calls above, and its former owner is never dropped.
    Ok(unsafe { Kvm::from_raw_fd(KEPT) })
}

// The guest's memory: two megabytes, each address the same as seen by the processor and by the machine.
const GUEST_BYTES: usize = 2 << 20;
const PAGE_BYTES: u64 = 4096;
/// Root, third, second and first level.
const PAGE_TABLES: [u64; 4] = [0x1000, 0x2000, 0x3000, 0x4000];
const GDT: u64 = 0x5000;
const IDT: u64 = 0x6000;
const REPORT: usize = 0x7000;
const CODE: u64 = 0x8000;
const STACK_TOP: u64 = 0xf000;
const BUFFER: u64 = 0x2_0000;
/// A page that is mapped only by the guest's own fault handler.
const DEMAND_PAGE: u64 = 0x10_0000;
const PAGE_FAULT_VECTOR: u64 = 14;
/// Present and writable.
const MAPPED: u64 = 3;

// r12 rounds, r13 passes, rbp buffer, r14 page to fault on, r15 report. The addresses of `first_level` and `demand` are the constants above.
std::arch::global_asm!(
    ".pushsection .rodata.pyro_kvm_probe, \"a\"",
    ".balign 16",
    "pyro_kvm_probe_code:",
    "2:  mov rcx, r13",
    "3:  mov edx, ecx", // one pass: seven instructions
    "    and edx, 0x1ff8",
    "    add rax, [rbp + rdx]",
    "    rol rax, 7",
    "    mov [rbp + rdx], rax",
    "    dec rcx",
    "    jnz 3b",
    "    mov rsi, rbp", // a string copy, as decompressors do
    "    lea rdi, [rbp + 0x2000]",
    "    mov ecx, 512",
    "    cld",
    "    rep movsq",
    "    mov rax, cr3", // what a scheduler does
    "    mov cr3, rax",
    "    mov ecx, 0xc0000080", // what a kernel does at boot: EFER, processor features
    "    rdmsr",
    "    xor eax, eax",
    "    xor ecx, ecx",
    "    cpuid",
    "    mov byte ptr [r14], 1", // a fault, a page mapped by its handler, the access again
    "    mov qword ptr [{entry}], 0",
    "    invlpg [r14]",
    "    inc qword ptr [r15]",
    "    dec r12",
    "    jnz 2b",
    "4:  hlt",
    "    jmp 4b",
    "pyro_kvm_probe_fault:",
    "    mov qword ptr [{entry}], {mapping}",
    "    add rsp, 8", // the error code
    "    iretq",
    "pyro_kvm_probe_end:",
    ".popsection",
    entry = const PAGE_TABLES[3] + DEMAND_PAGE / PAGE_BYTES * 8,
    mapping = const DEMAND_PAGE | MAPPED,
);

unsafe extern "C" {
    static pyro_kvm_probe_code: u8;
    static pyro_kvm_probe_fault: u8;
    static pyro_kvm_probe_end: u8;
}

/// The guest's memory, shared between parent and child.
struct Memory {
    base: NonNull<u8>,
}

impl Memory {
    fn new() -> Result<Self, rustix::io::Errno> {
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches nothing that exists.
        let base =
            unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), GUEST_BYTES, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED)? };
        NonNull::new(base.cast()).map(|base| Self { base }).ok_or(rustix::io::Errno::NOMEM)
    }

    /// Writes page tables, descriptor tables and code.
    fn build_guest(&self) {
        for (level, table) in PAGE_TABLES.iter().enumerate().take(3) {
            self.put(*table, PAGE_TABLES[level + 1] | MAPPED);
        }
        for page in (0..GUEST_BYTES as u64 / PAGE_BYTES).filter(|page| page * PAGE_BYTES != DEMAND_PAGE) {
            self.put(PAGE_TABLES[3] + page * 8, (page * PAGE_BYTES) | MAPPED);
        }
        self.put(GDT + 8, 0x00af_9a00_0000_ffff); // code, 64-bit, ring 0
        self.put(GDT + 16, 0x00cf_9200_0000_ffff); // data, ring 0
        let (code, fault) = guest_code();
        let handler = CODE + fault as u64;
        // An interrupt gate: offset in three parts, the code segment, present and of ring 0.
        self.put(IDT + PAGE_FAULT_VECTOR * 16, (handler & 0xffff) | 8 << 16 | 0x8e << 40 | (handler >> 16 & 0xffff) << 48);
        for (index, chunk) in code.chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.put(CODE + index as u64 * 8, u64::from_le_bytes(word));
        }
    }

    fn put(&self, address: u64, value: u64) {
        let address = address as usize;
        assert!(address.is_multiple_of(8) && address + 8 <= GUEST_BYTES, "the layout above lies within the guest's memory");
        // SAFETY: the assertion keeps the result within the mapping.
        let place = unsafe { self.base.as_ptr().add(address) };
        // SAFETY: the place is mapped, writable and aligned, and no guest, child or reference exists yet.
        unsafe { place.cast::<u64>().write(value) };
    }

    fn report(&self) -> &Report {
        const { assert!(REPORT + size_of::<Report>() <= GUEST_BYTES) };
        // SAFETY: the constant assertion keeps the result within the mapping.
        let place = unsafe { self.base.as_ptr().add(REPORT) };
        // SAFETY: mapped as long as `self`, aligned to a page, zero at first, and made of atomics, which others may write at any time.
        unsafe { &*place.cast::<Report>() }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, of this length, and no reference outlives `self`. A child has its own.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), GUEST_BYTES) };
    }
}

/// Returns the guest's code and the place of its fault handler in it.
fn guest_code() -> (&'static [u8], usize) {
    let (start, fault, end) = (&raw const pyro_kvm_probe_code, &raw const pyro_kvm_probe_fault, &raw const pyro_kvm_probe_end);
    let length = end as usize - start as usize;
    // SAFETY: the labels delimit read-only bytes of this program, in this order.
    (unsafe { std::slice::from_raw_parts(start, length) }, fault as usize - start as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdict_comes_in_time_and_leaves_no_process() {
        let started = Instant::now();
        let verdict = probe(DEADLINE);
        println!("{verdict} ({:?})", started.elapsed());
        // No timed assertion: that nothing waits for ever is what counts here, the figure is printed.
        let reaped = rustix::process::waitpid(None, WaitOptions::NOHANG);
        assert!(matches!(reaped, Err(rustix::io::Errno::CHILD) | Ok(None)), "{reaped:?}");
    }

    #[test]
    fn guest_code_fits_its_page_and_holds_its_handler() {
        let (code, fault) = guest_code();
        assert!(code.len() < PAGE_BYTES as usize && fault < code.len());
        assert_eq!(code[fault - 2], 0xeb, "the handler follows the jump that ends the program");
    }

    #[track_caller]
    fn check(stage: Stage, errno: i32, outcome: u32, rounds: u64, nanoseconds: u64, ended: Ended, expected: &str) {
        let report = Report {
            rounds: rounds.into(),
            stage: (stage as u32).into(),
            errno: errno.into(),
            outcome: outcome.into(),
            run_nanoseconds: nanoseconds.into(),
        };
        assert_eq!(judge(&report, ended).reason(), expected);
    }

    #[test]
    fn every_ending_has_its_verdict() {
        let slow = "`/dev/kvm` emulates guest kernels in software, 1.8 million instructions per second where 50 are needed";
        check(Stage::Running, 0, Outcome::HALTED, ROUNDS, 1_000_000, Ended::ByItself, "KVM runs guest code at the speed of hardware");
        check(Stage::Running, 0, Outcome::HALTED, ROUNDS, 1_000_000_000, Ended::ByItself, slow);
        check(
            Stage::Running,
            0,
            Outcome::NONE,
            0,
            0,
            Ended::Killed { after: DEADLINE },
            "`/dev/kvm` emulates guest kernels in software, 0.0 million instructions per second where 50 are needed",
        );
        check(Stage::Running, 0, Outcome::SHUTDOWN, 2, 5, Ended::ByItself, "KVM mishandles guest code: it crashed in round 3 of 64");
        check(Stage::Running, 0, Outcome::NONE, 2, 0, Ended::ByItself, "KVM ended the process that ran guest code");
        check(
            Stage::Machine,
            libc::EBUSY,
            Outcome::NONE,
            0,
            0,
            Ended::ByItself,
            "KVM cannot create a machine: Device or resource busy (os error 16)",
        );
        check(Stage::Processor, 0, Outcome::NONE, 0, 0, Ended::Killed { after: DEADLINE }, "KVM takes too long to create a processor");
    }
}
