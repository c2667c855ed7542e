//! Which tracks are kept up to date, and when each must be read again. No I/O.

use std::{collections::BTreeMap, time::Duration};

use aip_codec::moqt::{id::GroupId, name::FullTrackName};
use aip_engine::client::TrackVersion;
use bytes::Bytes;

use crate::{read::Read, version};

/// One track that somebody asked for.
#[derive(Debug)]
pub(super) struct Track {
    /// What it is in MCP.
    pub(super) read: Read,
    /// Whether somebody waits for it or follows it.
    pub(super) wanted: bool,
    /// Whether the backend is being asked.
    reading: bool,
    /// Whether it changed since the backend was asked.
    changed: bool,
    /// Whether the read under way is for a change, which is told even if the bytes are the same.
    told: bool,
    /// Whether the backend tells of its changes because it was asked to.
    pub(super) subscribed: bool,
    /// When the backend gave what was published last.
    true_at_ms: u64,
    /// What was published last, and the result in it.
    last: Option<(TrackVersion, Bytes)>,
}

/// What to do about a track.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Step {
    /// Nothing: it is being read, or nobody cares.
    Nothing,
    /// Ask the backend.
    Read,
    /// Let the published version, which is no longer true, expire.
    Expire(TrackVersion),
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Tracks {
    tracks: BTreeMap<FullTrackName, Track>,
}

impl Tracks {
    /// Somebody asks for a track. `None` if there are `limit` already.
    pub(super) fn want(&mut self, name: &FullTrackName, read: Read, limit: usize) -> Option<Step> {
        if !self.tracks.contains_key(name) && limit <= self.tracks.len() {
            let idle = self.tracks.iter().find(|(_, track)| !track.wanted && !track.reading);
            let idle = idle.map(|(name, _)| name.clone())?;
            self.tracks.remove(&idle);
        }
        let track = self.tracks.entry(name.clone()).or_insert_with(|| Track {
            read,
            wanted: false,
            reading: false,
            changed: false,
            told: false,
            subscribed: false,
            true_at_ms: 0,
            last: None,
        });
        track.wanted = true;
        Some(track.begin())
    }

    /// Nobody follows a track any more. What it was; the version to let expire, if it is only true
    /// as long as the backend tells of changes.
    pub(super) fn unwant(&mut self, name: &FullTrackName) -> Option<(Track, Option<TrackVersion>)> {
        let track = self.tracks.get_mut(name)?;
        track.wanted = false;
        if track.reading || !matches!(track.read, Read::Resource { .. } | Read::Prompt { .. }) {
            return None;
        }
        let track = self.tracks.remove(name)?;
        let expire = track.last.as_ref().filter(|_| track.subscribed).map(|(last, _)| last.clone());
        Some((track, expire))
    }

    /// A track is not what it was.
    pub(super) fn change(&mut self, name: &FullTrackName) -> Step {
        let Some(track) = self.tracks.get_mut(name) else { return Step::Nothing };
        track.changed = true;
        if track.wanted {
            return track.begin();
        }
        match &track.last {
            Some((last, _)) if !track.reading => Step::Expire(last.clone()),
            Some(_) | None => Step::Nothing,
        }
    }

    /// A track may not be what it was: it is read as if it were not, but the same bytes are no change.
    pub(super) fn doubt(&mut self, name: &FullTrackName) -> Step {
        let step = self.change(name);
        if let Some(track) = self.tracks.get_mut(name)
            && step == Step::Read
        {
            track.told = false;
        }
        step
    }

    /// The tracks of these reads.
    pub(super) fn named(&self, which: impl Fn(&Read) -> bool) -> Vec<FullTrackName> {
        let found = self.tracks.iter().filter(|(_, track)| which(&track.read));
        found.map(|(name, _)| name.clone()).collect()
    }

    /// A track by name.
    pub(super) fn track_mut(&mut self, name: &FullTrackName) -> Option<&mut Track> {
        self.tracks.get_mut(name)
    }

    /// The backend's result for a track has come; the version that holds it. The version of before
    /// if nothing tells of a change and the bytes are the same.
    pub(super) fn succeed(
        &mut self,
        name: &FullTrackName,
        result: &Bytes,
        kept_ms: Option<u64>,
        now_ms: u64,
    ) -> Option<TrackVersion> {
        let track = self.tracks.get_mut(name)?;
        track.reading = false;
        let told = std::mem::take(&mut track.told);
        let group = match &track.last {
            Some((last, same)) if !told && same == result => last.group,
            Some((last, _)) => GroupId(now_ms.max(last.group.0 + 1)),
            None => GroupId(now_ms),
        };
        let version = version::of_result(group, result, kept_ms);
        track.last = Some((version.clone(), result.clone()));
        track.true_at_ms = now_ms;
        Some(version)
    }

    /// The backend failed at a track: what was published last, if that is not older than `age_max`.
    pub(super) fn stale(
        &mut self,
        name: &FullTrackName,
        age_max: Duration,
        now_ms: u64,
    ) -> Option<TrackVersion> {
        let track = self.tracks.get_mut(name)?;
        let (last, _) = track.last.as_ref()?;
        let age = Duration::from_millis(now_ms.saturating_sub(track.true_at_ms));
        if age_max <= age {
            return None;
        }
        track.reading = false;
        Some(last.clone())
    }

    /// The backend gave no result for a track, or one that cannot be published.
    pub(super) fn fail(&mut self, name: &FullTrackName) -> Option<Track> {
        self.tracks.remove(name)
    }

    /// Whether a track that was just read must be read again.
    pub(super) fn again(&mut self, name: &FullTrackName) -> Step {
        match self.tracks.get_mut(name) {
            Some(track) if track.changed && track.wanted => track.begin(),
            Some(_) | None => Step::Nothing,
        }
    }
}

impl Track {
    fn begin(&mut self) -> Step {
        if self.reading {
            return Step::Nothing;
        }
        self.reading = true;
        self.told = std::mem::take(&mut self.changed);
        Step::Read
    }
}

#[cfg(test)]
mod tests {
    use aip_codec::moqt::name::TrackNamespace;

    use super::*;

    fn name(name: &'static str) -> FullTrackName {
        let namespace = TrackNamespace::new(["aip", "localhost", "s"]).unwrap();
        FullTrackName::new(namespace, Bytes::from_static(name.as_bytes())).unwrap()
    }

    fn published(tracks: &mut Tracks, track: &FullTrackName, text: &'static str) -> u64 {
        let version = tracks.succeed(track, &Bytes::from_static(text.as_bytes()), None, 1_000);
        version.unwrap().group.0
    }

    #[test]
    fn many_who_ask_are_one_read() {
        let (mut tracks, tools) = (Tracks::default(), name("tools"));
        assert_eq!(tracks.want(&tools, Read::Tools, 10), Some(Step::Read));
        assert_eq!(tracks.want(&tools, Read::Tools, 10), Some(Step::Nothing));
        assert_eq!(published(&mut tracks, &tools, "a"), 1_000);
        assert_eq!(tracks.again(&tools), Step::Nothing);
    }

    #[test]
    fn groups_grow_with_changes_and_stay_without() {
        let (mut tracks, tools) = (Tracks::default(), name("tools"));
        tracks.want(&tools, Read::Tools, 10);
        assert_eq!(published(&mut tracks, &tools, "a"), 1_000);
        tracks.want(&tools, Read::Tools, 10);
        assert_eq!(published(&mut tracks, &tools, "a"), 1_000, "the same, read again");
        tracks.want(&tools, Read::Tools, 10);
        assert_eq!(published(&mut tracks, &tools, "b"), 1_001, "other bytes");
        assert_eq!(tracks.change(&tools), Step::Read);
        assert_eq!(published(&mut tracks, &tools, "b"), 1_002, "told as changed");
    }

    #[test]
    fn the_same_bytes_after_a_doubt_are_no_change() {
        let (mut tracks, tools) = (Tracks::default(), name("tools"));
        tracks.want(&tools, Read::Tools, 10);
        assert_eq!(published(&mut tracks, &tools, "a"), 1_000);
        assert_eq!(tracks.doubt(&tools), Step::Read);
        assert_eq!(tracks.doubt(&tools), Step::Nothing, "it is being read");
        assert_eq!(published(&mut tracks, &tools, "a"), 1_000, "the same");
        assert_eq!(tracks.again(&tools), Step::Read, "there was a doubt meanwhile");
    }

    #[test]
    fn changes_during_a_read_are_one_more_read() {
        let (mut tracks, tools) = (Tracks::default(), name("tools"));
        tracks.want(&tools, Read::Tools, 10);
        for _ in 0..1_000 {
            assert_eq!(tracks.change(&tools), Step::Nothing);
        }
        published(&mut tracks, &tools, "a");
        assert_eq!(tracks.again(&tools), Step::Read);
        published(&mut tracks, &tools, "a");
        assert_eq!(tracks.again(&tools), Step::Nothing);
    }

    #[test]
    fn what_nobody_wants_expires_when_it_changes() {
        let (mut tracks, tools) = (Tracks::default(), name("tools"));
        tracks.want(&tools, Read::Tools, 10);
        published(&mut tracks, &tools, "a");
        assert!(tracks.unwant(&tools).is_none(), "lists are kept: their changes are told anyway");
        assert!(matches!(tracks.change(&tools), Step::Expire(_)));
        let (resource, read) = (name("resource/u"), Read::Resource { uri: "u".to_owned() });
        tracks.want(&resource, read, 10);
        tracks.track_mut(&resource).unwrap().subscribed = true;
        published(&mut tracks, &resource, "a");
        let (_, expire) = tracks.unwant(&resource).unwrap();
        assert!(expire.is_some(), "its changes are told no longer");
        assert_eq!(tracks.change(&resource), Step::Nothing);
    }

    #[test]
    fn a_failing_server_leaves_what_it_said_last_for_a_while() {
        let (mut tracks, tools) = (Tracks::default(), name("tools"));
        let minute = Duration::from_secs(60);
        tracks.want(&tools, Read::Tools, 10);
        assert!(tracks.stale(&tools, minute, 1_000).is_none(), "it never said anything");
        published(&mut tracks, &tools, "a");
        tracks.want(&tools, Read::Tools, 10);
        assert_eq!(tracks.stale(&tools, minute, 60_999).unwrap().group.0, 1_000);
        assert!(tracks.stale(&tools, minute, 61_000).is_none(), "too old");
        assert!(tracks.stale(&tools, Duration::ZERO, 1_000).is_none(), "never");
    }

    #[test]
    fn the_limit_counts_what_is_wanted() {
        let (mut tracks, tools, prompts) = (Tracks::default(), name("tools"), name("prompts"));
        tracks.want(&tools, Read::Tools, 1);
        assert_eq!(tracks.want(&prompts, Read::Prompts, 1), None);
        published(&mut tracks, &tools, "a");
        tracks.unwant(&tools);
        assert_eq!(tracks.want(&prompts, Read::Prompts, 1), Some(Step::Read));
    }
}
