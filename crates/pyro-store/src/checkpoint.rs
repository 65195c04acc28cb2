//! What a live snapshot says about itself: `checkpoints/NAME/checkpoint.json`. Its memory and devices lie beside it and are the
//! supervisor's business.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{Carried, CarriedCommand, CarriedProcesses, Dirs, MachineShape, StoreResult};

const FORMAT: u32 = 1;

/// What a stored machine needs to go on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CheckpointRecord {
    format_version: u32,
    /// Digest of the template's device state, which no two boots share: the pages mean nothing on another template.
    template_digest: String,
    /// Commands that were running.
    pub commands: Vec<CarriedCommand>,
    /// Shells, services and ports; a record of an older Pyro has none, and its machine had none.
    #[serde(default)]
    pub processes: CarriedProcesses,
}

impl CheckpointRecord {
    /// Describes a machine of this shape, whose template must still be there.
    ///
    /// # Errors
    /// It is not.
    pub fn new(dirs: &Dirs, shape: &MachineShape, carried: Carried) -> StoreResult<Self> {
        let Carried { commands, processes } = carried;
        Ok(Self { format_version: FORMAT, template_digest: template_digest(dirs, shape)?, commands, processes })
    }

    /// Writes it into the folder of this name.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn store(&self, dirs: &Dirs, name: &str) -> StoreResult<()> {
        let path = dirs.checkpoints().join(name).join("checkpoint.json");
        // Written once, into a folder that is nobody's until the registry names it.
        Ok(fs_err::write(path, serde_json::to_vec(self).expect("plain fields serialise"))?)
    }

    /// Reads the record of a machine that can still go on. `None` means that its template is not there any more, or that another Pyro
    /// wrote it.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn load(dirs: &Dirs, shape: &MachineShape, name: &str) -> StoreResult<Option<Self>> {
        let bytes = match fs_err::read(dirs.checkpoints().join(name).join("checkpoint.json")) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let record = serde_json::from_slice::<Self>(&bytes).ok().filter(|record| record.format_version == FORMAT);
        Ok(record.filter(|record| template_digest(dirs, shape).is_ok_and(|digest| digest == record.template_digest)))
    }
}

fn template_digest(dirs: &Dirs, shape: &MachineShape) -> StoreResult<String> {
    let state = fs_err::read(dirs.template(&shape.key()).join("state"))?;
    Ok(Sha256::digest(state).iter().map(|byte| format!("{byte:02x}")).collect())
}
