//! Agents: clients that subscribe, read and call.

use aip_codec::{
    aip::call::RecordType,
    moqt::{error_code::PublishDoneCode, parameter::Parameters},
};
use aip_engine::client::{Client, Config, Event};
use bytes::Bytes;

use super::{Place, Swarm, name_of, namespace_of};

pub(super) struct Agent {
    pub(super) place: Place,
    calls_made: u64,
}

impl Agent {
    pub(super) fn client() -> Client {
        Client::new(Config::default())
    }

    pub(super) const fn new(place: Place) -> Self {
        Self { place, calls_made: 0 }
    }
}

impl Swarm {
    pub(super) fn agent_subscribes(&mut self, read: bool) {
        let index = self.random.index(self.agents.len());
        let track = self.any_track();
        let node = self.agents[index].place.node;
        let name = name_of(track);
        let id = self.world.with(node, |client: &mut Client, now| {
            if read { client.read(name, now) } else { client.subscribe(name, now) }
        });
        self.versions.subscribed(index, id.unwrap(), track, read);
    }

    pub(super) fn agent_unsubscribes(&mut self) {
        let index = self.random.index(self.agents.len());
        let live: Vec<_> = self.versions.live(index).into_keys().collect();
        if live.is_empty() {
            return;
        }
        let id = live[self.random.index(live.len())];
        let node = self.agents[index].place.node;
        // What it was told before is still of the subscription.
        self.pump_agents();
        self.world.with(node, |client: &mut Client, _| client.unsubscribe(id));
        self.versions.unsubscribed(index, id);
    }

    pub(super) fn agent_calls(&mut self) {
        let index = self.random.index(self.agents.len());
        let origin = self.random.index(self.origins.len()) as u64;
        let namespace = namespace_of(10 * origin);
        let agent = &mut self.agents[index];
        agent.calls_made += 1;
        let request = Bytes::from(format!("agent {index} call {}", agent.calls_made));
        let node = agent.place.node;
        let said = request.clone();
        let call = self.world.with(node, |client: &mut Client, now| {
            let name = Bytes::from("tools/call");
            let call = client.call(namespace, name, Parameters::default(), now).ok()?;
            client.send_record(call, RecordType::Request, said, true).unwrap();
            Some(call)
        });
        if let Some(call) = call {
            self.calls.made(index, call, request);
        }
    }

    pub(super) fn agent_cancels(&mut self) {
        self.pump_agents();
        let index = self.random.index(self.agents.len());
        let live = self.calls.live(index);
        if live.is_empty() {
            return;
        }
        let call = live[self.random.index(live.len())];
        let node = self.agents[index].place.node;
        self.world.with(node, |client: &mut Client, _| client.cancel_call(call));
        self.calls.cancelled(index, call);
    }

    pub(super) fn pump_agents(&mut self) {
        for index in 0..self.agents.len() {
            let node = self.agents[index].place.node;
            loop {
                let event = self.world.with(node, |client: &mut Client, _| client.poll_event());
                let Some(event) = event else { break };
                self.agent_told(index, event);
            }
        }
    }

    fn agent_told(&mut self, index: usize, event: Event) {
        match event {
            Event::Version { subscription, version } => {
                self.versions.delivered(index, subscription, &version);
            }
            Event::SubscriptionRefused { subscription, .. } => {
                self.versions.ended(index, subscription);
            }
            Event::SubscriptionEnded { subscription, code } => {
                assert_ne!(code, PublishDoneCode::MALFORMED_TRACK, "nothing is malformed");
                self.versions.ended(index, subscription);
            }
            Event::Record { call, kind, payload } => {
                self.calls.record(index, call, kind, &payload);
            }
            Event::CallEnded { call, end } => self.calls.ended(index, call, end),
            _ => {}
        }
    }
}
