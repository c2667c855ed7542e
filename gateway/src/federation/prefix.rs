//! How names of several servers stay apart.
//!
//! A tool or prompt is `PREFIX_name`, a resource is `PREFIX+uri`. A prefix has neither `_` nor `+`,
//! so the first one ends it: whose a name is, is read off the name, and two servers never collide.

use std::collections::BTreeSet;

/// Characters of a prefix.
const LENGTH_MAX: usize = 32;

/// What the names of one server begin with.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Prefix(String);

/// Why text is no prefix.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidPrefix {
    /// It has other characters, or too many.
    #[error(
        "`{0}` is no prefix: a small letter is wanted, then at most 31 small letters, digits and `-`"
    )]
    Malformed(String),
    /// Two servers have it.
    #[error("two servers have the prefix `{0}`: give one of them another, PREFIX=NAME")]
    Twice(Prefix),
}

impl Prefix {
    /// The prefix that `text` is.
    ///
    /// # Errors
    /// If it is none.
    pub fn new(text: &str) -> Result<Self, InvalidPrefix> {
        let begins = text.bytes().next().is_some_and(|first| first.is_ascii_lowercase());
        let all = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if begins && all && text.len() <= LENGTH_MAX {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidPrefix::Malformed(text.to_owned()))
        }
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A name of the server as agents see it.
    pub fn name(&self, name: &str) -> String {
        format!("{}_{name}", self.0)
    }

    /// A URI, or a template of URIs, as agents see it.
    pub fn uri(&self, uri: &str) -> String {
        format!("{}+{uri}", self.0)
    }

    /// The prefix that a server gets that was given none: its name, as far as that can be one.
    fn of_server(server: &str) -> String {
        let mut text: String = server
            .chars()
            .map(|c| c.to_ascii_lowercase())
            .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' })
            .take(LENGTH_MAX - 4)
            .collect();
        if !text.starts_with(|first: char| first.is_ascii_lowercase()) {
            text.insert_str(0, "s-");
        }
        text
    }
}

impl std::fmt::Display for Prefix {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The prefix and the rest of a tool's or prompt's name.
pub(super) fn split_name(name: &str) -> Option<(&str, &str)> {
    name.split_once('_')
}

/// The prefix and the rest of a URI.
pub(super) fn split_uri(uri: &str) -> Option<(&str, &str)> {
    uri.split_once('+')
}

/// A prefix for each server: the one it was given, else its name's; of names that would have the
/// same, the second ends in `-2`, the third in `-3`, in the order they were given.
///
/// # Errors
/// If two were given the same.
pub fn assign<'a>(
    servers: impl IntoIterator<Item = (Option<Prefix>, &'a str)>,
) -> Result<Vec<Prefix>, InvalidPrefix> {
    let servers: Vec<_> = servers.into_iter().collect();
    let mut taken = BTreeSet::new();
    for given in servers.iter().filter_map(|(given, _)| given.as_ref()) {
        if !taken.insert(given.clone()) {
            return Err(InvalidPrefix::Twice(given.clone()));
        }
    }
    let free = |name: &str, taken: &mut BTreeSet<Prefix>| {
        let stem = Prefix::of_server(name);
        let numbered = (2..).map(|number: u32| Prefix(format!("{stem}-{number}")));
        let mut candidates = std::iter::once(Prefix(stem.clone())).chain(numbered);
        let found = candidates.find(|candidate| !taken.contains(candidate));
        let found = found.unwrap_or(Prefix(stem));
        taken.insert(found.clone());
        found
    };
    let assigned = servers.into_iter().map(|(given, name)| match given {
        Some(given) => given,
        None => free(name, &mut taken),
    });
    Ok(assigned.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(servers: &[(Option<&str>, &str)], expected: &[&str]) {
        let given =
            servers.iter().map(|(given, name)| (given.map(|g| Prefix::new(g).unwrap()), *name));
        let assigned = assign(given).unwrap();
        assert_eq!(assigned.iter().map(Prefix::as_str).collect::<Vec<_>>(), expected);
        for prefix in assigned {
            assert_eq!(Prefix::new(prefix.as_str()), Ok(prefix.clone()), "it is a prefix itself");
        }
    }

    #[test]
    fn each_server_has_a_prefix_of_its_own() {
        check(&[(None, "files"), (None, "docs")], &["files", "docs"]);
        check(
            &[(None, "files"), (None, "files"), (None, "files")],
            &["files", "files-2", "files-3"],
        );
        check(&[(None, "files"), (Some("files"), "other")], &["files-2", "files"]);
        check(&[(None, "My Files_1"), (None, "9"), (None, "é")], &["my-files-1", "s-9", "s--"]);
        check(
            &[(None, &"x".repeat(99)), (None, &"x".repeat(99))],
            &[&"x".repeat(28), &format!("{}-2", "x".repeat(28))],
        );
    }

    #[test]
    fn what_cannot_be_told_apart_is_refused() {
        let prefix = || Some(Prefix::new("a").unwrap());
        assert!(matches!(assign([(prefix(), "x"), (prefix(), "y")]), Err(InvalidPrefix::Twice(_))));
        for wrong in ["", "A", "1a", "a_b", "a+b", "a.b", "-a", &"a".repeat(33)] {
            assert!(Prefix::new(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn whose_a_name_is_is_read_off_it() {
        let prefix = Prefix::new("a-1").unwrap();
        assert_eq!(split_name(&prefix.name("b_c")), Some(("a-1", "b_c")));
        assert_eq!(split_uri(&prefix.uri("file+x:///y+z")), Some(("a-1", "file+x:///y+z")));
        assert_eq!((split_name("plain"), split_uri("file:///x")), (None, None));
    }
}
