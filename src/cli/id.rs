//! The replica's key: shown, copied, locked, and another taken in its place.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use kdelta::engine::base::ReplicaId;
use kdelta::engine::store::{ReadError, WriteError};
use kdelta::host::identity::{Drawing, FILE_NAME, Identity, KeyFile, Passphrase};
use kdelta::host::lock::LockError;
use kdelta::host::rekey::{self, RekeyError, Shown, Take, Taken};
use serde::Deserialize;
use serde_json::{Value, json};

use super::args::Id;
use super::client::Call;
use super::connect;
use super::context::Context;
use super::failure::{Exit, Failure};
use super::local::{OpenError, StoreOptions, blocking, is_want, refused};
use super::secret;

/// `id show|new|export|import|passphrase`
pub(crate) async fn id(context: &mut Context<'_>, action: Id) -> Result<Exit, Failure> {
    match action {
        Id::Show => show(context).await,
        Id::New { dry_run: true, .. } => would_take(context, None).await,
        Id::New { difficulty, passphrase, new_passphrase_file, .. } => {
            let lock = Lock { passphrase, file: new_passphrase_file };
            new(context, difficulty, &lock).await
        }
        Id::Export { file, passphrase, new_passphrase_file } => {
            let lock = Lock { passphrase, file: new_passphrase_file };
            export(context, &file, &lock).await
        }
        Id::Import { file, file_passphrase_file, dry_run } => {
            import(context, &file, file_passphrase_file.as_deref(), dry_run).await
        }
        Id::Passphrase { remove, new_passphrase_file } => {
            let lock = Lock { passphrase: !remove, file: new_passphrase_file };
            passphrase(context, &lock).await
        }
    }
}

/// How a key is to be locked.
struct Lock {
    passphrase: bool,
    file: Option<PathBuf>,
}

impl Lock {
    /// Finds the passphrase to lock with, if that was asked for.
    async fn find(
        &self,
        context: &Context<'_>,
        first: bool,
    ) -> Result<Option<Passphrase>, Failure> {
        if !self.passphrase {
            return Ok(None);
        }
        secret::fresh(&context.settings, self.file.as_deref(), first).await.map(Some)
    }
}

async fn show(context: &mut Context<'_>) -> Result<Exit, Failure> {
    if !context.settings.url.value.is_empty() {
        #[derive(Deserialize)]
        struct Far {
            replica: String,
            work: u32,
        }
        let answer = context.call(Call::new(Method::GET, "/v1/id")).await?;
        if context.json {
            return context.print(&answer);
        }
        let Far { replica, work } = answer.read()?;
        let pairs = [("replica".to_owned(), replica), ("work".to_owned(), bits(work))];
        context.console.pairs(&pairs)?;
        return Ok(Exit::Ok);
    }
    let shown = connect::waiting(&context.settings, async |store| {
        on_key(store, |store| Ok(rekey::key_of(&store.data_dir)?.1)).await
    })
    .await?;
    say(context, &shown, shown.json(), &[])
}

/// Prints what is known of a key, and more of the same kind.
fn say(
    context: &mut Context<'_>,
    shown: &Shown,
    json: Value,
    more: &[(String, String)],
) -> Result<Exit, Failure> {
    if context.json {
        context.console.line(&json.to_string())?;
        return Ok(Exit::Ok);
    }
    let file = match shown.loose_mode {
        Some(mode) => format!("{} (mode {mode:04o}: chmod 600 it)", shown.file.display()),
        None => shown.file.display().to_string(),
    };
    let locked = if shown.locked { "by a passphrase" } else { "no" };
    let pairs = [
        ("replica", shown.replica.to_string()),
        ("file", file),
        ("locked", locked.to_owned()),
        ("work", bits(shown.work())),
    ];
    let pairs = pairs.map(|(name, value)| (name.to_owned(), value));
    context.console.pairs(&[&pairs[..], more].concat())?;
    Ok(Exit::Ok)
}

fn bits(work: u32) -> String {
    super::console::counted(work.into(), "bit")
}

async fn new(context: &mut Context<'_>, difficulty: u32, lock: &Lock) -> Result<Exit, Failure> {
    let before = ready_to_take(context).await?;
    confirm(context, before.as_ref())?;
    let was_locked = before.is_some() && is_locked(context).await?;
    let passphrase = lock.find(context, !was_locked).await?;
    if was_locked && passphrase.is_none() {
        context.console.note("the new key is not locked, unlike the earlier: kdelta id passphrase");
    }
    let identity = draw(context, difficulty).await?;
    let locking = passphrase.clone();
    let key = blocking(move || {
        rekey::key_file(&identity, locking.as_ref()).map_err(|error| refused_key(error.into()))
    });
    take(context, key.await.map_err(unheld)?, passphrase, true).await
}

/// Draws keys until one holds the work. Nothing goes on once nobody waits for it.
async fn draw(context: &mut Context<'_>, bits: u32) -> Result<Identity, Failure> {
    struct Stop(Arc<Drawing>);
    impl Drop for Stop {
        fn drop(&mut self) {
            self.0.stop();
        }
    }
    let drawing = Arc::new(Drawing::default());
    let stop = Stop(Arc::clone(&drawing));
    let mut search = tokio::task::spawn_blocking(move || drawing.search(bits));
    let about = 1_u64 << bits;
    let mut bar = None;
    let found = loop {
        tokio::select! {
            found = &mut search => break found,
            () = tokio::time::sleep(Duration::from_secs(1)) => {
                let bar = bar.get_or_insert_with(|| context.console.progress(None, "drawing keys"));
                bar.set_message(format!("{} keys drawn, about {about} to come by", stop.0.drawn()));
            }
        }
    };
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    match found.map_err(|error| Failure::other(error.to_string()))? {
        Ok(Some(identity)) => Ok(identity),
        Ok(None) => Err(Failure::other("the search for a key was stopped")),
        Err(error) => Err(unheld(refused_key(error.into()))),
    }
}

async fn import(
    context: &mut Context<'_>,
    file: &Path,
    passphrase_file: Option<&Path>,
    dry_run: bool,
) -> Result<Exit, Failure> {
    let path = file.to_owned();
    let read = move || {
        let read = match path.as_os_str() == "-" {
            true => KeyFile::read_from(std::io::stdin(), Path::new("stdin")),
            false => KeyFile::read(&path),
        };
        read.map_err(|error| OpenError::Failed(of_file(error)))
    };
    let key = blocking(read).await.map_err(unheld)?;
    if dry_run {
        return would_take(context, Some(key.replica())).await;
    }
    let before = ready_to_take(context).await?;
    confirm(context, before.as_ref())?;
    let mut passphrase = None;
    if key.is_locked() {
        let what = format!("the key in {} is locked by a passphrase", file.display());
        passphrase = Some(match passphrase_file {
            Some(file) => secret::read(file)?,
            None => secret::of_store(&context.settings, &what).await?,
        });
    }
    take(context, key, passphrase, false).await
}

/// What is wrong with a file that holds no key to take.
fn of_file(error: kdelta::host::identity::IdentityError) -> Failure {
    use kdelta::host::identity::IdentityError as Error;
    match &error {
        Error::Missing { .. } => {
            Failure::new("not_found", Exit::NotFound, error.to_string()).hint("Check the name")
        }
        Error::Io { path, source } => Failure::file("read", path, source),
        Error::Damaged { path, what } => {
            let message = format!("{} is no whole key: {what}", path.display());
            Failure::new("integrity", Exit::Integrity, message).hint("Use another copy of the key")
        }
        _ => Failure::other(error.to_string()),
    }
}

/// Takes the key into the store.
async fn take(
    context: &mut Context<'_>,
    key: KeyFile,
    new_passphrase: Option<Passphrase>,
    pass_on: bool,
) -> Result<Exit, Failure> {
    let taken = connect::waiting(&context.settings, async |store| {
        let (key, new_passphrase) = (key.clone(), new_passphrase.clone());
        on_key(store, move |store| {
            let memory_bytes = usize::try_from(store.memory_bytes).unwrap_or(usize::MAX);
            let passphrase = store.passphrase.clone();
            let how = Take { memory_bytes, passphrase, new_passphrase, pass_on };
            rekey::take(&store.data_dir, &key, &how)
        })
        .await
    })
    .await?;
    let Taken { now, before, kept, rights } = &taken;
    let mut more = Vec::new();
    more.extend(before.map(|before| ("before".to_owned(), before.to_string())));
    more.extend(kept.as_ref().map(|kept| ("kept".to_owned(), kept.display().to_string())));
    if before.is_some_and(|before| before != now.replica) {
        context.console.note(
            "peers know this store by its earlier id: admit the new one there, kdelta peers add ID",
        );
    }
    for (space, passed_on) in rights {
        context.console.note(&match passed_on {
            true => format!("the new key was granted what the earlier one could do in {space}"),
            false => format!(
                "the new key cannot do in {space} what the earlier one could: kdelta grant create, \
                 at an owner's"
            ),
        });
    }
    say(context, now, taken.json(), &more)
}

/// Checks that nobody works under the key, and returns which one there is.
async fn ready_to_take(context: &Context<'_>) -> Result<Option<(ReplicaId, PathBuf)>, Failure> {
    refuse_node(context).await?;
    let dir = context.settings.data_dir.value.clone();
    blocking(move || rekey::would_take(&dir).map_err(refused_key)).await.map_err(unheld)
}

async fn refuse_node(context: &Context<'_>) -> Result<(), Failure> {
    if !connect::has_node(&context.settings).await {
        return Ok(());
    }
    let dir = context.settings.data_dir.value.display();
    Err(Failure::unavailable(format!("a node runs on {dir} under this key"))
        .hint("Stop it first, and start it again afterwards"))
}

fn confirm(
    context: &mut Context<'_>,
    before: Option<&(ReplicaId, PathBuf)>,
) -> Result<(), Failure> {
    let Some((before, _)) = before else { return Ok(()) };
    let short = before.to_string().chars().take(8).collect::<String>();
    let question = format!("give up the replica {short} and go on under another key");
    context.console.confirm(&question, context.yes)
}

/// Says what taking a key would do.
async fn would_take(context: &mut Context<'_>, to: Option<ReplicaId>) -> Result<Exit, Failure> {
    let dir = context.settings.data_dir.value.clone();
    let before = blocking(move || rekey::would_take(&dir).map_err(refused_key)).await;
    let before = before.map_err(unheld)?;
    let to = to.map(|replica| replica.to_string());
    if context.json {
        let (before, kept) = match &before {
            Some((replica, kept)) => (json!(replica.to_string()), json!(kept.to_string_lossy())),
            None => (Value::Null, Value::Null),
        };
        let would = json!({"dry_run": true, "replica": to, "before": before, "kept": kept});
        context.console.line(&would.to_string())?;
        return Ok(Exit::Ok);
    }
    let to = to.map_or_else(|| "a new key".to_owned(), |replica| format!("the key of {replica}"));
    context.console.line(&match before {
        Some((before, kept)) => {
            format!("would go on under {to}, no more as {before}; keeps that in {}", kept.display())
        }
        None => format!("would begin under {to}"),
    })?;
    Ok(Exit::Ok)
}

async fn export(context: &mut Context<'_>, file: &Path, lock: &Lock) -> Result<Exit, Failure> {
    let to_stdout = file.as_os_str() == "-";
    if to_stdout && context.console.stdout_terminal {
        return Err(Failure::usage("a secret key is not shown on a terminal")
            .hint("Name a file, or send it on: kdelta id export - | …"));
    }
    let path = super::admin::absolute(file)?;
    if !to_stdout && path.exists() {
        return Err(exists(&path));
    }
    let was_locked = is_locked(context).await?;
    let passphrase = lock.find(context, !was_locked).await?;
    let key = connect::waiting(&context.settings, async |store| {
        let passphrase = passphrase.clone();
        on_key(store, move |store| {
            let (key, _) = rekey::key_of(&store.data_dir)?;
            let Some(passphrase) = &passphrase else { return Ok(key) };
            let identity = key.open(store.passphrase.as_ref())?;
            Ok(rekey::key_file(&identity, Some(passphrase))?)
        })
        .await
    })
    .await?;
    if to_stdout {
        context.console.bytes(key.bytes())?;
        return Ok(Exit::Ok);
    }
    let shown = path.display().to_string();
    let (replica, locked) = (key.replica(), key.is_locked());
    let written = tokio::task::spawn_blocking(move || write(&key, &path));
    written.await.map_err(|error| Failure::other(error.to_string()))??;
    if context.json {
        let out = json!({"replica": replica.to_string(), "file": shown, "locked": locked});
        context.console.line(&out.to_string())?;
    } else {
        context.console.line(&format!("{shown}  replica {replica}"))?;
    }
    Ok(Exit::Ok)
}

fn write(key: &KeyFile, path: &Path) -> Result<(), Failure> {
    key.write_new(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => exists(path),
        _ => Failure::file("write", path, &error),
    })
}

fn exists(path: &Path) -> Failure {
    Failure::new("conflict", Exit::Conflict, format!("{} exists already", path.display()))
        .hint("Choose another name, or remove it first")
}

async fn passphrase(context: &mut Context<'_>, lock: &Lock) -> Result<Exit, Failure> {
    refuse_node(context).await?;
    let was_locked = is_locked(context).await?;
    let new = lock.find(context, !was_locked).await?;
    let shown = connect::waiting(&context.settings, async |store| {
        let new = new.clone();
        on_key(store, move |store| {
            rekey::relock(&store.data_dir, store.passphrase.as_ref(), new.as_ref())
        })
        .await
    })
    .await?;
    say(context, &shown, shown.json(), &[])
}

/// Tells whether the store has a key that is locked.
async fn is_locked(context: &Context<'_>) -> Result<bool, Failure> {
    let path = context.settings.data_dir.value.join(FILE_NAME);
    let read = move || Ok(KeyFile::read(&path).is_ok_and(|key| key.is_locked()));
    blocking(read).await.map_err(unheld)
}

/// Does something to keys where it may block.
async fn on_key<T: Send + 'static>(
    store: StoreOptions,
    act: impl FnOnce(&StoreOptions) -> Result<T, RekeyError> + Send + 'static,
) -> Result<T, OpenError> {
    blocking(move || act(&store).map_err(refused_key)).await
}

fn refused_key(error: RekeyError) -> OpenError {
    match error {
        RekeyError::Identity(error) => refused(error.into()),
        RekeyError::Lock(error @ LockError::ReadOnly { .. }) => {
            let failure = Failure::new("forbidden", Exit::Unauthorised, error.to_string());
            OpenError::Failed(failure.hint("Choose another directory with --data-dir"))
        }
        RekeyError::Lock(error) => refused(error.into()),
        RekeyError::Open(error) => refused(error),
        RekeyError::HandOver(WriteError::Read(ReadError::Damaged(_))) => OpenError::Failed(
            Failure::new("integrity", Exit::Integrity, error.to_string())
                .hint("Repair the store first: kdelta repair"),
        ),
        RekeyError::Taken(_) => OpenError::Failed(
            Failure::new("conflict", Exit::Conflict, error.to_string()).hint("Move it away"),
        ),
        error if is_want(&error) => {
            OpenError::Failed(Failure::new("limit", Exit::Limit, error.to_string()))
        }
        error => OpenError::Failed(Failure::other(error.to_string())),
    }
}

/// What is said where nobody can hold the store.
fn unheld(error: OpenError) -> Failure {
    match error {
        OpenError::Failed(failure) => failure,
        OpenError::Locked(what) => secret::wanting(&what),
        OpenError::Held => Failure::unavailable("another command holds the store"),
    }
}
