//! Which commit is checked out where a command runs, for whoever reads of a failure later.
//!
//! Read from the files of git, without running it. That the binary was built from that commit is
//! likely and not known.

use std::fs;

/// Returns the first digits of the commit that is checked out here or in a folder above; none
/// without a checkout.
pub(super) fn checked_out() -> Option<String> {
    let here = std::env::current_dir().ok()?;
    here.ancestors().find_map(|folder| {
        let git = folder.join(".git");
        commit(|name| fs::read_to_string(git.join(name)).ok())
    })
}

/// Finds the commit in the files of git, given how to read one.
fn commit(read: impl Fn(&str) -> Option<String>) -> Option<String> {
    let head = read("HEAD")?;
    let id = match head.trim().strip_prefix("ref: ") {
        None => head,
        Some(name) => read(name).or_else(|| packed(&read("packed-refs")?, name))?,
    };
    let digits = id.trim().get(..DIGITS)?;
    digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| digits.to_owned())
}

/// Finds a name among those that git keeps in one file.
fn packed(refs: &str, name: &str) -> Option<String> {
    let mut lines = refs.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(_, known)| *known == name).map(|(id, _)| id.to_owned())
}

/// How many digits are shown.
const DIGITS: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_read_from_the_files_of_git() {
        let id = "0123456789abcdef0123456789abcdef01234567";
        let packed = format!("# pack-refs with: peeled\n{id} refs/heads/main\n");
        let head = "ref: refs/heads/main\n";
        let (short, other) = (Some("0123456789ab"), "fedcba98765432100000\n");
        type Files<'a> = &'a [(&'a str, &'a str)];
        let cases: [(Files<'_>, Option<&str>); 6] = [
            (&[], None),
            (&[("HEAD", id)], short),
            (&[("HEAD", head)], None),
            (&[("HEAD", head), ("packed-refs", &packed)], short),
            (
                &[("HEAD", head), ("refs/heads/main", other), ("packed-refs", &packed)],
                Some("fedcba987654"),
            ),
            (&[("HEAD", "no commit at all")], None),
        ];
        for (files, found) in cases {
            let read =
                |name: &str| files.iter().find(|file| file.0 == name).map(|f| f.1.to_owned());
            assert_eq!(commit(read).as_deref(), found, "{files:?}");
        }
    }
}
