//! The local socket: where it lies and how a node listens on it.
//!
//! It lies in the runtime directory under a hash of the data directory, because the path of a
//! socket may have about 100 bytes only. The directory is the user's own with mode 0700, the
//! socket has mode 0600: whoever can open it needs no token. Whoever holds the store's lock may
//! replace the socket, for then a leftover one belongs to nobody.

use std::fs::{DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use kdelta::engine::base::{hex, sha256};
use kdelta::host::http::Server;
use tokio::net::UnixListener;

use super::failure::Failure;

/// The sockets that a node on `data_dir` may listen on, the preferred one first.
pub(crate) fn candidates(data_dir: &Path) -> Vec<PathBuf> {
    let path = canonical(data_dir);
    let hash = sha256("kdelta/socket", &[path.as_os_str().as_encoded_bytes()]);
    let name = format!("{}.sock", hex(hash.get(..8).unwrap_or_default()));
    directories().into_iter().map(|directory| directory.join(&name)).collect()
}

fn directories() -> Vec<PathBuf> {
    let user = rustix::process::geteuid().as_raw();
    let mut found = Vec::new();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let usual = PathBuf::from(format!("/run/user/{user}"));
    for parent in runtime.into_iter().filter(|path| path.is_absolute()).chain([usual]) {
        let directory = parent.join("kdelta");
        if parent.is_dir() && !found.contains(&directory) {
            found.push(directory);
        }
    }
    found.push(PathBuf::from(format!("/tmp/kdelta-{user}")));
    found
}

/// Whether only this user can have put a socket at `path`.
pub(crate) fn is_trusted(path: &Path) -> bool {
    path.parent().and_then(|directory| std::fs::symlink_metadata(directory).ok()).is_some_and(
        |found| {
            found.is_dir()
                && found.uid() == rustix::process::geteuid().as_raw()
                && found.mode() & 0o077 == 0
        },
    )
}

/// The real path, also of a directory that is not there yet.
fn canonical(path: &Path) -> PathBuf {
    if let Ok(path) = path.canonicalize() {
        return path;
    }
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => canonical(parent).join(name),
        _ => path.to_owned(),
    }
}

/// A socket that is being served.
#[derive(Debug)]
pub(crate) struct Listening {
    /// Where.
    pub(crate) file: SocketFile,
    server: Server,
}

impl Listening {
    /// Serves `router` on the first socket that can be made. The caller holds the store.
    ///
    /// # Errors
    /// Why the last candidate could not be made.
    pub(crate) fn start(data_dir: &Path, router: axum::Router) -> Result<Self, Failure> {
        let mut last = Failure::other("there is no runtime directory");
        for path in candidates(data_dir) {
            match bind(&path) {
                Ok(listener) => {
                    let server = Server::start(listener, router, None);
                    return Ok(Self { file: SocketFile(path), server });
                }
                Err(failure) => last = failure,
            }
        }
        Err(last)
    }

    /// Takes no more connections and waits for the open ones, at most `patience`.
    pub(crate) async fn stop(self, patience: std::time::Duration) {
        self.server.stop(patience).await;
    }
}

/// The file of a socket, which goes when this is dropped.
#[derive(Debug)]
pub(crate) struct SocketFile(PathBuf);

impl SocketFile {
    /// Returns the path.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // A file that is gone already is as good.
        let _ = std::fs::remove_file(&self.0);
    }
}

fn bind(path: &Path) -> Result<UnixListener, Failure> {
    let directory = path.parent().unwrap_or(path);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|error| Failure::file("make", directory, &error))?;
    if !is_trusted(path) {
        let message = format!("{} is open to other users", directory.display());
        return Err(Failure::other(message).hint("Remove it, or make it mode 0700 and your own"));
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Failure::file("remove", path, &error));
        }
        _ => {}
    }
    let listener =
        UnixListener::bind(path).map_err(|error| Failure::file("listen on", path, &error))?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600))
        .map_err(|error| Failure::file("protect", path, &error))?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_directory_has_one_socket_however_it_is_spelled() {
        let dir = tempfile::tempdir().unwrap();
        let there = dir.path().join("not/yet");
        std::fs::create_dir(dir.path().join("x")).unwrap();
        assert_eq!(candidates(&there), candidates(&there));
        assert_eq!(candidates(dir.path()), candidates(&dir.path().join("x/..")));
        assert_ne!(candidates(dir.path()), candidates(&there));
        assert!(candidates(&there).iter().all(|path| path.as_os_str().len() < 100));
        std::fs::create_dir_all(&there).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&there, &link).unwrap();
        assert_eq!(candidates(&there), candidates(&link));
    }

    #[tokio::test]
    async fn a_leftover_socket_stops_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d/s.sock");
        drop(bind(&path).unwrap());
        assert!(path.exists(), "a killed node leaves its socket");
        let listener = bind(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        drop(listener);
    }

    #[tokio::test]
    async fn a_directory_open_to_others_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let open = dir.path().join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, Permissions::from_mode(0o755)).unwrap();
        let failure = bind(&open.join("s.sock")).unwrap_err();
        assert!(failure.message.contains("open to other users"), "{}", failure.message);
    }
}
