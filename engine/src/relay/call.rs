//! CALL: routed to one publisher of the longest prefix, then spliced both ways.
//!
//! Bytes go from one session to the other as they come; what the further side cannot take is held
//! back at the nearer side by its stream's flow control.

use std::time::Instant;

use aip_codec::{
    aip::{call::Call, hops::Hops},
    moqt::{
        error_code::{RequestCode, ResetCode},
        name::TrackNamespace,
        parameter::{Parameter, Parameters},
    },
};
use bytes::Bytes;

use super::{
    Relay,
    namespace_tree::{RequestKey, Route},
    peer::{Owner, PeerIndex},
    subscribe::is_reserved,
};

impl Relay {
    pub(super) fn call_received(&mut self, key: RequestKey, mut body: Call, now: Instant) {
        // Another shard has put itself in the call's trace for the whole relay.
        if !self.peers[key.peer.0].is_shard()
            && let Some(context) = self.traces.begin(key, &body, now)
        {
            body.parameters.push(Parameter::TraceContext(context));
        }
        if is_reserved(&body.namespace) {
            self.refuse_call(key, RequestCode::DOES_NOT_EXIST, "reserved namespace");
            return;
        }
        let Some(hops) = self.hops_of_call(key, &body.parameters) else {
            self.refuse_call(key, RequestCode::DOES_NOT_EXIST, "this call has passed here before");
            return;
        };
        let is_published = self.namespaces.routes_to(&body.namespace).next().is_some();
        let target = self.call_target(key, &body.namespace, &hops);
        let Some(target) = target else {
            let (code, reason) = if is_published {
                (RequestCode::NOT_SUPPORTED, "the publisher of this namespace takes no calls")
            } else {
                (RequestCode::DOES_NOT_EXIST, "nobody publishes this namespace")
            };
            self.refuse_call(key, code, reason);
            return;
        };
        let is_shard = self.peers[target.0].is_shard();
        let hops = if is_shard { self.without_us(Some(&hops)) } else { Some(hops) };
        let Some(session) = self.session(target) else { return };
        let hops = hops.filter(|hops| !hops.is_empty() && session.peer_relay().is_some());
        match session.call(body.namespace, body.name, onward(&body.parameters, hops)) {
            Ok(request) => {
                let other = RequestKey { peer: target, request };
                self.own(key, Owner::Call { other });
                self.own(other, Owner::Call { other: key });
            }
            Err(error) => {
                self.refuse_call(key, RequestCode::GOING_AWAY, &error.to_string());
            }
        }
    }

    /// The relays that a call has passed, this one the last. `None` if it was here before, or has
    /// passed too many.
    fn hops_of_call(&self, key: RequestKey, parameters: &Parameters) -> Option<Hops> {
        let Some(own) = self.config.session.relay_id else { return Some(Hops::new()) };
        let told = parameters.hops().cloned().unwrap_or_default();
        let told = match self.peers[key.peer.0].relay_id() {
            Some(sender) if told.last() != Some(sender) => told.then(sender)?,
            _ => told,
        };
        if told.contains(own) { None } else { told.then(own) }
    }

    /// Where a call goes: to a session of ours that publishes, or the best way to one, or to a
    /// relay that we have dialled; never where it comes from.
    fn call_target(
        &self,
        key: RequestKey,
        namespace: &TrackNamespace,
        hops: &Hops,
    ) -> Option<PeerIndex> {
        let takes_calls = |peer: PeerIndex| {
            self.peers.get(peer.0).is_some_and(|entry| {
                (peer != key.peer || !entry.is_relay())
                    && entry.session.has_calls()
                    && !entry.session.is_peer_going_away()
                    && !entry.relay_id().is_some_and(|relay| hops.contains(relay))
            })
        };
        let from_shard = self.peers[key.peer.0].is_shard();
        let is_direct =
            |route: &&Route| route.is_direct() && !self.peers[route.key.peer.0].is_relay();
        let routes = || {
            self.namespaces.routes_to(namespace).filter(|route| {
                (!from_shard || !route.shard)
                    && takes_calls(route.key.peer)
                    && !route.hops.iter().any(|relay| hops.contains(relay))
            })
        };
        let found = routes().find(is_direct).or_else(|| routes().next());
        let from_upstream = self.peers[key.peer.0].is_upstream_relay();
        found.map(|route| route.key.peer).or_else(|| {
            let mut upstream = self.upstream_relays();
            upstream.extend(self.dialling_shard().filter(|_| !from_shard));
            upstream.into_iter().find(|peer| !from_upstream && takes_calls(*peer))
        })
    }

    fn refuse_call(&mut self, key: RequestKey, code: RequestCode, reason: &str) {
        self.traces.fail(key, code.name());
        self.traces.end(key);
        if let Some(session) = self.session(key.peer) {
            session.refuse_call(key.request, code, reason);
        }
    }

    fn other_end(&self, key: RequestKey) -> Option<RequestKey> {
        match self.peers.get(key.peer.0)?.requests.get(&key.request)? {
            Owner::Call { other } => Some(*other),
            _ => None,
        }
    }

    pub(super) fn call_bytes(&mut self, key: RequestKey, bytes: Bytes, fin: bool) {
        let Some(other) = self.other_end(key) else { return };
        let limit = self.config.stream_queued_bytes_max;
        let Some(session) = self.session(other.peer) else { return };
        session.send_call(other.request, bytes, fin);
        let is_full = limit < session.call_queued_bytes(other.request);
        if is_full && let Some(session) = self.session(key.peer) {
            session.pause_call(key.request, true);
        }
        self.forget_call_if_over(key, other);
    }

    pub(super) fn call_reset(&mut self, key: RequestKey, code: ResetCode) {
        let Some(other) = self.other_end(key) else { return };
        self.call_fails(key, other, code);
        if let Some(session) = self.session(other.peer) {
            session.reset_call(other.request, code);
        }
        self.forget_call_if_over(key, other);
    }

    pub(super) fn call_stopped(&mut self, key: RequestKey, code: ResetCode) {
        let Some(other) = self.other_end(key) else { return };
        self.call_fails(key, other, code);
        if let Some(session) = self.session(other.peer) {
            session.stop_call(other.request, code);
        }
        self.forget_call_if_over(key, other);
    }

    /// Bytes of a call have left for the network: the other side may go on.
    pub(super) fn call_sent(&mut self, key: RequestKey) {
        let Some(other) = self.other_end(key) else { return };
        let limit = self.config.stream_queued_bytes_max;
        let queued = self.session(key.peer).map(|session| session.call_queued_bytes(key.request));
        if queued.is_some_and(|queued| queued <= limit / 2)
            && let Some(session) = self.session(other.peer)
        {
            session.pause_call(other.request, false);
        }
    }

    /// The session of one end is gone: the other end is told.
    pub(super) fn call_lost(&mut self, key: RequestKey) {
        let Some(other) = self.other_end(key) else { return };
        self.call_fails(key, other, ResetCode::SESSION_CLOSED);
        self.disown(key);
        self.disown(other);
        if let Some(session) = self.session(other.peer) {
            session.reset_call(other.request, ResetCode::SESSION_CLOSED);
            session.stop_call(other.request, ResetCode::SESSION_CLOSED);
        }
    }

    /// One of a call's ends is the caller's, by which its trace knows it.
    fn call_fails(&mut self, key: RequestKey, other: RequestKey, code: ResetCode) {
        self.traces.fail(key, code.name());
        self.traces.fail(other, code.name());
    }

    /// Forgets a call whose two ends have both nothing more to say.
    fn forget_call_if_over(&mut self, key: RequestKey, other: RequestKey) {
        for end in [key, other] {
            let over = self
                .peers
                .get(end.peer.0)
                .is_none_or(|peer| !peer.session.has_request(end.request));
            if over {
                self.disown(end);
            }
        }
    }
}

/// A call's parameters for the next hop: tokens stay behind, the rest goes on.
fn onward(parameters: &Parameters, hops: Option<Hops>) -> Parameters {
    let mut onward = Parameters::default();
    for parameter in parameters.iter() {
        if !matches!(parameter, Parameter::AuthorizationToken(_) | Parameter::Hops(_)) {
            onward.push(parameter.clone());
        }
    }
    if let Some(hops) = hops {
        onward.push(Parameter::Hops(hops));
    }
    onward
}
