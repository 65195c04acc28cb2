//! One look whether a service can be used. A look that hangs counts as a failed one; what it had started in the guest is ended with it.

use std::time::Duration;

use hyper::{Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use pyro_proto::v1::{ConnectOpen, ExecInput, ExecStart, exec_input::Input, exec_output::Output};
use pyro_store::{ReadinessProbe, ServiceSpec};
use tokio::sync::mpsc;

use crate::{agent::connected, error::HostResult, workspace::Supervisor};

/// How long one look may take. A command is given more than a connection: under translation a Python program needs seconds.
const LOOK_DEADLINE: Duration = Duration::from_secs(5);
const COMMAND_DEADLINE: Duration = Duration::from_secs(30);

/// Tells whether the probe succeeds now.
pub(super) async fn succeeds(supervisor: &Supervisor, probe: &ReadinessProbe, spec: &ServiceSpec) -> bool {
    let (deadline, look) = match probe {
        ReadinessProbe::Command(_) => (COMMAND_DEADLINE, look(supervisor, probe, spec)),
        ReadinessProbe::File(_) | ReadinessProbe::Tcp { .. } | ReadinessProbe::Http { .. } => {
            (LOOK_DEADLINE, look(supervisor, probe, spec))
        }
    };
    matches!(tokio::time::timeout(deadline, look).await, Ok(Ok(true)))
}

async fn look(supervisor: &Supervisor, probe: &ReadinessProbe, spec: &ServiceSpec) -> HostResult<bool> {
    match probe {
        ReadinessProbe::File(path) => supervisor.agent()?.exists(path).await,
        ReadinessProbe::Tcp { host, port } => supervisor.agent()?.connect_port(open(host, *port), LOOK_DEADLINE).await.map(|_| true),
        ReadinessProbe::Http { host, port, target, .. } => answers(supervisor, host, *port, target).await,
        ReadinessProbe::Command(line) => command(supervisor, line, spec).await,
    }
}

fn open(host: &str, port: u16) -> ConnectOpen {
    ConnectOpen { port: port.into(), host: host.to_owned() }
}

/// Asks with a `GET`. What the guest answers is hostile: hyper reads the head, with its own caps, and nobody the body.
async fn answers(supervisor: &Supervisor, host: &str, port: u16, target: &str) -> HostResult<bool> {
    // A name of the URL other than the loopback's is for the header; what is probed is this machine.
    let is_address = host.parse::<std::net::IpAddr>().is_ok();
    let stream = connected(supervisor.agent()?, open(if is_address { host } else { "" }, port), LOOK_DEADLINE).await?;
    let Ok((mut sender, connection)) = http1::handshake(TokioIo::new(stream)).await else { return Ok(false) };
    let request = Request::get(target)
        .header("host", if port == 80 { host.to_owned() } else { format!("{host}:{port}") })
        .header("user-agent", "pyro-readiness")
        .header("connection", "close")
        .body(http_body_util::Empty::<bytes::Bytes>::new());
    let Ok(request) = request else { return Ok(false) };
    let response = async {
        match sender.send_request(request).await {
            Ok(response) => response.status().is_success() || response.status().is_redirection(),
            Err(_) => false,
        }
    };
    // The connection may be over before its answer is looked at.
    let drive = async {
        drop(connection.await);
        std::future::pending().await
    };
    tokio::select! {
        ready = response => Ok(ready),
        never = drive => never,
    }
}

/// Runs a line in the guest, without an entry in the journal. It ends with its call.
async fn command(supervisor: &Supervisor, line: &str, spec: &ServiceSpec) -> HostResult<bool> {
    let start = ExecStart {
        argv: ["/bin/sh", "-c", line].map(|word| word.to_owned().into()).to_vec(),
        cwd: spec.cwd.clone().into(),
        env: supervisor.environment_of(spec)?,
        user: spec.user.clone(),
        timeout_ms: u64::try_from(COMMAND_DEADLINE.as_millis()).unwrap_or(u64::MAX),
        ..ExecStart::default()
    };
    let (input, guest_input) = mpsc::channel(1);
    drop(input.try_send(ExecInput { input: Some(Input::Start(supervisor.equip(start))) }));
    let mut output = supervisor.agent()?.exec(guest_input, None).await?;
    while let Ok(Some(message)) = output.message().await {
        if let Some(Output::Exit(exit)) = message.output {
            return Ok(exit.exit_code == 0);
        }
    }
    Ok(false)
}
