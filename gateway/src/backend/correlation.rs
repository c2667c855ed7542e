//! Ids and progress tokens of our own towards a shared backend, and the way back.

use crate::{
    bridge::SUBSCRIPTION_ID,
    message::{Id, Kind, Message, meta, object_members},
};

/// What a request's id and progress token were before they were replaced.
#[derive(Clone, Debug)]
pub struct Restore {
    id: Id,
    token: Option<String>,
    /// Whether it is `subscriptions/listen`, whose answer names its id once more.
    listens: bool,
}

impl Restore {
    /// The request with `number` for its id and for its progress token, if it has one; every other
    /// byte stays. `None` if it is no request.
    pub fn outbound(request: &Message, number: u64) -> Option<(Message, Self)> {
        let id = request.id()?.clone();
        let mut sent = request.with_id(Id::from_number(number));
        let token = meta(sent.body(), "progressToken")
            .map(|member| (member.span.clone(), member.value.to_owned()));
        let token = token.map(|(span, value)| {
            sent = sent.with_body_part(&span, &number.to_string());
            value
        });
        let listens = request.method() == "subscriptions/listen";
        Some((sent, Self { id, token, listens }))
    }

    /// A message of the backend with what the asker knows in place of our numbers.
    pub fn inbound(&self, message: &Message) -> Message {
        match message.kind() {
            Kind::Request => message.clone(),
            Kind::Result if self.listens => {
                self.restore_subscription(&message.with_id(self.id.clone()))
            }
            Kind::Result | Kind::Error => message.with_id(self.id.clone()),
            Kind::Notification if message.method() == "notifications/progress" => {
                let Some(token) = &self.token else { return message.clone() };
                match member_span(message.body(), "progressToken") {
                    Some(span) => message.with_body_part(&span, token),
                    None => message.clone(),
                }
            }
            Kind::Notification => self.restore_subscription(message),
        }
    }

    /// The asker's id.
    pub const fn id(&self) -> &Id {
        &self.id
    }

    fn restore_subscription(&self, message: &Message) -> Message {
        match meta(message.body(), SUBSCRIPTION_ID) {
            Some(member) => message.with_body_part(&member.span, self.id.as_raw()),
            None => message.clone(),
        }
    }
}

/// The number of the request that a notification belongs to by progress token or subscription id.
pub(super) fn owner(notification: &Message) -> Option<u64> {
    let number = |text: &str| Id::from_raw(text)?.as_number();
    if notification.method() == "notifications/progress" {
        let members = object_members(notification.body())?;
        return number(members.iter().find(|member| member.name == "progressToken")?.value);
    }
    if let Some(member) = meta(notification.body(), SUBSCRIPTION_ID) {
        return number(member.value);
    }
    None
}

/// The id in the `requestId` of `notifications/cancelled`.
pub(super) fn cancelled_id(notification: &Message) -> Option<Id> {
    let members = object_members(notification.body())?;
    Id::from_raw(members.iter().find(|member| member.name == "requestId")?.value)
}

fn member_span(text: &str, name: &str) -> Option<std::ops::Range<usize>> {
    object_members(text)?.into_iter().find(|member| member.name == name).map(|m| m.span)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::message::Limits;

    fn message(text: &str) -> Message {
        Message::parse(Bytes::from(text.to_owned()), &Limits::default()).unwrap()
    }

    #[test]
    fn numbers_go_out_and_the_askers_come_back() {
        let request = message(
            r#"{"jsonrpc":"2.0","id":"x","method":"tools/call","params":{"name":"t","_meta":{"progressToken":"x"}}}"#,
        );
        let (sent, restore) = Restore::outbound(&request, 41).unwrap();
        let text = std::str::from_utf8(request.text()).unwrap();
        assert_eq!(sent.text(), &text.replace(r#""x""#, "41"));
        let progress = message(
            r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1.0,"progressToken":41 }}"#,
        );
        assert_eq!(owner(&progress), Some(41));
        assert_eq!(restore.inbound(&progress).body(), r#"{"progress":1.0,"progressToken":"x" }"#);
        let answer = message(r#"{"result":{"a" :1},"id":41,"jsonrpc":"2.0"}"#);
        assert_eq!(
            restore.inbound(&answer).text(),
            r#"{"result":{"a" :1},"id":"x","jsonrpc":"2.0"}"#
        );
        let update = message(
            r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":41},"uri":"u"}}"#,
        );
        assert_eq!(owner(&update), Some(41));
        assert_eq!(
            restore.inbound(&update).body(),
            r#"{"_meta":{"io.modelcontextprotocol/subscriptionId":"x"},"uri":"u"}"#
        );
        let cancelled = message(
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"q"}}"#,
        );
        assert_eq!(cancelled_id(&cancelled), Id::from_raw("\"q\""));
    }
}
