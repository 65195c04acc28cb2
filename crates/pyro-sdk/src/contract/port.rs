//! Operations on published ports: ports of a guest on the host's 127.0.0.1. They need no network card.

use pyro_store::ServiceName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{OpenPort, operation::operation};
use crate::text::{PortPublication, WorkspaceReference};

/// Publish a port of a running workspace on the host's 127.0.0.1
///
/// Needs the network policy `published-ports`. It lives and dies with its service, or with the machine. A workspace has at most 64.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct PortPublish {
    /// Workspace: its name, its id, or the beginning of its id
    #[cfg_attr(feature = "cli", arg(value_name = "WORKSPACE"))]
    pub workspace: WorkspaceReference,
    /// `[HOSTPORT:]GUESTPORT`; without a port of the host a free one is taken
    #[cfg_attr(feature = "cli", arg(value_name = "[HOSTPORT:]GUESTPORT"))]
    pub port: PortPublication,
    /// Service it lives and dies with
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "NAME"))]
    pub service: Option<ServiceName>,
}

/// A port that was published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PortPublished {
    /// Id of the workspace
    pub workspace_id: String,
    /// The port
    #[serde(flatten)]
    pub port: OpenPort,
}

/// Take a published port back; its connections are closed
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct PortUnpublish {
    /// Workspace: its name, its id, or the beginning of its id
    #[cfg_attr(feature = "cli", arg(value_name = "WORKSPACE"))]
    pub workspace: WorkspaceReference,
    /// `GUESTPORT`, wherever it is published, or `HOSTPORT:GUESTPORT`
    #[cfg_attr(feature = "cli", arg(value_name = "[HOSTPORT:]GUESTPORT"))]
    pub port: PortPublication,
}

/// A port that was taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PortUnpublished {
    /// Id of the workspace
    pub workspace_id: String,
    /// In the guest
    pub guest_port: u16,
    /// How many ports of the host led to it
    pub unpublished_count: u64,
}

/// List a workspace's published ports
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct PortList {
    /// Workspace: its name, its id, or the beginning of its id
    #[cfg_attr(feature = "cli", arg(value_name = "WORKSPACE"))]
    pub workspace: WorkspaceReference,
}

/// A workspace's published ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PortListAnswer {
    /// Id of the workspace
    pub workspace_id: String,
    /// The ports, by their number in the guest
    pub published_ports: Vec<OpenPort>,
}

operation!(PortPublish => PortPublished, "port_publish", cli: ["workspace", "port", "publish"], python: Some("publish_port"),
    mcp: Some("port_publish"), Full, Changes, Counts, |request, pyro, _observer| pyro.publish_port(&request));
operation!(PortUnpublish => PortUnpublished, "port_unpublish", cli: ["workspace", "port", "unpublish"], python: Some("unpublish_port"),
    mcp: Some("port_unpublish"), Full, Destroys, Harmless, |request, pyro, _observer| pyro.unpublish_port(&request));
operation!(PortList => PortListAnswer, "port_list", cli: ["workspace", "port", "list"], python: Some("list_ports"),
    mcp: Some("port_list"), Full, Reads, Harmless, |request, pyro, _observer| pyro.list_ports(&request));
