//! Which draft of MOQT a session speaks: `wt-available-protocols` and `wt-protocol`, which are a list
//! and an item of strings (RFC 9651).

use aip_codec::Version;
use sfv::{BareItem, Item, List, ListEntry, Parser};

/// The drafts that we offer, first choice first.
pub(super) fn offer(versions: &[Version]) -> String {
    let strings: Vec<String> = versions.iter().map(|version| chosen(*version)).collect();
    strings.join(", ")
}

/// The draft that we chose.
pub(super) fn chosen(version: Version) -> String {
    format!("\"{}\"", version.alpn())
}

/// The first of ours that a client offers.
pub(super) fn choose(offered: &[u8], ours: &[Version]) -> Option<Version> {
    let list: List = Parser::new(offered).parse().ok()?;
    let offers = |version: Version| {
        let named = |entry: &ListEntry| match entry {
            ListEntry::Item(Item { bare_item: BareItem::String(name), .. }) => {
                name.as_str() == version.alpn()
            }
            ListEntry::Item(_) | ListEntry::InnerList(_) => false,
        };
        list.iter().any(named)
    };
    ours.iter().copied().find(|version| offers(*version))
}

/// The draft that a server chose, if it is one of ours.
pub(super) fn accepted(value: &[u8], ours: &[Version]) -> Option<Version> {
    let item: Item = Parser::new(value).parse().ok()?;
    let BareItem::String(name) = item.bare_item else { return None };
    ours.iter().copied().find(|version| version.alpn() == name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: [Version; 2] = [Version::Draft22, Version::Draft18];

    #[test]
    fn the_first_of_ours_is_chosen() {
        assert_eq!(offer(&OURS), r#""moqt-22", "moqt-18""#);
        assert_eq!(choose(offer(&OURS).as_bytes(), &OURS), Some(Version::Draft22));
        let offered = br#""moqt-18";a=1, "moq-lite", ("moqt-22") , moqt-22"#;
        assert_eq!(choose(offered, &OURS), Some(Version::Draft18));
        for none in [&b""[..], b"\"moqt-17\"", b"moqt-22", b"\"moqt-22", b"\xff", b"22"] {
            assert_eq!(choose(none, &OURS), None);
        }
    }

    #[test]
    fn what_was_not_offered_is_not_accepted() {
        assert_eq!(accepted(chosen(Version::Draft18).as_bytes(), &OURS), Some(Version::Draft18));
        for other in [&b"\"moqt-20\""[..], b"moqt-22", b"", b"\"moqt-22\", \"moqt-18\""] {
            assert_eq!(accepted(other, &OURS), None);
        }
    }
}
