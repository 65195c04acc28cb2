//! Wire formats of Pyro: the `.proto` files, their generated types, the rules of the guest channel, and how a path of a workspace is
//! followed, which agent and host must agree on.
//!
//! This crate does no I/O. It is compiled into the guest agent, so its dependencies are an allow-list: `bytes`, `prost`, `tonic`
//! (codegen and transport only) and `thiserror`.

pub mod channel;
pub mod error;
pub mod limits;
pub mod links;
pub mod pem;
pub mod process;

/// Messages and services, generation 1.
#[expect(
    missing_docs,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated; the .proto files carry the documentation"
)]
pub mod v1 {
    tonic::include_proto!("pyro.v1");
}
