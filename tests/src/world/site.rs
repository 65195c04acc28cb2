//! What the world's web servers have under a name that a test gives them: files, repositories, or the way to another name.

use std::{
    fs::File,
    io::{Seek as _, Write as _},
    path::{Component, Path, PathBuf},
    process::{Command, Stdio},
};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::{Request, Response, StatusCode, body::Incoming, header, http::request::Parts};

use super::service::{Body, whole};

/// What a name stands for, on every HTTP and HTTPS port.
#[derive(Debug, Clone)]
pub(super) enum Site {
    /// The files below a folder, as they lie there.
    Folder(PathBuf),
    /// The Git repositories below a folder, by the smart protocol.
    Repositories(PathBuf),
    /// Nothing but redirects to this address, which ends without a slash.
    Moved(String),
}

impl Site {
    pub(super) async fn respond(self, request: Request<Incoming>) -> Response<Body> {
        match self {
            Self::Folder(folder) => file(&folder, request.uri().path()),
            Self::Repositories(folder) => {
                let (parts, body) = request.into_parts();
                // A client that breaks off has no use for an answer.
                let Ok(body) = body.collect().await else { return empty(StatusCode::BAD_REQUEST) };
                let served = tokio::task::spawn_blocking(move || repository(&folder, &parts, &body.to_bytes()));
                served.await.expect("it does not panic").unwrap_or_else(|| empty(StatusCode::INTERNAL_SERVER_ERROR))
            }
            Self::Moved(to) => {
                let mut response = empty(StatusCode::FOUND);
                let to = format!("{to}{}", request.uri().path());
                response.headers_mut().insert(header::LOCATION, to.parse().expect("a path has no line breaks"));
                response
            }
        }
    }
}

/// A path is taken as it comes: one with `%2e` in it names a file with that name, which there is not. A path with a slash at its end is
/// the folder's `index.html`.
fn file(folder: &Path, path: &str) -> Response<Body> {
    let below = Path::new(path.trim_start_matches('/'));
    let inside = below.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    let mut place = folder.join(below);
    if path.ends_with('/') {
        place.push("index.html");
    }
    let Some(bytes) = inside.then(|| std::fs::read(&place).ok()).flatten() else { return empty(StatusCode::NOT_FOUND) };
    let mut response = Response::new(whole(bytes));
    // pip reads no index that does not say it is one.
    let kind = if place.extension().is_some_and(|extension| extension == "html") { "text/html" } else { "application/octet-stream" };
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}

/// Has Git's own server answer, by CGI (RFC 3875). It keeps to its folder by itself. Nothing comes back when it cannot be run.
fn repository(folder: &Path, request: &Parts, body: &Bytes) -> Option<Response<Body>> {
    let header = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    // From a file, so that it need not be written while what comes out is read.
    let mut input: File = tempfile::tempfile().ok()?;
    input.write_all(body).and_then(|()| input.rewind()).ok()?;
    let output = Command::new("git")
        .arg("http-backend")
        // What this host's people have set is no part of the world.
        .envs([("GIT_CONFIG_NOSYSTEM", "1"), ("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_HTTP_EXPORT_ALL", "1")])
        .env("GIT_PROJECT_ROOT", folder)
        .env("REQUEST_METHOD", request.method.as_str())
        .env("PATH_INFO", request.uri.path())
        .env("QUERY_STRING", request.uri.query().unwrap_or_default())
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .stdin(Stdio::from(input))
        .stderr(Stdio::inherit())
        .output()
        .ok()?;
    let end = output.stdout.windows(4).position(|window| window == b"\r\n\r\n")?;
    let mut response = Response::new(whole(output.stdout[end + 4..].to_vec()));
    for line in std::str::from_utf8(&output.stdout[..end]).ok()?.lines() {
        let (name, value) = line.split_once(": ")?;
        if name == "Status" {
            *response.status_mut() = value.split(' ').next()?.parse().ok()?;
        } else {
            response.headers_mut().insert(name.parse::<header::HeaderName>().ok()?, value.parse().ok()?);
        }
    }
    Some(response)
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(whole(""));
    *response.status_mut() = status;
    response
}
