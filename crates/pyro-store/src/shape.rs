//! What a machine is made of. Two machines of one shape come from one template; a template of another shape is never used for them.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Generation of QEMU's command line this build makes; raised whenever it changes, so that no older template is restored under it.
pub const COMMAND_LINE_GENERATION: u32 = 4;

/// How guest instructions are executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// The host's hardware virtualization.
    Kvm,
    /// QEMU's translator.
    Tcg,
}

impl Accelerator {
    /// Returns the name used on every surface.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

impl fmt::Display for Accelerator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Everything a template depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MachineShape {
    /// Content digest of the environment.
    pub environment_digest: String,
    /// Virtual CPUs.
    pub vcpu_count: u32,
    /// Guest memory.
    pub mem_mib: u64,
    /// Whether the guest has a network card.
    pub network_card: bool,
    /// How it runs.
    pub accelerator: Accelerator,
    /// Digest of the embedded guest agent.
    pub agent_digest: String,
    /// Which QEMU binary: see [`crate::file_identity`].
    pub qemu_identity: String,
    /// Generation of the command line this Pyro builds; raised whenever it changes.
    pub command_line_generation: u32,
}

/// Names a template: a digest of its shape.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TemplateKey(String);

impl TemplateKey {
    /// Returns the key as text, usable as a folder name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TemplateKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl MachineShape {
    /// Returns the key of this shape's template.
    #[must_use]
    pub fn key(&self) -> TemplateKey {
        // Fields are serialised in the order of their declaration, so equal shapes give equal text.
        let text = serde_json::to_vec(self).expect("plain fields serialise");
        TemplateKey(Sha256::digest(text).iter().take(16).map(|byte| format!("{byte:02x}")).collect())
    }
}
