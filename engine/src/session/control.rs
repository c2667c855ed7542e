//! The control streams: SETUP, then GOAWAY.

use std::time::{Duration, Instant};

use aip_codec::{
    aip::hops::RelayId,
    moqt::{
        id::RequestId,
        message::{Frame, FrameDecoder, Goaway, Message, MessageType, Setup},
    },
};
use bytes::Bytes;

use super::{Event, Misbehavior, Session, SessionError, State, token_cache::Resolved};
use crate::{
    schedule::Precedence,
    transport::{Action, Side, StreamId},
};

/// What is known of both control streams.
#[derive(Debug, Default)]
pub(super) struct Control {
    pub(super) outgoing: Option<StreamId>,
    pub(super) incoming: Option<StreamId>,
    pub(super) decoder: Option<FrameDecoder>,
    pub(super) goaway_received: bool,
    pub(super) goaway_sent: bool,
    /// When the peer ended either control stream, and so must have closed the connection by.
    pub(super) closed_by: Option<Instant>,
    pub(super) peer: PeerSetup,
}

/// What the peer's SETUP allows us.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PeerSetup {
    pub(super) aip: bool,
    pub(super) relay: Option<RelayId>,
    pub(super) request_updates_max: u64,
}

/// How long a connection may outlive its control streams. A peer that leaves ends its streams and
/// then the connection, and what it said last is worth hearing.
const CLOSING_GRACE: Duration = Duration::from_millis(100);

impl Session {
    /// The peer has ended a control stream: its fault, unless it is closing the connection.
    pub(super) fn control_stream_closed(&mut self, now: Instant) {
        self.control.closed_by.get_or_insert(now + CLOSING_GRACE);
    }

    pub(super) fn send_setup(&mut self) {
        let stream = self.open_stream(false);
        self.control.outgoing = Some(stream);
        self.act(Action::Prioritize { stream, precedence: Precedence::CONTROL });
        let mut setup = Setup::default();
        if self.side == Side::Client {
            setup.path = self.config.path.clone().map(Bytes::from);
            setup.authority = self.config.authority.clone().map(Bytes::from);
        }
        setup.implementation = Some(Bytes::from(self.config.implementation.clone()));
        setup.aip = self.config.aip.clone();
        setup.relay_id = self.own_relay();
        setup.max_auth_token_cache_size = self.config.auth_token_cache_size_max;
        if 19 <= self.version.number() {
            setup.max_filter_ranges = self.config.filter_ranges_max;
            setup.max_request_updates = self.config.request_updates_max;
        }
        self.queue_message(stream, &Message::Setup(setup), false);
    }

    /// Tells the peer that we are going away; `timeout` in milliseconds, 0 is not said.
    pub fn goaway(&mut self, uri: Bytes, timeout: u64) {
        let Some(stream) = self.control.outgoing else { return };
        if self.is_closed() || self.control.goaway_sent {
            return;
        }
        self.control.goaway_sent = true;
        let request_id = (self.version.number() == 18).then(|| self.requests.next_unseen());
        self.queue_message(stream, &Message::Goaway(Goaway { uri, timeout, request_id }), false);
    }

    /// Asks the peer to make one request anew; `timeout` in milliseconds until it is ended, 0 is not
    /// said. At most once for a request: a second one closes the session.
    pub fn request_goaway(&mut self, request: RequestId, timeout: u64) {
        let Some(stream) = self.requests.get(request).filter(|entry| entry.send_open) else {
            return;
        };
        let goaway = Goaway { uri: Bytes::new(), timeout, request_id: None };
        self.queue_message(stream.stream, &Message::Goaway(goaway), false);
    }

    /// Whether we have said that we are going away.
    pub const fn is_going_away(&self) -> bool {
        self.control.goaway_sent
    }

    pub(super) fn receive_control(
        &mut self,
        stream: StreamId,
        bytes: Bytes,
        now: Instant,
    ) -> Result<(), SessionError> {
        let version = self.version;
        let decoder = self.control.decoder.get_or_insert_with(|| FrameDecoder::new(version));
        decoder.push(bytes);
        while let Some(frame) =
            self.control.decoder.as_mut().map_or(Ok(None), FrameDecoder::poll)?
        {
            self.control_frame(frame, now)?;
        }
        let partial = self.control.decoder.as_ref().is_some_and(|decoder| !decoder.is_empty());
        self.partial.note(stream, partial, now + self.config.control_message_timeout, true);
        Ok(())
    }

    fn control_frame(&mut self, frame: Frame, now: Instant) -> Result<(), SessionError> {
        match frame.kind {
            MessageType::Setup if matches!(self.state, State::Starting { .. }) => {
                match Message::decode(self.version, frame.kind, frame.body)? {
                    Message::Setup(setup) => self.establish(setup, now),
                    _ => Err(Misbehavior::ControlMessage.into()),
                }
            }
            MessageType::Goaway if self.is_established() => {
                match Message::decode(self.version, frame.kind, frame.body)? {
                    Message::Goaway(goaway) => self.goaway_received(goaway),
                    _ => Err(Misbehavior::ControlMessage.into()),
                }
            }
            MessageType::Setup => Err(Misbehavior::SecondSetup.into()),
            _ => Err(Misbehavior::ControlMessage.into()),
        }
    }

    fn establish(&mut self, setup: Setup, now: Instant) -> Result<(), SessionError> {
        check_path_and_authority(&setup, self.side == Side::Server && !self.config.webtransport)?;
        let mut tokens = Vec::new();
        for token in setup.tokens.iter().cloned() {
            match self.tokens.resolve_in_setup(token, self.side == Side::Server)? {
                Resolved::Token(token) => tokens.push(token),
                Resolved::Nothing | Resolved::UnknownAlias => {}
            }
        }
        let aip = setup.aip.clone().filter(|_| self.config.aip.is_some());
        self.control.peer = PeerSetup {
            aip: aip.is_some(),
            relay: setup.relay_id.filter(|_| aip.is_some() && self.own_relay().is_some()),
            request_updates_max: setup.max_request_updates,
        };
        self.state = State::Established;
        self.events.push_back(Event::Established { aip, tokens });
        self.early_bytes = 0;
        for (stream, bytes, fin) in std::mem::take(&mut self.early) {
            self.handle_stream(stream, bytes, fin, now);
        }
        Ok(())
    }

    fn goaway_received(&mut self, goaway: Goaway) -> Result<(), SessionError> {
        if std::mem::replace(&mut self.control.goaway_received, true) {
            return Err(Misbehavior::SecondGoaway.into());
        }
        if self.side == Side::Server && !goaway.uri.is_empty() {
            return Err(Misbehavior::GoawayUriFromClient.into());
        }
        if let Some(request) = goaway.request_id
            && !self.requests.could_be_ours(request)
        {
            return Err(Misbehavior::GoawayRequestId.into());
        }
        self.events.push_back(Event::Goaway {
            request: None,
            uri: goaway.uri,
            timeout: goaway.timeout,
        });
        Ok(())
    }

    /// Whether the peer has said that it is going away.
    pub const fn is_peer_going_away(&self) -> bool {
        self.control.goaway_received
    }

    /// The number that we tell as a relay.
    fn own_relay(&self) -> Option<RelayId> {
        self.config.relay_id.filter(|_| self.config.aip.is_some())
    }

    /// The peer's number as a relay, if both sides have told one: HOPS and COST may then be sent.
    pub const fn peer_relay(&self) -> Option<RelayId> {
        self.control.peer.relay
    }

    /// Whether both sides have offered AIP, so that CALL may be sent.
    pub const fn has_calls(&self) -> bool {
        self.control.peer.aip
    }
}

/// `may_say`: whether the peer is a client on QUIC alone, which says where it wants to go.
fn check_path_and_authority(setup: &Setup, may_say: bool) -> Result<(), Misbehavior> {
    if !may_say {
        return match (&setup.path, &setup.authority) {
            (Some(_), _) => Err(Misbehavior::InvalidPath),
            (None, Some(_)) => Err(Misbehavior::InvalidAuthority),
            (None, None) => Ok(()),
        };
    }
    if setup.path.as_ref().is_some_and(|path| !is_path(path)) {
        return Err(Misbehavior::MalformedPath);
    }
    if setup.authority.as_ref().is_some_and(|authority| !is_authority(authority)) {
        return Err(Misbehavior::MalformedAuthority);
    }
    Ok(())
}

/// `path-abempty [ "?" query ]` of RFC 3986: empty, or begins with a slash; no spaces, controls
/// or fragment; percent signs followed by two hexadecimal digits.
fn is_path(path: &[u8]) -> bool {
    let begins = matches!(path.first(), None | Some(b'/' | b'?'));
    begins && has_only_uri_characters(path, b"-._~!$&'()*+,;=:@/?")
}

/// `authority` of RFC 3986: user information, host and port; not empty.
fn is_authority(authority: &[u8]) -> bool {
    !authority.is_empty() && has_only_uri_characters(authority, b"-._~!$&'()*+,;=:@[]")
}

fn has_only_uri_characters(text: &[u8], punctuation: &[u8]) -> bool {
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = match (byte, after) {
            (b'%', [high, low, after @ ..])
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                after
            }
            _ if byte.is_ascii_alphanumeric() || punctuation.contains(&byte) => after,
            _ => return false,
        };
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_authorities_are_those_of_uris() {
        for path in ["", "/", "/relay?x=1", "/a%20b", "?q"] {
            assert!(is_path(path.as_bytes()), "{path}");
        }
        for path in ["relay", "/a b", "/a%2", "/#f", "/\u{7f}", "/é"] {
            assert!(!is_path(path.as_bytes()), "{path}");
        }
        for authority in ["example.com:4433", "[::1]:443", "user@h"] {
            assert!(is_authority(authority.as_bytes()), "{authority}");
        }
        for authority in ["", "a/b", "a b", "a%zz"] {
            assert!(!is_authority(authority.as_bytes()), "{authority}");
        }
    }
}
