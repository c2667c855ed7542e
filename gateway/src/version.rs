//! A version of a track and the MCP result that it holds.

use aip_codec::moqt::{
    id::GroupId,
    property::{MAX_CACHE_DURATION, Properties},
};
use aip_engine::client::TrackVersion;
use bytes::{Bytes, BytesMut};

/// Bytes of a result that one object carries.
const OBJECT_LENGTH_MAX: usize = 64 << 10;

/// The version that holds `result`; relays keep it no longer than `kept_ms`, if that is said.
pub fn of_result(group: GroupId, result: &Bytes, kept_ms: Option<u64>) -> TrackVersion {
    let starts = (0..result.len().max(1)).step_by(OBJECT_LENGTH_MAX);
    let objects = starts
        .map(|start| result.slice(start..result.len().min(start + OBJECT_LENGTH_MAX)))
        .collect();
    let properties = kept_ms
        .and_then(|kept| Properties::builder().integer(MAX_CACHE_DURATION, kept).build().ok())
        .unwrap_or_else(Properties::empty);
    TrackVersion { group, objects, properties }
}

/// The result that a version holds; copied only if it has more than one object.
pub fn result_of(version: &TrackVersion) -> Bytes {
    if let [object] = &version.objects[..] {
        return object.clone();
    }
    let mut result = BytesMut::with_capacity(version.objects.iter().map(Bytes::len).sum());
    for object in &version.objects {
        result.extend_from_slice(object);
    }
    result.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(length: usize, objects: usize) {
        let result = Bytes::from((0..=250u8).cycle().take(length).collect::<Vec<u8>>());
        let version = of_result(GroupId(7), &result, Some(1_500));
        assert_eq!(version.objects.len(), objects);
        assert_eq!(version.properties.max_cache_duration(), Some(1_500));
        assert_eq!(result_of(&version), result);
    }

    #[test]
    fn long_results_continue_in_more_objects() {
        check(0, 1);
        check(1, 1);
        check(65_536, 1);
        check(65_537, 2);
        check(200_000, 4);
        let empty = of_result(GroupId(1), &Bytes::new(), None);
        assert_eq!(empty.properties.max_cache_duration(), None);
    }
}
