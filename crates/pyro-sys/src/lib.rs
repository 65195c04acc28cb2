//! The only crate of Pyro with `unsafe`: thin, misuse-proof wrappers around what the operating system offers and no kept library wraps.

pub mod device;
#[cfg(feature = "host")]
pub mod inherit;
#[cfg(feature = "host")]
pub mod kvm;
#[cfg(feature = "host")]
pub mod launch;
#[cfg(feature = "host")]
pub mod process;
pub mod signal;
pub mod spawn;
