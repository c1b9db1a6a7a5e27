//! What is done to the replica's key.

use std::path::PathBuf;

use clap::{Subcommand, ValueHint};

#[derive(Debug, Subcommand)]
pub(crate) enum Id {
    /// Shows the replica id, its key file and what protects it
    #[command(after_help = "Example:\n  kdelta id show --json")]
    Show,
    /// Makes a new key; a store that has one goes on as a new replica
    ///
    /// What was written stays, and peers take it as before; they know the store by its earlier id,
    /// so admit the new one there. The earlier key is kept beside the new one.
    #[command(after_help = "About 2^BITS keys are drawn: 20 bits take half a minute on one core, \
        each bit more takes twice as long.\n\nExamples:\n  kdelta id new --passphrase\n  \
        kdelta id new --difficulty 16 --yes")]
    New {
        /// Draws keys until the id holds this much work, 0 to 40
        #[arg(long, value_name = "BITS", default_value_t = 0,
            value_parser = clap::value_parser!(u32).range(0..=40))]
        difficulty: u32,
        /// Locks the new key by a passphrase
        #[arg(long)]
        passphrase: bool,
        /// The passphrase to lock it with: the first line; without it, asks
        #[arg(long, value_name = "FILE", requires = "passphrase", value_hint = ValueHint::FilePath)]
        new_passphrase_file: Option<PathBuf>,
        /// Shows which key would be left
        #[arg(long)]
        dry_run: bool,
    },
    /// Copies the key to a file that its owner alone may read; whoever has it can write as you
    #[command(after_help = "A key that is locked stays so in the copy.\n\n\
        Examples:\n  kdelta id export key.backup\n  kdelta id export key.backup --passphrase")]
    Export {
        /// The file to write, which must not exist; - writes to stdout
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// Locks the copy by a passphrase of its own
        #[arg(long)]
        passphrase: bool,
        /// The passphrase to lock it with: the first line; without it, asks
        #[arg(long, value_name = "FILE", requires = "passphrase", value_hint = ValueHint::FilePath)]
        new_passphrase_file: Option<PathBuf>,
    },
    /// Takes the key from a file; a store that has one goes on under that from the file
    ///
    /// It begins a log of its own: two stores may run under one key, and lose nothing.
    #[command(after_help = "Example:\n  kdelta id import key.backup")]
    Import {
        /// The file that `id export` wrote; - reads stdin
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// The passphrase of the file, where it is another than that of the store's key
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        file_passphrase_file: Option<PathBuf>,
        /// Shows which key would be left
        #[arg(long)]
        dry_run: bool,
    },
    /// Locks the key by a passphrase, changes it, or removes it
    #[command(after_help = "Examples:\n  kdelta id passphrase\n  kdelta id passphrase --remove")]
    Passphrase {
        /// Leaves the key without a passphrase
        #[arg(long, conflicts_with = "new_passphrase_file")]
        remove: bool,
        /// The passphrase to lock it with: the first line; without it, asks
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        new_passphrase_file: Option<PathBuf>,
    },
}
