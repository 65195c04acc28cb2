//! `pyro doctor`: what works on this host, and the command that mends what does not.

mod checks;

use std::time::Instant;

use pyro_image::{Environment, EnvironmentName};
use pyro_store::{COMMAND_LINE_GENERATION, MachineShape, file_identity};

use crate::{
    Pyro, accelerator,
    client::Reap,
    config::AcceleratorChoice,
    contract::{Check, CheckStatus, Doctor, DoctorAnswer, Readiness},
    error::Result,
    exec::milliseconds,
    limits::{MemMib, VcpuCount},
    system::names,
};

impl Pyro {
    /// Reads the shape of a template from its record; `None` when there is none.
    pub(crate) fn template_shape(&self, name: &str) -> Option<MachineShape> {
        #[derive(serde::Deserialize)]
        struct Record {
            shape: MachineShape,
        }
        let text = std::fs::read(self.dirs().templates().join(name).join("template.json")).ok()?;
        serde_json::from_slice::<Record>(&text).ok().map(|record| record.shape)
    }

    /// Tells whether a new machine could have this shape: nothing it depends on was replaced since.
    pub(crate) fn is_current(&self, shape: &MachineShape) -> bool {
        file_identity(&self.configuration().settings.qemu).is_ok_and(|identity| identity == shape.qemu_identity)
            && shape.agent_digest == pyro_image::agent::agent_digest()
            && shape.command_line_generation == COMMAND_LINE_GENERATION
    }

    /// Checks the host. Changes nothing but the remembered verdict on hardware virtualization.
    ///
    /// # Errors
    /// The registry cannot be used; everything else that is wrong is a check's result.
    pub async fn doctor(&self, request: Doctor) -> Result<DoctorAnswer> {
        let environment = self.find_environment(request.environment).await.unwrap_or(None);
        let orphans = self.orphans().await?;
        self.store(move |pyro, registry| {
            pyro.reap_with(registry, Reap::Now)?;
            let mut checks = checks::tools(&pyro.configuration().settings.qemu, pyro.qemu_setting().as_deref(), environment.is_some());
            let (accelerator, check) = pyro.check_accelerator(registry)?;
            checks.push(check);
            checks.extend(checks::host(pyro.dirs()));
            checks.push(checks::machines(&orphans));
            checks.push(check_applied(&pyro.stuck(registry)?));
            let readiness = pyro.readiness(environment.as_ref(), accelerator.as_deref());
            checks.push(check_readiness(request.environment, environment.as_ref(), readiness));
            Ok(DoctorAnswer {
                ready: checks.iter().all(|check| check.status != CheckStatus::Fail),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                environment: request.environment.to_string(),
                readiness,
                accelerator,
                checks,
            })
        })
        .await
    }

    /// Returns the workspaces whose changes are half applied to files of the host and could not be rolled back.
    fn stuck(&self, registry: &pyro_store::Registry) -> Result<Vec<String>> {
        let stuck = pyro_store::cut_off(self.dirs())?.into_iter();
        Ok(stuck.filter_map(|found| registry.workspace(&found.workspace).ok()).map(|record| record.display_name().to_owned()).collect())
    }

    fn check_accelerator(&self, registry: &pyro_store::Registry) -> Result<(Option<String>, Check)> {
        let choice = self.configuration().accelerator;
        let started = Instant::now();
        let known = accelerator::verdict(registry)?;
        let found = match known.fresh {
            true => format!("probed just now in {:.0} ms", milliseconds(started.elapsed())),
            false => "remembered from a probe since the host's boot".to_owned(),
        };
        let verdict = known.obstacle.clone().unwrap_or_else(|| "KVM is usable".to_owned());
        let chosen = match (choice, &known.obstacle) {
            (AcceleratorChoice::Tcg, _) | (AcceleratorChoice::Auto, Some(_)) => Some("tcg"),
            (AcceleratorChoice::Auto | AcceleratorChoice::Kvm, None) => Some("kvm"),
            (AcceleratorChoice::Kvm, Some(_)) => None,
        };
        let detail = format!("`{choice}` means {}: {verdict} ({found})", chosen.unwrap_or("nothing that works"));
        let (status, fix) = match (chosen, &known.obstacle) {
            (None, _) => (CheckStatus::Fail, Some("pyro --accelerator auto …, or `accelerator = \"auto\"` in config.toml".to_owned())),
            (Some("tcg"), Some(_)) if choice == AcceleratorChoice::Auto => (CheckStatus::Warn, checks::kvm_fix()),
            (Some(_), _) => (CheckStatus::Ok, None),
        };
        Ok((chosen.map(ToOwned::to_owned), Check { name: "accelerator".to_owned(), status, detail, fix }))
    }

    /// Tells how fast a first workspace of the default size would be.
    fn readiness(&self, environment: Option<&Environment>, accelerator: Option<&str>) -> Readiness {
        let Some(environment) = environment else { return Readiness::Cold };
        let shapes: Vec<MachineShape> = names(&self.dirs().templates())
            .iter()
            .filter_map(|name| self.template_shape(name))
            .filter(|shape| {
                shape.environment_digest == environment.digest.as_str()
                    && u64::from(shape.vcpu_count) == VcpuCount::default().get()
                    && shape.mem_mib == MemMib::default().get()
                    && Some(shape.accelerator.as_str()) == accelerator
            })
            .collect();
        if shapes.iter().any(|shape| self.is_current(shape)) {
            Readiness::Warm
        } else if shapes.is_empty() {
            Readiness::Cold
        } else {
            Readiness::Stale
        }
    }
}

fn check_applied(stuck: &[String]) -> Check {
    const NAME: &str = "applied changes";
    let Some(first) = stuck.first() else { return checks::ok(NAME, "none is half done") };
    let detail = format!(
        "an interrupted apply of {} could not be rolled back, and files of the host are half changed",
        stuck.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    );
    // Says what is in the way, or succeeds.
    let fix = format!("pyro workspace apply {first} --undo");
    Check { name: NAME.to_owned(), status: CheckStatus::Warn, detail, fix: Some(fix) }
}

fn check_readiness(name: EnvironmentName, environment: Option<&Environment>, readiness: Readiness) -> Check {
    let (status, detail) = match (readiness, environment) {
        (Readiness::Warm, _) => (CheckStatus::Ok, format!("`{name}` is warm: a workspace takes a fraction of a second")),
        (Readiness::Cold, None) => (CheckStatus::Warn, format!("`{name}` is cold: it is not built, the first workspace builds it")),
        (Readiness::Cold, Some(_)) => (CheckStatus::Warn, format!("`{name}` is cold: the first workspace boots its template once")),
        (Readiness::Stale, _) => {
            (CheckStatus::Warn, format!("`{name}` is stale: QEMU or Pyro changed, the next workspace makes its template anew"))
        }
    };
    let fix = (status != CheckStatus::Ok).then(|| format!("pyro prepare {name}"));
    Check { name: "environment".to_owned(), status, detail, fix }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_half_done_apply_is_named_with_what_rolls_it_back() {
        assert_eq!(check_applied(&[]).status, CheckStatus::Ok);
        let check = check_applied(&["api".to_owned(), "web".to_owned()]);
        assert!(check.status == CheckStatus::Warn && check.detail.contains("`api`, `web`"), "{}", check.detail);
        assert_eq!(check.fix.as_deref(), Some("pyro workspace apply api --undo"));
    }

    #[test]
    fn what_is_not_warm_is_mended_by_prepare() {
        let name: EnvironmentName = "debian:12".parse().unwrap();
        for (readiness, fix) in
            [(Readiness::Warm, None), (Readiness::Cold, Some("pyro prepare debian:12")), (Readiness::Stale, Some("pyro prepare debian:12"))]
        {
            assert_eq!(check_readiness(name, None, readiness).fix.as_deref(), fix);
        }
    }
}
