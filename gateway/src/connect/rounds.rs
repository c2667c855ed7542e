//! Agents with sessions at a server that has none: the input that its results ask for.
//!
//! A server of 2026-07-28 ends a call with what it wants to know (`input_required`), and is called
//! again with that. An agent with a session is asked in the midst of its call instead, and sees one
//! call.

use std::{collections::BTreeMap, time::Duration};

use tokio::sync::mpsc;

use super::{Client, Connector, Talk, as_server_needs, call};
use crate::{
    bridge::with_missing,
    message::{Id, Kind, Message, code, object_members, string_member},
    random::unguessable,
    revision::Revision,
};

/// Rounds of one call; a server that wants more is given up.
const ROUNDS_MAX: usize = 16;
/// How long an agent may take for each answer.
const PATIENCE: Duration = Duration::from_secs(600);
/// Questions of one round; a server that has more is given up.
const QUESTIONS_MAX: usize = 64;

/// Calls the server, and again with what it wants to know. The answer, or the error that says why
/// there is none.
pub(super) async fn run(
    connector: &Connector,
    client: &Client,
    request: &Message,
    talk: &Talk,
) -> Message {
    let mut sent = as_server_needs(client, request);
    for round in 1..=ROUNDS_MAX {
        let answer = call::run(connector, client, &sent, talk).await;
        let Some(wanted) = Wanted::of(&answer) else { return answer };
        let answers = match wanted.ask(client, talk).await {
            Ok(answers) => answers,
            Err(reason) => {
                return Message::error(request.id(), code::INTERNAL_ERROR, &reason, "");
            }
        };
        let params = with_answers(request.body(), &answers, wanted.state.as_deref(), round);
        let again = match (request.body().is_empty(), request.id()) {
            (true, Some(id)) => Message::request(id.clone(), request.method(), &params),
            (true, None) | (false, _) => request.with_body(&params),
        };
        sent = as_server_needs(client, &again);
    }
    let reason = format!("the server has asked for input {ROUNDS_MAX} times in this call");
    Message::error(request.id(), code::INTERNAL_ERROR, &reason, "")
}

/// What a result asks for.
struct Wanted {
    /// By the server's names.
    requests: BTreeMap<String, Message>,
    /// What the server is to be told again, as JSON text.
    state: Option<String>,
    /// Why it cannot be asked at all.
    wrong: Option<String>,
}

impl Wanted {
    /// What an answer asks for; `None` if it is an answer.
    fn of(answer: &Message) -> Option<Self> {
        let is_result = answer.kind() == Kind::Result;
        let kind = string_member(answer.body(), "resultType").filter(|_| is_result)?;
        if kind != "input_required" {
            return None;
        }
        let members = object_members(answer.body())?;
        let member = |name: &str| members.iter().find(|m| m.name == name).map(|m| m.value);
        let asked = member("inputRequests").map_or(Some(Vec::new()), object_members);
        let Some(asked) = asked.filter(|asked| asked.len() <= QUESTIONS_MAX) else {
            let wrong = format!("the server asks for more than {QUESTIONS_MAX} things at once");
            return Some(Self { requests: BTreeMap::new(), state: None, wrong: Some(wrong) });
        };
        let (mut requests, mut wrong) = (BTreeMap::new(), None);
        for (index, member) in asked.iter().enumerate() {
            match question(index as u64, member.value) {
                Some(question) => _ = requests.insert(member.name.clone(), question),
                None => wrong = Some("the server asks for what is no request".to_owned()),
            }
        }
        Some(Self { requests, state: member("requestState").map(ToOwned::to_owned), wrong })
    }

    /// Asks the agent for all of it. The answers, by the server's names, as JSON text; or why there
    /// are none.
    async fn ask(&self, client: &Client, talk: &Talk) -> Result<BTreeMap<String, String>, String> {
        if let Some(wrong) = &self.wrong {
            return Err(wrong.clone());
        }
        let mut answers = BTreeMap::new();
        let (sender, mut answered) = mpsc::channel(QUESTIONS_MAX);
        for question in self.requests.values() {
            check(client, question)?;
            let questions = talk.questions.as_ref();
            let asked = questions.and_then(|questions| questions.ask(question, &sender));
            let asked = asked.ok_or("the client cannot be asked by this way")?;
            // An agent that has gone is noticed by the end of its call.
            _ = talk.to_agent.send(asked).await;
        }
        while answers.len() < self.requests.len() {
            let answer = tokio::time::timeout(PATIENCE, answered.recv()).await;
            let answer: Message = answer.ok().flatten().ok_or("the client does not answer")?;
            let asked = self.requests.iter().find(|(_, asked)| asked.id() == answer.id());
            let Some((name, asked)) = asked else { continue };
            if answer.kind() == Kind::Error {
                // The server's revision has no word for that.
                return Err(format!(
                    "the client answers {} with an error: {}",
                    asked.method(),
                    string_member(answer.body(), "message").unwrap_or_default()
                ));
            }
            answers.insert(name.clone(), answer.body().to_owned());
        }
        Ok(answers)
    }
}

/// The question that one of `inputRequests` is.
fn question(number: u64, text: &str) -> Option<Message> {
    let method = string_member(text, "method")?;
    let members = object_members(text)?;
    let params = members.iter().find(|member| member.name == "params");
    let mut params = params.map_or("", |member| member.value).to_owned();
    let by_url = string_member(&params, "mode").is_some_and(|mode| mode == "url");
    if method == "elicitation/create" && by_url {
        // With sessions such a question has a name of its own.
        let id = format!(r#""{}""#, unguessable()?);
        params = with_missing(&params, "elicitationId", &id).into_owned();
    }
    Some(Message::request(Id::from_number(number), &method, &params))
}

/// Whether a client can be asked this.
fn check(client: &Client, question: &Message) -> Result<(), String> {
    let capability = match question.method() {
        "sampling/createMessage" => "sampling",
        "elicitation/create" => "elicitation",
        "roots/list" => "roots",
        other => return Err(format!("the server asks for `{other}`, which is no input")),
    };
    let members = object_members(&client.capabilities).unwrap_or_default();
    let offered = members.iter().find(|member| member.name == capability);
    let by_url = string_member(question.body(), "mode").is_some_and(|mode| mode == "url");
    let able = offered.is_some_and(|offered| {
        let urls = object_members(offered.value).is_some_and(|m| m.iter().any(|m| m.name == "url"));
        capability != "elicitation" || !by_url || urls
    });
    let knows_urls = Revision::V2025_11_25 <= client.revision;
    if able && (!by_url || knows_urls) {
        return Ok(());
    }
    let how = if by_url { " by URL" } else { "" };
    Err(format!("the server asks for {capability}{how}, which the client does not offer"))
}

/// The params of the next round.
fn with_answers(
    params: &str,
    answers: &BTreeMap<String, String>,
    state: Option<&str>,
    round: usize,
) -> String {
    let params = if params.is_empty() { "{}" } else { params };
    let answers: Vec<String> = answers
        .iter()
        .map(|(name, answer)| format!("{}:{answer}", serde_json::Value::from(name.as_str())))
        .collect();
    let mut text = params.to_owned();
    if let Some(key) = crate::message::meta(params, call::IDEMPOTENCY_KEY) {
        // Each round is a call of its own, and the same one whenever it is repeated.
        let of_round = format!("[{},{round}]", key.value);
        text.replace_range(key.span, &of_round);
    }
    if !answers.is_empty() {
        let answers = format!("{{{}}}", answers.join(","));
        text = with_missing(&text, "inputResponses", &answers).into_owned();
    }
    match state {
        Some(state) => with_missing(&text, "requestState", state).into_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(result: &str) -> Message {
        Message::result(&Id::from_number(1), result.as_bytes())
    }

    #[test]
    fn what_is_asked_for_becomes_questions_under_the_servers_names() {
        assert!(Wanted::of(&answer(r#"{"resultType":"complete"}"#)).is_none());
        assert!(Wanted::of(&answer("{}")).is_none());
        let wanted = Wanted::of(&answer(
            r#"{"resultType":"input_required","inputRequests":{"a":{"method":"roots/list"},"b":{"method":"elicitation/create","params":{"mode":"url","url":"u"}}},"requestState":"s"}"#,
        ))
        .unwrap();
        assert_eq!(wanted.state.as_deref(), Some(r#""s""#));
        assert_eq!(wanted.requests["a"].method(), "roots/list");
        assert!(wanted.requests["b"].body().contains("elicitationId"));
        let wrong = Wanted::of(&answer(
            r#"{"resultType":"input_required","inputRequests":{"a":{"method":1}}}"#,
        ));
        assert!(wrong.unwrap().wrong.is_some());
    }

    #[test]
    fn a_client_is_asked_what_it_offers() {
        let mut client = Client::modern();
        client.revision = Revision::V2025_11_25;
        client.capabilities = r#"{"elicitation":{},"roots":{}}"#.to_owned();
        let ask = |method: &str, params: &str| Message::request(Id::from_number(1), method, params);
        assert!(check(&client, &ask("elicitation/create", "{}")).is_ok());
        assert!(check(&client, &ask("roots/list", "")).is_ok());
        assert!(check(&client, &ask("sampling/createMessage", "{}")).is_err());
        let by_url = ask("elicitation/create", r#"{"mode":"url"}"#);
        assert!(check(&client, &by_url).is_err());
        client.capabilities = r#"{"elicitation":{"url":{}}}"#.to_owned();
        assert!(check(&client, &by_url).is_ok());
        client.revision = Revision::V2025_06_18;
        assert!(check(&client, &by_url).is_err());
    }

    #[test]
    fn the_next_round_says_the_same_and_what_was_answered() {
        let answers = BTreeMap::from([("a".to_owned(), r#"{"x": 1.50}"#.to_owned())]);
        let params = r#"{"name":"t","_meta":{"aip/idempotencyKey":"k"}}"#;
        assert_eq!(
            with_answers(params, &answers, Some(r#""s""#), 2),
            r#"{"name":"t","_meta":{"aip/idempotencyKey":["k",2]},"inputResponses":{"a":{"x": 1.50}},"requestState":"s"}"#
        );
        assert_eq!(with_answers("", &BTreeMap::new(), None, 1), "{}");
    }
}
