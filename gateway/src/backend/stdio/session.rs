//! Who waits for what of one run of the process. No I/O.

use std::collections::{BTreeMap, HashMap, VecDeque};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::{
    backend::{
        Asker, Event, REQUESTS_MAX, Restore, answer_unasked,
        correlation::{cancelled_id, owner},
        tell,
    },
    bridge::LOG_LEVEL,
    lines::Line,
    message::{Id, Kind, Limits, Message, code, meta},
};

/// A request under way.
#[derive(Debug)]
struct Pending {
    restore: Restore,
    asker: Asker,
    /// Whether its asker wants log messages of it.
    wants_log: bool,
    events: mpsc::Sender<Event>,
}

/// What is to be done about a line of the process.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Nothing more.
    Done,
    /// Answer the process.
    Answer(Message),
    /// A message that belongs to no request: a notification, or a question to the only agent.
    News(Message),
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Session {
    modern: bool,
    /// Whether the process is for one agent only.
    exclusive: bool,
    /// Requests that the process may work on at one time.
    concurrency: usize,
    /// Requests that wait until it does, in order.
    waiting: VecDeque<(u64, Bytes)>,
    /// The number of the last request; never used again in this run.
    last: u64,
    pending: BTreeMap<u64, Pending>,
    /// To which request what the process asked belongs.
    asked: HashMap<Id, u64>,
    /// Lines that made no sense, or came for nobody.
    pub(super) stray: u64,
}

impl Session {
    /// A session with a process that speaks a revision with or without sessions, for one agent only
    /// or for many. Its requests are numbered from `first`.
    pub(super) fn new(modern: bool, exclusive: bool, concurrency: usize, first: u64) -> Self {
        Self { modern, exclusive, concurrency, last: first, ..Self::default() }
    }

    /// The number of the last request.
    pub(super) const fn last(&self) -> u64 {
        self.last
    }

    /// Takes a request. Its number; what to write comes out of [`Session::next_to_write`].
    pub(super) fn begin(
        &mut self,
        request: &Message,
        asker: Asker,
        events: mpsc::Sender<Event>,
    ) -> Option<u64> {
        if REQUESTS_MAX <= self.waiting.len() {
            let reason = "too many requests wait for the MCP server: try again later";
            let answer = Message::error(request.id(), code::INTERNAL_ERROR, reason, "");
            // Who asked may have gone.
            _ = tell(&events, Event::Answer(answer));
            return None;
        }
        let number = self.last + 1;
        let (sent, restore) = Restore::outbound(request, number)?;
        let wants_log = self.modern && meta(request.body(), LOG_LEVEL).is_some();
        self.last = number;
        self.pending.insert(number, Pending { restore, asker, wants_log, events });
        self.waiting.push_back((number, sent.text().clone()));
        Some(number)
    }

    /// The next request that the process may begin to work on.
    pub(super) fn next_to_write(&mut self) -> Option<(u64, Bytes)> {
        let working = self.pending.len().saturating_sub(self.waiting.len());
        if self.concurrency <= working { None } else { self.waiting.pop_front() }
    }

    /// Forgets a request; says whether the process works on it.
    pub(super) fn forget(&mut self, number: u64) -> bool {
        self.asked.retain(|_, owner| *owner != number);
        let before = self.waiting.len();
        self.waiting.retain(|(waiting, _)| *waiting != number);
        self.pending.remove(&number).is_some() && before == self.waiting.len()
    }

    /// The numbers of all requests under way.
    pub(super) fn numbers(&self) -> Vec<u64> {
        self.pending.keys().copied().collect()
    }

    /// What was asked is answered by the edge's error instead.
    pub(super) fn fail(&mut self, number: u64, reason: &str) {
        if let Some(pending) = self.pending.remove(&number) {
            pending.fail(reason);
        }
    }

    /// The process has ended.
    pub(super) fn fail_all(&mut self, reason: &str) {
        for (_, pending) in std::mem::take(&mut self.pending) {
            pending.fail(reason);
        }
        self.asked.clear();
        self.waiting.clear();
    }

    /// An answer to the process is on its way.
    pub(super) fn answered(&mut self, id: &Id) {
        self.asked.remove(id);
    }

    /// The process says something.
    pub(super) fn handle_line(&mut self, line: Line, limits: &Limits) -> Outcome {
        match line {
            Line::Whole(text) => match Message::parse(text, limits) {
                Ok(message) => self.handle_message(message),
                Err(error) => {
                    self.stray += 1;
                    tracing::debug!(%error, "the MCP server wrote a line that is no message");
                    Outcome::Done
                }
            },
            Line::TooLong { head, tail } => {
                self.handle_too_long(&head, &tail, limits.length_max);
                Outcome::Done
            }
        }
    }

    fn handle_message(&mut self, message: Message) -> Outcome {
        match message.kind() {
            Kind::Result | Kind::Error => {
                self.handle_answer(&message);
                Outcome::Done
            }
            Kind::Request => self.handle_request(message),
            Kind::Notification => self.handle_notification(message),
        }
    }

    fn handle_answer(&mut self, message: &Message) {
        let number = message.id().and_then(Id::as_number);
        let Some(pending) = number.and_then(|number| self.pending.remove(&number)) else {
            self.stray += 1;
            tracing::debug!("the MCP server answered what nobody waits for");
            return;
        };
        self.asked.retain(|_, owner| Some(*owner) != number);
        // Who asked may have gone.
        _ = tell(&pending.events, Event::Answer(pending.restore.inbound(message)));
    }

    fn handle_request(&mut self, message: Message) -> Outcome {
        let owner =
            if message.method() == "ping" || self.modern { None } else { self.only_agent() };
        let (Some(number), Some(id)) = (owner, message.id()) else {
            if self.exclusive && message.method() != "ping" {
                return Outcome::News(message);
            }
            return answer_unasked(&message).map_or(Outcome::Done, Outcome::Answer);
        };
        let id = id.clone();
        let told = self
            .pending
            .get(&number)
            .is_some_and(|pending| tell(&pending.events, Event::Message(message.clone())));
        if !told {
            return answer_unasked(&message).map_or(Outcome::Done, Outcome::Answer);
        }
        self.asked.insert(id, number);
        Outcome::Done
    }

    fn handle_notification(&mut self, message: Message) -> Outcome {
        let number = match message.method() {
            "notifications/cancelled" => {
                let Some(id) = cancelled_id(&message) else { return Outcome::Done };
                let number = self.asked.remove(&id);
                if number.is_none() {
                    return if self.exclusive { Outcome::News(message) } else { Outcome::Done };
                }
                number
            }
            "notifications/message" => self.log_reader(),
            _ => owner(&message),
        };
        let Some(pending) = number.and_then(|number| self.pending.get(&number)) else {
            let request_scoped = message.method() == "notifications/progress"
                || (self.modern && message.method() == "notifications/message");
            return if request_scoped { Outcome::Done } else { Outcome::News(message) };
        };
        if !tell(&pending.events, Event::Message(pending.restore.inbound(&message))) {
            self.stray += 1;
        }
        Outcome::Done
    }

    /// The only request of an agent that is under way, if there is only one: on one pair of
    /// streams nothing else tells to which request a question of the process belongs.
    fn only_agent(&self) -> Option<u64> {
        only(self.pending.iter().filter(|(_, pending)| pending.asker == Asker::Agent))
    }

    /// The only request under way whose asker can want a log message.
    fn log_reader(&self) -> Option<u64> {
        if !self.modern {
            return self.only_agent();
        }
        only(self.pending.iter().filter(|(_, pending)| pending.wants_log))
    }

    /// A line passed the limit: whoever waits for it gets an error.
    fn handle_too_long(&mut self, head: &Bytes, tail: &Bytes, length_max: usize) {
        self.stray += 1;
        let only_pending = only(self.pending.iter());
        let reason = format!(
            "the MCP server's answer is longer than {length_max} bytes; raise --result-max or ask \
             for less"
        );
        match number_in_tail(tail).or_else(|| number_in_head(head)).or(only_pending) {
            Some(number) => self.fail(number, &reason),
            None => tracing::warn!("the MCP server wrote a line too long that is nobody's answer"),
        }
    }
}

impl Pending {
    fn fail(self, reason: &str) {
        let id = Some(self.restore.id());
        let answer = Message::error(id, code::INTERNAL_ERROR, reason, "");
        // Who asked may have gone.
        _ = tell(&self.events, Event::Answer(answer));
    }
}

fn only<'a>(mut pending: impl Iterator<Item = (&'a u64, &'a Pending)>) -> Option<u64> {
    let (number, _) = pending.next()?;
    pending.next().is_none().then_some(*number)
}

/// The number of the id that is an object's last member: its end can be nothing else.
fn number_in_tail(tail: &[u8]) -> Option<u64> {
    let text = tail.trim_ascii_end().strip_suffix(b"}")?.trim_ascii_end();
    let digits = text.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let (before, number) = text.split_at(text.len() - digits);
    let before = before.trim_ascii_end().strip_suffix(b":")?.trim_ascii_end();
    before.ends_with(b"\"id\"").then_some(())?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

/// The number of the id that stands before the result.
fn number_in_head(head: &[u8]) -> Option<u64> {
    let before_result = head
        .windows(8)
        .position(|window| window == b"\"result\"")
        .or_else(|| head.windows(7).position(|window| window == b"\"error\""))?;
    let head = std::str::from_utf8(&head[..before_result]).ok()?;
    let (_, after) = head.split_once("\"id\"")?;
    let digits = after.trim_start().strip_prefix(':')?.trim_start();
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_line_too_long_is_found_at_its_ends() {
        assert_eq!(number_in_tail(br#"xxx","id": 42 }  "#), Some(42));
        assert_eq!(number_in_tail(br#"xxx","id":42}}"#), None);
        assert_eq!(number_in_head(br#"{"jsonrpc":"2.0","id":7,"result":{"id":5"#), Some(7));
        assert_eq!(number_in_head(br#"{"jsonrpc":"2.0","result":{"id":5"#), None);
    }

    #[test]
    fn each_answer_goes_to_its_own_asker() {
        let mut session = Session::new(false, false, 1_000, 0);
        let limits = Limits::default();
        let request = Message::request(Id::from_number(0), "tools/call", "{}");
        let mut askers = Vec::new();
        for _ in 0..50 {
            let (events, received) = mpsc::channel(8);
            let number = session.begin(&request, Asker::Agent, events).unwrap();
            let (written, sent) = session.next_to_write().unwrap();
            let sent = Message::parse(sent, &limits).unwrap();
            assert_eq!((sent.id().unwrap().as_number(), written), (Some(number), number));
            askers.push((number, received));
        }
        for (number, _) in askers.iter().rev() {
            let answer = Message::result(
                &Id::from_number(*number),
                format!(r#"{{"n":{number}}}"#).as_bytes(),
            );
            session.handle_line(Line::Whole(answer.text().clone()), &limits);
            session.handle_line(Line::Whole(answer.text().clone()), &limits);
        }
        for (number, received) in &mut askers {
            let Ok(Event::Answer(answer)) = received.try_recv() else { panic!("no answer") };
            assert_eq!(answer.id(), Some(&Id::from_number(0)));
            assert_eq!(answer.body(), format!(r#"{{"n":{number}}}"#));
            assert!(received.try_recv().is_err(), "one answer each");
        }
        assert_eq!(session.stray, 50, "second answers are counted");
    }

    #[test]
    fn a_question_goes_to_the_only_call_under_way_or_to_nobody() {
        let mut session = Session::new(false, false, 1_000, 0);
        let limits = Limits::default();
        let question = Message::request(Id::from_number(9), "elicitation/create", "{}");
        let line = || Line::Whole(question.text().clone());
        let request = Message::request(Id::from_number(0), "tools/call", "{}");
        assert!(matches!(session.handle_line(line(), &limits), Outcome::Answer(_)));
        let (events, mut first) = mpsc::channel(8);
        session.begin(&request, Asker::Agent, events).unwrap();
        let (events, _edge) = mpsc::channel(8);
        session.begin(&request, Asker::Edge, events).unwrap();
        assert!(matches!(session.handle_line(line(), &limits), Outcome::Done));
        assert!(matches!(first.try_recv(), Ok(Event::Message(_))));
        let (events, _second) = mpsc::channel(8);
        session.begin(&request, Asker::Agent, events).unwrap();
        assert!(matches!(session.handle_line(line(), &limits), Outcome::Answer(_)));
    }

    #[test]
    fn the_only_agent_is_asked_what_belongs_to_no_call() {
        let mut session = Session::new(false, true, 1_000, 0);
        let question = Message::request(Id::from_number(9), "roots/list", "");
        let line = Line::Whole(question.text().clone());
        assert!(matches!(session.handle_line(line, &Limits::default()), Outcome::News(_)));
    }

    #[test]
    fn no_more_is_worked_on_at_one_time_than_may_be() {
        let mut session = Session::new(false, false, 2, 0);
        let request = Message::request(Id::from_number(0), "tools/call", "{}");
        let begin = |session: &mut Session| {
            let (events, received) = mpsc::channel(8);
            (session.begin(&request, Asker::Agent, events).unwrap(), received)
        };
        let asked: Vec<_> = (0..5).map(|_| begin(&mut session)).collect();
        let written = |session: &mut Session| session.next_to_write().map(|(number, _)| number);
        assert_eq!((written(&mut session), written(&mut session)), (Some(1), Some(2)));
        assert_eq!(written(&mut session), None, "two are worked on");
        assert!(!session.forget(3), "the process never heard of it");
        assert_eq!(written(&mut session), None);
        let answer = Message::result(&Id::from_number(1), b"{}");
        session.handle_line(Line::Whole(answer.text().clone()), &Limits::default());
        assert_eq!(written(&mut session), Some(4));
        assert!(session.forget(2), "it is worked on");
        assert_eq!(written(&mut session), Some(5));
        assert_eq!(asked.len(), 5);
    }
}
