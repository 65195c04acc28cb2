//! The server over streamable HTTP: on the loopback unless told otherwise, always with a token, and for no page of a browser.

use std::{
    convert::Infallible,
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use pyro_sdk::{ErrorKind, edge};
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;

use super::{Server, stdio::ended_by_signal};
use crate::cli::{Context, Failure};

/// Variable that holds the token, for those who would rather not have a file.
const TOKEN_VARIABLE: &str = "PYRO_MCP_TOKEN";
/// Longest and shortest token.
const TOKEN_BYTES: std::ops::RangeInclusive<usize> = 16..=4096;
/// Largest request; the largest patch fits with every byte escaped.
const REQUEST_MAX_BYTES: usize = 32 << 20;
/// The one path.
const PATH: &str = "/mcp";

/// Where and for whom to listen.
#[derive(Debug, Clone)]
pub(crate) struct HttpOptions {
    /// Address and port; port 0 is chosen by the system.
    pub(crate) address: SocketAddr,
    /// File with the token; made up and told without one.
    pub(crate) token_file: Option<PathBuf>,
    /// Origins of pages that may call.
    pub(crate) allowed_origins: Vec<String>,
}

type Body = BoxBody<Bytes, Infallible>;

/// Serves clients until this process is asked to end.
pub(crate) async fn serve_http(server: Server, options: HttpOptions, context: &Context) -> Result<(), Failure> {
    let token = Token::obtain(&options, context)?;
    let listener = TcpListener::bind(options.address).await.map_err(|error| {
        let kind = if error.kind() == std::io::ErrorKind::AddrInUse { ErrorKind::Conflict } else { ErrorKind::Io };
        failure(kind, format!("cannot listen on {}", options.address), error.to_string())
    })?;
    let address = listener.local_addr().map_err(|error| failure(ErrorKind::Io, "cannot listen".to_owned(), error.to_string()))?;
    let mut fields = vec![("url", format!("http://{address}{PATH}").into())];
    if let Some(file) = token.made() {
        fields.push(("token_file", file.display().to_string().into()));
    }
    context.printer.status("mcp-serve", &fields);

    let mut origins = options.allowed_origins;
    // Its own pages, were there any, and what a client that must send an origin sends.
    origins.push(format!("http://{address}"));
    if address.ip().is_loopback() {
        origins.push(format!("http://localhost:{}", address.port()));
    }
    let mut configuration = StreamableHttpServerConfig::default()
        .with_allowed_origins(origins)
        .enforce_origin_validation()
        .with_max_request_body_bytes(REQUEST_MAX_BYTES)
        .with_cancellation_token(server.ending().child_token());
    if !address.ip().is_loopback() {
        // Whoever listens for other hosts is called by names nobody here knows; the token tells friend from foe.
        configuration = configuration.disable_allowed_hosts();
    }
    let factory = server.clone();
    let service = StreamableHttpService::new(move || Ok(factory.clone()), Arc::new(LocalSessionManager::default()), configuration);
    let digest = token.digest();
    let accepting = async {
        loop {
            let Ok((connection, _)) = listener.accept().await else {
                // Out of descriptors, most likely: others must end first.
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            };
            let service = service.clone();
            tokio::spawn(async move {
                let answer = service_fn(move |request| answer(service.clone(), digest, request));
                drop(auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(connection), answer).await);
            });
        }
    };
    tokio::select! {
        () = accepting => {}
        () = ended_by_signal() => {}
    }
    server.end().await;
    drop(token);
    Ok(())
}

async fn answer(
    service: StreamableHttpService<Server, LocalSessionManager>,
    token: [u8; 32],
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    if request.uri().path() != PATH {
        return Ok(plain(StatusCode::NOT_FOUND, "there is only /mcp here\n"));
    }
    let given = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    // Digests are compared, so that how long it takes tells nothing of the token.
    if given.map(digest) != Some(token) {
        let mut refused = plain(StatusCode::UNAUTHORIZED, "give the token as `Authorization: Bearer TOKEN`\n");
        refused.headers_mut().insert(WWW_AUTHENTICATE, hyper::header::HeaderValue::from_static("Bearer"));
        return Ok(refused);
    }
    Ok(service.handle(request).await)
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())).boxed());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

fn failure(kind: ErrorKind, message: String, cause: String) -> Failure {
    Failure::Pyro(pyro_sdk::Error::from(pyro_sdk::Failure { kind: kind.into(), message, causes: vec![cause] }))
}

/// The token clients must give. Only its digest is kept; one that was made up is in a file that goes with the server.
struct Token {
    digest: [u8; 32],
    file: Option<tempfile::TempPath>,
}

impl Token {
    fn obtain(options: &HttpOptions, context: &Context) -> Result<Self, Failure> {
        if let Some(path) = &options.token_file {
            let text = std::fs::read_to_string(path)
                .map_err(|error| failure(ErrorKind::Io, format!("cannot read the token file `{}`", path.display()), error.to_string()))?;
            return Self::given(&text, &format!("the token in `{}`", path.display()));
        }
        if let Some(text) = edge::process_variable(TOKEN_VARIABLE) {
            return Self::given(&text.to_string_lossy(), &format!("the token in `{TOKEN_VARIABLE}`"));
        }
        let runtime = context.pyro()?.dirs().runtime.clone();
        Self::make(&runtime)
            .map_err(|error| failure(ErrorKind::Io, format!("cannot write a token file into `{}`", runtime.display()), error.to_string()))
    }

    fn given(text: &str, what: &str) -> Result<Self, Failure> {
        let token = text.trim();
        if !TOKEN_BYTES.contains(&token.len()) || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            let (least, most) = (TOKEN_BYTES.start(), TOKEN_BYTES.end());
            let cause = format!("a token has {least} to {most} printable ASCII characters and no blank");
            return Err(failure(ErrorKind::InvalidArgument, format!("{what} is not accepted"), cause));
        }
        Ok(Self { digest: digest(token), file: None })
    }

    fn make(folder: &Path) -> std::io::Result<Self> {
        let mut random = [0; 32];
        let mut filled = 0;
        while filled < random.len() {
            filled += rustix::rand::getrandom(&mut random[filled..], rustix::rand::GetRandomFlags::empty())?;
        }
        let token: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let path = folder.join(format!("mcp-token-{}", std::process::id()));
        // A file of this name is a dead server's whose number we have.
        drop(std::fs::remove_file(&path));
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        std::io::Write::write_all(&mut file, format!("{token}\n").as_bytes())?;
        Ok(Self { digest: digest(&token), file: Some(tempfile::TempPath::try_from_path(path)?) })
    }

    fn made(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    const fn digest(&self) -> [u8; 32] {
        self.digest
    }
}
