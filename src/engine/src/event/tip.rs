//! Deps, and the order in which commits are listed.

use crate::base::CodecError;
use crate::causal::Tip;

/// A head of another log that the author had seen: the tip it depends on.
pub type Dep = Tip;

/// Checks that tips are strictly ascending by log.
pub(super) fn check_ascending(tips: &[Tip]) -> Result<(), CodecError> {
    if tips.is_sorted_by(|a, b| a.log < b.log) {
        Ok(())
    } else {
        Err(CodecError::NotCanonical("commits are listed in ascending order of their logs"))
    }
}
