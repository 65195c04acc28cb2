//! Which accelerator a new machine gets. `/dev/kvm` proves nothing: the probe runs guest code under a deadline, once per boot of the host.

use pyro_store::{Accelerator, Registry, boot_id};
use pyro_sys::kvm::{self, Verdict};

use crate::{
    Observer, Progress, Pyro,
    config::AcceleratorChoice,
    error::{Cause, Problem, Result},
};

const FACT: &str = "kvm-verdict";
const USABLE: &str = "usable";

/// What the probe found, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    /// Why hardware virtualization is not usable, in one line; `None` when it is.
    pub(crate) obstacle: Option<String>,
    /// Whether it was probed just now.
    pub(crate) fresh: bool,
}

/// Returns this boot's verdict, probing when there is none.
pub(crate) fn verdict(registry: &Registry) -> Result<Known> {
    let boot = boot_id();
    if let Some(text) = registry.fact(FACT, &boot)? {
        return Ok(Known { obstacle: (text != USABLE).then_some(text), fresh: false });
    }
    let obstacle = probe();
    registry.remember_fact(FACT, &boot, obstacle.as_deref().unwrap_or(USABLE))?;
    Ok(Known { obstacle, fresh: true })
}

fn probe() -> Option<String> {
    match kvm::probe(kvm::DEADLINE) {
        Verdict::Usable => None,
        obstacle @ (Verdict::Absent | Verdict::Forbidden { .. } | Verdict::TooSlow { .. } | Verdict::Broken { .. }) => {
            Some(obstacle.to_string())
        }
    }
}

impl Pyro {
    /// Decides how a new machine runs.
    pub(crate) async fn accelerator(&self, observer: &Observer) -> Result<Accelerator> {
        let choice = self.configuration().accelerator;
        if choice == AcceleratorChoice::Tcg {
            return Ok(Accelerator::Tcg);
        }
        let verdict = self.store(|_, registry| verdict(registry)).await?;
        match (verdict.obstacle, choice) {
            (None, _) => Ok(Accelerator::Kvm),
            (Some(obstacle), AcceleratorChoice::Kvm) => Err(Problem::NoKvm { source: Cause::new(obstacle) }.into()),
            (Some(obstacle), AcceleratorChoice::Auto | AcceleratorChoice::Tcg) => {
                if verdict.fresh {
                    observer.notify(Progress::AcceleratorFallback { verdict: obstacle });
                }
                Ok(Accelerator::Tcg)
            }
        }
    }
}
