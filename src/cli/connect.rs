//! Finds who answers: the node at a URL, the node that runs on the data directory, or this process.
//!
//! A node is found by its socket. If nobody listens there, the store is opened here. If another
//! process holds it, both are tried again until `--wait` is over. A socket file without a
//! listener and a lock without a process stop nobody.

use std::time::Duration;

use tokio::time::Instant;

use super::client::{Api, LocalApi, SocketApi};
use super::failure::Failure;
use super::local::{Host, OpenError, StoreOptions};
use super::remote::RemoteApi;
use super::settings::Settings;
use super::{secret, socket};

/// How long to sleep before looking again.
const RETRY: Duration = Duration::from_millis(20);

/// Returns who answers for the data directory.
///
/// # Errors
/// Exit 6 if the store stays held; else why it cannot be opened.
pub(crate) async fn connect(host: &dyn Host, settings: &Settings) -> Result<Box<dyn Api>, Failure> {
    if !settings.url.value.is_empty() {
        return Ok(Box::new(RemoteApi::new(settings)?));
    }
    waiting(settings, async |store| {
        if let Some(node) = find_node(settings).await {
            return Ok(Box::new(node) as Box<dyn Api>);
        }
        let opened = host.open(store).await?;
        Ok(Box::new(LocalApi::new(opened)) as Box<dyn Api>)
    })
    .await
}

/// Tells whether a node answers, on the data directory or where the settings say.
pub(crate) async fn has_node(settings: &Settings) -> bool {
    !settings.url.value.is_empty() || find_node(settings).await.is_some()
}

/// Returns the node that runs on the data directory, if one does.
async fn find_node(settings: &Settings) -> Option<SocketApi> {
    let candidates = socket::candidates(&settings.data_dir.value);
    for path in candidates.into_iter().filter(|path| socket::is_trusted(path)) {
        if let Some(node) = SocketApi::find(&path).await {
            return Some(node);
        }
    }
    None
}

/// Calls `attempt` until it finds the store free, or the wait is over. The passphrase of a key that
/// is locked is looked for once it is needed, while nobody is kept from the store.
///
/// # Errors
/// Exit 6 if the store stays held; else what `attempt` says.
pub(crate) async fn waiting<T>(
    settings: &Settings,
    mut attempt: impl AsyncFnMut(StoreOptions) -> Result<T, OpenError>,
) -> Result<T, Failure> {
    let mut deadline = Instant::now().checked_add(settings.wait());
    let mut store = store_options(settings);
    loop {
        match attempt(store.clone()).await {
            Ok(value) => return Ok(value),
            Err(OpenError::Failed(failure)) => return Err(failure),
            Err(OpenError::Locked(what)) if store.passphrase.is_none() => {
                store.passphrase = Some(secret::of_store(settings, &what).await?);
                deadline = Instant::now().checked_add(settings.wait());
                continue;
            }
            Err(OpenError::Locked(what)) => return Err(secret::wanting(&what)),
            Err(OpenError::Held) => {}
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            let path = settings.data_dir.value.display();
            return Err(Failure::unavailable(format!("another command holds the store in {path}"))
                .hint("Wait for it to end, or give it longer with --wait 5m"));
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// What the settings say about the store.
fn store_options(settings: &Settings) -> StoreOptions {
    let (data_dir, memory_bytes) = (settings.data_dir.value.clone(), settings.memory.value);
    StoreOptions { data_dir, memory_bytes, passphrase: None }
}
