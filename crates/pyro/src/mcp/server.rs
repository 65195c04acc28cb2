//! The server: one set of tools for whatever transport a client comes by.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use pyro_sdk::{EnvironmentName, Pyro};
use rmcp::{
    ErrorData, Peer, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, ContentBlock, CustomRequest, CustomResult, ErrorCode, Implementation, ListToolsResult,
        PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool,
    },
    service::RequestContext,
};
use tokio::sync::{Mutex, MutexGuard, Notify, OnceCell};
use tokio_util::sync::CancellationToken;

use super::{
    answer::{self, Refusal},
    call::Call,
    ceiling::Ceiling,
    progress,
    source::{self, ProjectSource},
    surface::Surface,
};
use crate::{
    cli::{Context, Failure},
    render,
};

/// Calls at work at a time; a client that wants more is told so.
const CALLS_MAX: usize = 64;
/// Clients over HTTP at a time, and calls of those that have no session.
const SESSIONS_MAX: usize = 128;
/// How often it is looked whether a session that a call belongs to has ended.
const SESSION_LOOK: std::time::Duration = std::time::Duration::from_secs(1);
/// How long the end of a server waits for calls that undo what they had begun.
const END_GRACE: std::time::Duration = std::time::Duration::from_secs(30);

/// What a server was started with.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServerOptions {
    /// The environment of every workspace; the model's choice without one.
    pub(crate) environment: Option<EnvironmentName>,
    /// What new workspaces begin with.
    pub(crate) source: ProjectSource,
    /// What the operator allows.
    pub(crate) ceiling: Ceiling,
}

/// A server. Clones share everything.
#[derive(Debug, Clone)]
pub(crate) struct Server(Arc<Inner>, #[expect(dead_code, reason = "it is held for its end")] Option<Arc<Session>>);

/// A client's place among those that are served at a time.
#[derive(Debug)]
struct Session(Arc<Inner>);

impl Drop for Session {
    fn drop(&mut self) {
        self.0.sessions.fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Debug)]
struct Inner {
    surface: Surface,
    options: ServerOptions,
    tools: Vec<Tool>,
    context: Context,
    /// Opened by the first call: a list of tools needs nothing of the host.
    pyro: OnceCell<Pyro>,
    clone: source::Clone,
    /// Held while a call uses a path of the host that is held to folders.
    touching_the_host: Mutex<()>,
    /// Held while a workspace is made, so that two calls never share the last place.
    making: Mutex<()>,
    ending: CancellationToken,
    calls: AtomicUsize,
    call_ended: Notify,
    sessions: AtomicUsize,
}

impl Server {
    pub(crate) fn new(surface: Surface, options: ServerOptions, context: Context) -> Self {
        Self(
            Arc::new(Inner {
                surface,
                tools: surface.tools(&options),
                options,
                context,
                pyro: OnceCell::new(),
                clone: source::Clone::default(),
                touching_the_host: Mutex::new(()),
                making: Mutex::new(()),
                ending: CancellationToken::new(),
                calls: AtomicUsize::new(0),
                call_ended: Notify::new(),
                sessions: AtomicUsize::new(0),
            }),
            None,
        )
    }

    /// Returns the server for one more client, or nothing when there are too many.
    pub(super) fn for_session(&self) -> Option<Self> {
        let count = self.0.sessions.fetch_add(1, Ordering::SeqCst);
        let session = Session(self.0.clone());
        (count < SESSIONS_MAX).then(|| Self(self.0.clone(), Some(Arc::new(session))))
    }

    pub(super) fn surface(&self) -> Surface {
        self.0.surface
    }

    pub(super) fn options(&self) -> &ServerOptions {
        &self.0.options
    }

    pub(super) fn clone_of_source(&self) -> &source::Clone {
        &self.0.clone
    }

    pub(super) async fn pyro(&self) -> Result<Pyro, Refusal> {
        let opened = self.0.pyro.get_or_try_init(|| async { self.0.context.pyro() }).await;
        opened.cloned().map_err(|failure| match failure {
            Failure::Pyro(error) => error.into(),
            Failure::Output(error) => {
                Refusal::of_kind(pyro_sdk::ErrorKind::Io, error.to_string(), "check the host with `pyro doctor`".to_owned())
            }
            Failure::Host(error) => Refusal::of_kind(error.kind(), error.to_string(), error.hint()),
            Failure::Bug(text) => Refusal::of_kind(pyro_sdk::ErrorKind::Internal, text, pyro_sdk::ErrorKind::Internal.hint().to_owned()),
        })
    }

    /// Takes turns with other calls that use paths of the host.
    pub(super) async fn touching_the_host(&self) -> MutexGuard<'_, ()> {
        self.0.touching_the_host.lock().await
    }

    /// Takes turns with other calls that make workspaces, where their number is limited.
    pub(super) async fn making(&self) -> Option<MutexGuard<'_, ()>> {
        match self.0.options.ceiling.max_workspaces {
            Some(_) => Some(self.0.making.lock().await),
            None => None,
        }
    }

    /// Returns the token that ends everything when the server ends.
    pub(super) fn ending(&self) -> &CancellationToken {
        &self.0.ending
    }

    /// Calls off what is at work, and returns when it has undone what it had begun.
    pub(crate) async fn end(&self) {
        self.0.ending.cancel();
        let quiet = async {
            loop {
                let ended = self.0.call_ended.notified();
                if self.0.calls.load(Ordering::SeqCst) == 0 {
                    return;
                }
                ended.await;
            }
        };
        drop(tokio::time::timeout(END_GRACE, quiet).await);
        self.0.clone.remove().await;
    }

    fn instructions(&self) -> String {
        let has = |tool: &str| self.0.tools.iter().any(|known| known.name == tool);
        let mut text = "Pyro runs commands in disposable Linux VMs with their own kernel; nothing in them touches this host.".to_owned();
        if has("workspace_create") {
            text.push_str(
                " Create a workspace, work in /workspace, take the diff or export what is wanted, delete it. When a workspace is in a bad \
                 state, reset it instead of repairing it.",
            );
        }
        text
    }
}

/// Counts a call while it is at work.
struct AtWork(Arc<Inner>);

impl AtWork {
    fn begin(inner: &Arc<Inner>) -> Option<Self> {
        let count = inner.calls.fetch_add(1, Ordering::SeqCst);
        let this = Self(inner.clone());
        (count < CALLS_MAX).then_some(this)
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::SeqCst);
        self.0.call_ended.notify_waiters();
    }
}

/// Returns when a client's session has ended.
async fn ended(peer: &Peer<RoleServer>) {
    while !peer.is_transport_closed() {
        tokio::time::sleep(SESSION_LOOK).await;
    }
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("pyro", env!("CARGO_PKG_VERSION")))
            .with_instructions(self.instructions())
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(self.0.tools.clone()))
    }

    async fn on_custom_request(&self, request: CustomRequest, _context: RequestContext<RoleServer>) -> Result<CustomResult, ErrorData> {
        let method: String = request.method.chars().take(80).collect();
        Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, format!("there is no method {method}"), None))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.0.tools.iter().find(|tool| tool.name == name).cloned()
    }

    async fn call_tool(&self, request: CallToolRequestParams, context: RequestContext<RoleServer>) -> Result<CallToolResponse, ErrorData> {
        let surface = self.surface();
        let offered = self.0.tools.iter().any(|tool| tool.name == request.name);
        let Some(entry) = surface.find(&request.name).filter(|_| offered) else {
            let name: String = request.name.chars().take(80).collect();
            let text = format!("there is no tool {name} in {}; list them with tools/list", surface.name());
            return Err(ErrorData::invalid_params(text, None));
        };
        let tool = entry.definition.mcp.unwrap_or_default();
        let Some(at_work) = AtWork::begin(&self.0) else {
            let refusal = Refusal::limit(format!("{CALLS_MAX} calls are at work already"), "wait for one of them to end".to_owned());
            return Ok(refusal.into_result(surface).into());
        };
        // The call has a task of its own, so that a cancelled one can undo what it had begun although nobody waits for it.
        let cancelled = self.ending().child_token();
        let observer = progress::observer(&context.peer, context.meta.get_progress_token());
        let server = self.clone();
        let mut work = tokio::spawn({
            let cancelled = cancelled.clone();
            async move {
                let _at_work = at_work;
                Call { server: &server, entry, cancelled, observer }.run(request.arguments.unwrap_or_default()).await
            }
        });
        let guard = cancelled.drop_guard();
        let outcome = tokio::select! {
            outcome = &mut work => outcome,
            () = context.ct.cancelled() => {
                drop(guard);
                work.await
            }
            () = ended(&context.peer) => {
                drop(guard);
                work.await
            }
        };
        let outcome = outcome.unwrap_or_else(|_| {
            let kind = pyro_sdk::ErrorKind::Internal;
            Err(Refusal::of_kind(kind, format!("{tool} ended by a bug"), kind.hint().to_owned()))
        });
        let mut result = match outcome {
            Ok(answer) => answer::result(tool, surface.profile_of(entry), answer),
            Err(refusal) => refusal.into_result(surface),
        };
        if let Ok(pyro) = self.pyro().await {
            let put_back = pyro.take_put_back();
            result.content.extend(put_back.iter().filter_map(render::put_back).map(|text| ContentBlock::text(format!("note: {text}"))));
        }
        Ok(result.into())
    }
}
