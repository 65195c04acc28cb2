//! Trees of files: where seeds come from, what is remembered of them, how two trees differ, and how a difference is brought home.
//!
//! Everything here runs on the host, is synchronous, starts no process and knows nothing of machines. Its inputs are hostile: a seed may
//! come from a stranger's repository, a patch from a model, a difference from a guest. Paths inside a tree are [`TreePath`], host paths
//! are [`std::path::Path`]; the two never turn into each other outside `source`, `landing` and `export`.

mod beneath;
mod diff;
mod entry;
mod export;
mod files;
mod given;
mod ignore;
mod landing;
mod manifest;
mod patch;
mod path;
mod records;
mod source;

pub use beneath::Sparse;
pub use diff::{Change, Content, DiffEntry, DiffLimits, DiffReport, Difference, Side, render};
pub use entry::{Entry, EntryKind, MODE_MASK, Timestamp};
pub use export::{ExportError, ExportReport, Exporter};
pub use given::{Event, Given, GivenChange, GivenEntry, holding, kept_at};
pub use ignore::{IGNORE_FILE_MAX_BYTES, IgnoreJudge, IgnoreRules, TooManyRules};
pub use landing::{
    Hazard, LandingError, Plan, Receipt, Recovered, Repositories, Strangers, Undone, Verdict, VerdictKind, hazards, is_git, land, plan,
    recover, undo,
};
pub use manifest::{Manifest, ManifestEntry};
pub use patch::{
    Applied, Edit, Foreign, Operation, PATCH_MAX_BYTES, PATCH_MAX_FILES, Patch, PatchError, PatchedPath, PathState, PathStates,
    SyntaxProblem, parse,
};
pub use path::{NAME_MAX_BYTES, PATH_MAX_BYTES, PathError, PathProblem, TreePath, printable, printable_cut};
pub use records::RecordsError;
pub use source::{
    ArchiveProblem, GitEnvironment, LEFT_OUT_MAX, LeftOut, NOTES_MAX, Note, OriginKind, Sink, SourceError, SourceOptions, SourceReport,
    read_source,
};
