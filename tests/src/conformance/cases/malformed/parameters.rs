//! Parameters with values that they cannot have.

use aip_codec::moqt::error_code::RequestCode;

use super::{
    FORMATTING, VIOLATION, offence,
    requests::{Kind, Parts},
};
use crate::conformance::{
    build,
    case::{Case, case},
};

/// Name, what is wrong, section, request, its block of parameters, drafts.
type Row =
    (&'static str, &'static str, &'static str, Kind, &'static str, std::ops::RangeInclusive<u8>);

const CLOSING: &[Row] = &[
    ("subscribe-forward-2", "FORWARD is 0 or 1", "9.20", Kind::Subscribe, "01 1002", 18..=22),
    ("publish-forward-2", "FORWARD is 0 or 1", "9.20", Kind::Publish, "01 1002", 18..=22),
    (
        "subscribe-tracks-forward-2",
        "FORWARD is 0 or 1",
        "9.20",
        Kind::SubscribeTracks,
        "01 1002",
        18..=22,
    ),
    (
        "subscribe-group-order-0",
        "GROUP_ORDER is 1 or 2",
        "9.20",
        Kind::Subscribe,
        "01 2200",
        18..=22,
    ),
    (
        "subscribe-group-order-3",
        "GROUP_ORDER is 1 or 2",
        "9.20",
        Kind::Subscribe,
        "01 2203",
        18..=22,
    ),
    ("fetch-group-order-3", "GROUP_ORDER is 1 or 2", "9.20", Kind::Fetch, "01 2203", 18..=22),
    (
        "subscribe-include-properties-2",
        "INCLUDE_PROPERTIES is 0 or 1",
        "9.20",
        Kind::Subscribe,
        "01 3502",
        20..=22,
    ),
    (
        "track-status-include-properties-2",
        "INCLUDE_PROPERTIES is 0 or 1",
        "9.20",
        Kind::TrackStatus,
        "01 3502",
        20..=22,
    ),
    (
        "subscribe-location-filter-type",
        "a location filter is of a known type",
        "9.20.9",
        Kind::Subscribe,
        "01 2106",
        22..=22,
    ),
    (
        "subscribe-location-filter-overflow",
        "an end group has 64 bits",
        "9.20.9",
        Kind::Subscribe,
        "01 2103 02 00 ffffffffffffffffff",
        22..=22,
    ),
    (
        "fetch-location-filter-type",
        "a location filter is of a known type",
        "9.20.9",
        Kind::Fetch,
        "01 21ff0000000000000006",
        22..=22,
    ),
    (
        "subscribe-location-filter-cut-short",
        "a location filter lies inside its message",
        "9.20.9",
        Kind::Subscribe,
        "01 2104 01",
        22..=22,
    ),
    (
        "subscribe-location-filter-five-fields",
        "a location filter has at most four fields",
        "9.20.9",
        Kind::Subscribe,
        "01 2105 01 01 01 01 01",
        20..=21,
    ),
    (
        "subscribe-location-filter-end-overflow",
        "an end group has 64 bits",
        "9.20.9",
        Kind::Subscribe,
        "01 210b 02 00 ffffffffffffffffff",
        20..=21,
    ),
    (
        "subscribe-location-filter-length",
        "a location filter's length is not believed",
        "9.20.9",
        Kind::Subscribe,
        "01 21ffffffffffffffffff 01",
        18..=21,
    ),
    (
        "subscribe-location-filter-0",
        "a location filter is of a known type",
        "9.20.9",
        Kind::Subscribe,
        "01 210100",
        18..=19,
    ),
    (
        "subscribe-location-filter-5",
        "a location filter is of a known type",
        "9.20.9",
        Kind::Subscribe,
        "01 210105",
        18..=19,
    ),
    (
        "subscribe-location-filter-long",
        "a location filter's length is that of its fields",
        "9.20.9",
        Kind::Subscribe,
        "01 21020101",
        18..=19,
    ),
    (
        "subscribe-fill-forward",
        "FORWARD has no place in a fill",
        "9.20",
        Kind::Subscribe,
        "01 2303 01 1001",
        20..=22,
    ),
    (
        "subscribe-fill-in-fill",
        "a fill has no fill in it",
        "9.20",
        Kind::Subscribe,
        "01 2304 01 2301 00",
        20..=22,
    ),
    (
        "subscribe-fill-huge",
        "a fill's length is not believed",
        "9.20",
        Kind::Subscribe,
        "01 23ffffffffffffffffff 01",
        20..=22,
    ),
    (
        "subscribe-fill-cut-short",
        "a fill's parameters lie inside it",
        "9.20",
        Kind::Subscribe,
        "01 2301 01",
        20..=22,
    ),
    (
        "subscribe-fill-18",
        "drafts before 20 have no fills",
        "9.20",
        Kind::Subscribe,
        "01 230100",
        18..=19,
    ),
    (
        "subscribe-subgroup-filter-18",
        "draft 18 has no range filters",
        "9.20",
        Kind::Subscribe,
        "01 2503 01 0101",
        18..=18,
    ),
    (
        "subscribe-include-properties-18",
        "drafts before 20 have no INCLUDE_PROPERTIES",
        "9.20",
        Kind::Subscribe,
        "01 3501",
        18..=19,
    ),
    (
        "subscribe-priority-missing",
        "SUBSCRIBER_PRIORITY has a value",
        "9.20",
        Kind::Subscribe,
        "01 20",
        18..=22,
    ),
    (
        "subscribe-timeout-cut-short",
        "an integer lies inside its message",
        "9.20",
        Kind::Subscribe,
        "01 02ff01",
        18..=22,
    ),
    (
        "publish-largest-object-cut-short",
        "LARGEST_OBJECT is two integers",
        "9.20",
        Kind::Publish,
        "01 0905",
        18..=22,
    ),
];

/// Filters that are refused, not punished.
const REFUSED: &[Row] = &[
    (
        "subscribe-filter-odd-property",
        "a property filter is about an integer",
        "3.3.2",
        Kind::Subscribe,
        "01 2805 01 3b 01 01 01",
        19..=22,
    ),
    (
        "subscribe-filter-priority-256",
        "a priority filter ends at 255",
        "3.3.2",
        Kind::Subscribe,
        "01 2704 01 8100 01",
        19..=22,
    ),
    (
        "subscribe-filter-overflow",
        "a range has 64 bits",
        "3.3.2",
        Kind::Subscribe,
        "01 250c 01 02 01 ffffffffffffffffff",
        19..=22,
    ),
    (
        "subscribe-filter-twice",
        "no filter comes twice with one set",
        "3.3.2",
        Kind::Subscribe,
        "02 2503 010101 0003 010101",
        19..=22,
    ),
];

/// Track properties of PUBLISH that cannot be.
const PROPERTIES: &[(&str, &str, &str, &[u64])] = &[
    (
        "publish-property-huge",
        "a property's length is not believed",
        "3bffffffffffffffffff61",
        &[VIOLATION, FORMATTING],
    ),
    (
        "publish-property-65536",
        "a property has at most 65,535 bytes",
        "3bc1000061",
        &[VIOLATION, FORMATTING],
    ),
    (
        "publish-property-type-overflow",
        "a property's type has 64 bits",
        "0201ffffffffffffffffff01",
        &[VIOLATION, FORMATTING],
    ),
    (
        "publish-property-cut-short",
        "a property lies inside its message",
        "3b0561",
        &[VIOLATION, FORMATTING],
    ),
    (
        "publish-property-default-priority",
        "DEFAULT_PUBLISHER_PRIORITY is at most 255",
        "0e8100",
        &[FORMATTING, VIOLATION],
    ),
    (
        "publish-property-group-order",
        "DEFAULT_PUBLISHER_GROUP_ORDER is 1 or 2",
        "2203",
        &[VIOLATION],
    ),
    ("publish-property-dynamic-groups", "DYNAMIC_GROUPS is 0 or 1", "3002", &[VIOLATION]),
];

pub(super) fn cases() -> Vec<Case> {
    let closing = CLOSING.iter().map(|(name, about, section, kind, block, drafts)| {
        offence((*name).to_owned(), (*about).to_owned(), section, &[VIOLATION], move |_, peer| {
            let mut parts = Parts::new(*kind, peer.version, 0);
            parts.parameters = build::hex(block);
            peer.bidirectional(&build::frame(kind.code(), &parts.body()));
            Ok(())
        })
        .drafts(drafts.clone())
    });
    let refused = REFUSED.iter().map(|(name, about, section, kind, block, drafts)| {
        case(format!("malformed-{name}"), *about, section, move |stage| {
            let peer = stage.session()?;
            let mut parts = Parts::new(*kind, peer.version, 0);
            parts.parameters = build::hex(block);
            let stream = peer.bidirectional(&build::frame(kind.code(), &parts.body()));
            peer.request_id();
            peer.refused(stream, &[RequestCode::INVALID_FILTER.0])?;
            peer.answers()
        })
        .hostile()
        .drafts(drafts.clone())
    });
    let properties = PROPERTIES.iter().map(|(name, about, block, codes)| {
        offence((*name).to_owned(), (*about).to_owned(), "10", codes, move |_, peer| {
            let mut parts = Parts::new(Kind::Publish, peer.version, 0);
            parts.properties = build::hex(block);
            peer.bidirectional(&build::frame(Kind::Publish.code(), &parts.body()));
            Ok(())
        })
    });
    closing.chain(refused).chain(properties).collect()
}
