//! Files of tokens, which only their owner may read.
//!
//! The owner's token lies in the data directory, and is made when a node first needs it: who shows
//! it over HTTP may do what the owner may. Removing the file makes the next node make another one.
//! Tokens of others' grants are kept by their bearers.

use std::io::{self, Read as _, Write as _};
use std::path::Path;

use crate::engine::base::{hex, unhex};

/// Its name in the data directory.
pub const FILE_NAME: &str = "token";

/// Random bytes in a token.
const TOKEN_BYTES: usize = 32;
/// Longest file that is read as a token, in bytes.
const FILE_BYTES_MAX: u64 = 4096;

/// Returns the token of the store in `dir`; makes one if there is none. The caller holds the store.
///
/// # Errors
/// The file cannot be read or written, or holds no token: then nothing is changed.
pub fn load_or_create(dir: &Path) -> io::Result<String> {
    let path = dir.join(FILE_NAME);
    match read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Ok(token) if unhex(&token).is_some_and(|bytes| bytes.len() == TOKEN_BYTES) => {
            return Ok(token);
        }
        Ok(_) => return Err(io::Error::new(io::ErrorKind::InvalidData, "it holds no token")),
        Err(error) => return Err(error),
    }
    let mut bytes = [0; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    let token = hex(&bytes);
    keep(&path, &token)?;
    Ok(token)
}

/// Writes a token to a file, in place of what is there; makes the directory if there is none.
///
/// # Errors
/// It cannot be written; the file is what it was then.
pub fn keep(path: &Path, token: &str) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    super::make_private_dir(dir)?;
    // Such a file is its owner's alone from the beginning.
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    writeln!(file, "{token}")?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// Returns the token in a file, whoever made it.
///
/// # Errors
/// It cannot be read, or holds more or less than one word.
pub fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it holds no token"));
    }
    Ok(token.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn it_is_made_once_and_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let token = load_or_create(dir.path()).unwrap();
        assert_eq!(token.len(), 2 * TOKEN_BYTES);
        assert_eq!(load_or_create(dir.path()).unwrap(), token);
        let path = dir.path().join(FILE_NAME);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read(&path).unwrap(), token);
        std::fs::remove_file(&path).unwrap();
        assert_ne!(load_or_create(dir.path()).unwrap(), token);
    }

    #[test]
    fn a_file_that_holds_none_is_refused_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        for text in ["", "\n", "two words", "short", "\u{0}", &"0".repeat(9000)] {
            std::fs::write(&path, text).unwrap();
            let refused = load_or_create(dir.path()).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::InvalidData, "{text:?}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }
}
