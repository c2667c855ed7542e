//! The cases, one file a family.

mod abuse;
mod control;
mod data;
mod fetch;
mod fill;
mod http3;
mod lenient;
mod malformed;
mod names;
mod namespaces;
mod publish;
mod session;
mod slow;
mod subscribe;
mod tracks;
mod updates;
mod wide;

use super::case::Case;

/// Every case, in the order in which they are run.
pub fn all() -> Vec<Case> {
    [
        control::cases(),
        session::cases(),
        namespaces::cases(),
        subscribe::cases(),
        updates::cases(),
        publish::cases(),
        tracks::cases(),
        data::cases(),
        fetch::cases(),
        fill::cases(),
        names::cases(),
        lenient::cases(),
        wide::cases(),
        abuse::cases(),
        http3::cases(),
        malformed::cases(),
        slow::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::all;

    #[test]
    fn names_are_plain_and_come_once() {
        let cases = all();
        let plain = |name: &str| {
            name.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-')
        };
        let mut seen = BTreeSet::new();
        for case in &cases {
            assert!(plain(&case.name), "{}", case.name);
            assert!(seen.insert(case.name.clone()), "{} comes twice", case.name);
            assert!(!case.about.is_empty() && !case.section.is_empty(), "{}", case.name);
        }
        let malformed = cases.iter().filter(|case| case.name.starts_with("malformed-")).count();
        assert!(181 <= malformed, "{malformed} malformed cases");
    }
}
