//! The grammar of the command line.
//!
//! Flags that hold for every command may stand anywhere before `--`; see `grammar.rs` for how
//! they get there. Values, numbers and points may begin with `-`.

mod grant;
mod id;
mod node;
mod query;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueHint};

pub(crate) use grant::Grant;
pub(crate) use id::Id;
pub(crate) use node::{Peers, PeersAction, Serve, Space, Sync, Ticket};
pub(crate) use query::Query;

/// Versioned keys that merge: offline edits, history, time travel and peer-to-peer sync.
#[derive(Debug, Parser)]
#[command(
    name = "kdelta",
    version,
    long_version = super::VERSION,
    disable_help_subcommand = false,
    arg_required_else_help = true,
    max_term_width = 100,
    after_help = "Example:\n  kdelta put greeting hello\n  kdelta get greeting"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every command.
#[derive(Debug, Default, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Globals {
    /// The store [env: KDELTA_DATA_DIR] [default: $XDG_DATA_HOME/kdelta]
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) data_dir: Option<PathBuf>,
    /// The space to work in [env: KDELTA_SPACE] [default: default]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) space: Option<String>,
    /// Prints JSON, errors too
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Memory budget [env: KDELTA_MEMORY] [default: 512MiB]
    #[arg(long, global = true, value_name = "SIZE")]
    pub(crate) memory: Option<String>,
    /// How long to wait for a store in use [env: KDELTA_WAIT] [default: 30s]
    #[arg(long, global = true, value_name = "TIME")]
    pub(crate) wait: Option<String>,
    /// When a write is answered: buffered, local or peers=N [env: KDELTA_DURABILITY]
    #[arg(long, global = true, value_name = "LEVEL")]
    pub(crate) durability: Option<String>,
    /// Asks no question where a command would ask one
    #[arg(long, global = true)]
    pub(crate) yes: bool,
    /// Asks a node elsewhere: http[s]://HOST[:PORT], port 7441 unless given [env: KDELTA_URL]
    #[arg(long, global = true, value_name = "URL", value_hint = ValueHint::Url)]
    pub(crate) url: Option<String>,
    /// The token for that node [env: KDELTA_TOKEN_FILE] [default: the data directory's own]
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) token_file: Option<String>,
    /// Who signed the certificate of that node, in PEM [env: KDELTA_CACERT] [default: the system's]
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) cacert: Option<String>,
    /// The passphrase of a locked key: the first line [env: KDELTA_PASSPHRASE_FILE] [default: asks]
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) passphrase_file: Option<String>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Stores a value under a key
    #[command(after_help = "VALUE is JSON where it parses as JSON, else text; - reads stdin.\n\n\
        Examples:\n  kdelta put user/1 '{\"name\":\"Ada\"}'\n  kdelta put note - < note.txt\n  \
        kdelta put logo - --raw < logo.png\n  kdelta put zip 01234 --string")]
    Put(Put),
    /// Shows the value of a key, now or at an earlier point
    #[command(after_help = "Examples:\n  kdelta get user/1\n  kdelta get user/1 --at 5m\n  \
        kdelta get user/1 --conflicts\n  kdelta get logo --raw > logo.png")]
    Get(Get),
    /// Removes what is seen of a key; concurrent writes survive, and so does the history
    #[command(visible_aliases = ["del", "rm"], after_help = "Example:\n  kdelta delete user/1")]
    Delete(Delete),
    /// Counts: adds of all replicas sum up
    #[command(subcommand, after_help = "Example:\n  kdelta counter add visits")]
    Counter(Counter),
    /// Sets: a concurrent add wins over a remove
    #[command(subcommand, after_help = "Example:\n  kdelta set add tags red green")]
    Set(Set),
    /// Maps: fields that are written independently
    #[command(subcommand, after_help = "Example:\n  kdelta map put user/1 name Ada")]
    Map(Map),
    /// Lists the events of a key, or the commits of the space, newest first
    #[command(
        visible_alias = "log",
        after_help = "Examples:\n  kdelta history user/1\n  kdelta history --limit 20 --graph"
    )]
    History(History),
    /// Compares a key at two points
    #[command(after_help = "Examples:\n  kdelta diff user/1 1h\n  \
        kdelta diff user/1 tag:v1 tag:v2")]
    Diff(Diff),
    /// Tells which events make up a key's value, who wrote them and which rule decided
    #[command(after_help = "Example:\n  kdelta explain user/1")]
    Explain(Explain),
    /// Lists keys, in the order of their bytes
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  kdelta list user/ --values\n  kdelta list --limit 0 --json"
    )]
    List(List),
    /// Finds keys by what their values hold; sorts, counts and sums up
    #[command(after_help = query::EXAMPLES)]
    Query(Query),
    /// Applies a file of operations as one atomic commit
    #[command(after_help = "A line is {\"op\":\"put\",\"key\":K,\"value\":V} or another op; \
        - reads stdin.\n\nExample:\n  kdelta batch changes.jsonl")]
    Batch(Batch),
    /// Reads operations from a file, one commit a line
    #[command(after_help = "Files ending in .gz or .zst are unpacked; - reads stdin. \
        Run again, it skips the lines that are in.\n\n\
        Example:\n  kdelta import backup.jsonl.zst")]
    Import(Import),
    /// Writes the live keys as operations that `import` reads
    #[command(after_help = "A single argument that ends in .jsonl, .json, .gz or .zst, or is -, \
        is the file.\n\nExamples:\n  kdelta export backup.jsonl.zst --history\n  \
        kdelta export user/ -")]
    Export(Export),
    /// Names points in the space's history
    #[command(after_help = "Examples:\n  kdelta tag v1\n  kdelta tag create before --at 1h\n  \
        kdelta tag list")]
    Tag(Tag),
    /// Prints changes as they become durable, one JSON line each, until interrupted
    #[command(after_help = "Example:\n  kdelta watch user/")]
    Watch(Watch),
    /// Runs a node in the foreground
    #[command(
        visible_alias = "start",
        after_help = "Examples:\n  kdelta serve\n  kdelta serve --join kd1…"
    )]
    Serve(Serve),
    /// Shows the replica, its spaces and its peers
    #[command(after_help = "Example:\n  kdelta status")]
    Status,
    /// Shows counters and gauges of the store
    #[command(after_help = "Example:\n  kdelta stats --json")]
    Stats,
    /// Lists, admits and removes peers
    #[command(after_help = "Examples:\n  kdelta peers\n  kdelta peers add 3f2a…@192.0.2.7:7440")]
    Peers(Peers),
    /// Makes a ticket that admits its bearer to the space
    #[command(after_help = "Example:\n  kdelta ticket --expires 24h --uses 1")]
    Ticket(Ticket),
    /// Exchanges events with peers until both ends hold the same
    #[command(after_help = "Examples:\n  kdelta sync\n  kdelta sync kd1…")]
    Sync(Sync),
    /// Creates, lists and joins spaces
    #[command(subcommand, after_help = "Example:\n  kdelta space create team")]
    Space(Space),
    /// Lets replicas read and write in an owned space, and takes that back
    #[command(
        subcommand,
        after_help = "Examples:\n  \
        kdelta grant create --space team --to 5f1c… --can read,write\n  \
        kdelta grant list --space team"
    )]
    Grant(Grant),
    /// Checks every byte of the store and changes none
    #[command(after_help = "Example:\n  kdelta verify --deep")]
    Verify(Verify),
    /// Replaces damaged parts from peers and rebuilds derived files
    #[command(after_help = "Example:\n  kdelta repair")]
    Repair(Repair),
    /// Copies the store with its history into one file
    #[command(after_help = "Example:\n  kdelta backup store.kdb")]
    Backup(Backup),
    /// Makes a store from a backup; it goes on under a new replica key
    #[command(after_help = "Example:\n  kdelta restore store.kdb --data-dir ./restored")]
    Restore(Restore),
    /// Shows the replica's identity, copies its key, locks it or takes another
    #[command(
        subcommand,
        after_help = "Examples:\n  kdelta id show\n  \
        kdelta id export key.backup\n  kdelta id passphrase"
    )]
    Id(Id),
    /// Shows the settings and who decided each
    #[command(subcommand, after_help = "Example:\n  kdelta config show")]
    Config(Config),
    /// Plays replicas in a simulated world: parted networks, crashes, copies, bad disks and clocks
    #[command(subcommand, after_help = super::sim::EXAMPLES)]
    Sim(super::sim::Sim),
    /// Runs a few nodes on this machine: offline edits, conflict, merge, time travel
    #[command(after_help = "Example:\n  kdelta demo")]
    Demo,
    /// Prints completions for a shell
    #[command(after_help = "Example:\n  kdelta completions bash > \
        ~/.local/share/bash-completion/completions/kdelta")]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Prints the manual page
    #[command(after_help = "Example:\n  kdelta man | man -l -")]
    Man,
}

/// Conditions and names of a write.
#[derive(Debug, Default, Args)]
pub(crate) struct Write {
    /// Writes only if the key is at this version or context here, or `none` if it must not exist
    #[arg(long, value_name = "ID|CONTEXT|none")]
    pub(crate) if_version: Option<String>,
    /// Names the write: the same name twice is one write
    #[arg(long, value_name = "ID")]
    pub(crate) request_id: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Put {
    /// The key
    pub(crate) key: String,
    /// The value: JSON, else text; - reads stdin
    #[arg(allow_hyphen_values = true)]
    pub(crate) value: OsString,
    /// Takes the value as text whatever it looks like
    #[arg(long, conflicts_with = "raw")]
    pub(crate) string: bool,
    /// Stores the bytes untouched
    #[arg(long)]
    pub(crate) raw: bool,
    /// Replaces a key of another type
    #[arg(long)]
    pub(crate) retype: bool,
    #[command(flatten)]
    pub(crate) write: Write,
}

#[derive(Debug, Args)]
pub(crate) struct Get {
    /// The key
    pub(crate) key: String,
    /// An event id, tag:NAME, an RFC 3339 time, or an age such as 5m
    #[arg(long, value_name = "POINT", allow_hyphen_values = true)]
    pub(crate) at: Option<String>,
    /// Shows concurrent values too
    #[arg(long)]
    pub(crate) conflicts: bool,
    /// Shows the best intact state of a damaged key
    #[arg(long)]
    pub(crate) degraded: bool,
    /// Prints the stored bytes and nothing else
    #[arg(long)]
    pub(crate) raw: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// The key
    pub(crate) key: String,
    /// Shows what would be removed
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) write: Write,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Counter {
    /// Adds N, which may be negative
    #[command(after_help = "Examples:\n  kdelta counter add visits\n  kdelta counter add stock -3")]
    Add {
        /// The key
        key: String,
        /// How much
        #[arg(value_name = "N", default_value_t = 1, allow_hyphen_values = true)]
        by: i64,
        /// Replaces a key of another type
        #[arg(long)]
        retype: bool,
        #[command(flatten)]
        write: Write,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Elements {
    /// The key
    pub(crate) key: String,
    /// The elements: JSON, else text
    #[arg(required = true, allow_hyphen_values = true, value_name = "ELEM")]
    pub(crate) elements: Vec<OsString>,
    /// Takes the elements as text whatever they look like
    #[arg(long)]
    pub(crate) string: bool,
    /// Replaces a key of another type
    #[arg(long)]
    pub(crate) retype: bool,
    #[command(flatten)]
    pub(crate) write: Write,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Set {
    /// Adds elements
    #[command(after_help = "Example:\n  kdelta set add tags red green")]
    Add(Elements),
    /// Removes elements that are seen here
    #[command(after_help = "Example:\n  kdelta set remove tags red")]
    Remove(Elements),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Map {
    /// Writes one field
    #[command(after_help = "Example:\n  kdelta map put user/1 name Ada")]
    Put {
        /// The key
        key: String,
        /// The field
        #[arg(allow_hyphen_values = true)]
        field: String,
        /// The value: JSON, else text; - reads stdin
        #[arg(allow_hyphen_values = true)]
        value: OsString,
        /// Takes the value as text whatever it looks like
        #[arg(long)]
        string: bool,
        /// Replaces a key of another type
        #[arg(long)]
        retype: bool,
        #[command(flatten)]
        write: Write,
    },
    /// Removes one field
    #[command(visible_aliases = ["del", "rm"], after_help = "Example:\n  kdelta map delete user/1 name")]
    Delete {
        /// The key
        key: String,
        /// The field
        #[arg(allow_hyphen_values = true)]
        field: String,
        /// Replaces a key of another type
        #[arg(long)]
        retype: bool,
        #[command(flatten)]
        write: Write,
    },
}

#[derive(Debug, Args)]
pub(crate) struct History {
    /// The key; without it, the commits of the space
    pub(crate) key: Option<String>,
    /// Shows at most N; 0 means all
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) limit: u64,
    /// Draws who built on what
    #[arg(long)]
    pub(crate) graph: bool,
    /// Shows what does not count too, and why: in an owned space, what was written without a grant
    #[arg(long)]
    pub(crate) all: bool,
    /// Shows the intact part of a damaged history
    #[arg(long)]
    pub(crate) degraded: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// The key
    pub(crate) key: String,
    /// The earlier point
    #[arg(allow_hyphen_values = true)]
    pub(crate) from: String,
    /// The later point; without it, now
    #[arg(allow_hyphen_values = true)]
    pub(crate) to: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// The key
    pub(crate) key: String,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Lists keys that begin so
    pub(crate) prefix: Option<String>,
    /// Lists the keys of an earlier point
    #[arg(long, value_name = "POINT", allow_hyphen_values = true)]
    pub(crate) at: Option<String>,
    /// Lists at most N; 0 means all, as JSON lines with --json [default: all, 1000 with --json]
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// Lists keys after this one
    #[arg(long, value_name = "KEY")]
    pub(crate) after: Option<String>,
    /// Shows the values too
    #[arg(long)]
    pub(crate) values: bool,
    /// Lists the intact keys of a damaged space
    #[arg(long)]
    pub(crate) degraded: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Batch {
    /// The file of JSON lines; - reads stdin
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// Makes one commit of every N lines
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) chunk: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The file of JSON lines, plain, .gz or .zst; - reads stdin
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// Writes keys that begin so
    pub(crate) prefix: Option<String>,
    /// The file, plain, .gz or .zst by its ending; without it or with -, stdout
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: Option<PathBuf>,
    /// Writes the whole history with its tags and notes
    #[arg(long)]
    pub(crate) history: bool,
    /// Writes the intact part of a damaged space
    #[arg(long)]
    pub(crate) degraded: bool,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Tag {
    #[command(subcommand)]
    pub(crate) action: Option<TagAction>,
    #[command(flatten)]
    pub(crate) create: TagCreate,
}

#[derive(Debug, Args)]
pub(crate) struct TagCreate {
    /// The tag's name
    pub(crate) name: Option<String>,
    /// The point to name; without it, now
    #[arg(long, value_name = "POINT", allow_hyphen_values = true)]
    pub(crate) at: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TagAction {
    /// Names a point
    #[command(after_help = "Example:\n  kdelta tag create v1 --at 1h")]
    Create(TagCreate),
    /// Lists the tags
    #[command(visible_alias = "ls", after_help = "Example:\n  kdelta tag list")]
    List,
    /// Removes a tag; the history stays
    #[command(visible_aliases = ["del", "rm"], after_help = "Example:\n  kdelta tag delete v1")]
    Delete {
        /// The tag's name
        name: String,
        /// Shows what would be removed
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// Watches keys that begin so
    pub(crate) prefix: Option<String>,
    /// Goes on after this cursor, which an earlier line gave
    #[arg(long, value_name = "CURSOR", allow_hyphen_values = true)]
    pub(crate) from: Option<String>,
    /// Tells what does not count too, and why
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Checks derived files against the log too
    #[arg(long)]
    pub(crate) deep: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Repair {
    /// Whom to ask; may be given again; without it, all peers
    #[arg(long, value_name = "TICKET|ID@ADDR|ID")]
    pub(crate) from: Vec<String>,
    /// Shows what would be replaced
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// The file to write, which must not exist
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The backup
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// Keeps the replica key: only if the old store is gone for good
    #[arg(long)]
    pub(crate) same_identity: bool,
    /// Checks the backup and shows where it would go
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Prints each setting, its value and its origin
    #[command(after_help = "Example:\n  kdelta config show")]
    Show,
}
