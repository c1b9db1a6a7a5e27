//! Who may do what in an owned space.

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum Grant {
    /// Lets a replica do something in an owned space
    ///
    /// Nobody grants more than they have. What a replica writes without a grant, or beyond it, is
    /// kept and passed on, and changes nothing. To sync a space is to read all of it.
    #[command(after_help = "Examples:\n  \
        kdelta grant create --space team --to 5f1c… --can read,write\n  \
        kdelta grant create --space team --to 5f1c… --can read,put --prefix notes/ --expires 30d")]
    Create {
        /// The replica: its id, as `kdelta id show` prints it there
        #[arg(long, value_name = "REPLICA")]
        to: String,
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
