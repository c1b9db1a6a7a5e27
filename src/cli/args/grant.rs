//! Who may do what in an owned space.

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum Grant {
    /// Lets a replica do something in an owned space, or whoever bears a token
    ///
    /// Nobody grants more than they have. What a replica writes without a grant, or beyond it, is
    /// kept and passed on, and changes nothing. To sync a space is to read all of it. A token
    /// opens the space over HTTP, at every node that has it: it is printed once, and is a secret.
    #[command(
        group(clap::ArgGroup::new("whom").required(true).args(["to", "bearer"])),
        after_help = "Examples:\n  \
        kdelta grant create --space team --to 5f1c… --can read,write\n  \
        kdelta grant create --space team --to 5f1c… --can read,put --prefix notes/ --expires 30d\n  \
        kdelta grant create --space team --bearer --can read --prefix notes/ > token")]
    Create {
        /// The replica: its id, as `kdelta id show` prints it there
        #[arg(long, value_name = "REPLICA")]
        to: Option<String>,
        /// Whoever bears the token that is printed, over HTTP: to read, put and delete
        #[arg(long)]
        bearer: bool,
        /// read, put, delete, erase, delegate, revoke, checkpoint; write (put and delete), admin
        /// (everything)
        #[arg(long, value_name = "ACTIONS", value_delimiter = ',', required = true)]
        can: Vec<String>,
        /// Only with keys that begin like this; end it with / where user/1 is not to match user/10
        #[arg(long, value_name = "PREFIX")]
        prefix: Vec<String>,
        /// A time, or a span from now on such as 30d; without it, until it is revoked
        #[arg(long, value_name = "WHEN")]
        expires: Option<String>,
        /// How many more times it may be passed on, up to 8; needs delegate
        #[arg(long, value_name = "N")]
        depth: Option<u8>,
    },
    /// Lists the grants of a space, those of its owners too
    #[command(visible_alias = "ls", after_help = "Example:\n  kdelta grant list --space team")]
    List,
    /// Shows a grant: who gave it, to whom, what it lets do, and whether it still does
    #[command(after_help = "Examples:\n  \
        kdelta grant inspect 3b9a12c4 --space team\n  \
        kdelta grant inspect - < token")]
    Inspect {
        /// A token, - to read one, or a grant's id or its first 8 or more digits
        #[arg(value_name = "TOKEN|ID")]
        what: String,
    },
    /// Keeps a token for a node, so that --url alone opens what it opens
    ///
    /// It is tried first, and kept in the data directory, in a file of mode 0600 under `tokens`.
    /// Another one for the same node takes its place.
    #[command(after_help = "Example:\n  kdelta --url https://nas.local grant import - < token")]
    Import {
        /// The token; - reads it, so that it stands in no list of processes
        token: String,
    },
    /// Takes a grant back, and all that were given under it
    ///
    /// What was written under it and is here stays; whatever else comes, dated back or not, changes
    /// nothing on any replica.
    #[command(after_help = "Example:\n  kdelta grant revoke 3b9a12c4 --space team --yes")]
    Revoke {
        /// Its id, or the first 8 or more digits
        id: String,
        /// Shows which grant would be taken back
        #[arg(long)]
        dry_run: bool,
    },
}
