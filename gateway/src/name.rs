//! What things are called in the tier (PROFILE.md section 2).

use aip_codec::moqt::name::{FULL_TRACK_NAME_LENGTH_MAX, FullTrackName, NameError, TrackNamespace};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

/// The track that announces a server.
pub const SERVER_TRACK: &str = "server";
/// The call that carries what belongs to a session and to no request of it.
pub const SESSION_CALL: &str = "session";

/// The track that holds a request too long for a track's name.
pub const REQUESTS_TRACK: &str = "requests";
/// The method of the short call that says where such a request is: `{"caller": NAME}`.
pub const CALLER_CALL: &str = "aip/caller";
const CALLER: &str = "caller";

/// What the names of tracks begin with that are calls.
pub const CALL_TRACKS: &str = "call/";
/// The notification that a session's call begins with: `{"own": true}` if the agent has a process of
/// the MCP server for itself.
pub const PROCESS: &str = "notifications/aip/process";

const HASH_MARK: &str = "#sha256=";
/// Bytes of the mark and of a SHA-256 in hexadecimal digits.
const HASH_LENGTH: usize = HASH_MARK.len() + 64;

/// The name of an MCP server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServerName {
    /// Who answers for it: a DNS name in lower case.
    pub authority: String,
    /// Which of its servers.
    pub server: String,
    namespace: TrackNamespace,
}

/// Why text is no server's name.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidServerName {
    /// The authority is no DNS name in lower case.
    #[error("`{0}` is no authority: a DNS name in lower case is wanted, such as example.org")]
    Authority(String),
    /// The name has no place in a namespace.
    #[error("`{0}` is no server's name: one or more characters without `/` are wanted")]
    Server(String),
    /// Both together are too long.
    #[error(transparent)]
    Namespace(#[from] NameError),
}

impl ServerName {
    /// The server of this authority and name.
    ///
    /// # Errors
    /// If either cannot be one.
    pub fn new(authority: &str, server: &str) -> Result<Self, InvalidServerName> {
        let is_host = !authority.is_empty()
            && authority.bytes().all(|byte| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.:".contains(&byte)
            });
        if !is_host {
            return Err(InvalidServerName::Authority(authority.to_owned()));
        }
        if server.is_empty() || server.contains(['/', '\0']) {
            return Err(InvalidServerName::Server(server.to_owned()));
        }
        let namespace = TrackNamespace::new(["aip", authority, server])?;
        Ok(Self { authority: authority.to_owned(), server: server.to_owned(), namespace })
    }

    /// The server that `[AUTHORITY/]NAME` names.
    ///
    /// # Errors
    /// If it names none.
    pub fn parse(text: &str, authority: &str) -> Result<Self, InvalidServerName> {
        match text.split_once('/') {
            Some((authority, server)) => Self::new(authority, server),
            None => Self::new(authority, text),
        }
    }

    /// Its namespace.
    pub const fn namespace(&self) -> &TrackNamespace {
        &self.namespace
    }

    /// The track that is the call of this request.
    ///
    /// # Errors
    /// If the request is too long for a name.
    pub fn call_track(&self, request: &[u8]) -> Result<FullTrackName, NameError> {
        let name = format!("{CALL_TRACKS}{}", BASE64_URL_SAFE_NO_PAD.encode(request));
        FullTrackName::new(self.namespace.clone(), Bytes::from(name))
    }

    /// The track of a caller's request that is too long for a track's name.
    ///
    /// # Errors
    /// If the namespace leaves no room for the caller's name.
    pub fn requests_track(&self, caller: &str) -> Result<FullTrackName, NameError> {
        let fields = self.namespace.fields().chain([CALLER.as_bytes(), caller.as_bytes()]);
        FullTrackName::new(
            TrackNamespace::new(fields)?,
            Bytes::from_static(REQUESTS_TRACK.as_bytes()),
        )
    }

    /// What calls of one agent's session are made to.
    ///
    /// # Errors
    /// If the namespace leaves no room for the session's name.
    pub fn session(&self, session: &str) -> Result<TrackNamespace, NameError> {
        let fields = self.namespace.fields();
        TrackNamespace::new(fields.chain([SESSION_CALL.as_bytes(), session.as_bytes()]))
    }

    /// Its track of this name; too long a name ends in its hash instead of its tail.
    ///
    /// # Errors
    /// If the namespace alone leaves no room for that.
    pub fn track(&self, name: &str) -> Result<FullTrackName, NameError> {
        let room = FULL_TRACK_NAME_LENGTH_MAX.saturating_sub(self.namespace.length());
        FullTrackName::new(self.namespace.clone(), Bytes::from(fitted(name, room)))
    }
}

impl std::fmt::Display for ServerName {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.authority, self.server)
    }
}

/// The request that a track is the call of; `None` if it is none.
pub fn request_of_track(track: &FullTrackName) -> Option<Bytes> {
    let encoded = track.name().strip_prefix(CALL_TRACKS.as_bytes())?;
    BASE64_URL_SAFE_NO_PAD.decode(encoded).ok().map(Bytes::from)
}

/// Whether a track's name had its tail replaced by a hash, so that it cannot be read back.
pub fn is_hashed(track: &str) -> bool {
    track.len().checked_sub(HASH_LENGTH).is_some_and(|start| {
        track.get(start..).and_then(|tail| tail.strip_prefix(HASH_MARK)).is_some_and(|digits| {
            digits.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        })
    })
}

/// `name` if it has at most `room` bytes, else its head and the hash of all of it.
fn fitted(name: &str, room: usize) -> String {
    if name.len() <= room {
        return name.to_owned();
    }
    let mut head = room.saturating_sub(HASH_LENGTH);
    while !name.is_char_boundary(head) {
        head -= 1;
    }
    let mut fitted = name[..head].to_owned();
    fitted.push_str(HASH_MARK);
    for byte in Sha256::digest(name.as_bytes()) {
        fitted.push(char::from(b"0123456789abcdef"[usize::from(byte >> 4)]));
        fitted.push(char::from(b"0123456789abcdef"[usize::from(byte & 15)]));
    }
    fitted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_its_namespace() {
        let name = ServerName::parse("example.org/files", "localhost").unwrap();
        assert_eq!(name.to_string(), "example.org/files");
        assert_eq!(
            name.namespace().fields().collect::<Vec<_>>(),
            [&b"aip"[..], b"example.org", b"files"]
        );
        assert_eq!(ServerName::parse("files", "localhost").unwrap().authority, "localhost");
        for wrong in ["", "a/", "/a", "A/b", "a/b/c", "a b/c"] {
            assert!(ServerName::parse(wrong, "localhost").is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_request_is_a_tracks_name_and_back() {
        let name = ServerName::new("localhost", "files").unwrap();
        let track = name.call_track(br#"{"a":"?>~"}"#).unwrap();
        assert_eq!(track.name(), &b"call/eyJhIjoiPz5-In0"[..]);
        assert_eq!(request_of_track(&track).unwrap(), &br#"{"a":"?>~"}"#[..]);
        for other in ["call/", "call/=", "call/a b", "tools"] {
            let track = name.track(other).unwrap();
            assert!(request_of_track(&track).is_none_or(|request| request.is_empty()), "{other}");
        }
        assert!(name.call_track(&[b'x'; 3_500]).is_err());
    }

    #[test]
    fn a_long_name_ends_in_its_hash() {
        let name = ServerName::new("localhost", "files").unwrap();
        let short = format!("resource/{}", "a".repeat(4_096 - 9 - 17));
        let track = name.track(&short).unwrap();
        assert_eq!(track.name(), short.as_bytes());
        assert!(!is_hashed(&short));
        let long = format!("{short}é");
        let track = name.track(&long).unwrap();
        assert_eq!(track.namespace().length() + track.name().len(), FULL_TRACK_NAME_LENGTH_MAX);
        let hashed = std::str::from_utf8(track.name()).unwrap();
        assert!(is_hashed(hashed), "{hashed}");
        assert_ne!(name.track(&format!("{short}è")).unwrap(), track);
        let wide = name.track(&format!("resource/{}", "é".repeat(3_000))).unwrap();
        assert!(is_hashed(std::str::from_utf8(wide.name()).unwrap()));
    }
}
