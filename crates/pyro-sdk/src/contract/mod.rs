//! The contract: every operation is defined here once, and every surface is derived from it.
//!
//! An operation is its request type. The type's doc comment is the description a person sees in `--help` and a model in a tool list; its
//! fields are flags and properties at once; [`Operation`] adds the answer, the names on each surface, and what the operation does to the
//! world. `docs/reference/operations.md` is written from [`operations`], and a test fails when a surface lacks what it should have.
//!
//! A field that only the full profile has carries `#[schemars(extend("x-pyro-profile" = "full"))]`; [`Entry::request_schema`] leaves it out
//! of smaller profiles.

mod answers;
mod changes;
mod command;
mod disk;
mod environment;
mod event;
mod files;
mod guest_command;
mod host;
mod network;
mod operation;
mod port;
mod run;
mod service;
mod shell;
mod snapshot;
mod summary;
mod vm;
mod workspace;

pub use answers::{
    CommandAnswer, CommandEntry, CommandState, ExecutionMode, ExpireAction, NetworkPolicy, OpenPort, Secret, ServiceInBrief,
    WorkspaceCreated, WorkspaceDeleted, WorkspaceList, WorkspaceSeed, WorkspaceState, WorkspaceStatus,
};
pub use changes::{
    AppliedFile, AppliedHazard, Apply, ApplyAnswer, Diff, DiffAnswer, DiffItem, DiffSummary, Export, ExportAnswer, LeftOut, PatchApply,
    PatchApplyAnswer, PatchedFile, SourceNote, SyncPush, SyncPushAnswer,
};
pub use command::{ExecKill, ExecKillAnswer, ExecWait, LogOutput, Logs, LogsAnswer, WorkspaceExec};
pub use disk::{DiskExport, DiskExportAnswer, DiskList, DiskRead};
pub use environment::{
    EnvironmentAnswer, EnvironmentInspect, EnvironmentList, EnvironmentListAnswer, EnvironmentPrune, EnvironmentPruneAnswer,
    EnvironmentPull, PrunedItem,
};
pub use event::{Event, WorkspaceEvents, WorkspaceEventsAnswer};
pub use files::{
    ArtifactType, FileEntry, FileList, FileListAnswer, FileRead, FileReadAnswer, FileReplace, FileReplaceAnswer, FileSearch,
    FileSearchAnswer, FileWrite, FileWriteAnswer, SearchMatch,
};
pub use guest_command::GuestCommand;
pub use host::{
    Check, CheckStatus, DiskUse, DiskUseItem, Doctor, DoctorAnswer, Prepare, PrepareAnswer, Readiness, Step, SystemDf, SystemPrune,
    SystemPruneAnswer,
};
pub use network::{
    AuditAnswer, AuditVerify, AuditedLog, NetworkAllow, NetworkAnswer, NetworkDeny, NetworkEntry, NetworkLearn, NetworkLearnAnswer,
    NetworkList,
};
pub use operation::{Definition, Effect, Entry, Operation, Profile, Repeat, operations, request_of};
pub use port::{PortList, PortListAnswer, PortPublish, PortPublished, PortUnpublish, PortUnpublished};
pub use run::VmRun;
pub use service::{
    ProbeKind, RestartPolicy, Service, ServiceList, ServiceListAnswer, ServiceLogs, ServiceLogsAnswer, ServiceOutcome, ServiceReadiness,
    ServiceStart, ServiceStarted, ServiceState, ServiceStatus, ServiceStop,
};
pub use shell::{
    Shell, ShellClose, ShellList, ShellListAnswer, ShellOpen, ShellRead, ShellReadAnswer, ShellResize, ShellSignalAnswer,
    ShellSignalRequest, ShellState, ShellWait, ShellWrite, ShellWriteAnswer,
};
pub use snapshot::{
    Snapshot, SnapshotCreate, SnapshotDelete, SnapshotDeleted, SnapshotKind, SnapshotList, SnapshotListAnswer, WorkspaceFork,
    WorkspaceForkAnswer, WorkspaceReset,
};
pub use summary::{Summary, SummaryAnswer};
pub use vm::{VmCreate, VmDelete, VmExec, VmNetwork, VmNetworkInfo, VmReapExpired, VmReaped, VmStart, VmStatus, VmStop};
pub use workspace::{
    WorkspaceCreate, WorkspaceDelete, WorkspaceListRequest, WorkspaceStart, WorkspaceStatusRequest, WorkspaceStop, WorkspaceUpdate,
};
