//! What is said to and of nodes: serve, peers, tickets, syncs and spaces.

use clap::{Args, Subcommand, ValueHint};

use crate::cli::value::size;

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Where to listen for peers [env: KDELTA_LISTEN] [default: [::]:7440]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<String>,
    /// An address under which peers reach this node; may be given again
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) advertise: Vec<String>,
    /// A peer or a ticket to sync with; may be given again
    #[arg(long, value_name = "TICKET|ID@ADDR")]
    pub(crate) join: Vec<String>,
    /// Admits every peer to every space
    #[arg(long)]
    pub(crate) open: bool,
    /// Neither tells the local network of this node nor finds peers there [env: KDELTA_MDNS=off]
    #[arg(long)]
    pub(crate) no_mdns: bool,
    /// Where to answer HTTP, or off [env: KDELTA_HTTP] [default: 127.0.0.1:7441]
    #[arg(long, value_name = "ADDR|off")]
    pub(crate) http: Option<String>,
    /// Whether HTTP asks for the owner's token: token, or off [env: KDELTA_HTTP_AUTH]
    #[arg(long, value_name = "token|off")]
    pub(crate) http_auth: Option<String>,
    /// Further names of this host, and origins of pages that may ask [env: KDELTA_HTTP_ALLOW]
    #[arg(long, value_name = "NAME|ORIGIN,…")]
    pub(crate) http_allow: Option<String>,
    /// Answers HTTPS under this certificate, in PEM [env: KDELTA_HTTP_CERT]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) http_cert: Option<String>,
    /// The secret key of that certificate, in PEM [env: KDELTA_HTTP_KEY]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) http_key: Option<String>,
    /// Sends traces to an OpenTelemetry collector; needs a build for it [env: KDELTA_OTLP]
    #[arg(long, value_name = "URL|on|off")]
    pub(crate) otlp: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Peers {
    #[command(subcommand)]
    pub(crate) action: Option<PeersAction>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PeersAction {
    /// Lists the peers
    #[command(visible_alias = "ls", after_help = "Example:\n  kdelta peers list")]
    List,
    /// Admits a peer to the space
    #[command(after_help = "Example:\n  kdelta peers add 3f2a…@192.0.2.7:7440")]
    Add {
        /// The peer's replica id, with an address if it is known
        #[arg(value_name = "ID[@ADDR]")]
        peer: String,
    },
    /// Admits a peer no longer; what came from it stays
    #[command(visible_alias = "rm", after_help = "Example:\n  kdelta peers remove 3f2a…")]
    Remove {
        /// The peer's replica id
        #[arg(value_name = "ID")]
        peer: String,
        /// Shows who would be removed
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Ticket {
    /// How long the ticket can be used
    #[arg(long, value_name = "TIME", default_value = "24h")]
    pub(crate) expires: String,
    /// How often the ticket can be used; without it, until it expires
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) uses: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Sync {
    /// With whom; without it, with all admitted peers
    #[arg(value_name = "TICKET|ID@ADDR|ID")]
    pub(crate) peer: Option<String>,
    /// The local name for the ticket's space
    #[arg(long = "as", value_name = "NAME")]
    pub(crate) name: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Space {
    /// Creates a space: open, or owned, where only what was granted counts
    #[command(after_help = "Examples:\n  kdelta space create team\n  \
        kdelta space create family --owned")]
    Create {
        /// Its local name
        name: String,
        /// Grants decide who reads and writes; this replica owns it
        #[arg(long)]
        owned: bool,
        /// An owner, the most senior first: in place of this replica
        #[arg(long, value_name = "REPLICA", requires = "owned")]
        root: Vec<String>,
        /// The work that must be in the id of whoever writes, in bits (see `id new`)
        #[arg(long, value_name = "BITS", requires = "owned",
            value_parser = clap::value_parser!(u8).range(0..=40))]
        difficulty: Option<u8>,
    },
    /// Lists the spaces
    #[command(visible_alias = "ls", after_help = "Example:\n  kdelta space list")]
    List,
    /// Shows one space
    #[command(after_help = "Example:\n  kdelta space info team")]
    Info {
        /// Its local name; without it, the one in use
        name: Option<String>,
    },
    /// Joins the space of a ticket
    ///
    /// What is in it comes with the next sync, or by itself where a node runs.
    #[command(after_help = "Example:\n  kdelta space join kd1… --as team")]
    Join {
        /// The ticket, or the id of a space that was left
        ticket: String,
        /// The local name for the space
        #[arg(long = "as", value_name = "NAME")]
        name: Option<String>,
    },
    /// Sets what holds for a space on this replica
    ///
    /// quota=SIZE is the most that its commits may take here, history included; quota=none is no
    /// limit. Above it data is neither written nor taken from peers: their syncs end with exit 8.
    #[command(after_help = "Example:\n  kdelta space set team quota=2GiB")]
    Set {
        /// Its local name, or its id
        name: String,
        /// What to set
        #[arg(value_name = "quota=SIZE", required = true, value_parser = setting)]
        settings: Vec<(String, serde_json::Value)>,
    },
    /// Leaves a space: it is shown and synced here no more
    ///
    /// Peers and tickets of it are forgotten, and its name is free. Its history stays on this
    /// disk: `space join ID` brings it back, without its peers.
    #[command(after_help = "Example:\n  kdelta space leave team --yes")]
    Leave {
        /// Its local name, or its id
        name: String,
        /// Shows what would be left
        #[arg(long)]
        dry_run: bool,
    },
}

/// Reads a setting of a space, `NAME=VALUE`.
fn setting(text: &str) -> Result<(String, serde_json::Value), String> {
    let value = match text.split_once('=') {
        Some(("quota", "none")) => serde_json::Value::Null,
        Some(("quota", bytes)) => size(bytes)?.into(),
        _ => return Err("write quota=SIZE, or quota=none".to_owned()),
    };
    Ok(("quota".to_owned(), value))
}
