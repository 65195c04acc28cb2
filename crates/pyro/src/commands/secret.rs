//! Secrets on the command line.

use pyro_sdk::text::LiteralSecret;

#[expect(clippy::disallowed_methods, reason = "the user of the command line names the variables to be read")]
/// Gives a secret that was named without a value that of the variable of its name, and takes a core file of this process away from whoever
/// looks for one.
pub(super) fn look_up(secrets: &mut [LiteralSecret]) {
    if secrets.is_empty() {
        return;
    }
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    for secret in secrets.iter_mut().filter(|secret| secret.value.is_none()) {
        // One that is not set, or is no secret, is refused by the operation, which says so.
        secret.value = std::env::var(secret.name.as_str()).ok().and_then(|text| pyro_secret::SecretValue::new(text).ok());
    }
}
