//! The guest agent, built by this crate's build script and carried in the binary, so that host and guest are never of different versions.

/// The static program that becomes `/init` of every guest.
pub const AGENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pyro-guest"));

/// Returns the SHA-256 of [`AGENT`] in hexadecimal, known since the build; part of every template's key.
#[must_use]
pub fn agent_digest() -> &'static str {
    env!("PYRO_AGENT_DIGEST")
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;

    #[test]
    fn agent_is_a_static_program_with_the_digest_told() {
        let digest: String = Sha256::digest(AGENT).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digest, agent_digest());
        // elf(5): magic, a type of ET_EXEC, and among the program headers no PT_INTERP, which names a dynamic loader.
        let number = |at: usize| usize::from(u16::from_le_bytes([AGENT[at], AGENT[at + 1]]));
        assert_eq!((&AGENT[..4], number(16)), (b"\x7fELF".as_slice(), 2));
        let (offset, size, count) = (number(32), number(54), number(56));
        assert!(count > 0 && (0..count).all(|header| AGENT[offset + header * size] != 3), "it needs no dynamic loader");
    }
}
