//! What Pyro keeps on the host: folders, the registry (SQLite), reference-counted layers, the index of templates, and the journal.
//!
//! Both sides of the contract use it: clients (`pyro-sdk`) to find and claim, supervisors (`pyro-host`) to publish. The one process it
//! starts is a supervisor, because clients and supervisors both do; everything here is synchronous and short.

mod checkpoint;
mod dirs;
mod error;
mod files;
mod host_facts;
mod ids;
mod installation;
mod journal;
mod life;
mod lock;
mod network_log;
mod orphans;
mod process;
mod reap;
mod registry;
mod reserve;
mod ring;
mod scratch;
mod settings;
mod shape;
mod socket;
mod start;
mod unfinished;

pub use checkpoint::CheckpointRecord;
pub use dirs::Dirs;
pub use error::{StoreError, StoreResult};
pub use files::{remove_if_present, write_atomically};
pub use host_facts::{boot_id, file_identity};
pub use ids::{IdError, LabelKey, LabelValue, LayerId, MachineId, ServiceName, SnapshotName, WorkspaceId, WorkspaceName, random_hex};
pub use journal::{CommandOutput, JournalWriter, OutputStream, Retention};
pub use life::{end_machine, machine_lives};
pub use lock::{FileLock, LayerLock, LockState, MachineLock};
pub use network_log::{ChainEnd, ChainFault, NetworkLog, Verified};
pub use orphans::{Orphan, orphans};
pub use process::ProcessIdentity;
pub use reap::{Reaped, reap};
pub use registry::{
    Bereft, Carried, CarriedCommand, CarriedProcesses, CommandEnd, CommandRecord, DiskRole, EventRecord, LayerRecord, LiveLayers,
    MachineRecord, MachineRole, MachineState, NetworkPolicy, NetworkRules, NewMachine, NewWorkspace, OnExpire, OutsideRecord, PortRecord,
    PortSpec, ReadinessProbe, Registry, ResetTarget, RestartPolicy, SERVICES_MAX, SecretRecord, SecretSource, SeedRecord, ServiceRecord,
    ServiceSpec, ServiceState, ShellRecord, SnapshotKind, SnapshotRecord, Tenure, WorkspaceRecord, WorkspaceState,
};
pub use ring::{
    RingReader, RingSize, RingWriter, SHELL_RING_BYTES, keep_rings, restore_rings, service_ring, service_ring_name, shell_ring,
    shell_ring_name,
};
pub use scratch::Scratch;
pub use settings::{Resume, Settings, SupervisorArguments};
pub use shape::{Accelerator, COMMAND_LINE_GENERATION, MachineShape, TemplateKey};
pub use socket::{bind_listener, connect_stream};
pub use start::{INHERITED_LISTENER, INHERITED_LOCK, MACHINE_LOCK, start_supervisor};
pub use unfinished::{CutOff, Leftover, Unfinished, cut_off, is_applying, leftovers};
