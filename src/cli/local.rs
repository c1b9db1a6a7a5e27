//! What the command line needs of the machine below it, and where it gets it.
//!
//! Everything else goes through the API's routes. These few act on files or on the process, before
//! there is anything that could answer a request.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::BoxFuture;
use kdelta::host::api::Guard;
use kdelta::host::http::{Certificate, Door};
use kdelta::host::identity::{IdentityError, Passphrase};
use kdelta::host::peers::NodeError;
use kdelta::host::replica::{OpenOptions, Replica};
use kdelta::host::token;
use serde_json::Value;

use super::failure::{Exit, Failure, is_limit};
use super::https::unreadable;

/// Which store, and what it may use.
#[derive(Debug, Clone)]
pub(crate) struct StoreOptions {
    /// The data directory; made if it is not there.
    pub(crate) data_dir: PathBuf,
    /// Memory budget in bytes.
    pub(crate) memory_bytes: u64,
    /// What opens the key, if it is locked.
    pub(crate) passphrase: Option<Passphrase>,
}

/// How a node is to be run.
#[derive(Debug, Clone, Default)]
pub(crate) struct NodeOptions {
    /// Where to listen for peers: `host:port`, port 0 for any.
    pub(crate) listen: String,
    /// Addresses that tickets name: `host:port`.
    pub(crate) advertise: Vec<String>,
    /// Tickets or `ID@ADDR` to join at the start.
    pub(crate) join: Vec<String>,
    /// Admits every peer to every space.
    pub(crate) open: bool,
    /// Tells the local network of the node, and finds peers there.
    pub(crate) mdns: bool,
    /// How to answer HTTP, if at all.
    pub(crate) http: Option<HttpOptions>,
}

/// How a node answers HTTP.
#[derive(Debug, Clone)]
pub(crate) struct HttpOptions {
    /// `host:port`, port 0 for any.
    pub(crate) address: String,
    /// Nobody asked for this address: if it is taken, the node does without.
    pub(crate) is_default: bool,
    /// Asks for the owner's token.
    pub(crate) auth: bool,
    /// Further host names, and origins.
    pub(crate) allowed: Vec<String>,
    /// The files of a certificate and of its key.
    pub(crate) certificate: Option<(PathBuf, PathBuf)>,
}

/// Closes a store in order: what is written is made durable and marked.
pub(crate) type Close = Box<dyn FnOnce() -> BoxFuture<'static, Result<(), Failure>> + Send>;

/// An open store, spoken to through its router.
pub(crate) struct Opened {
    /// Answers the routes of the HTTP page, those of the socket included.
    pub(crate) router: axum::Router,
    /// To be called once at the end.
    pub(crate) close: Close,
}

/// A running node.
pub(crate) struct Node {
    /// Its store.
    pub(crate) opened: Opened,
    /// The replica's id.
    pub(crate) replica: String,
    /// Where it listens.
    pub(crate) listen: Vec<String>,
    /// Where it answers HTTP.
    pub(crate) http: Option<Door>,
    /// Resolves if the node cannot go on.
    pub(crate) failed: BoxFuture<'static, Failure>,
}

/// Why a store was not opened.
#[derive(Debug)]
pub(crate) enum OpenError {
    /// Another process holds it; it may let go soon.
    Held,
    /// Its key is locked, and no passphrase was given: which key, as a sentence.
    Locked(String),
    /// It cannot be opened.
    Failed(Failure),
}

/// What the command line asks of the machine.
pub(crate) trait Host: Send + Sync {
    /// Opens the store for this process alone. Does not wait for another holder.
    fn open(&self, store: StoreOptions) -> BoxFuture<'_, Result<Opened, OpenError>>;

    /// Opens the store and runs a node on it. Does not wait for another holder.
    fn serve(
        &self,
        store: StoreOptions,
        node: NodeOptions,
    ) -> BoxFuture<'_, Result<Node, OpenError>>;

    /// Reads every truth file (with `deep`, every derived one against them too) and changes none.
    /// Returns the JSON of `verify`. Does not wait for another holder.
    fn verify(&self, data_dir: &Path, deep: bool) -> BoxFuture<'_, Result<Value, OpenError>>;

    /// Says what a repair would do, and changes nothing; returns the JSON of `repair --dry-run`.
    /// Does not wait for another holder.
    fn repair_plan(&self, data_dir: &Path) -> BoxFuture<'_, Result<Value, OpenError>>;

    /// Makes a store in `store.data_dir`, which holds none yet, out of a backup.
    /// With `dry_run` it only checks that it could. Returns the JSON of `restore`.
    fn restore(
        &self,
        store: StoreOptions,
        file: &Path,
        same_identity: bool,
        dry_run: bool,
    ) -> BoxFuture<'_, Result<Value, OpenError>>;
}

/// The machine that this process runs on.
#[derive(Debug)]
pub(crate) struct Local;

impl Host for Local {
    fn open(&self, store: StoreOptions) -> BoxFuture<'_, Result<Opened, OpenError>> {
        Box::pin(blocking(move || Ok(opened(open(&store)?))))
    }

    fn serve(
        &self,
        store: StoreOptions,
        node: NodeOptions,
    ) -> BoxFuture<'_, Result<Node, OpenError>> {
        Box::pin(async move {
            let replica = {
                let store = store.clone();
                blocking(move || open(&store)).await?
            };
            let served = async {
                let (served, http) = (replica.clone(), node.http.clone());
                let served = move || serve(&served, &node).map_err(OpenError::Failed);
                let listen = blocking(served).await?;
                let http = match http {
                    Some(http) => door(&replica, &store.data_dir, &http).await?,
                    None => None,
                };
                Ok((listen, http))
            };
            match served.await {
                Ok((listen, http)) => Ok(Node {
                    replica: replica.id().to_string(),
                    listen: vec![listen],
                    http,
                    opened: opened(replica),
                    failed: Box::pin(std::future::pending()),
                }),
                Err(failed) => {
                    // What it was opened for did not work: that is what the user hears of.
                    let _ = (opened(replica).close)().await;
                    Err(failed)
                }
            }
        })
    }

    fn verify(&self, data_dir: &Path, deep: bool) -> BoxFuture<'_, Result<Value, OpenError>> {
        let dir = data_dir.to_path_buf();
        Box::pin(blocking(move || {
            let report = kdelta::host::verify::verify(&dir, deep).map_err(refused)?;
            Ok(report.json())
        }))
    }

    fn repair_plan(&self, data_dir: &Path) -> BoxFuture<'_, Result<Value, OpenError>> {
        let dir = data_dir.to_path_buf();
        Box::pin(blocking(move || {
            let report = kdelta::host::verify::verify(&dir, false).map_err(refused)?;
            Ok(report.repair_plan())
        }))
    }

    fn restore(
        &self,
        store: StoreOptions,
        file: &Path,
        same_identity: bool,
        dry_run: bool,
    ) -> BoxFuture<'_, Result<Value, OpenError>> {
        use kdelta::host::backup::{self, BackupError};
        let file = file.to_path_buf();
        Box::pin(blocking(move || {
            let outcome = if dry_run {
                backup::would_restore(&store.data_dir, &file)
            } else {
                let passphrase = store.passphrase.as_ref();
                let made = backup::restore(&store.data_dir, &file, same_identity, passphrase);
                made.map(|report| report.json())
            };
            outcome.map_err(|error| {
                if let BackupError::Identity(error) = error {
                    return refused(error.into());
                }
                let (message, hint) = (error.to_string(), error.hint());
                let full = error.is_refusal();
                let (code, exit) =
                    if full { ("limit", Exit::Limit) } else { ("other", Exit::Other) };
                OpenError::Failed(Failure::new(code, exit, message).hint(hint))
            })
        }))
    }
}

/// Runs `work` where it may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, OpenError> + Send + 'static,
) -> Result<T, OpenError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(OpenError::Failed(Failure::other(error.to_string()))),
    }
}

fn open(store: &StoreOptions) -> Result<Replica, OpenError> {
    let memory_bytes = usize::try_from(store.memory_bytes).unwrap_or(usize::MAX);
    let passphrase = store.passphrase.clone();
    let options = OpenOptions { memory_bytes, wait: Duration::ZERO, passphrase };
    Replica::open_with(&store.data_dir, &options).map_err(refused)
}

fn opened(replica: Replica) -> Opened {
    let router = kdelta::host::api::router(replica.clone());
    let close = || -> BoxFuture<'static, Result<(), Failure>> {
        Box::pin(async {
            let closed = tokio::task::spawn_blocking(|| replica.close()).await;
            match closed {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(Failure::other(error.to_string())),
                Err(error) => Err(Failure::other(error.to_string())),
            }
        })
    };
    Opened { router, close: Box::new(close) }
}

/// Starts to serve, and joins what was asked for.
fn serve(replica: &Replica, node: &NodeOptions) -> Result<String, Failure> {
    let listen = resolve(&node.listen)?;
    let fail = |error: NodeError| Failure::other(error.to_string());
    let bound = replica
        .serve(listen, node.advertise.clone(), node.open)
        .map_err(|error| fail(error).hint("Choose another address: --listen [::]:0"))?;
    if node.mdns
        && let Err(error) = replica.announce()
    {
        tracing::warn!(%error, "peers on the local network are not found");
    }
    for text in &node.join {
        if text.starts_with("kd1") {
            replica.join(text, None).map_err(fail)?;
            continue;
        }
        let (id, address) = text.split_once('@').unwrap_or((text, ""));
        let id = id.parse().map_err(|_| {
            Failure::usage(format!("{text:?} is neither a ticket nor ID@HOST:PORT"))
        })?;
        let space = replica.space("default", true).map_err(|e| Failure::other(e.to_string()))?;
        let Some(space) = space else { continue };
        let address = Some(address.to_owned()).filter(|address| !address.is_empty());
        replica.peers_add(id, address, space).map_err(fail)?;
    }
    Ok(bound.to_string())
}

/// Opens the door for HTTP; none if nobody asked for its address and another program has it.
async fn door(
    replica: &Replica,
    dir: &Path,
    http: &HttpOptions,
) -> Result<Option<Door>, OpenError> {
    let address = {
        let address = http.address.clone();
        blocking(move || resolve(&address).map_err(OpenError::Failed)).await?
    };
    let is_loopback = address.ip().is_loopback();
    if !http.auth && !is_loopback {
        return Err(OpenError::Failed(
            Failure::usage(format!("whoever reaches {address} could do everything"))
                .hint("Leave out --http-auth off, or listen on 127.0.0.1"),
        ));
    }
    let certificate = match http.certificate.clone() {
        Some((certificate, key)) => {
            let read = move || Certificate::read(&certificate, &key);
            let read = move || read().map_err(|error| OpenError::Failed(unreadable(&error)));
            Some(blocking(read).await?)
        }
        None if !is_loopback => {
            return Err(OpenError::Failed(
                Failure::usage(format!("HTTP on {address} would cross the network in the clear"))
                    .hint(
                        "Give a certificate, --http-cert FILE --http-key FILE, or listen on \
                         127.0.0.1",
                    ),
            ));
        }
        None => None,
    };
    let token = if http.auth {
        let token = token::load_or_create(dir).map_err(|error| {
            let path = dir.join(token::FILE_NAME);
            OpenError::Failed(Failure::file("read or make the token", &path, &error))
        })?;
        Some(token)
    } else {
        None
    };
    let guard = Guard::new(token.as_deref(), &http.allowed);
    match Door::open(replica.clone(), address, guard, certificate).await {
        Ok(door) => Ok(Some(door)),
        Err(error) if http.is_default && error.kind() == io::ErrorKind::AddrInUse => {
            tracing::warn!(%address, "another program answers HTTP there: choose one by --http");
            Ok(None)
        }
        Err(error) => Err(OpenError::Failed(
            Failure::other(format!("cannot answer HTTP on {address}: {error}"))
                .hint("Choose another address: --http 127.0.0.1:0, or --http off"),
        )),
    }
}

fn resolve(listen: &str) -> Result<SocketAddr, Failure> {
    let bad = |text: String| {
        Failure::usage(format!("cannot listen on {listen:?}: {text}"))
            .hint("Give HOST:PORT, such as [::]:7440 or 127.0.0.1:0")
    };
    let mut found = listen.to_socket_addrs().map_err(|error| bad(error.to_string()))?;
    found.next().ok_or_else(|| bad("it has no address".to_owned()))
}

/// Tells a store that is held from one that cannot be opened.
pub(crate) fn refused(error: kdelta::host::replica::OpenError) -> OpenError {
    use kdelta::engine::store::LocalError;
    use kdelta::host::lock::LockError;
    use kdelta::host::replica::OpenError as Refused;
    if let Refused::Lock(LockError::Held { .. }) = &error {
        return OpenError::Held;
    }
    let mut message = error.to_string();
    match &error {
        Refused::Identity(IdentityError::Locked { .. }) => return OpenError::Locked(message),
        Refused::Identity(IdentityError::WrongPassphrase { .. }) => {
            let failure = Failure::new("unauthorised", Exit::Unauthorised, message);
            return OpenError::Failed(failure.hint("Try again with the right one"));
        }
        _ => {}
    }
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !message.contains(&cause_text) {
            message = format!("{message}: {cause_text}");
        }
        source = cause.source();
    }
    let damaged = matches!(
        &error,
        Refused::Store(kdelta::engine::store::OpenError::Local(
            LocalError::Damaged(_) | LocalError::Missing
        )) | Refused::Identity(
            IdentityError::Damaged { .. }
                | IdentityError::Missing { .. }
                | IdentityError::Newer { .. }
        )
    );
    OpenError::Failed(if is_want(&error) {
        Failure::new("limit", Exit::Limit, message).hint("See to the disk, then try again")
    } else if damaged {
        Failure::new("damaged", Exit::Integrity, message)
            .hint("Restore the directory from a backup: kdelta restore FILE")
    } else {
        Failure::other(message)
    })
}

/// Tells whether the disk or the system lacked something for now, at the bottom of an error.
pub(crate) fn is_want(error: &(dyn std::error::Error + 'static)) -> bool {
    use kdelta::engine::log::{DiskError, DiskErrorKind};
    let mut cause = Some(error);
    while let Some(error) = cause {
        let disk = error
            .downcast_ref::<DiskError>()
            .is_some_and(|error| matches!(error.kind, DiskErrorKind::Full | DiskErrorKind::Busy));
        if disk || error.downcast_ref::<io::Error>().is_some_and(is_limit) {
            return true;
        }
        cause = error.source();
    }
    false
}
