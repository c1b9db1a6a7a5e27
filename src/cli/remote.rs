//! A node at the far end of a URL.
//!
//! The same requests as over the local socket, with a token. Without one that is named, the token
//! that was kept for that very node is shown; else the owner's in the data directory, to nodes of
//! this machine only: another one has another owner's.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use axum::body::Body;
use axum::http::uri::Authority;
use axum::http::{HeaderValue, Request, Response, Uri, header};
use futures_util::future::BoxFuture;
use kdelta::host::http::host_of;
use kdelta::host::token;
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use super::client::{Api, exchange};
use super::failure::Failure;
use super::https;
use super::settings::Settings;

/// The port of a node that answers HTTP.
const PORT: u16 = 7441;

/// A node that is asked over TCP.
#[derive(Debug)]
pub(crate) struct RemoteApi {
    authority: Authority,
    /// What TLS needs to know, if the URL asks for it.
    encrypted: Option<Settings>,
    token: Option<HeaderValue>,
}

impl RemoteApi {
    /// Prepares to ask the node that the settings name.
    ///
    /// # Errors
    /// A usage failure if the URL or the token make no sense.
    pub(crate) fn new(settings: &Settings) -> Result<Self, Failure> {
        let (_, authority) = authority(&settings.url.value)?;
        let own = settings.data_dir.value.join(token::FILE_NAME);
        let kept = kept(&settings.data_dir.value, &authority);
        let file = match settings.token_file.value.as_str() {
            "" if kept.exists() => Some(kept.as_path()),
            "" if is_here(&authority) && own.exists() => Some(own.as_path()),
            "" => None,
            file => Some(Path::new(file)),
        };
        let read = |file: &Path| {
            let token = token::read(file).map_err(|error| Failure::file("read", file, &error))?;
            Ok(Zeroizing::new(token))
        };
        Self::bearing(settings, file.map(read).transpose()?.as_deref().map(String::as_str))
    }

    /// Prepares to ask it with a token.
    ///
    /// # Errors
    /// A usage failure if the URL or the token make no sense.
    pub(crate) fn bearing(settings: &Settings, token: Option<&str>) -> Result<Self, Failure> {
        let (encrypted, authority) = authority(&settings.url.value)?;
        let encrypted = encrypted.then(|| settings.clone());
        Ok(Self { token: token.map(bearer).transpose()?, authority, encrypted })
    }

    /// Keeps a token for the node that the settings name; returns in which file.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn keep(settings: &Settings, token: &str) -> Result<PathBuf, Failure> {
        let (_, authority) = authority(&settings.url.value)?;
        let path = kept(&settings.data_dir.value, &authority);
        token::keep(&path, token).map_err(|error| Failure::file("write", &path, &error))?;
        Ok(path)
    }

    async fn ask(&self, mut request: Request<Body>) -> Result<Response<Body>, Failure> {
        let authority = &self.authority;
        let host = HeaderValue::from_str(authority.as_str())
            .map_err(|_| Failure::usage(format!("{authority} names no host")))?;
        request.headers_mut().insert(header::HOST, host);
        if let Some(token) = &self.token {
            request.headers_mut().insert(header::AUTHORIZATION, token.clone());
        }
        let host = host_of(authority);
        let stream = TcpStream::connect((host, authority.port_u16().unwrap_or(PORT))).await;
        let stream = stream.map_err(|error| {
            let scheme = if self.encrypted.is_some() { "https" } else { "http" };
            Failure::unavailable(format!("no node answers at {scheme}://{authority}: {error}"))
                .hint("Start one there: kdelta serve --http ADDR")
        })?;
        match &self.encrypted {
            Some(settings) => {
                exchange(https::connect(settings, authority, stream).await?, request).await
            }
            None => exchange(stream, request).await,
        }
    }
}

impl Api for RemoteApi {
    fn send(&self, request: Request<Body>) -> BoxFuture<'_, Result<Response<Body>, Failure>> {
        Box::pin(self.ask(request))
    }

    fn close(&self) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }

    fn router(&self) -> Option<axum::Router> {
        None
    }
}

/// Returns whether a URL asks for TLS, and its host and port.
fn authority(url: &str) -> Result<(bool, Authority), Failure> {
    let wrong = |why: &str| {
        Failure::usage(format!("the URL {url:?} {why}"))
            .hint("Write http://HOST:PORT or https://HOST:PORT")
    };
    let uri: Uri = url.parse().map_err(|_| wrong("cannot be read"))?;
    let encrypted = uri.scheme_str() == Some("https");
    match (uri.scheme_str(), uri.path_and_query().map_or("/", |rest| rest.as_str())) {
        (Some("http" | "https"), "" | "/") => {}
        (Some("http" | "https"), _) => return Err(wrong("has more than host and port")),
        _ => return Err(wrong("does not begin with http:// or https://")),
    }
    let authority = uri.into_parts().authority;
    authority
        .filter(|authority| !authority.as_str().contains('@') && !authority.host().is_empty())
        .map(|authority| (encrypted, authority))
        .ok_or_else(|| wrong("names no host"))
}

/// Tells whether that can only be this machine.
fn is_here(authority: &Authority) -> bool {
    let host = host_of(authority);
    let address = host.parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// Returns the file of the token that is kept for a node: each has its own.
fn kept(dir: &Path, authority: &Authority) -> PathBuf {
    let (host, port) = (host_of(authority).to_ascii_lowercase(), authority.port_u16());
    dir.join("tokens").join(format!("{host}_{}", port.unwrap_or(PORT)))
}

fn bearer(token: &str) -> Result<HeaderValue, Failure> {
    let value = HeaderValue::from_str(&format!("Bearer {token}"));
    let mut value = value.map_err(|_| Failure::usage("the token has characters of no token"))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_host_and_port() {
        for (url, expected) in [
            ("http://nas.local", "nas.local"),
            ("http://nas.local:80/", "nas.local:80"),
            ("http://[::1]:7441", "[::1]:7441"),
        ] {
            assert_eq!(authority(url).unwrap().1.as_str(), expected);
        }
        assert!(authority("https://nas.local").unwrap().0);
        assert!(!authority("http://nas.local").unwrap().0);
        for url in ["nas.local", "https://nas.local/x", "http://", "http://a/b", "http://a/?b", "/"]
        {
            assert_eq!(authority(url).unwrap_err().exit, 2, "{url}");
        }
        assert_eq!(authority("http://me:secret@a").unwrap_err().exit, 2, "no secret in a URL");
    }

    #[test]
    fn the_own_token_is_for_this_machine() {
        let here = |url: &str| is_here(&authority(url).unwrap().1);
        assert!(here("http://localhost:1") && here("http://127.0.0.1") && here("http://[::1]:9"));
        assert!(!here("http://192.0.2.1") && !here("http://localhost.example"));
    }
}
