//! What a case works with: the relay, a draft, and names that nobody else uses.

use std::rc::Rc;

use aip_codec::{
    Version,
    moqt::{
        message::{Message, Subscribe, SubscribeOk},
        name::{FullTrackName, TrackNamespace},
        parameter::{Parameter, Parameters},
        property::Properties,
    },
};

use super::{
    build,
    failure::{Failure, Outcome},
    network::Network,
    peer::{Peer, name},
    target::Endpoint,
};

/// The alias that a case's publisher gives its first track.
pub(super) const ALIAS: u64 = 7;

/// The relay under test, as one case sees it.
pub struct Stage<'a> {
    pub(super) network: &'a Rc<Network>,
    pub(super) endpoint: &'a Endpoint,
    pub(super) version: Version,
    /// This case's own namespace.
    pub(super) namespace: TrackNamespace,
}

impl std::fmt::Debug for Stage<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Stage").field("version", &self.version).finish_non_exhaustive()
    }
}

/// A publisher and a subscriber of one track, through the relay, established.
pub(super) struct Live {
    pub(super) publisher: Peer,
    /// The relay's SUBSCRIBE to the publisher.
    pub(super) upstream: u64,
    pub(super) asked: Subscribe,
    pub(super) subscriber: Peer,
    /// The subscriber's SUBSCRIBE.
    pub(super) downstream: u64,
    /// The number of that.
    pub(super) request: u64,
    pub(super) ok: SubscribeOk,
    pub(super) track: FullTrackName,
}

impl Live {
    /// What the relay calls the track towards the subscriber.
    pub(super) const fn alias(&self) -> u64 {
        self.ok.track_alias.0
    }
}

impl<'a> Stage<'a> {
    pub(super) fn new(network: &'a Rc<Network>, endpoint: &'a Endpoint, version: Version) -> Self {
        let namespace = build::namespace(&[build::unique(), "live".to_owned()]);
        Self { network, endpoint, version, namespace }
    }

    /// A connection without SETUP.
    pub(super) fn bare(&self) -> Outcome<Peer> {
        Peer::bare(self.network, self.endpoint, self.version)
    }

    /// A connection over HTTP/3, without a session.
    pub(super) fn http3(&self) -> Outcome<Peer> {
        Peer::http3(self.network, self.endpoint, self.version)
    }

    /// A session.
    pub(super) fn session(&self) -> Outcome<Peer> {
        Peer::session(self.network, self.endpoint, self.version)
    }

    /// A track of this case's namespace.
    pub(super) fn track(&self, name: &str) -> FullTrackName {
        build::track(&self.namespace, name)
    }

    /// A session that publishes this case's namespace, and the request that says so.
    pub(super) fn publisher(&self) -> Outcome<(Peer, u64)> {
        let peer = self.session()?;
        let stream = peer.announce(&self.namespace)?;
        Ok((peer, stream))
    }

    /// A further session that publishes this case's namespace; `None` if the relay takes no further
    /// one, as it may.
    pub(super) fn further_publisher(&self) -> Outcome<Option<Peer>> {
        let peer = self.session()?;
        let stream = peer.request(&build::publish_namespace(peer.request_id(), &self.namespace));
        match peer.message(stream)? {
            Message::RequestOk(_) => Ok(Some(peer)),
            Message::RequestError(_) => Ok(None),
            other => Err(Failure::new("an answer to PUBLISH_NAMESPACE", name(&other))),
        }
    }

    /// Track `t`, live, with what the subscriber asks.
    pub(super) fn live(&self, parameters: Parameters) -> Outcome<Live> {
        self.live_with(parameters, build::none(), Properties::empty())
    }

    /// Track `t`, live, with what the subscriber asks and the publisher says.
    pub(super) fn live_with(
        &self,
        parameters: Parameters,
        said: Parameters,
        properties: Properties,
    ) -> Outcome<Live> {
        let track = self.track("t");
        let (publisher, _) = self.publisher()?;
        let subscriber = self.session()?;
        let id = subscriber.request_id();
        let downstream = subscriber.request(&build::subscribe(id, &track, parameters));
        let (upstream, asked) = publisher.subscribed()?;
        if asked.track != track {
            return Err(Failure::new(
                format!("SUBSCRIBE to {track} upstream"),
                asked.track.to_string(),
            ));
        }
        publisher.say(upstream, &build::subscribe_ok_with(ALIAS, said, properties));
        let ok = subscriber.subscribe_ok(downstream)?;
        Ok(Live { publisher, upstream, asked, subscriber, downstream, request: id.0, ok, track })
    }
}

impl Peer {
    /// Publishes a namespace and waits for its REQUEST_OK; gives the request's stream.
    pub(super) fn announce(&self, namespace: &TrackNamespace) -> Outcome<u64> {
        let stream = self.request(&build::publish_namespace(self.request_id(), namespace));
        self.ok(stream)?;
        Ok(stream)
    }

    /// Waits for REQUEST_OK.
    pub(super) fn ok(&self, stream: u64) -> Outcome<aip_codec::moqt::message::RequestOk> {
        match self.message(stream).map_err(|failure| failure.instead_of("REQUEST_OK"))? {
            Message::RequestOk(ok) => Ok(ok),
            other => Err(Failure::new("REQUEST_OK", name(&other))),
        }
    }

    /// Waits for SUBSCRIBE_OK.
    pub(super) fn subscribe_ok(&self, stream: u64) -> Outcome<SubscribeOk> {
        match self.message(stream).map_err(|failure| failure.instead_of("SUBSCRIBE_OK"))? {
            Message::SubscribeOk(ok) => Ok(ok),
            other => Err(Failure::new("SUBSCRIBE_OK", name(&other))),
        }
    }

    /// Waits for REQUEST_ERROR with one of `codes`.
    pub(super) fn refused(&self, stream: u64, codes: &[u64]) -> Outcome {
        self.refused_within(stream, codes, super::peer::PATIENCE)
    }

    pub(super) fn refused_within(
        &self,
        stream: u64,
        codes: &[u64],
        patience: std::time::Duration,
    ) -> Outcome {
        let names: Vec<String> = codes
            .iter()
            .map(|code| aip_codec::moqt::error_code::RequestCode(*code).to_string())
            .collect();
        let expected = format!("REQUEST_ERROR {}", names.join(" or "));
        match self
            .heard_within(stream, patience)
            .map_err(|failure| failure.instead_of(&expected))?
        {
            super::peer::Heard::Message(Message::RequestError(error))
                if codes.contains(&error.code.0) =>
            {
                Ok(())
            }
            super::peer::Heard::Message(other) => Err(Failure::new(expected, name(&other))),
            super::peer::Heard::End(end) => Err(Failure::new(expected, format!("{end:?}"))),
        }
    }

    /// Waits for a SUBSCRIBE of the relay's; other requests are accepted on the way.
    pub(super) fn subscribed(&self) -> Outcome<(u64, Subscribe)> {
        loop {
            match self.incoming().map_err(|failure| failure.instead_of("SUBSCRIBE upstream"))? {
                (stream, Message::Subscribe(subscribe)) => return Ok((stream, subscribe)),
                (stream, Message::SubscribeNamespace(_) | Message::SubscribeTracks(_)) => {
                    self.say(stream, &build::request_ok());
                }
                (_, other) => return Err(Failure::new("SUBSCRIBE upstream", name(&other))),
            }
        }
    }
}

impl Peer {
    /// Waits for a FETCH of the relay's. If it subscribes first, to learn how far the track goes,
    /// it is told {9, 9}.
    pub(super) fn fetched_from(&self) -> Outcome<(u64, aip_codec::moqt::message::Fetch)> {
        loop {
            match self.incoming().map_err(|failure| failure.instead_of("FETCH upstream"))? {
                (stream, Message::Fetch(fetch)) => return Ok((stream, fetch)),
                (stream, Message::Subscribe(_)) => {
                    let largest = aip_codec::moqt::location::Location::new(9, 9);
                    let said = build::with(Parameter::LargestObject(largest));
                    self.say(stream, &build::subscribe_ok(ALIAS, said));
                }
                (_, other) => return Err(Failure::new("FETCH upstream", name(&other))),
            }
        }
    }
}

impl Failure {
    /// The same, where something more particular was expected.
    pub(super) fn instead_of(self, expected: &str) -> Self {
        Self { expected: expected.to_owned(), ..self }
    }
}
