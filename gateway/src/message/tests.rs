use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<Message, ParseError> {
    Message::parse(Bytes::from(text.to_owned()), &Limits::default())
}

#[track_caller]
fn refused(text: &[u8], code: i32) {
    let error = Message::parse(Bytes::from(text.to_vec()), &Limits::default()).unwrap_err();
    assert_eq!(error.code, code, "{error}");
}

#[test]
fn bytes_outside_the_id_stay() {
    let text = r#" {"params" : {"a":1e999999, "b":"\ud800" } ,"id" : "x" , "extra":[ 1 ],"jsonrpc":"2.0","method":"tools\/call"} "#;
    let message = parse(text).unwrap();
    assert_eq!(message.kind(), Kind::Request);
    assert_eq!(message.method(), "tools/call");
    assert_eq!(message.body(), r#"{"a":1e999999, "b":"\ud800" }"#);
    assert_eq!(message.text(), text.trim());
    let changed = message.with_id(Id::from_number(1234));
    assert_eq!(changed.text(), &text.trim().replace(r#""x""#, "1234"));
    assert_eq!(changed.body(), message.body());
    assert_eq!(changed.with_id(message.id().unwrap().clone()).text(), message.text());
}

#[test]
fn a_part_of_the_body_can_be_replaced() {
    let text = r#"{"jsonrpc":"2.0","id":7,"method":"m","params":{"_meta":{"x":1,"progressToken":"abc"},"n":2}}"#;
    let message = parse(text).unwrap();
    let token = meta(message.body(), "progressToken").unwrap();
    assert_eq!(token.value, r#""abc""#);
    let changed = message.with_body_part(&token.span, "99");
    assert_eq!(changed.body(), r#"{"_meta":{"x":1,"progressToken":99},"n":2}"#);
    let token = meta(changed.body(), "progressToken").unwrap();
    assert_eq!(changed.with_body_part(&token.span, r#""abc""#).text(), message.text());
}

#[test]
fn own_messages_parse_to_themselves() {
    let id = Id::from_number(3);
    let messages = [
        Message::request(id.clone(), "tools/\"list", r#"{"cursor":"c"}"#),
        Message::request(id.clone(), "ping", ""),
        Message::notification("notifications/progress", "{}"),
        Message::result(&id, br#"{"tools":[]}"#),
        Message::error(Some(&id), code::INTERNAL_ERROR, "a \"b\"", r#"{"c":1}"#),
        Message::error(None, code::PARSE_ERROR, "no", ""),
    ];
    for message in messages {
        let parsed = Message::parse(message.text().clone(), &Limits::default()).unwrap();
        assert_eq!(parsed.kind(), message.kind());
        assert_eq!(parsed.method(), message.method());
        assert_eq!(parsed.id(), message.id());
        assert_eq!(parsed.body(), message.body());
        assert_eq!(parsed.id_span, message.id_span);
    }
}

#[test]
fn what_is_no_message_is_refused_with_its_code() {
    refused(b"", code::PARSE_ERROR);
    refused(b"{", code::PARSE_ERROR);
    refused(b"\xef\xbb\xbf{}", code::PARSE_ERROR);
    refused(b"{\"jsonrpc\":\"2.0\",\"method\":\"\xff\"}", code::PARSE_ERROR);
    refused(b"{\"jsonrpc\":\"2.0\",\"method\":\"a\0b\"}", code::PARSE_ERROR);
    refused(br#"{"jsonrpc":"2.0","method":"a"} {}"#, code::PARSE_ERROR);
    refused(br#"{"jsonrpc":"2.0","id":1,"id":2,"method":"a"}"#, code::INVALID_REQUEST);
    refused(br#"{"jsonrpc":"2.0","id":1,"\u0069d":2,"method":"a"}"#, code::INVALID_REQUEST);
    refused(br#"[{"jsonrpc":"2.0","id":1,"method":"a"}]"#, code::INVALID_REQUEST);
    refused(br#"{"jsonrpc":"2.0","id":null,"method":"a"}"#, code::INVALID_REQUEST);
    refused(br#"{"jsonrpc":"2.0","id":1.5,"method":"a"}"#, code::INVALID_REQUEST);
    refused(br#"{"jsonrpc":"1.0","id":1,"method":"a"}"#, code::INVALID_REQUEST);
    refused(br#"{"jsonrpc":"2.0","id":1}"#, code::INVALID_REQUEST);
    refused(br#"{"jsonrpc":"2.0","id":1,"result":{},"error":{}}"#, code::INVALID_REQUEST);
    refused(br#"{"jsonrpc":"2.0","id":1,"method":"a","params":[]}"#, code::INVALID_REQUEST);
    refused(b"3", code::INVALID_REQUEST);
}

#[test]
fn depth_is_limited_without_recursion() {
    let deep = |depth: usize| {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        format!(r#"{{"jsonrpc":"2.0","method":"m","params":{{"a":{open}{close}}}}}"#)
    };
    assert!(parse(&deep(510)).is_ok());
    assert_eq!(parse(&deep(511)).unwrap_err().code, code::PARSE_ERROR);
    assert_eq!(parse(&deep(100_000)).unwrap_err().code, code::PARSE_ERROR);
    let brackets =
        format!(r#"{{"jsonrpc":"2.0","method":"m","params":{{"a":"\"{}"}}}}"#, "[".repeat(999));
    assert!(parse(&brackets).is_ok(), "brackets in a string are no depth");
}

#[test]
fn length_is_limited() {
    let limits = Limits { length_max: 10, ..Limits::default() };
    let text = Bytes::from_static(br#"{"jsonrpc":"2.0","method":"m"}"#);
    assert_eq!(Message::parse(text, &limits).unwrap_err().code, code::INVALID_REQUEST);
}

#[test]
fn equal_ids_are_equal_however_written() {
    assert_eq!(Id::from_raw(r#""a""#), Id::from_raw(r#""\u0061""#));
    assert_ne!(Id::from_raw("1"), Id::from_raw(r#""1""#));
    assert_eq!(Id::from_raw("18446744073709551616").unwrap().as_number(), None);
    assert_eq!(Id::from_raw("-1").unwrap().as_number(), None);
    assert_eq!(Id::from_raw("true"), None);
}

proptest! {
    #[test]
    fn any_body_goes_through_byte_for_byte(
        body in r#"\{ ?("[a-z_]{1,4}" ?: ?("[^"\\\x00-\x1f]{0,9}"|-?[1-9][0-9]{0,30}(\.[0-9]{1,5})?|\[ ?true , null\]))?\}"#,
        id in any::<u64>(),
        other in "[a-zA-Z0-9 ]{0,12}",
    ) {
        let text = format!("{{ \"jsonrpc\":\"2.0\",\t\"params\":{body} , \"id\":\"{other}\",\"method\":\"m\"}}");
        let message = parse(&text).unwrap();
        prop_assert_eq!(message.body(), &body);
        let there = message.with_id(Id::from_number(id));
        prop_assert_eq!(there.body(), &body);
        let parsed = Message::parse(there.text().clone(), &Limits::default()).unwrap();
        prop_assert_eq!(parsed.id().unwrap().as_number(), Some(id));
        let back = there.with_id(message.id().unwrap().clone());
        prop_assert_eq!(back.text(), message.text());
    }

    #[test]
    fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(message) = Message::parse(Bytes::from(bytes), &Limits::default()) {
            _ = object_members(message.body());
        }
    }
}
