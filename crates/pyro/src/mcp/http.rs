//! The server over streamable HTTP: on the loopback unless told otherwise, always with a token, and for no page of a browser.

use std::{
    convert::Infallible,
    net::SocketAddr,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use pyro_sdk::{ErrorKind, edge};
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager};
use sha2::{Digest as _, Sha256};
use tokio::{net::TcpListener, sync::Semaphore};

use super::{
    Server, is_alive,
    message::{self, Unreadable},
    request_id::IdScanner,
    stdio::ended_by_signal,
};
use crate::cli::{Context, Failure};

/// Variable that holds the token, for those who would rather not have a file.
const TOKEN_VARIABLE: &str = "PYRO_MCP_TOKEN";
/// How the file of a token that was made up begins; the server's process id follows.
const TOKEN_FILE: &str = "mcp-token-";
/// Longest and shortest token.
const TOKEN_BYTES: std::ops::RangeInclusive<usize> = 16..=4096;
/// Largest request; the largest patch fits with every byte escaped.
const REQUEST_MAX_BYTES: usize = 32 << 20;
/// How long a connection may take to send the head of a request.
const HEADER_DEADLINE: Duration = Duration::from_secs(10);
/// Connections at a time; each takes some 20 KiB and a descriptor.
const CONNECTIONS_MAX: usize = 512;
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

    if let Some(wrong) = options.allowed_origins.iter().find(|origin| !origin.starts_with("http://") && !origin.starts_with("https://")) {
        let cause =
            "an origin is a scheme and a host, for example `http://localhost:6274`; there is no way to let every page in".to_owned();
        return Err(failure(ErrorKind::InvalidArgument, format!("`{wrong}` is no origin"), cause));
    }
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
    let sessions = Arc::new(LocalSessionManager::default());
    let place = move || factory.for_session().ok_or_else(|| std::io::Error::other("too many sessions are open"));
    let service = StreamableHttpService::new(place, sessions, configuration);
    let digest = token.digest();
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let accepting = async {
        loop {
            let Ok((connection, _)) = listener.accept().await else {
                // Out of descriptors, most likely: others must end first.
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            };
            // Those that wait here have cost nothing but a place in the system's queue.
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let service = service.clone();
            tokio::spawn(async move {
                let answer = service_fn(move |request| answer(service.clone(), digest, request));
                let mut builder = auto::Builder::new(TokioExecutor::new());
                // A stranger is let go when it has not shown the token in time.
                builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_DEADLINE);
                builder.http2().timer(TokioTimer::new()).keep_alive_interval(HEADER_DEADLINE).keep_alive_timeout(HEADER_DEADLINE);
                drop(builder.serve_connection(TokioIo::new(connection), answer).await);
                drop(place);
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
        refused.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        refused.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        return Ok(refused);
    }
    let is_json = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|value| {
        let kind = value.split(';').next().unwrap_or_default();
        kind.trim().eq_ignore_ascii_case("application/json")
    });
    if request.method() != Method::POST || !is_json {
        return Ok(service.handle(request).await);
    }
    let (head, body) = request.into_parts();
    match read(body).await {
        Ok(body) => Ok(service.handle(Request::from_parts(head, Full::new(body))).await),
        Err(refused) => Ok(refused),
    }
}

/// Reads a message, or says under its id what is wrong with it: `rmcp` answers what it cannot read with a line of text.
async fn read(body: Incoming) -> Result<Bytes, Response<Body>> {
    let mut body = body;
    let (mut bytes, mut overlong) = (Vec::new(), None::<IdScanner>);
    while let Some(frame) = body.frame().await {
        // The connection is gone, so nobody hears this.
        let frame = frame.map_err(|_| plain(StatusCode::BAD_REQUEST, "the request ends in the middle\n"))?;
        let Some(piece) = frame.data_ref() else { continue };
        if bytes.len() + piece.len() > REQUEST_MAX_BYTES {
            let mut scanner = IdScanner::default();
            scanner.push(&bytes);
            scanner.push(piece);
            overlong = Some(scanner);
            break;
        }
        bytes.extend_from_slice(piece);
    }
    if let Some(scanner) = overlong {
        // What is still to come is not waited for, and the id may be in it.
        return Err(unreadable(StatusCode::PAYLOAD_TOO_LARGE, &Unreadable::too_long(REQUEST_MAX_BYTES, scanner)));
    }
    let read = message::read(&bytes).and_then(|value| {
        let plain = value.as_ref().map_or_else(Vec::new, |value| value.to_string().into_bytes());
        value.map_or(Ok(()), |value| message::parse(value).map(drop)).map(|()| plain)
    });
    // A client that gets an answer to its request as one finds it; the others look at the status.
    read.map(Bytes::from).map_err(|error| unreadable(if error.has_id() { StatusCode::OK } else { StatusCode::BAD_REQUEST }, &error))
}

fn unreadable(status: StatusCode, error: &Unreadable) -> Response<Body> {
    let answers = error.answers();
    let body = match &answers[..] {
        [answer] => answer.clone(),
        several => format!("[{}]", several.join(",")),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)).boxed());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())).boxed());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

fn failure(kind: ErrorKind, message: String, cause: String) -> Failure {
    Failure::Pyro(pyro_sdk::Error::from(pyro_sdk::Failure { kind: kind.into(), message, causes: vec![cause] }))
}

/// Reads a token's file, but no device that never ends.
fn read_token(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let limit = u64::try_from(TOKEN_BYTES.end() + 16).unwrap_or(u64::MAX);
    std::io::Read::read_to_string(&mut std::io::Read::take(std::fs::File::open(path)?, limit), &mut text)?;
    Ok(text)
}

/// The token clients must give. Only its digest is kept; one that was made up is in a file that goes with the server.
struct Token {
    digest: [u8; 32],
    file: Option<tempfile::TempPath>,
}

impl Token {
    fn obtain(options: &HttpOptions, context: &Context) -> Result<Self, Failure> {
        if let Some(path) = &options.token_file {
            let text = read_token(path)
                .map_err(|error| failure(ErrorKind::Io, format!("cannot read the token file `{}`", path.display()), error.to_string()))?;
            if std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o077 != 0) {
                let path = path.display();
                context
                    .printer
                    .warning(&format!("other users of this host can read `{path}`: make it yours alone with `chmod 600 {path}`"));
            }
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
        for entry in std::fs::read_dir(folder)?.flatten() {
            let owner = entry.file_name().to_str().and_then(|name| name.strip_prefix(TOKEN_FILE)?.parse::<u32>().ok());
            if owner.is_some_and(|pid| !is_alive(pid)) {
                drop(std::fs::remove_file(entry.path()));
            }
        }
        let path = folder.join(format!("{TOKEN_FILE}{}", std::process::id()));
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
