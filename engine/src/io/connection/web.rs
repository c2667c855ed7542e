//! A connection over HTTP/3: its WebTransport session stands between its streams and the driver.

use std::{collections::VecDeque, time::Instant};

use aip_codec::Version;

use super::{Connection, Context, Event, LINGER, Left, Output, Phase};
use crate::{
    io::webtransport::{Want, WebTransport},
    transport::{Action, Closed},
};

/// The session, and what is to be told to it.
#[derive(Debug)]
pub(super) struct Web {
    session: WebTransport,
    /// What befell the connection's own streams while the driver was served.
    raw: VecDeque<Event>,
}

impl Web {
    pub(super) fn new(session: WebTransport) -> Box<Self> {
        Box::new(Self { session, raw: VecDeque::new() })
    }

    pub(super) fn has_events(&self) -> bool {
        !self.raw.is_empty()
    }

    /// Whether the peer has closed the session, too.
    pub(super) const fn is_farewell_heard(&self) -> bool {
        self.session.is_farewell_heard()
    }

    /// What the connection's end is to the driver.
    pub(super) fn end(&self, closed: Closed) -> Closed {
        self.session.end(closed)
    }
}

/// Where what befalls the connection's streams is told: to the driver, or to the session first.
pub(super) fn events<'a>(
    web: &'a mut Option<Box<Web>>,
    events: &'a mut VecDeque<Event>,
) -> &'a mut VecDeque<Event> {
    match web {
        Some(web) => &mut web.raw,
        None => events,
    }
}

impl Connection {
    /// HTTP/3 was agreed upon: the session begins with what each side says of itself.
    pub(super) fn begin_web(&mut self, now: Instant) {
        let Phase::Handshake { deadline } = self.phase else { return };
        self.phase = Phase::Asking { deadline };
        self.scan_at = now;
        self.web.get_or_insert_with(|| Web::new(WebTransport::server(&Version::PREFERENCE)));
    }

    /// Whether it is over HTTP/3.
    pub(in crate::io) const fn is_webtransport(&self) -> bool {
        self.web.is_some()
    }

    /// What it has to say to the driver next.
    pub(super) fn poll_web(
        &mut self,
        context: &mut Context<'_>,
        budget: &mut usize,
    ) -> Option<Event> {
        self.carry_out_wants(context);
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            if matches!(self.phase, Phase::Over) {
                return None;
            }
            let raw = self.web.as_mut()?.raw.pop_front();
            match raw.or_else(|| self.read(context, budget)) {
                Some(raw) => self.hear(raw, context),
                // What came before the session was closed is told before that.
                None if self.finish_web(context) => {}
                None if !self.is_ending() || self.has_more() => return None,
                None if self.is_half_open() => {
                    self.phase = Phase::Over;
                    return Some(Event::Failed(self.failure()));
                }
                None => return Some(self.end()),
            }
        }
    }

    /// Takes note of what came on the connection.
    fn hear(&mut self, raw: Event, context: &mut Context<'_>) {
        let Some(web) = &mut self.web else { return };
        web.session.handle(raw, &mut self.events);
        let (is_open, is_over) = (web.session.is_open(), web.session.is_over());
        if is_open && matches!(self.phase, Phase::Asking { .. }) {
            self.note_up(context.now);
        }
        self.carry_out_wants(context);
        if is_over {
            self.phase = Phase::Over;
        }
    }

    /// Ends the session that the peer has closed, unless there is more to read; says whether it did.
    fn finish_web(&mut self, context: &mut Context<'_>) -> bool {
        if self.has_more() {
            return false;
        }
        let Some(web) = &mut self.web else { return false };
        web.session.finish(&mut self.events);
        let is_over = web.session.is_over();
        self.carry_out_wants(context);
        if is_over {
            self.phase = Phase::Over;
        }
        is_over
    }

    /// Tells the peer that the driver has closed the session, if it is still to be told; says whether.
    pub(super) fn say_farewell(&mut self, context: &mut Context<'_>) -> bool {
        let Phase::Lingering { code, reason, deadline } = &mut self.phase else { return false };
        let web = self.web.as_mut().filter(|web| web.session.owes_farewell());
        let Some(web) = web else { return false };
        web.session.say_farewell(*code, reason);
        // Time for the answer.
        *deadline = context.now + LINGER;
        self.carry_out_wants(context);
        true
    }

    /// Carries out what the session wants of the connection.
    fn carry_out_wants(&mut self, context: &mut Context<'_>) {
        while let Some(web) = &mut self.web
            && let Some(want) = web.session.poll_want()
        {
            let mut output = Output { events: &mut web.raw, counters: context.counters };
            self.left = Left::Unknown;
            match want {
                Want::Send { stream, bytes, fin } => {
                    self.outgoing.send(stream, bytes, fin, &mut output);
                }
                Want::Reset { stream, code } => {
                    self.outgoing.reset(&mut self.quic, stream, code, &mut output);
                }
                Want::Stop { stream, code } => self.incoming.stop(&mut self.quic, stream, code),
                Want::Close { code, reason } => {
                    tracing::debug!(session = %self.session, code, reason, "HTTP/3 ends");
                    self.quic.close(true, code, reason.as_bytes()).ok();
                }
            }
        }
    }

    /// Carries out what the driver wants.
    pub(super) fn execute_web(&mut self, action: Action, context: &mut Context<'_>) {
        let Some(web) = &mut self.web else { return };
        let closing = !matches!(self.phase, Phase::Up);
        match action {
            Action::Send { stream, bytes, .. } if closing => {
                let mut output = Output { events: &mut self.events, counters: context.counters };
                output.refused(stream.0, bytes.len());
            }
            action => {
                let Some((head, action)) = web.session.outward(action, context.numbered) else {
                    return;
                };
                if let (Some(bytes), Action::Send { stream, .. }) = (head, &action) {
                    let stream = *stream;
                    self.carry_out(Action::Send { stream, bytes, fin: false }, context);
                }
                self.carry_out_wants(context);
                self.carry_out(action, context);
            }
        }
    }
}
