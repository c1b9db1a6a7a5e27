//! Where each setting comes from: a flag beats `KDELTA_*` beats `kdelta.toml` beats the default.
//!
//! `kdelta.toml` lies in the data directory, so the data directory itself comes from a flag, the
//! environment or the default only.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::args::{Globals, Serve};
use super::failure::Failure;
use super::value::{size, span_ms};

/// Reads one variable of the environment.
pub(crate) type Env<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Who decided a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A flag of this command.
    Flag,
    /// A variable of the environment.
    Env(String),
    /// `kdelta.toml`.
    File,
    /// Nobody.
    Default,
}

/// A setting and who decided it.
#[derive(Debug, Clone)]
pub(crate) struct Setting<T> {
    /// What holds.
    pub(crate) value: T,
    /// Who decided.
    pub(crate) origin: Origin,
}

/// All settings of one command.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The data directory, absolute.
    pub(crate) data_dir: Setting<PathBuf>,
    /// The name of the space.
    pub(crate) space: Setting<String>,
    /// Memory budget in bytes.
    pub(crate) memory: Setting<u64>,
    /// How long to wait for a store that another command holds, in milliseconds.
    pub(crate) wait_ms: Setting<u64>,
    /// When a write is answered.
    pub(crate) durability: Setting<String>,
    /// Filter of the diagnostics, in the syntax of `RUST_LOG`.
    pub(crate) log: Setting<String>,
    /// `text` or `json`.
    pub(crate) log_format: Setting<String>,
    /// Where `serve` listens for peers.
    pub(crate) listen: Setting<String>,
    /// Whether `serve` tells the local network of itself and listens to it: `on` or `off`.
    pub(crate) mdns: Setting<String>,
    /// Where `serve` answers HTTP, or `off`.
    pub(crate) http: Setting<String>,
    /// `token` or `off`.
    pub(crate) http_auth: Setting<String>,
    /// Names and origins, separated by commas.
    pub(crate) http_allow: Setting<String>,
    /// The certificate under which `serve` answers HTTPS; empty means plain HTTP.
    pub(crate) http_cert: Setting<String>,
    /// The secret key of that certificate.
    pub(crate) http_key: Setting<String>,
    /// Where `serve` sends traces: `off`, `on` for where OpenTelemetry's variables say, or a URL.
    pub(crate) otlp: Setting<String>,
    /// The node to ask; empty means the one on the data directory.
    pub(crate) url: Setting<String>,
    /// A file with the token for that node; empty means that of the data directory.
    pub(crate) token_file: Setting<String>,
    /// A file with who signed that node's certificate; empty means whom the system knows.
    pub(crate) cacert: Setting<String>,
    /// A file with the passphrase of the key; empty means to ask.
    pub(crate) passphrase_file: Setting<String>,
    /// Whether a person is there who can be asked.
    pub(crate) attended: bool,
}

/// `kdelta.toml`: the same names as the flags.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    space: Option<String>,
    memory: Option<String>,
    wait: Option<String>,
    durability: Option<String>,
    log: Option<String>,
    log_format: Option<String>,
    listen: Option<String>,
    mdns: Option<String>,
    http: Option<String>,
    http_auth: Option<String>,
    http_allow: Option<String>,
    http_cert: Option<String>,
    http_key: Option<String>,
    otlp: Option<String>,
    url: Option<String>,
    token_file: Option<String>,
    cacert: Option<String>,
    passphrase_file: Option<String>,
}

/// The name of the settings file in the data directory.
pub(crate) const FILE_NAME: &str = "kdelta.toml";

/// Where `serve` listens unless told otherwise.
pub(crate) const LISTEN_DEFAULT: &str = "[::]:7440";

/// Where `serve` answers HTTP unless told otherwise.
pub(crate) const HTTP_DEFAULT: &str = "127.0.0.1:7441";

impl Settings {
    /// Finds every setting.
    ///
    /// # Errors
    /// A usage failure that names the setting and who set it, if a value makes no sense.
    pub(crate) fn find(
        globals: &Globals,
        serve: Option<&Serve>,
        env: Env<'_>,
    ) -> Result<Self, Failure> {
        let data_dir = data_dir(globals, env)?;
        let file = read_file(&data_dir.value.join(FILE_NAME))?;
        let choose = |name: &str, flag: Option<&str>, file: Option<String>, default: &str| {
            choose(name, flag, file, default, env)
        };
        let memory = choose("memory", globals.memory.as_deref(), file.memory, "512MiB")?;
        let wait = choose("wait", globals.wait.as_deref(), file.wait, "30s")?;
        let durability = globals.durability.as_deref();
        let listen = serve.and_then(|serve| serve.listen.as_deref());
        let mdns = serve.filter(|serve| serve.no_mdns).map(|_| "off");
        let http = serve.and_then(|serve| serve.http.as_deref());
        let auth = serve.and_then(|serve| serve.http_auth.as_deref());
        let allow = serve.and_then(|serve| serve.http_allow.as_deref());
        let cert = serve.and_then(|serve| serve.http_cert.as_deref());
        let key = serve.and_then(|serve| serve.http_key.as_deref());
        let otlp = serve.and_then(|serve| serve.otlp.as_deref());
        let token_file = globals.token_file.as_deref();
        let passphrase = globals.passphrase_file.as_deref();
        let settings = Self {
            data_dir,
            space: choose("space", globals.space.as_deref(), file.space, "default")?,
            memory: parse("memory", memory, size)?,
            wait_ms: parse("wait", wait, span_ms)?,
            durability: choose("durability", durability, file.durability, "local")?,
            log: choose("log", None, file.log, "warn")?,
            log_format: choose("log-format", None, file.log_format, "text")?,
            listen: choose("listen", listen, file.listen, LISTEN_DEFAULT)?,
            mdns: choose("mdns", mdns, file.mdns, "on")?,
            http: choose("http", http, file.http, HTTP_DEFAULT)?,
            http_auth: choose("http-auth", auth, file.http_auth, "token")?,
            http_allow: choose("http-allow", allow, file.http_allow, "")?,
            http_cert: choose("http-cert", cert, file.http_cert, "")?,
            http_key: choose("http-key", key, file.http_key, "")?,
            otlp: choose("otlp", otlp, file.otlp, "off")?,
            url: choose("url", globals.url.as_deref(), file.url, "")?,
            token_file: choose("token-file", token_file, file.token_file, "")?,
            cacert: choose("cacert", globals.cacert.as_deref(), file.cacert, "")?,
            passphrase_file: choose("passphrase-file", passphrase, file.passphrase_file, "")?,
            attended: false,
        };
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> Result<(), Failure> {
        let durability = self.durability.value.as_str();
        let peers = durability.strip_prefix("peers=").map(str::parse::<u16>);
        if !matches!(durability, "buffered" | "local") && !matches!(peers, Some(Ok(1..))) {
            return Err(Failure::usage(format!("{durability:?} is no durability"))
                .hint("Write buffered, local or peers=N"));
        }
        if !matches!(self.http_auth.value.as_str(), "token" | "off") {
            return Err(Failure::usage(format!("{:?} is no way to ask", self.http_auth.value))
                .hint("Write token or off"));
        }
        if self.http_cert.value.is_empty() != self.http_key.value.is_empty() {
            return Err(Failure::usage("a certificate and its key are of use together only")
                .hint("Give both: --http-cert FILE --http-key FILE"));
        }
        if !matches!(self.mdns.value.as_str(), "on" | "off") {
            return Err(Failure::usage(format!("{:?} is no setting of mdns", self.mdns.value))
                .hint("Write on or off"));
        }
        let otlp = self.otlp.value.as_str();
        if !matches!(otlp, "on" | "off") && !otlp.contains("://") {
            return Err(Failure::usage(format!("{otlp:?} is no setting of otlp"))
                .hint("Write on, off or the URL of a collector: http://HOST:4318"));
        }
        if !matches!(self.log_format.value.as_str(), "text" | "json") {
            return Err(Failure::usage(format!("{:?} is no log format", self.log_format.value))
                .hint("Write text or json"));
        }
        Ok(())
    }

    /// How long to wait for the store.
    pub(crate) fn wait(&self) -> Duration {
        Duration::from_millis(self.wait_ms.value)
    }

    /// Name, value and origin of each setting, in the order of the help.
    pub(crate) fn table(&self) -> Vec<(&'static str, Value, String)> {
        let path = self.data_dir.value.display().to_string();
        vec![
            ("data-dir", json!(path), self.origin(&self.data_dir.origin)),
            ("space", json!(self.space.value), self.origin(&self.space.origin)),
            ("memory", json!(self.memory.value), self.origin(&self.memory.origin)),
            ("wait-ms", json!(self.wait_ms.value), self.origin(&self.wait_ms.origin)),
            ("durability", json!(self.durability.value), self.origin(&self.durability.origin)),
            ("log", json!(self.log.value), self.origin(&self.log.origin)),
            ("log-format", json!(self.log_format.value), self.origin(&self.log_format.origin)),
            ("listen", json!(self.listen.value), self.origin(&self.listen.origin)),
            ("mdns", json!(self.mdns.value), self.origin(&self.mdns.origin)),
            ("http", json!(self.http.value), self.origin(&self.http.origin)),
            ("http-auth", json!(self.http_auth.value), self.origin(&self.http_auth.origin)),
            ("http-allow", json!(self.http_allow.value), self.origin(&self.http_allow.origin)),
            ("http-cert", json!(self.http_cert.value), self.origin(&self.http_cert.origin)),
            ("http-key", json!(self.http_key.value), self.origin(&self.http_key.origin)),
            ("otlp", json!(self.otlp.value), self.origin(&self.otlp.origin)),
            ("url", json!(self.url.value), self.origin(&self.url.origin)),
            ("token-file", json!(self.token_file.value), self.origin(&self.token_file.origin)),
            ("cacert", json!(self.cacert.value), self.origin(&self.cacert.origin)),
            (
                "passphrase-file",
                json!(self.passphrase_file.value),
                self.origin(&self.passphrase_file.origin),
            ),
        ]
    }

    fn origin(&self, origin: &Origin) -> String {
        match origin {
            Origin::Flag => "flag".to_owned(),
            Origin::Env(name) => format!("environment {name}"),
            Origin::File => format!("file {}", self.data_dir.value.join(FILE_NAME).display()),
            Origin::Default => "default".to_owned(),
        }
    }
}

fn data_dir(globals: &Globals, env: Env<'_>) -> Result<Setting<PathBuf>, Failure> {
    let from = |path: PathBuf, origin: Origin| {
        let path = std::path::absolute(&path)
            .map_err(|error| Failure::file("find the data directory", &path, &error))?;
        Ok(Setting { value: path, origin })
    };
    if let Some(path) = &globals.data_dir {
        return from(path.clone(), Origin::Flag);
    }
    let set = |name: &str| env(name).filter(|value| !value.is_empty());
    if let Some(path) = set("KDELTA_DATA_DIR") {
        return from(path.into(), Origin::Env("KDELTA_DATA_DIR".to_owned()));
    }
    if let Some(path) = set("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute()) {
        return from(path.join("kdelta"), Origin::Default);
    }
    let home = set("HOME").map(PathBuf::from).or_else(|| etcetera::home_dir().ok());
    let Some(home) = home else {
        return Err(Failure::usage("there is no home directory to keep data in")
            .hint("Name a directory: --data-dir DIR or KDELTA_DATA_DIR"));
    };
    from(home.join(".local/share/kdelta"), Origin::Default)
}

fn read_file(path: &Path) -> Result<File, Failure> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(File::default());
        }
        Err(error) => return Err(Failure::file("read", path, &error)),
    };
    toml::from_str(&text).map_err(|error| {
        let reason = error.message().trim().replace('\n', " ");
        Failure::usage(format!("{} is wrong: {reason}", path.display()))
            .hint("kdelta config show lists the settings when the file is mended or moved away")
    })
}

fn choose(
    name: &str,
    flag: Option<&str>,
    file: Option<String>,
    default: &str,
    env: Env<'_>,
) -> Result<Setting<String>, Failure> {
    if let Some(value) = flag {
        return Ok(Setting { value: value.to_owned(), origin: Origin::Flag });
    }
    let variable = format!("KDELTA_{}", name.replace('-', "_").to_uppercase());
    if let Some(value) = env(&variable).filter(|value| !value.is_empty()) {
        let value =
            value.into_string().map_err(|_| Failure::usage(format!("{variable} is not UTF-8")))?;
        return Ok(Setting { value, origin: Origin::Env(variable) });
    }
    Ok(match file {
        Some(value) => Setting { value, origin: Origin::File },
        None => Setting { value: default.to_owned(), origin: Origin::Default },
    })
}

fn parse<T>(
    name: &str,
    setting: Setting<String>,
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<Setting<T>, Failure> {
    match read(&setting.value) {
        Ok(value) => Ok(Setting { value, origin: setting.origin }),
        Err(reason) => {
            let from = match setting.origin {
                Origin::Flag => format!("--{name}"),
                Origin::Env(variable) => variable,
                Origin::File | Origin::Default => format!("{name} in {FILE_NAME}"),
            };
            Err(Failure::usage(format!("{from}: {reason}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn find(globals: &Globals, env: &[(&str, &str)]) -> Result<Settings, Failure> {
        let env: BTreeMap<String, OsString> =
            env.iter().map(|(name, value)| ((*name).to_owned(), value.into())).collect();
        Settings::find(globals, None, &|name| env.get(name).cloned())
    }

    #[test]
    fn a_flag_beats_the_environment_beats_the_file_beats_the_default() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            dir.path().join(FILE_NAME),
            "space = \"filed\"\nmemory = \"64MiB\"\nwait = \"1s\"\n",
        )
        .unwrap();
        let globals = Globals {
            data_dir: Some(dir.path().to_owned()),
            wait: Some("5s".to_owned()),
            ..Globals::default()
        };
        let env = [("KDELTA_SPACE", "env"), ("KDELTA_WAIT", "2s"), ("KDELTA_DURABILITY", "")];
        let settings = find(&globals, &env).unwrap();
        assert_eq!(settings.wait_ms.value, 5_000);
        assert_eq!(settings.wait_ms.origin, Origin::Flag);
        assert_eq!(settings.space.value, "env");
        assert_eq!(settings.space.origin, Origin::Env("KDELTA_SPACE".to_owned()));
        assert_eq!((settings.memory.value, settings.memory.origin), (64 << 20, Origin::File));
        assert_eq!(settings.durability.value, "local");
        assert_eq!(settings.durability.origin, Origin::Default);
    }

    #[test]
    fn the_data_directory_follows_xdg() {
        let globals = Globals::default();
        let path = |env| find(&globals, env).unwrap().data_dir.value;
        assert_eq!(path(&[("HOME", "/h")]), Path::new("/h/.local/share/kdelta"));
        let both = [("HOME", "/h"), ("XDG_DATA_HOME", "/d")];
        assert_eq!(path(&both), Path::new("/d/kdelta"));
        let relative = [("HOME", "/h"), ("XDG_DATA_HOME", "d")];
        assert_eq!(path(&relative), Path::new("/h/.local/share/kdelta"));
        let named = [("KDELTA_DATA_DIR", "/k"), ("XDG_DATA_HOME", "/d")];
        assert_eq!(path(&named), Path::new("/k"));
    }

    #[test]
    fn a_wrong_value_names_who_set_it() {
        let globals = Globals { data_dir: Some("/nowhere".into()), ..Globals::default() };
        let failure = find(&globals, &[("KDELTA_MEMORY", "lots")]).unwrap_err();
        assert_eq!(failure.exit, 2);
        assert!(failure.message.starts_with("KDELTA_MEMORY: "), "{}", failure.message);
        for durability in ["peers=0", "peers=x", "never"] {
            assert!(find(&globals, &[("KDELTA_DURABILITY", durability)]).is_err());
        }
        assert!(find(&globals, &[("KDELTA_DURABILITY", "peers=2")]).is_ok());
    }

    #[test]
    fn an_unknown_name_in_the_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE_NAME), "memroy = \"64MiB\"\n").unwrap();
        let globals = Globals { data_dir: Some(dir.path().to_owned()), ..Globals::default() };
        let failure = find(&globals, &[]).unwrap_err();
        assert_eq!(failure.exit, 2);
        assert!(failure.message.contains("memroy"), "{}", failure.message);
    }
}
