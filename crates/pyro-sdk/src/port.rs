//! Published ports: the supervisor listens and carries, the registry tells.

use pyro_proto::v1::{PortPublishRequest, PortUnpublishRequest};
use pyro_store::{NetworkPolicy, PortRecord, WorkspaceRecord};

use crate::{
    Pyro, Workspace,
    client::Reap,
    contract::{OpenPort, PortList, PortListAnswer, PortPublish, PortPublished, PortUnpublish, PortUnpublished},
    error::{Error, Problem, Result},
    exec::ANSWER_DEADLINE,
    supervisor::Client,
};

impl Pyro {
    /// Publishes a port of a running workspace on the host's 127.0.0.1; returns when connections are accepted.
    ///
    /// # Errors
    /// The workspace does not run, its policy has no published ports, the host's port is taken, or there is no such service.
    pub async fn publish_port(&self, request: &PortPublish) -> Result<PortPublished> {
        const OPERATION: &str = "publish a port of";
        let (workspace, record) = self.find(&request.workspace, Reap::WhenDue).await?;
        workspace.may_publish(&record)?;
        if let Some(name) = &request.service {
            workspace.service_record(name).await?;
        }
        let publish = PortPublishRequest {
            guest_port: request.port.guest_port.into(),
            host_port: request.port.host_port.unwrap_or(0).into(),
            service: request.service.as_ref().map(ToString::to_string).unwrap_or_default(),
        };
        let call = |mut client: Client| async move { client.port_publish(publish).await };
        let host_port = workspace.ask(&record, OPERATION, ANSWER_DEADLINE, call).await.map_err(Error::about_ports)?.host_port;
        let port = PortRecord {
            host_port: u16::try_from(host_port).unwrap_or(u16::MAX),
            guest_port: request.port.guest_port,
            fixed: request.port.host_port.is_some(),
            service: request.service.clone(),
        };
        Ok(PortPublished { workspace_id: record.id.to_string(), port: OpenPort::from(&port) })
    }

    /// Takes published ports back; their connections are closed.
    ///
    /// # Errors
    /// The workspace does not run, or the port is not published.
    pub async fn unpublish_port(&self, request: &PortUnpublish) -> Result<PortUnpublished> {
        const OPERATION: &str = "take back a port of";
        let (workspace, record) = self.find(&request.workspace, Reap::WhenDue).await?;
        let unpublish =
            PortUnpublishRequest { guest_port: request.port.guest_port.into(), host_port: request.port.host_port.unwrap_or(0).into() };
        let call = |mut client: Client| async move { client.port_unpublish(unpublish).await };
        let unpublished = workspace.ask(&record, OPERATION, ANSWER_DEADLINE, call).await.map_err(Error::about_ports)?.unpublished;
        Ok(PortUnpublished {
            workspace_id: record.id.to_string(),
            guest_port: request.port.guest_port,
            unpublished_count: unpublished.into(),
        })
    }

    /// Lists a workspace's published ports. Does not count as activity and needs no machine.
    ///
    /// # Errors
    /// There is no such workspace.
    pub async fn list_ports(&self, request: &PortList) -> Result<PortListAnswer> {
        let (_, record) = self.find(&request.workspace, Reap::WhenDue).await?;
        self.store(move |_, registry| {
            let published_ports = registry.ports(&record.id)?.iter().map(OpenPort::from).collect();
            Ok(PortListAnswer { workspace_id: record.id.to_string(), published_ports })
        })
        .await
    }
}

impl Workspace {
    /// Refuses when the workspace's policy has no published ports.
    pub(crate) fn may_publish(&self, record: &WorkspaceRecord) -> Result<()> {
        if record.network_policy.has_published_ports() {
            return Ok(());
        }
        let with_ports =
            if record.network_policy.has_egress() { NetworkPolicy::EgressAndPublishedPorts } else { NetworkPolicy::PublishedPorts };
        let refused = Problem::NoPublishedPorts {
            workspace: self.label().to_owned(),
            policy: record.network_policy.as_str(),
            with_ports: with_ports.as_str(),
            environment: record.environment.clone(),
        };
        Err(Error::from(refused).about(self.label()))
    }
}
