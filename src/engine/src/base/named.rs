//! Looks names up while the crate is compiled, so that a misspelt one does not compile.

/// Tells whether two names are the same.
pub(super) const fn same(a: &str, b: &str) -> bool {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    while let (Some((x, rest_a)), Some((y, rest_b))) = (a.split_first(), b.split_first()) {
        if *x != *y {
            return false;
        }
        (a, b) = (rest_a, rest_b);
    }
    a.is_empty() && b.is_empty()
}

#[cfg(test)]
mod tests {
    use super::same;

    #[test]
    fn a_name_is_the_same_as_itself_alone() {
        let names = ["", "a", "ab", "ba", "abc"];
        for (n, a) in names.iter().enumerate() {
            for (m, b) in names.iter().enumerate() {
                assert_eq!(same(a, b), n == m, "{a:?} {b:?}");
            }
        }
    }
}
